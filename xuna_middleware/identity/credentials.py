"""Values of the identity step: what was presented, and who it proved."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, NoneType
from typing import Any, Final, Literal, TypeAlias

Scheme: TypeAlias = Literal["bearer"]

_SCALARS: Final = frozenset({str, int, float, bool, NoneType})


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Hold what a request presented, unverified. The token is in no rendering of it."""

    scheme: Scheme
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Say who is calling, as verified. Deep-frozen: nothing downstream can widen it.

    The pair `(issuer, subject)` names a person; neither does alone. It fits Starlette's
    `request.user` (`is_authenticated`, `display_name`, `identity`) and `request.auth` (`scopes`).

    Attributes:
        subject: `sub`, unique within the issuer.
        issuer: `iss`, or `"local"` for an authenticator of one's own.
        scopes: OAuth scopes that the token carries.
        roles: roles, where the verifier's `role_claims` find them.
        claims: all verified claims, read-only; not in the repr, they are personal data.
        client_id: `client_id`, or `azp` where the provider has no other word for it.
        expires_at: `exp`, seconds since the epoch; None where the credential has no end.
    """

    subject: str
    issuer: str = "local"
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    client_id: str | None = None
    expires_at: float | None = None

    def __post_init__(self) -> None:
        if type(self.scopes) is not frozenset:
            object.__setattr__(self, "scopes", frozenset(self.scopes))
        if type(self.roles) is not frozenset:
            object.__setattr__(self, "roles", frozenset(self.roles))
        object.__setattr__(self, "claims", frozen(self.claims))

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def display_name(self) -> str:
        return self.subject

    @property
    def identity(self) -> str:
        return self.subject


def frozen(value: Any) -> Any:
    """Return a copy in which mappings are read-only and lists are tuples, however deep."""
    if type(value) in _SCALARS:
        return value
    if isinstance(value, Mapping):
        return MappingProxyType(
            {
                key: member if type(member) in _SCALARS else frozen(member)
                for key, member in value.items()
            }
        )
    if isinstance(value, list | tuple):
        return tuple([frozen(member) for member in value])
    if isinstance(value, set | frozenset):
        return frozenset(value)
    return value
