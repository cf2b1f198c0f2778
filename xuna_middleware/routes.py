"""The HTTP and WebSocket face: which address does what, and what it answers.

| route | methods |
|---|---|
| `/get-signed-url`, `/conversation-token` | GET, POST |
| `/ticket` | POST |
| `/agents` | GET |
| `/readyz` | GET |
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from xuna_middleware.access.agents import Agent
from xuna_middleware.access.grants import Transport
from xuna_middleware.access.reservations import Remaining
from xuna_middleware.crosssite import Origins
from xuna_middleware.errors import GateError
from xuna_middleware.identity.authentication import Caller
from xuna_middleware.pipeline import Order, Pipeline, meant_agent, usable_agents
from xuna_middleware.platform.credentials import ConversationToken, SignedUrl
from xuna_middleware.refusals import Refusals
from xuna_middleware.requests import Asked, read_request
from xuna_middleware.responses import answer, deny, method_not_allowed, not_found

#: The routes that hand out passes; these are what a gate without a prefix claims.
ISSUING: Final[Mapping[str, Transport]] = {
    "/get-signed-url": "websocket",
    "/conversation-token": "webrtc",
}

Authenticate: TypeAlias = Callable[[Scope], Awaitable[Caller]]
Issue: TypeAlias = Callable[[Order], Awaitable[SignedUrl | ConversationToken]]
#: Takes an order and the page's origin, returns the ticket and its seconds.
IssueTicket: TypeAlias = Callable[[Order, str | None], Awaitable[tuple[str, float]]]


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
        pipeline: Callable[[], Pipeline],
        missing: Callable[[], list[str]],
        origins: Origins,
        refusals: Refusals,
    ) -> None:
        self._authenticate = authenticate
        self._issue = issue
        self._issue_ticket = issue_ticket
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

    async def serve(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens, with exactly one response."""
        try:
            response = await self._find(path, scope).serve(scope, receive)
        except ClientDisconnect:
            return
        except Exception as error:
            await deny(self._refusals.note(error), scope, receive, send)
        else:
            await response(scope, receive, send)

    def _find(self, path: str, scope: Scope) -> _Route:
        route = self._routes.get(path.removesuffix("/"))
        if route is None or scope["type"] == "websocket":
            raise not_found()
        if scope["method"] not in route.methods:
            raise method_not_allowed(route.methods)
        return route

    async def _hand_out(self, transport: Transport, scope: Scope, receive: Receive) -> Response:
        order = await self._order(transport, scope, receive)
        issued = await self._issue(order)
        return answer(issued.to_dict(), headers=order.told)

    async def _ticket(self, scope: Scope, receive: Receive) -> Response:
        order = await self._order("websocket", scope, receive)
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
                self._origins.check(Headers(scope=scope))
            order = _ordered(caller, transport, await read_request(scope, receive), scope)
            if is_visitor:  # whoever forgot their token is told so, and not where to ask from
                meant_agent(self._pipeline(), order)
                self._origins.check(Headers(scope=scope))
        except GateError as error:
            raise self._refusals.note(
                error, identity=caller.identity, transport=transport
            ) from None
        return order

    async def _agents(self, scope: Scope, receive: Receive) -> Response:
        identity = (await self._authenticate(scope)).identity
        agents = await usable_agents(self._pipeline(), identity, HTTPConnection(scope))
        return answer({"agents": [_shown(agent, left) for agent, left in agents]})

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
    )


def _shown(agent: Agent, left: tuple[Remaining, ...]) -> dict[str, Any]:
    shown = {"name": agent.name, "transports": list(agent.transports)}
    return {**shown, "limits": [asdict(each) for each in left]} if left else shown
