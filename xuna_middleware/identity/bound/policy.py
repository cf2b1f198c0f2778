"""Check the proof of possession that a token requires (`cnf`, RFC 7800).

| the token | is valid |
|---|---|
| bound to no key | as Bearer, if neither proof is required |
| `cnf.jkt` (RFC 9449) | as DPoP, with a proof by that key for this very request |
| `cnf.x5t#S256` (RFC 8705) | over a connection whose client showed that certificate |
| both | with both |
| any other `cnf` | never: the gate can't check who may use it |

A kind of proof that is off is not checked, and a token that requires it is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NoReturn, TypeAlias

from xuna_middleware.errors import ConfigurationError, InvalidTokenError
from xuna_middleware.identity.bound.dpop import DPoP, Proofs
from xuna_middleware.identity.bound.request import ProofContext
from xuna_middleware.identity.credentials import Credentials, Identity
from xuna_middleware.identity.protocols import MAX_TOKEN_SECONDS, VerifierTraits

#: `off`: such tokens are refused. `accepted`: they need their proof. `required`: all others are
#: refused.
Mode: TypeAlias = Literal["off", "accepted", "required"]

_MODES: Final = ("off", "accepted", "required")
_KEY: Final = "jkt"
_CERTIFICATE: Final = "x5t#S256"
_NO_CERTIFICATE: Final = (
    "certificate: the token is bound to one and none was seen; either the server fills in the ASGI "
    "TLS extension, or a proxy says it: XunaGate(trusted_proxies=…, client_cert_header=…)"
)


class Possession:
    """Check the proofs that a verifier's `dpop` and `mtls` require. At least one of them is on."""

    def __init__(self, dpop: DPoP | None, mtls: Mode, clock: Callable[[], float]) -> None:
        self._proofs = None if dpop is None else Proofs(dpop, clock)
        self._needs_key = dpop is not None and dpop.mode == "required"
        self._needs_certificate = mtls == "required"
        self._takes = {_KEY} if dpop is not None else set()
        if mtls != "off":
            self._takes.add(_CERTIFICATE)
        #: For metadata and challenges.
        self.takes_certificates = mtls != "off"
        self.bearer = not self._needs_key
        self.dpop_algorithms = () if dpop is None else tuple(dpop.algorithms)

    async def prove(self, credentials: Credentials, identity: Identity) -> None:
        """Check that the sender of this identity's token may use it.

        Raises:
            InvalidTokenError: a proof is missing or wrong, or the token requires one that is off.
            DPoPNonceRequiredError: the proof is valid but lacks the nonce.
            InvalidRequestError: a proxy's header with the certificate can't be read.
            UnavailableError: the store can't say whether a proof was used before.
            LimitReachedError: too many proofs of one account or address.
        """
        bound = _confirmation(identity.claims)
        if not self._takes.issuperset(bound):
            _refuse(
                "cnf: the token is bound in a way that this verifier's dpop= and mtls= leave off"
            )
        self._check_mode(credentials.scheme, bound)
        if not bound:
            return
        presented = credentials.presented
        if presented is None:
            _refuse("cnf: the token is bound, and there is no request to look for its proof in")
        if _CERTIFICATE in bound:
            _check_certificate(presented, bound[_CERTIFICATE])
        if self._proofs is not None and _KEY in bound:
            thumbprint, subject = bound[_KEY], identity.subject
            await self._proofs.check(
                presented, credentials.token, thumbprint, identity.issuer, subject
            )

    def _check_mode(self, scheme: str, bound: Mapping[str, str]) -> None:
        if (scheme == "dpop") != (_KEY in bound):
            _refuse(
                "cnf: a token bound to a DPoP key goes with the scheme DPoP, others with Bearer"
            )
        if self._needs_key and _KEY not in bound:
            _refuse('dpop: the token is bound to no key, and this verifier says dpop="required"')
        if self._needs_certificate and _CERTIFICATE not in bound:
            _refuse('mtls: the token is bound to no certificate, and mtls="required"')


def checked_possession(
    dpop: Mode | DPoP, mtls: Mode, clock: Callable[[], float]
) -> Possession | None:
    """Return the check for a verifier's bound tokens; None if both kinds are off.

    Raises:
        ConfigurationError: an option is none of the documented ones.
    """
    if mtls not in _MODES:
        raise ConfigurationError('mtls must be "off", "accepted" or "required"')
    if not isinstance(dpop, DPoP) and dpop not in _MODES:
        raise ConfigurationError('dpop must be "off", "accepted", "required" or a DPoP(…)')
    option = _option(dpop)
    return None if option is None and mtls == "off" else Possession(option, mtls, clock)


def traits_with(
    possession: Possession | None, issuer: str, *, max_token_seconds: float
) -> VerifierTraits:
    """Return the traits of a verifier of one issuer, with the proofs that it accepts."""
    return VerifierTraits(
        issuers=frozenset({issuer}),
        max_token_seconds=min(max(1.0, max_token_seconds), MAX_TOKEN_SECONDS),
        accepts_bearer=possession is None or possession.bearer,
        dpop_algorithms=() if possession is None else possession.dpop_algorithms,
        accepts_certificates=possession is not None and possession.takes_certificates,
    )


def _option(dpop: Mode | DPoP) -> DPoP | None:
    if isinstance(dpop, DPoP):
        return dpop
    return None if dpop == "off" else DPoP(mode=dpop)


def _confirmation(claims: Mapping[str, Any]) -> Mapping[str, str]:
    if "cnf" not in claims:
        return {}
    bound = claims["cnf"]
    if not isinstance(bound, Mapping) or not bound or not all(_is_text(v) for v in bound.values()):
        _refuse("cnf: is not an object of texts")
    return bound


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _check_certificate(presented: ProofContext, wanted: str) -> None:
    shown = presented.certificate
    if shown is None:
        _refuse(_NO_CERTIFICATE)
    if shown != wanted:
        _refuse("certificate: the token is bound to another one than the client showed")


def _refuse(cause: str) -> NoReturn:
    raise InvalidTokenError(cause=cause)
