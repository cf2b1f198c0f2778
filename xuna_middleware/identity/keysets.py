"""A provider's published keys, read strictly (RFC 7517). Pure.

One broken member costs itself only; a set that holds secrets is refused whole, since whoever made
it doesn't tell public from private.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from xuna_middleware.identity._jose import (
    JOSEError,
    VerificationKey,
    has_private_members,
    import_key,
    is_secret,
)

MAX_KEYS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """Hold the usable keys of one issuer, by kid. A kid is only ever a dictionary key."""

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


def read_key_set(document: Any, *, allow_secrets: bool = False) -> KeySet:
    """Read a JWK Set document.

    Checks: at most 100 members; no private members; secrets only where they are allowed and then
    nothing else; every member by itself as `import_key` describes; one kid names one key.

    Raises:
        JOSEError: the set is refused whole, or no member of it is usable.
    """
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list) or len(members) > MAX_KEYS:
        raise JOSEError(f"not a JWK Set of at most {MAX_KEYS} keys")
    _refuse_secrets(members, allow_secrets=allow_secrets)
    keys = _unambiguous(_usable(members))
    if not keys:
        raise JOSEError("the JWK Set holds no usable key")
    return KeySet(keys=keys, by_kid={key.kid: key for key in keys if key.kid is not None})


def _refuse_secrets(members: list[Any], *, allow_secrets: bool) -> None:
    if any(has_private_members(member) for member in members):
        raise JOSEError("the JWK Set holds private keys; publish public ones, replace these")
    secrets = [is_secret(member) for member in members]
    if any(secrets) and not (allow_secrets and all(secrets)):
        raise JOSEError("the JWK Set mixes secrets with public keys, or publishes secrets")


def _usable(members: list[Any]) -> Iterable[VerificationKey]:
    for member in members:
        try:
            yield import_key(member)
        except JOSEError:
            continue


def _unambiguous(keys: Iterable[VerificationKey]) -> frozenset[VerificationKey]:
    """Drop every key whose kid names different material or purposes."""
    by_kid: defaultdict[str | None, set[VerificationKey]] = defaultdict(set)
    for key in keys:
        by_kid[key.kid].add(key)
    return frozenset(
        key for kid, same in by_kid.items() if kid is None or len(same) == 1 for key in same
    )
