"""A local XUNA AI platform: the same doors, the same locks, and a sign on every one."""

import math
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from inspect import isawaitable
from typing import TypeAlias
from urllib.parse import urlsplit

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from xuna_middleware.sandbox import catalogue, history, issuing, pages, rtc
from xuna_middleware.sandbox.agents import SandboxAgent
from xuna_middleware.sandbox.conversation import converse
from xuna_middleware.sandbox.marking import Marked
from xuna_middleware.sandbox.passes import Issued
from xuna_middleware.sandbox.records import Conversation
from xuna_middleware.sandbox.refusals import RefusalError, answer_http, answer_refusal
from xuna_middleware.sandbox.webhooks import Webhook
from xuna_middleware.sandbox.workspace import Workspace

_Call: TypeAlias = Callable[[Workspace, Request], Response | Awaitable[Response]]
_Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class SandboxPlatform:
    """Serve a rehearsal of the XUNA AI platform as an ordinary ASGI app.

    Checks, as the real one does: the API key; agents private or public; signed URLs (HMAC, once,
    15 minutes) and conversation tokens (LiveKit-shaped JWT, once, 10 minutes); override switches;
    required variables; maximum duration and concurrency of an agent; the form of every frame.
    Does not: hear, speak aloud, think, call tools, or know your real agents.
    Where XUNA documents nothing, the shape is that of the ElevenLabs Agents API.

    A conversation token opens a session over WebRTC, too (extra `webrtc`), for clients that are
    given `livekit_url`: this app's address with `ws` for `http`. Signalling is LiveKit's
    (`/rtc/v1`, one peer connection), and frames travel over a data channel. The peer is on
    127.0.0.1, asks no STUN or TURN server, and needs no flag in a browser. It takes what a client
    sends of audio and video and throws it away; it resumes nothing and restarts no ICE.

    Args:
        api_key: what `xi-api-key` must hold; None makes a random one, see the attribute.
        agents: the agents it knows from the start.
        unknown_agents: makes an agent of an id that it hasn't seen, when a REST call first names
            it: `SandboxAgent`, or a function of yours. None answers 404.
        post_tokens: False answers 405 to POST on the token path, as a production might that
            takes no variables at token creation.
        quota: conversations that may still start; None is without end. Used up, calls that issue
            get 401 `quota_exceeded`.
        ping_interval: seconds between pings.
        clock: seconds since the epoch; tests move it.
        base_url: where clients reach it (`http://…`), for the host in signed URLs; None takes the
            Host header of the call that asks.
        webhook_url: where to send a signed `post_call_transcription` when a conversation has ended,
            three times at most: a gate's `/webhooks/post-call` on loopback.
        webhook_secret: what it is signed with; None makes a random one, see the attribute.
        webhook_transport: an `httpx.AsyncBaseTransport` for it instead of the network, such as
            `httpx.ASGITransport(app)`.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        agents: Iterable[SandboxAgent] = (),
        unknown_agents: Callable[[str], SandboxAgent] | None = None,
        post_tokens: bool = True,
        quota: int | None = None,
        ping_interval: float = 10.0,
        clock: Callable[[], float] = time.time,
        base_url: str | None = None,
        webhook_url: str | None = None,
        webhook_secret: str | None = None,
        webhook_transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if "" in (api_key, webhook_secret):
            raise ValueError("api_key or webhook_secret is empty: leave it out for a random one")
        if not (math.isfinite(ping_interval) and ping_interval > 0):
            raise ValueError("ping_interval is in seconds, more than 0")
        self._workspace = Workspace(
            api_key=api_key,
            agents=agents,
            unknown_agents=unknown_agents,
            quota=quota,
            clock=clock,
            told=self._tell,
        )
        self._webhook_secret = webhook_secret or f"wsec_{secrets.token_hex(32)}"
        self._webhook = (
            None if webhook_url is None else self._signing(webhook_url, webhook_transport)
        )
        self._base_url = _checked_url(base_url)
        self._post_tokens = post_tokens
        self._ping_interval = ping_interval
        self._app = Marked(self._routed())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def __repr__(self) -> str:
        return f"<SandboxPlatform, a rehearsal, with {len(self._workspace.agents)} agents>"

    @property
    def api_key(self) -> str:
        """Return the sandbox's key: what XUNA_AI_API_KEY holds while you rehearse."""
        return self._workspace.api_key

    @property
    def webhook_secret(self) -> str:
        """Return what webhooks are signed with: XUNA_AI_WEBHOOK_SECRET while you rehearse."""
        return self._webhook_secret

    @property
    def agents(self) -> tuple[SandboxAgent, ...]:
        """Return the agents as they are now."""
        return tuple(self._workspace.agents.values())

    @property
    def issued(self) -> tuple[Issued, ...]:
        """Return the last 1,000 passes that left, oldest first; not the passes themselves."""
        return tuple(self._workspace.passes.issued)

    @property
    def conversations(self) -> tuple[Conversation, ...]:
        """Return the conversations that started, oldest first, at most 1,000."""
        return tuple(self._workspace.records)

    def add(self, agent: SandboxAgent) -> None:
        """Add an agent, or replace the one with its id."""
        self._workspace.put(agent)

    def _routed(self) -> Starlette:
        app = Starlette(
            routes=[
                _route("/", _root, "GET"),
                *self._issuing_routes(),
                *self._signalling_routes(),
                *self._agent_routes(),
                *self._conversation_routes(),
            ],
            exception_handlers={RefusalError: answer_refusal, HTTPException: answer_http},
        )
        app.router.redirect_slashes = False
        return app

    def _issuing_routes(self) -> list[Route | WebSocketRoute]:
        talk = "/v1/convai/conversation"
        methods = ["GET", "POST"] if self._post_tokens else ["GET"]
        return [
            _route(f"{talk}/get-signed-url", self._keyed(self._signed_url), "GET"),
            _route(f"{talk}/token", self._keyed(_token), *methods),
            WebSocketRoute(talk, self._converse),
        ]

    def _signalling_routes(self) -> list[Route | WebSocketRoute]:
        return [
            WebSocketRoute("/rtc/v1", self._signal),
            _route("/rtc/v1/validate", self._validate, "GET"),
        ]

    def _agent_routes(self) -> list[Route]:
        agents, one = "/v1/convai/agents", "/v1/convai/agents/{agent_id}"
        return [
            _route(agents, self._keyed(catalogue.create), "POST"),
            _route(f"{agents}/create", self._keyed(catalogue.create), "POST"),
            _route(agents, self._keyed(catalogue.listing), "GET"),
            _route(one, self._keyed(catalogue.show), "GET"),
            _route(one, self._keyed(catalogue.change), "PATCH"),
            _route(one, self._keyed(catalogue.delete), "DELETE"),
        ]

    def _conversation_routes(self) -> list[Route]:
        conversations = "/v1/convai/conversations"
        one = f"{conversations}/{{conversation_id}}"
        return [
            _route(conversations, self._keyed(history.listing), "GET"),
            _route(one, self._keyed(history.show), "GET"),
            _route(one, self._keyed(history.delete), "DELETE"),
        ]

    def _keyed(self, call: _Call) -> _Endpoint:
        """Return an endpoint that looks at the key before anything else."""

        async def endpoint(request: Request) -> Response:
            self._workspace.check_key(request.headers.getlist("xi-api-key"))
            answer = call(self._workspace, request)
            return await answer if isawaitable(answer) else answer

        return endpoint

    def _signed_url(self, workspace: Workspace, request: Request) -> Response:
        return issuing.signed_url(workspace, request, self._base_url)

    def _signing(self, url: str, transport: httpx.AsyncBaseTransport | None) -> Webhook:
        clock = self._workspace.clock
        return Webhook(url, self._webhook_secret, transport=transport, clock=clock)

    def _tell(self, ended: Conversation) -> None:
        if self._webhook is not None:
            self._webhook.begin(history.whole(self._workspace, ended))

    async def _converse(self, socket: WebSocket) -> None:
        await converse(self._workspace, socket, ping_interval=self._ping_interval)

    async def _signal(self, socket: WebSocket) -> None:
        await rtc.signal(self._workspace, socket, ping_interval=self._ping_interval)

    async def _validate(self, request: Request) -> Response:
        return rtc.validate(self._workspace, request)


def _route(path: str, endpoint: _Endpoint, *methods: str) -> Route:
    """Return a route for these methods alone: HEAD would issue where GET does."""
    route = Route(path, endpoint, methods=list(methods))
    route.methods = set(methods)
    return route


async def _root(_: Request) -> Response:
    return HTMLResponse(pages.platform(), headers=pages.HEADERS)


async def _token(workspace: Workspace, request: Request) -> Response:
    if request.method == "POST":
        return await issuing.token_by_post(workspace, request)
    return await issuing.token_by_get(workspace, request)


def _checked_url(base_url: str | None) -> str | None:
    if base_url is not None and urlsplit(base_url).scheme not in ("http", "https"):
        raise ValueError("base_url is where clients reach the sandbox: http://127.0.0.1:…")
    return base_url
