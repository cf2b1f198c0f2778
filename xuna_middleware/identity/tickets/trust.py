"""Decide which tickets a gate accepts: those of issuers that it can verify.

Gates with one name share the tickets in their store, but one of them may have a verifier, an
authenticator, visitors or an agent that the other lacks. So a ticket says who vouched for its
identity, and the gate that receives it checks that source:

- A verifier vouched: a verifier of this gate has that issuer in its `traits.issuers` or declares
  none, or its `TenantVerifiers` find a verifier for it.
- The authenticator vouched: this gate has one, whose `traits.issuers` contain that issuer or are
  not declared.
- Nobody vouched, for a visitor: an agent of this gate has `anonymous=True`, and its challenge is
  the same, since a ticket also proves that a challenge was passed.
- The app vouched, by `gate.issue()`: this gate has verifiers of the same issuers as the gate that
  made the ticket, and an authenticator of the same issuers, or none like that gate.

The agent must also be one of this gate's. Otherwise the answer is a 401, and the log says why.

Does not check: a verifier's other requirements for a token. Gates with one name whose verifiers of
one issuer differ in `audience`, `dpop`, `mtls` or keys still accept each other's tickets.
"""

import hashlib
import json
from collections.abc import Collection, Sequence

from xuna_middleware.errors import InvalidTokenError
from xuna_middleware.identity.jwt.verifiers import Verifier
from xuna_middleware.identity.protocols import Resolving, VerifierTraits
from xuna_middleware.identity.tickets.tickets import Ticket, Voucher


class Trust:
    """Decide whether one gate can verify a ticket's caller.

    Args:
        verifiers, traits: the gate's verifiers, and the traits of each.
        authenticator: the traits of the gate's authenticator, None if there is none.
        visitors: the challenge that visitors have to pass, None if no visitors are admitted.
        agents: the names of the gate's agents.
    """

    def __init__(
        self,
        verifiers: Sequence[Verifier],
        traits: Sequence[VerifierTraits],
        *,
        authenticator: VerifierTraits | None,
        visitors: str | None,
        agents: Collection[str],
    ) -> None:
        self._described = tuple(zip(verifiers, traits, strict=True))
        self._authenticator = authenticator
        self._visitors = visitors
        self._agents = frozenset(agents)
        self._fingerprint = _fingerprint(traits, authenticator)

    def mark(self, voucher: Voucher) -> str:
        """Return a mark of the gate for its tickets, needed if the voucher alone isn't enough: the
        same in all processes, for all gates that verify the same.
        """
        if voucher == "visitor":
            return self._visitors or ""
        return self._fingerprint if voucher == "application" else ""

    async def check(self, ticket: Ticket) -> None:
        """Refuse a ticket if this gate lacks the verifier, or anything else listed above.

        Raises:
            InvalidTokenError: the cause says what this gate lacks.
            UnavailableError: whether the issuer is a tenant's can't be found out now.
        """
        lacking = await self._lacking(ticket)
        if lacking is not None:
            raise InvalidTokenError(
                cause=f"ticket: made by another gate of this store: {lacking}; gates that are not "
                "to share tickets have stores of different names, RedisStore(namespace=…)"
            )

    async def _lacking(self, ticket: Ticket) -> str | None:
        """Return what this gate would lack to make such a ticket; None if nothing."""
        if ticket.agent not in self._agents:
            return f"it is for the agent {ticket.agent!r}, which is none of this gate's agents="
        match ticket.voucher:
            case "verifier":
                if not await self._verifies(ticket.identity.issuer):
                    return f"no verifier= here verifies the issuer {ticket.identity.issuer!r}"
            case "authenticator":
                if self._authenticator is None:
                    return "an authenticator found its caller, and this gate has no authenticator="
                if not self._authenticator.may_verify(ticket.identity.issuer):
                    return (
                        f"an authenticator found a caller of {ticket.identity.issuer!r}, which is "
                        "none of the traits.issuers of this gate's authenticator="
                    )
            case "visitor":
                if self._visitors is None:
                    return "it is a visitor's, and no agent of this gate has anonymous=True"
                if ticket.mark != self._visitors:
                    return "it is a visitor's, and AnonymousAccess(captcha=…) differs here"
            case "application":
                if ticket.mark != self._fingerprint:
                    return "gate.issue() made it at a gate with another verifier= or authenticator="
        return None

    async def _verifies(self, issuer: str) -> bool:
        for verifier, traits in self._described:
            if not traits.may_verify(issuer):
                continue
            if not isinstance(verifier, Resolving) or await verifier.resolves(issuer):
                return True
        return False


def _fingerprint(traits: Sequence[VerifierTraits], authenticator: VerifierTraits | None) -> str:
    verifiers = sorted(map(_issuers_of, traits))
    said = json.dumps([verifiers, None if authenticator is None else _issuers_of(authenticator)])
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _issuers_of(traits: VerifierTraits) -> list[str]:
    return sorted(traits.issuers or ("*",))
