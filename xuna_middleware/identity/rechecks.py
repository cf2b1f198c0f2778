"""Verifiers that can be asked again about a token while the conversation that it opened runs.

A JWT can't be asked about: it is good until its `exp`. What an opaque token is worth its provider
says anew each time, so a conversation that it opened ends when the provider takes it back.
"""

from typing import Protocol, runtime_checkable

from xuna_middleware._core.hidden import Hidden
from xuna_middleware.errors import InvalidTokenError
from xuna_middleware.identity.credentials import Identity


class HeldToken(Hidden):
    """Hold the token of a running conversation, in memory only; no rendering shows it.

    `issuer` is that of the identity which the token proved. A verifier of another issuer is never
    asked about it, since that would send the token to another provider.
    """

    __slots__ = ("issuer",)

    def __init__(self, text: str, issuer: str) -> None:
        super().__init__(text)
        self.issuer = issuer


@runtime_checkable
class Rechecks(Protocol):
    """Ask again about a token that was verified. A verifier of the user's own may do this, too."""

    async def recheck_interval(self, token: str) -> float | None:
        """Return after how many seconds to ask again about this token, and again after that.

        None where nobody can be asked about it: it is good until its end.

        Raises:
            InvalidTokenError: it is no token of this verifier's.
            UnavailableError: it can't be known right now.
        """

    async def recheck(self, token: str) -> Identity:
        """Return whom the token proves now, from its provider and not from a memory of this
        process. Doesn't ask for a proof of possession: that was given when the token came.

        Raises:
            InvalidTokenError: it proves nobody any more.
            UnavailableError: it can't be known right now.
        """


async def recheck_interval_of(verifier: object, token: str) -> float | None:
    """Return after how many seconds to ask a verifier again about a token; None for never."""
    return await verifier.recheck_interval(token) if isinstance(verifier, Rechecks) else None


async def recheck_by(verifier: object, token: str) -> Identity:
    """Ask a verifier again about a token; see `Rechecks.recheck`.

    Raises:
        InvalidTokenError: also where this verifier, which is another one by now, can't be asked.
    """
    if not isinstance(verifier, Rechecks):
        raise InvalidTokenError(cause="recheck: the token's verifier can't be asked about it again")
    return await verifier.recheck(token)
