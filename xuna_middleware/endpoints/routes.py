"""The gate's routes and their answers.

| route | methods |
|---|---|
| `/get-signed-url`, `/conversation-token` | GET, POST |
| `/ticket` | POST |
| `/conversation` | a WebSocket |
| `/agents` | GET |
| `/sessions` | GET, if the gate has operators |
| `/sessions/{id}` | DELETE, if the gate has operators |
| `/readyz` | GET |
| `/webhooks/post-call` | POST, if the gate has a `PostCallWebhook` |
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, NamedTuple

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from xuna_middleware._core.paths import route_path
from xuna_middleware.access.agents import Agent
from xuna_middleware.access.grants import Transport
from xuna_middleware.access.limits.reservations import Remaining
from xuna_middleware.access.rules.rule import Rule
from xuna_middleware.endpoints.callers import authenticate
from xuna_middleware.endpoints.core import Core
from xuna_middleware.endpoints.credentials import (
    carry_conversation,
    issue_credential,
    issue_ticket,
)
from xuna_middleware.endpoints.lifecycle import missing, start
from xuna_middleware.endpoints.operators import check_operator, end_session, list_sessions
from xuna_middleware.endpoints.webhook import WEBHOOK, receive_webhook
from xuna_middleware.errors import GateError, InvalidRequestError
from xuna_middleware.identity.authentication import Caller
from xuna_middleware.identity.tickets.tickets import Ticket
from xuna_middleware.issuing.pipeline import IssueRequest, resolve_agent, usable_agents
from xuna_middleware.relay.client import Client
from xuna_middleware.web.refusals import Attempt
from xuna_middleware.web.requests import (
    RequestBody,
    agent_in_query,
    check_header_size,
    read_request,
)
from xuna_middleware.web.responses import answer, deny, method_not_allowed, not_found

#: The routes that issue credentials; a gate without a prefix claims these.
ISSUING: Final[Mapping[str, Transport]] = {
    "/get-signed-url": "websocket",
    "/conversation-token": "webrtc",
}
#: The routes that a gate without a prefix also claims if an agent lists the relay.
RELAYED: Final = ("/conversation", "/ticket")
_CONVERSATION: Final = RELAYED[0]
_SESSIONS: Final = "/sessions"


class _Route(NamedTuple):
    methods: tuple[str, ...]
    serve: Callable[["_Request"], Awaitable[Response]]


class _Request(NamedTuple):
    """Represent one request to the gate's own routes."""

    core: Core
    attempt: Attempt
    scope: Scope
    receive: Receive

    @property
    def headers(self) -> Headers:
        return Headers(scope=self.scope)

    @property
    def connection(self) -> HTTPConnection:
        return HTTPConnection(self.scope)

    async def caller(self) -> Caller:
        """Return the caller; a visitor if nothing is presented and an agent is anonymous."""
        base = self.core.public_url
        return await authenticate(self.core, self.scope, base=base, visitors=True)


@dataclass(frozen=True, slots=True)
class Routes:
    """Serve the gate's own routes. Paths are relative to the prefix or mount."""

    core: Core

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens, with exactly one response."""
        start(self.core)
        path = route_path(scope["path"], scope.get("root_path", ""), scope.get("app_root_path", ""))
        request = _Request(self.core, Attempt(), scope, receive)
        try:
            with self.core.refusals.reporting(request.attempt):
                check_header_size(scope)
                if scope["type"] == "websocket":
                    await _carry(path, request, send)
                    return
                response = await self._find(path, scope["method"]).serve(request)
        except ClientDisconnect:
            return
        except GateError as error:
            await deny(error, scope, receive, send)
        else:
            await response(scope, receive, send)

    def _find(self, path: str, method: str) -> _Route:
        route = self._route(path)
        if route is None:
            raise not_found()
        if method not in route.methods:
            raise method_not_allowed(route.methods)
        return route

    def _route(self, path: str) -> _Route | None:
        """Return the route at a path of this gate; None if there is none."""
        core, name = self.core, path.removesuffix("/")
        if (found := _ROUTES.get(name)) is not None:
            return found
        if name == WEBHOOK and core.webhook is not None:
            return _Route(("POST",), _receive_webhook)
        if core.operators is None or not name.startswith(_SESSIONS):
            return None
        if name == _SESSIONS:
            return _Route(("GET",), partial(_list_sessions, core.operators))
        session_id = path.removeprefix(f"{_SESSIONS}/").removesuffix("/")
        end = partial(_end_session, core.operators, session_id)
        return _Route(("DELETE",), end) if path.startswith(f"{_SESSIONS}/") else None


async def _hand_out(transport: Transport, request: _Request) -> Response:
    issue_request = await _read_order(transport, request)
    issued = await issue_credential(request.core, issue_request)
    return answer(issued.to_dict(), headers=request.attempt.headers)


async def _hand_out_ticket(request: _Request) -> Response:
    issue_request = await _read_order("relay", request)
    ticket, seconds = await issue_ticket(request.core, issue_request, request.headers.get("origin"))
    made = {"ticket": ticket, "expires_in": int(seconds)}
    return answer(made, headers=request.attempt.headers)


async def _read_order(transport: Transport, request: _Request) -> IssueRequest:
    """Read a request for a credential: check its caller and its origin."""
    core, scope = request.core, request.scope
    caller = await request.caller()
    request.attempt.identity, request.attempt.transport = caller.identity, transport
    is_anonymous = caller.identity.is_anonymous
    if caller.ambient and not is_anonymous:
        core.origins.check(request.headers, scope["method"])
    issue_request = _ordered(caller, transport, await read_request(scope, request.receive), request)
    if is_anonymous:  # for a forgotten token, refuse before checking the origin
        resolve_agent(core.pipeline, issue_request)
        core.origins.check(request.headers, scope["method"])
    return issue_request


async def _carry(path: str, request: _Request, send: Send) -> None:
    if path.removesuffix("/") != _CONVERSATION:
        raise not_found()
    issue_request = await _read_conversation(request)
    await carry_conversation(
        request.core, issue_request, Client(request.scope, request.receive, send)
    )


async def _read_conversation(request: _Request) -> IssueRequest:
    """Read a request for a conversation: its caller, agent and origin."""
    core = request.core
    caller = await request.caller()
    request.attempt.identity, request.attempt.transport = caller.identity, "relay"
    named = agent_in_query(request.scope.get("query_string", b""))
    if caller.ticket is not None:
        named = _bound(caller.ticket, named)
    issue_request = _ordered(caller, "relay", RequestBody(agent=named), request)
    if caller.identity.is_anonymous:  # as in _read_order()
        resolve_agent(core.pipeline, issue_request)
    if caller.ambient:
        core.origins.check_websocket(request.headers, required=True)
    return replace(issue_request, has_ticket=caller.ticket is not None)


async def _list_agents(request: _Request) -> Response:
    caller = await request.caller()
    identity = request.attempt.identity = caller.identity
    if caller.ambient:
        request.core.origins.check_reading(request.headers)
    agents = await usable_agents(request.core.pipeline, identity, request.connection)
    shown = [_shown(agent, left) for agent, left in agents]
    await asyncio.sleep(0)  # many agents must not block the event loop
    return answer({"agents": shown})


async def _list_sessions(rule: Rule, request: _Request) -> Response:
    await _check_operator(rule, request)
    sessions = await list_sessions(request.core)
    return answer({"sessions": [each.to_dict() for each in sessions]})


async def _end_session(rule: Rule, session_id: str, request: _Request) -> Response:
    await _check_operator(rule, request)
    if not await end_session(request.core, session_id):
        raise not_found()
    return answer({"session": session_id, "ending": True}, status=202)


async def _check_operator(rule: Rule, request: _Request) -> None:
    """Check that an operator asks, and that no other site's page made their browser do it."""
    caller = await request.caller()
    request.attempt.identity = caller.identity
    if caller.ambient:
        request.core.origins.check(request.headers, request.scope["method"])
    await check_operator(request.core, rule, caller.identity, request.connection)


async def _receive_webhook(request: _Request) -> Response:
    return await receive_webhook(request.core, request.scope, request.receive)


async def _answer_ready(request: _Request) -> Response:
    names = missing(request.core)
    return answer({"ready": not names, "missing": names}, status=503 if names else 200)


#: The routes of every gate.
_ROUTES: Final[Mapping[str, _Route]] = {
    **{
        path: _Route(("GET", "POST"), partial(_hand_out, transport))
        for path, transport in ISSUING.items()
    },
    "/ticket": _Route(("POST",), _hand_out_ticket),
    "/agents": _Route(("GET",), _list_agents),
    "/readyz": _Route(("GET",), _answer_ready),
}


def _ordered(
    caller: Caller, transport: Transport, asked: RequestBody, request: _Request
) -> IssueRequest:
    return IssueRequest(
        identity=caller.identity,
        agent=asked.agent,
        transport=transport,
        dynamic_variables=asked.dynamic_variables,
        overrides=asked.overrides,
        connection=request.connection,
        visit=caller.visit,
        voucher=caller.voucher,
        token=caller.token,
        attempt=request.attempt,
    )


def _bound(ticket: Ticket, named: str | None) -> str:
    """Return the agent that a ticket was made for.

    Raises:
        InvalidRequestError: the query names another agent.
    """
    if named not in (None, ticket.agent):
        raise InvalidRequestError(cause="ticket: made for another agent than the query names")
    return ticket.agent


def _shown(agent: Agent, left: tuple[Remaining, ...]) -> dict[str, Any]:
    shown = {"name": agent.name, "transports": list(agent.transports)}
    return {**shown, "limits": [each.to_dict() for each in left]} if left else shown
