"""Shared code of the presets: the options that they pass on, and how they read pasted values."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, TypedDict

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.identity.bound.dpop import DPoP
from xuna_middleware.identity.bound.policy import Mode
from xuna_middleware.identity.jwt.claims import ClaimPath
from xuna_middleware.identity.keys.endpoints import configured_host
from xuna_middleware.identity.keys.sources import JWKSRefresh

if TYPE_CHECKING:
    import httpx

#: These providers send plain `JWT` unless told to follow RFC 9068; what marks an ID token is then
#: refused, and something that marks an access token is required.
EITHER_TYPE: Final = ("at+jwt", "JWT")
#: And these leave the type out, as some of them always do.
ANY_TYPE: Final = (*EITHER_TYPE, "")
#: What an ID token says and an access token has no use for (OpenID Connect Core section 2).
ID_TOKEN_MARKS: Final = ("nonce", "at_hash", "c_hash")

_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(\.{_LABEL})+")
_ADDRESS: Final = re.compile(rf"https?://({_LABEL}(\.{_LABEL})*|\[[0-9a-f:]+\])(:[0-9]{{1,5}})?")
_LONGEST_NAME: Final = 253


class VerifierOptions(TypedDict, total=False):
    """Name the keyword options that a preset passes on; `OIDCVerifier` describes them."""

    algorithms: Sequence[str]
    token_types: Sequence[str]
    leeway: float
    max_lifetime: float
    audience_claim: str
    scope_claims: Sequence[ClaimPath]
    role_claims: Sequence[ClaimPath]
    dpop: Mode | DPoP
    mtls: Mode
    metadata_url: str | None
    insecure_hosts: Iterable[str]
    endpoint_hosts: Iterable[str]
    freshness: JWKSRefresh | None
    http_transport: "httpx.AsyncBaseTransport | None"
    clock: Callable[[], float]


def text(value: object) -> str:
    """Return a text; for anything else an empty one, which the argument's check refuses."""
    return value.strip() if isinstance(value, str) else ""


def domain_name(value: object) -> str | None:
    """Return a domain name in lower case, or None. A URL copied from a browser works, too."""
    name = text(value).lower().removeprefix("https://").removesuffix("/")
    return name if _DOMAIN.fullmatch(name) and len(name) <= _LONGEST_NAME else None


def address(value: object, option: str, hint: str) -> str:
    """Return an address without a path: https, or http on loopback; a bare domain name is one.

    Raises:
        ConfigurationError: it is none, with the option's name, or with `hint`.
    """
    given = text(value).lower().removesuffix("/")
    found = given if "://" in given else f"https://{given}"
    if not _ADDRESS.fullmatch(found) or len(found) > _LONGEST_NAME:
        raise ConfigurationError(hint)
    configured_host(found, option)
    return found


def checked_switch(value: object, option: str) -> bool:
    """Return a switch.

    Raises:
        ConfigurationError: it is neither True nor False, so nobody can tell what was meant.
    """
    if not isinstance(value, bool):
        raise ConfigurationError(f"{option} must be True or False")
    return value


def text_list(value: str | Iterable[str], complaint: str) -> tuple[str, ...]:
    """Return one text or several as a tuple, without duplicates, in order.

    Raises:
        ConfigurationError: with `complaint`, where there is none, or something else.
    """
    values = (value,) if isinstance(value, str) else value
    if not isinstance(values, Iterable):
        raise ConfigurationError(complaint)
    texts = tuple(text(each) for each in values)
    if not texts or not all(texts):
        raise ConfigurationError(complaint)
    return tuple(dict.fromkeys(texts))
