"""Verifiers that can recheck a token while the conversation that it opened is running.

A JWT can't be rechecked: it is valid until its `exp`. An opaque token's provider is asked again
each time, so a conversation that the token opened ends when the provider revokes the token.
"""

from typing import Protocol, runtime_checkable

from xuna_middleware._core.hidden import Hidden
from xuna_middleware.errors import InvalidTokenError
from xuna_middleware.identity.credentials import Identity


class HeldToken(Hidden):
    """The token of a running conversation, in memory only; no rendering shows it.

    `issuer` is the issuer of the identity that the token proved. A verifier of another issuer never
    gets the token, since that would send it to another provider.
    """

    __slots__ = ("issuer",)

    def __init__(self, text: str, issuer: str) -> None:
        super().__init__(text)
        self.issuer = issuer


@runtime_checkable
class Rechecks(Protocol):
    """Recheck a token that was verified. A user's own verifier may implement this, too."""

    async def recheck_interval(self, token: str) -> float | None:
        """Return the interval in seconds at which to recheck this token.

        None if it can't be rechecked: it is valid until it expires.

        Raises:
            InvalidTokenError: it is not one of this verifier's tokens.
            UnavailableError: it can't be checked right now.
        """

    async def recheck(self, token: str) -> Identity:
        """Return the token's current identity, from its provider and not from a cache of this
        process. Needs no proof of possession: that was checked when the token was presented.

        Raises:
            InvalidTokenError: it is no longer valid.
            UnavailableError: it can't be checked right now.
        """


async def recheck_interval_of(verifier: object, token: str) -> float | None:
    """Return after how many seconds a verifier wants to recheck a token; None for never."""
    return await verifier.recheck_interval(token) if isinstance(verifier, Rechecks) else None


async def recheck_by(verifier: object, token: str) -> Identity:
    """Recheck a token with a verifier; see `Rechecks.recheck`.

    Raises:
        InvalidTokenError: also if the verifier has been replaced by one that can't recheck.
    """
    if not isinstance(verifier, Rechecks):
        raise InvalidTokenError(cause="recheck: the token's verifier can't be asked about it again")
    return await verifier.recheck(token)
