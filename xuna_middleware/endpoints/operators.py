"""Who watches live conversations: operators, whom a rule of the operator's own admits."""

from collections.abc import Awaitable, Callable

from starlette.requests import HTTPConnection

from xuna_middleware.access.limits.reservations import Stores, check_standing
from xuna_middleware.access.rules.rule import Rule
from xuna_middleware.errors import NotAuthenticatedError
from xuna_middleware.identity.credentials import Identity
from xuna_middleware.relay.live import Session


class Oversight:
    """Let whom a rule admits see and end live conversations."""

    def __init__(
        self,
        rule: Rule,
        stores: Stores,
        *,
        sessions: Callable[[], Awaitable[tuple[Session, ...]]],
        end: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._rule = rule
        self._stores = stores
        self.sessions = sessions
        self.end = end

    async def check(self, identity: Identity, connection: HTTPConnection) -> None:
        """Refuse who is no operator: visitors, and who was revoked, first.

        Raises:
            NotAuthenticatedError: a visitor. InvalidTokenError: somebody who was revoked.
            GateError: the rule says no, or can't be asked.
        """
        if identity.is_visitor:
            raise NotAuthenticatedError(cause="no credentials: operators have some")
        await check_standing(identity, self._stores.shared)
        refusal = await self._rule.refusal(identity, connection)
        if refusal is not None:
            raise refusal
