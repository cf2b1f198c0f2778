"""Choose the verifier for a token when a gate has several, before any I/O.

Verifiers that recognize their tokens by format (`recognizes`) are asked first: API keys, then
others in the order of the list, and last an `IntrospectionVerifier` that accepts any opaque token,
so that no provider is sent another verifier's token. Two that accept the same tokens are a
ConfigurationError: the second would never be asked, and its tokens would go to the first.

A JWT goes to the verifier whose `issuer` equals its unverified `iss` exactly; that verifier reads
`iss` again after checking the signature. Other tokens go to the `TenantVerifiers`, if configured,
or are refused.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Protocol, TypeGuard

from xuna_middleware.errors import ConfigurationError, InvalidTokenError
from xuna_middleware.identity.api_keys import APIKeyVerifier
from xuna_middleware.identity.credentials import Credentials, Identity
from xuna_middleware.identity.introspection.verifier import OPAQUE, IntrospectionVerifier
from xuna_middleware.identity.jwt._jose import JOSEError, read_compact, read_object
from xuna_middleware.identity.jwt.token_cache import fingerprint
from xuna_middleware.identity.jwt.verifiers import Verifier
from xuna_middleware.identity.protocols import (
    TokenMatcher,
    VerifierTraits,
    merge_traits,
    traits_of,
)

_MOST_CHOICES: Final = 4096


class IssuerRouter:
    """Pass each token to the one verifier that handles it, or refuse it."""

    def __init__(self, verifiers: Sequence[Verifier]) -> None:
        described = [(each, traits_of(each)) for each in verifiers]
        others = [(each, traits) for each, traits in described if not _recognizes(each)]
        self._recognizing = _in_order([each for each in verifiers if _recognizes(each)])
        self._by_issuer = _by_issuer([each for each in others if not each[1].resolves_issuers])
        self._any = _only([each for each, traits in others if traits.resolves_issuers])
        self._traits = {id(each): traits for each, traits in described}
        #: The members' traits, merged.
        self.traits = merge_traits(traits for _, traits in described)
        #: Choices for verified tokens, so that a remembered token isn't parsed again.
        self._choices: OrderedDict[bytes, Verifier] = OrderedDict()

    async def verify(self, credentials: Credentials) -> Identity:
        """Return the identity that the matching verifier finds in the credentials.

        Raises:
            InvalidTokenError: no verifier matches, or they aren't valid.
            UnavailableError: they can't be verified now.
        """
        token = credentials.token
        seen, verifier = self._chosen(token)
        traits = self._traits[id(verifier)]
        traits.check_scheme(credentials.scheme)
        identity = await verifier.verify(credentials)
        traits.check_issuer(identity)
        self._keep(seen, verifier)
        return identity

    def verifier_of(self, token: str) -> tuple[Verifier, VerifierTraits]:
        """Return the verifier for a token, and its traits.

        Raises:
            InvalidTokenError: there is none.
        """
        verifier = self._chosen(token)[1]
        return verifier, self._traits[id(verifier)]

    def _chosen(self, token: str) -> tuple[bytes, Verifier]:
        """Return a token's fingerprint, and the verifier for it."""
        if not token.isascii():
            raise InvalidTokenError(cause="malformed: not ASCII")
        seen = fingerprint(token)
        return seen, self._choices.get(seen) or self._choose(token)

    def _choose(self, token: str) -> Verifier:
        for each in self._recognizing:
            if each.recognizes(token):
                return each
        verifier = self._by_issuer.get(unverified_issuer(token), self._any)
        if verifier is None:
            raise InvalidTokenError(cause="issuer: none of the configured ones")
        return verifier

    def _keep(self, seen: bytes, verifier: Verifier) -> None:
        """Remember the choice for a valid token; invalid tokens never get here."""
        if seen in self._choices:
            return
        if len(self._choices) >= _MOST_CHOICES:
            self._choices.popitem(last=False)
        self._choices[seen] = verifier


def unverified_issuer(token: str) -> str:
    """Return a JWT's `iss` without verifying anything; "" if it isn't a string.

    Raises:
        InvalidTokenError: it is no JWT.
    """
    try:
        issuer = read_object(read_compact(token).payload).get("iss")
    except JOSEError as error:
        raise InvalidTokenError(cause=f"malformed: {error}") from None
    return issuer if isinstance(issuer, str) else ""


class _RecognizingVerifier(Verifier, TokenMatcher, Protocol):
    """A verifier that recognizes its tokens."""


def _recognizes(verifier: Verifier) -> TypeGuard[_RecognizingVerifier]:
    return isinstance(verifier, TokenMatcher)


def _in_order(verifiers: Sequence[_RecognizingVerifier]) -> list[_RecognizingVerifier]:
    """Return the verifiers in the order in which they are asked about a token.

    Raises:
        ConfigurationError: two accept the same tokens.
    """
    if sum(isinstance(each, APIKeyVerifier) for each in verifiers) > 1:
        raise ConfigurationError(
            "two APIKeyVerifiers take the same keys, and the second would never be asked; give one "
            "APIKeyVerifier all keys"
        )
    asking = [each for each in verifiers if isinstance(each, IntrospectionVerifier)]
    for number, one in enumerate(asking):
        for other in asking[:number]:
            if one.token_pattern == other.token_pattern:
                raise ConfigurationError(
                    f"the IntrospectionVerifiers of {other.issuer} and {one.issuer} take the same "
                    "tokens, and all would go to the first; say what each one's tokens look like: "
                    'IntrospectionVerifier(token_pattern=r"…")'
                )
    return sorted(verifiers, key=_rank)


def _rank(verifier: _RecognizingVerifier) -> int:
    if isinstance(verifier, APIKeyVerifier):
        return 0
    takes_all = isinstance(verifier, IntrospectionVerifier) and verifier.token_pattern == OPAQUE
    return 2 if takes_all else 1


def _by_issuer(described: Sequence[tuple[Verifier, VerifierTraits]]) -> dict[str, Verifier]:
    by_issuer: dict[str, Verifier] = {}
    for verifier, traits in described:
        if not traits.issuers:
            raise ConfigurationError(
                "each of several verifiers must say whose tokens it verifies, with "
                "`traits = VerifierTraits(issuers=…)` or an attribute `issuer`; or it has "
                "`recognizes(token)`"
            )
        for issuer in traits.issuers:
            if issuer in by_issuer:
                raise ConfigurationError(f"two verifiers for one issuer: {issuer}")
            by_issuer[issuer] = verifier
    return by_issuer


def _only(verifiers: Sequence[Verifier]) -> Verifier | None:
    if len(verifiers) > 1:
        raise ConfigurationError("one TenantVerifiers finds all issuers; merge these into one")
    return next(iter(verifiers), None)
