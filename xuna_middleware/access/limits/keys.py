"""Principals: turn a caller into the name of one count. Pure, except for a user's function.

A name begins with the region of the store in which its counts are kept (`Region`): the counts of
visitors, since anybody can be one, are separate from callers'. Then come its kind, the issuer and
the value, each preceded by its length, so that no value can be mistaken for another one. It is
never shown: Redis keeps a digest of it.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from starlette.requests import HTTPConnection

from xuna_middleware.access.values.sources import MISSING, Call, Claim, prepared
from xuna_middleware.errors import AccessDeniedError, ConfigurationError, UnavailableError
from xuna_middleware.identity.credentials import Identity
from xuna_middleware.stores.protocol import Region, named

Word: TypeAlias = Literal["subject", "client", "address", "agent", "all"]
#: The types of one part of `per=`.
One: TypeAlias = Word | Claim | Callable[[Identity], Any] | Callable[[Identity, Any], Any]
PerLike: TypeAlias = One | tuple[One, ...]

_WORDS: Final = ("subject", "client", "address", "agent", "all")
#: In characters; a longer value is replaced by its digest.
_LONGEST: Final = 255
_SHOWN: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitContext:
    """Hold the sources of a principal. `address` is called only if the address counts."""

    identity: Identity
    agent: str
    connection: HTTPConnection | None = field(default=None, repr=False)
    address: Callable[[], str | None] = field(default=lambda: None, repr=False)


#: Reads the name of one part of a principal.
Reader: TypeAlias = Callable[[LimitContext], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Per:
    """Name the principal of a limit, parsed once; made by `as_per()`.

    `is_shared` is True if it counts unrelated people together.
    """

    name: str
    parts: tuple[Word | Claim | Call, ...]
    readers: tuple[Reader, ...] = field(repr=False, compare=False)
    needs_connection: bool
    is_shared: bool


def as_per(per: Any) -> Per:
    """Parse the value of `per=`.

    Raises:
        ConfigurationError: it names nothing that can be counted.
    """
    members = per if isinstance(per, tuple) else (per,)
    parts = tuple(map(_part, members))
    if not parts:
        raise _no_principal(per)
    calls = [part for part in parts if isinstance(part, Call)]
    return Per(
        name=" and ".join(_name(part) for part in parts),
        parts=parts,
        readers=tuple(map(_reader, parts)),
        needs_connection="address" in parts or any(call.takes_connection for call in calls),
        is_shared=all(part in ("agent", "all") for part in parts),
    )


async def principal(per: Per, context: LimitContext) -> str:
    """Return the name of the principal that a limit counts for this caller.

    Raises:
        AccessDeniedError: the token lacks the counted claim (`claim_missing`), or has a list there.
        UnavailableError: a function failed, or the server gave no address.
        ConfigurationError: there is no connection to read from.
    """
    names = []
    for part, read in zip(per.parts, per.readers, strict=True):
        if isinstance(part, Call):
            returned = await part(context.identity, context.connection)
            names.append(_returned(part, context, returned))
        else:
            names.append(read(context))
    return _joined(context, names)


def readers_of(pers: Sequence[Per]) -> tuple[Reader, ...] | None:
    """Return the reader of each principal; None if a user's function has to be called."""
    if any(isinstance(part, Call) for per in pers for part in per.parts):
        return None
    return tuple(map(_whole_reader, pers))


def _whole_reader(per: Per) -> Reader:
    if len(per.readers) == 1:
        return per.readers[0]
    return lambda context: _joined(context, [read(context) for read in per.readers])


def _joined(context: LimitContext, names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    is_common = all(name.startswith(_COMMON) for name in names)
    region = Region.COMMON if is_common else _region(context.identity)
    return named(region, "".join(map(_sized, names)))


def _region(identity: Identity) -> Region:
    return Region.VISITORS if identity.is_anonymous else Region.CALLERS


def _part(one: Any) -> Word | Claim | Call:
    if isinstance(one, Claim):
        return one
    if isinstance(one, str):
        if one not in _WORDS:
            raise _no_principal(one)
        return one  # type: ignore[return-value]
    return prepared(one, "per function")


def _no_principal(per: Any) -> ConfigurationError:
    return ConfigurationError(
        f"per={per!r:.80} names nobody: per takes {', '.join(map(repr, _WORDS))}, claim(…), a "
        "function, or a tuple of these"
    )


def _name(part: Word | Claim | Call) -> str:
    """Return a name that is valid in a header, and short enough for one."""
    name = part if isinstance(part, str) else part.name
    shown = name.translate({ord('"'): "'", ord("\\"): "/"})[:_SHOWN]
    return "".join(each if " " <= each <= "~" else "?" for each in shown)


def _reader(part: Word | Claim | Call) -> Reader:
    if isinstance(part, str):
        return _READERS[part]
    if isinstance(part, Claim):
        kind = _sized(f"claim {part.name}")
        return lambda context: _within(context, kind, _claimed(part, context.identity))
    return lambda context: ""  # a function has to be called


def subject_principal(identity: Identity) -> str:
    """Return the name under which per="subject" counts a caller."""
    issuer = identity.issuer
    return named(_region(identity), f"subject:{len(issuer)}:{issuer}{identity.subject}")


def _within(context: LimitContext, sized_kind: str, value: Any) -> str:
    """Return the name of a value that describes a caller, within their issuer."""
    issuer = context.identity.issuer
    name = f"{sized_kind}{len(issuer)}:{issuer}{_short(value)}"
    return named(_region(context.identity), name)


def _sized(text: str) -> str:
    return f"{len(text)}:{text}"


def _returned(call: Call, context: LimitContext, returned: Any) -> str:
    if type(returned) not in (str, int, float, bool):
        problem = f"it must return a text, number or boolean, not a {type(returned).__name__}"
        raise UnavailableError(cause=f"function: {call.role}: {problem}", trace=problem)
    return _within(context, _sized(f"function {call.name}"), returned)


def _claimed(claim: Claim, identity: Identity) -> Any:
    value = claim.of(identity)
    if value is MISSING:
        raise _uncountable("claim_missing", f"claim: {claim.name} is missing, by which a limit")
    if type(value) not in (str, int, float, bool):
        raise _uncountable("invalid_claim", f"claim: {claim.name} is no plain value, by which")
    return value


def _client(identity: Identity) -> str:
    if identity.client_id is None:
        raise _uncountable("claim_missing", "claim: the token names no client, by which a limit")
    return identity.client_id


def _uncountable(code: str, cause: str) -> AccessDeniedError:
    return AccessDeniedError(
        "Your account lacks something that this agent needs to know.",
        code=code,
        cause=f"{cause} counts",
    )


def _address(context: LimitContext) -> str:
    address = context.address()
    if address is None:
        raise UnavailableError(
            cause="configuration: a limit counts per address, and the server told none: behind a "
            'proxy on a Unix socket, list it: trusted_proxies=("unix",)'
        )
    return address


def _short(value: Any) -> str:
    text = f"{type(value).__name__}:{value}"
    if len(text) <= _LONGEST:
        return text
    return "digest:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


_COMMON: Final = named(Region.COMMON, "")
_CLIENT: Final = _sized("client")
_ADDRESS: Final = _sized("address")
_READERS: Final[Mapping[str, Callable[[LimitContext], str]]] = {
    "subject": lambda context: subject_principal(context.identity),
    "client": lambda context: _within(context, _CLIENT, _client(context.identity)),
    "address": lambda context: _within(context, _ADDRESS, _address(context)),
    "agent": lambda context: f"{_COMMON}agent:{context.agent}",
    "all": lambda context: f"{_COMMON}all:",
}
