"""A provider's published keys, read strictly (RFC 7517). No I/O.

A broken member is ignored; a set that contains secrets is refused as a whole, since its author
doesn't keep public and private keys apart.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from xuna_middleware.identity.jwt._jose import (
    JOSEError,
    VerificationKey,
    has_private_members,
    import_key,
    is_secret,
)

MAX_KEYS: Final = 100

#: A member's kid, and its key where that is usable.
Imported: TypeAlias = tuple[str | None, VerificationKey | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The usable keys of one issuer, by kid. A kid is only ever a dictionary key."""

    keys: frozenset[VerificationKey]
    by_kid: dict[str, VerificationKey]

    def find(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        """Return the key for a token's header; None where its kid is unknown.

        A token without a kid fits only where exactly one key fits its algorithm.

        Raises:
            JOSEError: the kid is known and its key is not for this algorithm, or there is no kid
                and not exactly one key fits.
        """
        if kid is not None:
            key = self.by_kid.get(kid)
            if key is not None and algorithm not in key.algorithms:
                raise JOSEError("algorithm does not fit the key")
            return key
        fitting = [key for key in self.keys if algorithm in key.algorithms]
        if len(fitting) != 1:
            raise JOSEError("no kid, and not exactly one key fits")
        return fitting[0]


def read_key_set(document: Any) -> KeySet:
    """Read a published JWK Set document.

    Checks: at most 100 members; no secrets and no private members; every member by itself as
    `import_key` describes; one kid names one key, broken ones counted.

    Raises:
        JOSEError: the set is refused whole, or no member of it is usable.
    """
    return key_set([import_member(member) for member in public_members(document)])


async def read_fetched_key_set(document: Any) -> KeySet:
    """Read a published JWK Set as `read_key_set` does, one key in each turn of the event loop.

    A hundred large keys take 30 ms to import, one takes 0.3 ms.
    """
    imported = []
    for member in public_members(document):
        imported.append(import_member(member))
        await asyncio.sleep(0)
    return key_set(imported)


def public_members(document: Any) -> list[Any]:
    """Return the members of a JWK Set that may be signature keys.

    Raises:
        JOSEError: the set is refused whole.
    """
    members = _members(document)
    if any(is_secret(member) for member in members):
        raise JOSEError("the JWK Set holds secrets")
    return members


def import_member(member: Any) -> Imported:
    """Return a member's kid, and its key; None instead of a key that is broken."""
    return _kid(member), _imported(member)


def key_set(members: Iterable[Imported]) -> KeySet:
    """Return the usable keys among imported members.

    Raises:
        JOSEError: there are none.
    """
    return _key_set(_unambiguous(members))


def read_secrets(document: Any) -> KeySet:
    """Read the operator's JWK Set of secrets: all of them usable, with no other members.

    Raises:
        JOSEError: a member is unusable or no secret, or a kid names two.
    """
    members = _members(document)
    if not all(is_secret(member) for member in members):
        raise JOSEError("secrets stand beside public keys")
    keys = frozenset(import_key(member) for member in members)
    kids = [key.kid for key in keys if key.kid is not None]
    if len(set(kids)) < len(kids):
        raise JOSEError("one kid names two secrets")
    return _key_set(keys)


def holds_secrets(document: Any) -> bool:
    """Return whether a JWK Set has a symmetric key among its members."""
    return any(is_secret(member) for member in _members(document))


def _members(document: Any) -> list[Any]:
    members = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(members, list | tuple) or len(members) > MAX_KEYS:
        raise JOSEError(f"not a JWK Set of at most {MAX_KEYS} keys")
    if any(has_private_members(member) for member in members):
        raise JOSEError("the JWK Set holds private keys; publish public ones, replace these")
    return [member for member in members if not _is_for_encryption(member)]


def _is_for_encryption(member: Any) -> bool:
    """Return whether a key is for encryption; it may share its kid with a signature key."""
    return isinstance(member, dict) and member.get("use") == "enc"


def _key_set(keys: frozenset[VerificationKey]) -> KeySet:
    if not keys:
        raise JOSEError("the JWK Set holds no usable key")
    return KeySet(keys=keys, by_kid={key.kid: key for key in keys if key.kid is not None})


def _kid(member: Any) -> str | None:
    kid = member.get("kid") if isinstance(member, dict) else None
    return kid if isinstance(kid, str) else None


def _imported(member: Any) -> VerificationKey | None:
    try:
        return import_key(member)
    except JOSEError:
        return None


def _unambiguous(members: Iterable[Imported]) -> frozenset[VerificationKey]:
    """Leave out broken keys, and every key whose kid another member has, broken or not."""
    by_kid: defaultdict[str | None, set[VerificationKey | None]] = defaultdict(set)
    for kid, key in members:
        by_kid[kid].add(key)
    return frozenset(
        key
        for kid, same in by_kid.items()
        for key in same
        if key is not None and (kid is None or len(same) == 1)
    )
