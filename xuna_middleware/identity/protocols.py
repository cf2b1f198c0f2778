"""The traits of a verifier, as one value that the gate reads once, when it is constructed.

Challenges (WWW-Authenticate), the metadata of RFC 9728, the check that DPoP has a `public_url`, how
long a revocation lasts, and which issuers a ticket may name all follow from the traits. The traits
of a list of verifiers are merged; `TenantVerifiers` declares traits that cover all its tenants.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeGuard, runtime_checkable

from xuna_middleware.errors import (
    ConfigurationError,
    NotAuthenticatedError,
    UnavailableError,
)
from xuna_middleware.identity.credentials import Identity

#: Seconds: a day, and the default leeway.
DEFAULT_TOKEN_SECONDS: Final = 86_400.0 + 30.0
#: Seconds: 100 years, for tokens that don't expire. A store keeps a revocation that long.
MAX_TOKEN_SECONDS: Final = 100 * 366 * 86_400.0

_FLAGS: Final = ("accepts_bearer", "accepts_certificates", "needs_request", "resolves_issuers")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierTraits:
    """Describe what a verifier accepts. A verifier that you write sets them as its attribute
    `traits`: `traits = VerifierTraits(issuers=frozenset({"https://idp.acme.com"}))`. A verifier
    without that attribute has the defaults below.

    Attributes:
        issuers: the issuers of the identities that it returns. None: known only when a token
            arrives; a ticket may then name any issuer. An identity with an undeclared issuer is a
            503. In a list of several, each verifier must declare them, except one that has
            `recognizes(token)`.
        max_token_seconds: for how many seconds after its `iat` a token may still be accepted,
            including the leeway for clocks; if tokens have no `iat`, how long one may be valid.
            A revocation lasts that long. At most `MAX_TOKEN_SECONDS`, 100 years.
        accepts_bearer: whether it accepts a token without a proof of possession.
        dpop_algorithms: the algorithms of DPoP proofs, in the order in which challenges name them;
            empty if the verifier doesn't accept DPoP: it then gets no token with that scheme.
        accepts_certificates: whether it accepts tokens bound to a TLS certificate (RFC 8705).
        needs_request: whether the request must be in `Credentials.presented`. Implied by
            `dpop_algorithms` and `accepts_certificates`.
        resolves_issuers: whether it finds an issuer's verifier itself, as `TenantVerifiers` does.
            Only one verifier of a list may; it gets the tokens that no other verifier handles.

    Raises:
        ConfigurationError: one of these is not as described.
    """

    issuers: frozenset[str] | None = None
    max_token_seconds: float = DEFAULT_TOKEN_SECONDS
    accepts_bearer: bool = True
    dpop_algorithms: tuple[str, ...] = ()
    accepts_certificates: bool = False
    needs_request: bool = False
    resolves_issuers: bool = False

    def __post_init__(self) -> None:
        issuers = self.issuers
        if issuers is not None:
            object.__setattr__(self, "issuers", frozenset(_texts(issuers, "issuers")))
        algorithms = tuple(dict.fromkeys(_texts(self.dpop_algorithms, "dpop_algorithms")))
        object.__setattr__(self, "dpop_algorithms", algorithms)
        for name in _FLAGS:
            if type(getattr(self, name)) is not bool:
                raise ConfigurationError(f"VerifierTraits({name}=…) is True or False")
        seconds: Any = self.max_token_seconds
        if type(seconds) not in (int, float) or not 0 < seconds <= MAX_TOKEN_SECONDS:
            raise ConfigurationError(
                "VerifierTraits(max_token_seconds=…) is in seconds, above 0, up to 100 years"
            )
        object.__setattr__(self, "max_token_seconds", float(seconds))
        if algorithms or self.accepts_certificates:
            object.__setattr__(self, "needs_request", True)

    def may_verify(self, issuer: str) -> bool:
        """Return whether such a verifier may return identities of this issuer."""
        return self.issuers is None or issuer in self.issuers

    def check_scheme(self, scheme: str) -> None:
        """Refuse a DPoP token if the verifier would not check its proof.

        Raises:
            NotAuthenticatedError: the verifier accepts only the scheme Bearer.
        """
        if scheme != "bearer" and not self.dpop_algorithms:
            raise NotAuthenticatedError(
                cause="authorization: a scheme that is not Bearer; see dpop= of the verifier, and "
                "TenantVerifiers(traits=…)"
            )

    def check_issuer(self, identity: object) -> None:
        """Refuse an identity whose issuer isn't declared: the declared issuers determine how long
        a revocation lasts and which tickets are accepted. Ignores anything but an Identity.

        Raises:
            UnavailableError: its issuer is not in `issuers`.
        """
        declared = self.issuers
        if declared is None or not isinstance(identity, Identity):
            return
        if identity.issuer not in declared:
            raise UnavailableError(
                cause="configuration: an identity was returned whose issuer is none of the "
                "verifier's traits.issuers; declare it with VerifierTraits(issuers=…), or return "
                "the declared one, to the letter"
            )

    def beyond(self, declared: "VerifierTraits") -> tuple[str, ...]:
        """Return the names of the options of `declared` that don't cover these traits."""
        exceeded = {
            "max_token_seconds": self.max_token_seconds > declared.max_token_seconds,
            "accepts_bearer": self.accepts_bearer and not declared.accepts_bearer,
            "dpop_algorithms": not set(self.dpop_algorithms) <= set(declared.dpop_algorithms),
            "accepts_certificates": self.accepts_certificates and not declared.accepts_certificates,
        }
        return tuple(name for name, is_beyond in exceeded.items() if is_beyond)


@runtime_checkable
class Described(Protocol):
    """Declare traits. Optional for a verifier, and for an object that is an authenticator."""

    @property
    def traits(self) -> VerifierTraits:
        """What the gate needs to know before the first token arrives."""


@runtime_checkable
class TokenMatcher(Protocol):
    """Recognize a verifier's tokens by their format. A verifier that you write may do so, too."""

    def recognizes(self, token: str) -> bool:
        """Return whether a token looks like one of this verifier's. Pure: no I/O, no exception."""


@runtime_checkable
class Resolving(Protocol):
    """Find out whether an issuer has a verifier, if that is known only once one is named."""

    async def resolves(self, issuer: str) -> bool:
        """Return whether there is a verifier for an issuer.

        Raises:
            UnavailableError: it can't be found out now.
        """


@runtime_checkable
class _OfOneIssuer(Protocol):
    """Verify tokens of one issuer, without declaring any other traits."""

    issuer: str


def traits_of(verifier: object) -> VerifierTraits:
    """Return a verifier's traits, or the defaults if it declares none.

    Raises:
        ConfigurationError: its `traits` are something else.
    """
    if isinstance(verifier, Described):
        return _checked(verifier.traits, verifier)
    issuer: object = verifier.issuer if isinstance(verifier, _OfOneIssuer) else None
    is_known = isinstance(issuer, str) and issuer != ""
    return VerifierTraits(issuers=frozenset({str(issuer)}) if is_known else None)


def merge_traits(several: Iterable[VerifierTraits]) -> VerifierTraits:
    """Return the merged traits of several verifiers; the defaults for none."""
    listed = tuple(several)
    if not listed:
        return VerifierTraits()
    issuers: frozenset[str] | None = frozenset()
    for each in listed:
        known = each.issuers
        issuers = None if issuers is None or known is None else issuers | known
    return VerifierTraits(
        issuers=issuers,
        max_token_seconds=max(each.max_token_seconds for each in listed),
        accepts_bearer=any(each.accepts_bearer for each in listed),
        dpop_algorithms=tuple(name for each in listed for name in each.dpop_algorithms),
        accepts_certificates=any(each.accepts_certificates for each in listed),
        needs_request=any(each.needs_request for each in listed),
        resolves_issuers=any(each.resolves_issuers for each in listed),
    )


def _checked(traits: object, owner: object) -> VerifierTraits:
    if not isinstance(traits, VerifierTraits):
        raise ConfigurationError(f"{type(owner).__name__}.traits must be a VerifierTraits(…)")
    return traits


def _texts(values: object, option: str) -> tuple[str, ...]:
    listed = (
        None if isinstance(values, str | bytes) or not isinstance(values, Iterable) else [*values]
    )
    if listed is None or not _are_texts(listed):
        raise ConfigurationError(
            f"VerifierTraits({option}=…) takes several texts that are not empty"
        )
    return tuple(listed)


def _are_texts(values: list[Any]) -> TypeGuard[list[str]]:
    return all(isinstance(each, str) and each != "" for each in values)
