"""The HTTP and WebSocket face: which address does what, and what it answers.

| route | methods |
|---|---|
| `/get-signed-url`, `/conversation-token` | GET, POST |
| `/ticket` | POST |
| `/conversation` | a WebSocket |
| `/agents` | GET |
| `/sessions` | GET |
| `/sessions/{id}` | DELETE |
| `/readyz` | GET |
| `/webhooks/post-call` | POST, where the gate has a `PostCallWebhook` |
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from xuna_middleware.access.agents import Agent
from xuna_middleware.access.grants import Transport
from xuna_middleware.access.limits.reservations import Remaining
from xuna_middleware.endpoints.operators import Oversight
from xuna_middleware.endpoints.webhook import WEBHOOK, Deliveries
from xuna_middleware.errors import GateError, InvalidRequestError
from xuna_middleware.identity.authentication import Caller
from xuna_middleware.identity.tickets.tickets import Ticket
from xuna_middleware.issuing.pipeline import Order, Pipeline, meant_agent, usable_agents
from xuna_middleware.platform.issued import ConversationToken, SignedUrl
from xuna_middleware.relay.client import Client
from xuna_middleware.web.cross_site import Origins
from xuna_middleware.web.refusals import Refusals
from xuna_middleware.web.requests import Asked, agent_in_query, read_request
from xuna_middleware.web.responses import answer, deny, method_not_allowed, not_found

#: The routes that hand out passes; these are what a gate without a prefix claims.
ISSUING: Final[Mapping[str, Transport]] = {
    "/get-signed-url": "websocket",
    "/conversation-token": "webrtc",
}

Authenticate: TypeAlias = Callable[[Scope], Awaitable[Caller]]
Issue: TypeAlias = Callable[[Order], Awaitable[SignedUrl | ConversationToken]]
#: Takes an order and the page's origin, returns the ticket and its seconds.
IssueTicket: TypeAlias = Callable[[Order, str | None], Awaitable[tuple[str, float]]]
#: Carries the conversation of an order.
Converse: TypeAlias = Callable[[Order, Client], Awaitable[None]]

#: What the routes claim where there is no prefix, once an agent lists the relay.
RELAYED: Final = ("/conversation", "/ticket")
_CONVERSATION: Final = RELAYED[0]
_SESSION: Final = "/sessions/"


class _Route(NamedTuple):
    methods: tuple[str, ...]
    serve: Callable[[Scope, Receive], Awaitable[Response]]


class Routes:
    """Serve the gate's own routes. Paths are relative to the prefix or mount."""

    def __init__(
        self,
        *,
        authenticate: Authenticate,
        issue: Issue,
        issue_ticket: IssueTicket,
        converse: Converse,
        oversight: Oversight | None,
        pipeline: Callable[[], Pipeline],
        missing: Callable[[], list[str]],
        origins: Origins,
        refusals: Refusals,
        deliveries: Deliveries | None,
    ) -> None:
        self._authenticate = authenticate
        self._issue = issue
        self._issue_ticket = issue_ticket
        self._converse = converse
        self._oversight = oversight
        self._pipeline = pipeline
        self._missing = missing
        self._origins = origins
        self._refusals = refusals
        self._routes = {
            **{
                path: _Route(("GET", "POST"), partial(self._hand_out, transport))
                for path, transport in ISSUING.items()
            },
            "/ticket": _Route(("POST",), self._ticket),
            "/agents": _Route(("GET",), self._agents),
            "/readyz": _Route(("GET",), self._readyz),
        }
        if oversight is not None:
            self._routes["/sessions"] = _Route(("GET",), partial(self._sessions, oversight))
        if deliveries is not None:
            self._routes[WEBHOOK] = _Route(("POST",), deliveries.serve)

    async def serve(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens, with exactly one response."""
        try:
            if scope["type"] == "websocket":
                await self._carry(path, scope, receive, send)
                return
            response = await self._find(path, scope).serve(scope, receive)
        except ClientDisconnect:
            return
        except Exception as error:
            await deny(self._refusals.note(error), scope, receive, send)
        else:
            await response(scope, receive, send)

    def _find(self, path: str, scope: Scope) -> _Route:
        route = self._routes.get(path.removesuffix("/")) or self._session_route(path)
        if route is None:
            raise not_found()
        if scope["method"] not in route.methods:
            raise method_not_allowed(route.methods)
        return route

    def _session_route(self, path: str) -> _Route | None:
        if self._oversight is None or not path.startswith(_SESSION):
            return None
        session_id = path.removeprefix(_SESSION).removesuffix("/")
        return _Route(("DELETE",), partial(self._end_session, self._oversight, session_id))

    async def _carry(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        if path.removesuffix("/") != _CONVERSATION:
            raise not_found()
        await self._converse(await self._relayed(scope), Client(scope, receive, send))

    async def _relayed(self, scope: Scope) -> Order:
        """Read who wants to talk to which agent, and from which page."""
        caller = await self._authenticate(scope)
        try:
            named = agent_in_query(scope.get("query_string", b""))
            if caller.ticket is not None:
                named = _bound(caller.ticket, named)
            order = _ordered(caller, "relay", Asked(agent=named), scope)
            if caller.identity.is_visitor:  # as in _order()
                meant_agent(self._pipeline(), order)
            if caller.ambient:
                self._origins.check_websocket(Headers(scope=scope), required=True)
        except GateError as error:
            raise self._refusals.note(error, identity=caller.identity, transport="relay") from None
        return replace(order, has_ticket=caller.ticket is not None)

    async def _hand_out(self, transport: Transport, scope: Scope, receive: Receive) -> Response:
        order = await self._order(transport, scope, receive)
        issued = await self._issue(order)
        return answer(issued.to_dict(), headers=order.told)

    async def _ticket(self, scope: Scope, receive: Receive) -> Response:
        order = await self._order("relay", scope, receive)
        origin = Headers(scope=scope).get("origin")
        ticket, seconds = await self._issue_ticket(order, origin)
        made = {"ticket": ticket, "expires_in": int(seconds)}
        return answer(made, headers=order.told)

    async def _order(self, transport: Transport, scope: Scope, receive: Receive) -> Order:
        """Read who asks for what, from where it may be asked."""
        caller = await self._authenticate(scope)
        is_visitor = caller.identity.is_visitor
        try:
            if caller.ambient and not is_visitor:
                self._origins.check(Headers(scope=scope), scope["method"])
            order = _ordered(caller, transport, await read_request(scope, receive), scope)
            if is_visitor:  # whoever forgot their token is told so, and not where to ask from
                meant_agent(self._pipeline(), order)
                self._origins.check(Headers(scope=scope), scope["method"])
        except GateError as error:
            raise self._refusals.note(
                error, identity=caller.identity, transport=transport
            ) from None
        return order

    async def _agents(self, scope: Scope, receive: Receive) -> Response:
        caller = await self._authenticate(scope)
        identity = caller.identity
        if caller.ambient:
            try:
                self._origins.check_reading(Headers(scope=scope))
            except GateError as error:
                raise self._refusals.note(error, identity=identity) from None
        agents = await usable_agents(self._pipeline(), identity, HTTPConnection(scope))
        return answer({"agents": [_shown(agent, left) for agent, left in agents]})

    async def _sessions(self, oversight: Oversight, scope: Scope, receive: Receive) -> Response:
        await self._overseen(oversight, scope)
        return answer({"sessions": [each.to_dict() for each in await oversight.sessions()]})

    async def _end_session(
        self, oversight: Oversight, session_id: str, scope: Scope, receive: Receive
    ) -> Response:
        await self._overseen(oversight, scope)
        if not await oversight.end(session_id):
            raise not_found()
        return answer({"session": session_id, "ending": True}, status=202)

    async def _overseen(self, oversight: Oversight, scope: Scope) -> None:
        """See that an operator asks, and that no other page made their browser do it."""
        caller = await self._authenticate(scope)
        try:
            if caller.ambient:
                self._origins.check(Headers(scope=scope), scope["method"])
            await oversight.check(caller.identity, HTTPConnection(scope))
        except GateError as error:
            raise self._refusals.note(error, identity=caller.identity) from None

    async def _readyz(self, scope: Scope, receive: Receive) -> Response:
        missing = self._missing()
        status = 503 if missing else 200
        return answer({"ready": not missing, "missing": missing}, status=status)


def _ordered(caller: Caller, transport: Transport, asked: Asked, scope: Scope) -> Order:
    return Order(
        identity=caller.identity,
        agent=asked.agent,
        transport=transport,
        dynamic_variables=asked.dynamic_variables,
        overrides=asked.overrides,
        connection=HTTPConnection(scope),
        visit=caller.visit,
        voucher=caller.voucher,
        token=caller.token,
    )


def _bound(ticket: Ticket, named: str | None) -> str:
    """Return the agent for which a ticket was made.

    Raises:
        InvalidRequestError: another one is named beside it.
    """
    if named not in (None, ticket.agent):
        raise InvalidRequestError(cause="ticket: made for another agent than the query names")
    return ticket.agent


def _shown(agent: Agent, left: tuple[Remaining, ...]) -> dict[str, Any]:
    shown = {"name": agent.name, "transports": list(agent.transports)}
    return {**shown, "limits": [asdict(each) for each in left]} if left else shown
