"""Values of authentication: the credentials presented, and the verified identity."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, NoneType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from xuna_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    from xuna_middleware.identity.bound.request import ProofContext

#: The issuer of callers without credentials; only the gate itself makes such identities.
VISITOR_ISSUER: Final = "urn:xuna-gate:visitors"

Scheme: TypeAlias = Literal["bearer", "dpop"]

_NONE: Final = frozenset[str]()
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_SCALARS: Final = frozenset({str, int, float, bool, NoneType})


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Credentials that a request presented, unverified. No rendering of them shows the token.

    Attributes:
        scheme: of the Authorization header, in lower case.
        token: as sent.
        presented: the request itself, for a verifier that checks a proof of possession.
    """

    scheme: Scheme
    token: str = field(repr=False)
    presented: "ProofContext | None" = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class Identity:
    """Describe a verified caller. Deep-frozen: no later code can add rights to it.

    The pair `(issuer, subject)` identifies a person; neither does alone. It works as Starlette's
    `request.user` (`is_authenticated`, `display_name`, `identity`).

    Raises:
        ConfigurationError: subject or issuer is not a valid name, or `expires_at` is NaN.

    Attributes:
        subject: `sub`, unique within the issuer.
        issuer: `iss`, or `"local"` for a user's own authenticator.
        scopes: OAuth scopes of the token.
        roles: roles, if the verifier's `role_claims` find any.
        claims: all verified claims, read-only; not in the repr, as they are personal data.
        client_id: `client_id`, or `azp` if the provider has only that.
        expires_at: `exp`, seconds since the epoch; None if the credential doesn't expire.
    """

    subject: str
    issuer: str
    scopes: frozenset[str]
    roles: frozenset[str]
    claims: Mapping[str, Any] = field(repr=False, hash=False)
    client_id: str | None
    expires_at: float | None

    def __init__(
        self,
        *,
        subject: str,
        issuer: str = "local",
        scopes: Iterable[str] = _NONE,
        roles: Iterable[str] = _NONE,
        claims: Mapping[str, Any] = _NOTHING,
        client_id: str | None = None,
        expires_at: float | None = None,
    ) -> None:
        # Written by hand: it runs for every token that isn't cached, and freezes its arguments.
        if not _is_name(subject) or not _is_name(issuer):
            raise ConfigurationError(
                "an Identity's subject and issuer are 1 to 255 printable characters; "
                "where nobody is signed in, an authenticator returns None"
            )
        if expires_at is not None and expires_at != expires_at:
            raise ConfigurationError(
                "Identity(expires_at=…) is no number (NaN): it would never end"
            )
        write = object.__setattr__
        write(self, "subject", subject)
        write(self, "issuer", issuer)
        write(self, "scopes", scopes if type(scopes) is frozenset else _words(scopes, "scopes"))
        write(self, "roles", roles if type(roles) is frozenset else _words(roles, "roles"))
        write(self, "claims", _frozen_mapping(claims))
        write(self, "client_id", client_id)
        write(self, "expires_at", expires_at)

    @property
    def is_anonymous(self) -> bool:
        """Return whether the caller is a visitor: without credentials, known by a gate's ticket."""
        return self.issuer == VISITOR_ISSUER

    @property
    def is_authenticated(self) -> bool:
        return not self.is_anonymous

    @property
    def display_name(self) -> str:
        return self.subject

    @property
    def identity(self) -> str:
        return self.subject


@dataclass(frozen=True, slots=True, kw_only=True)
class AnonymousVisitor:
    """Identify a visitor. `passed_until` is in seconds since the epoch, 0 if never passed."""

    visitor: str
    passed_until: int = 0
    is_new: bool = False

    @property
    def identity(self) -> Identity:
        return Identity(issuer=VISITOR_ISSUER, subject=self.visitor)


def _is_name(text: object) -> bool:
    return isinstance(text, str) and 1 <= len(text) <= 255 and text.isprintable()


def _words(words: Iterable[str], option: str) -> frozenset[str]:
    if isinstance(words, str):
        raise ConfigurationError(f'{option} must be a set: {option}={{"{words}"}}')
    return frozenset(words)


def frozen(value: Any) -> Any:
    """Return a copy in which mappings are read-only and lists are tuples, at any depth."""
    if isinstance(value, list | tuple):
        return tuple([each if type(each) in _SCALARS else frozen(each) for each in value])
    if isinstance(value, set | frozenset):
        return frozenset(value)
    return _frozen_mapping(value) if isinstance(value, Mapping) else value


def _frozen_mapping(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    copy = dict(mapping)
    for name, member in mapping.items():
        if type(member) not in _SCALARS:
            copy[name] = frozen(member)
    return MappingProxyType(copy)
