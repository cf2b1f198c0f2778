"""The gate: put identity, access and platform together, once, and serve them.

A `XunaGate` is an ASGI app that can be mounted, a thing to ask in a route of one's own
(`issue`, `identity`), and what `XunaMiddleware` puts in front of an app.
"""

import asyncio
import logging
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol, Self, TypeGuard, TypeVar

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from xuna_middleware._core.paths import route_path
from xuna_middleware.access.agents import Agent
from xuna_middleware.access.grants import Transport
from xuna_middleware.access.limits.budgets import START_WITHIN
from xuna_middleware.access.limits.keys import subject_principal
from xuna_middleware.access.limits.limits import AnyLimit, checked_limits
from xuna_middleware.access.limits.reservations import Stores, check_standing
from xuna_middleware.access.rules.rule import Rule, RuleLike, as_rule
from xuna_middleware.anonymous.admission import Entrance
from xuna_middleware.anonymous.captcha import HEADER as CHALLENGE_HEADER
from xuna_middleware.anonymous.cookie import HEADER as VISITOR_HEADER
from xuna_middleware.anonymous.options import Visitors
from xuna_middleware.assembly import (
    agents_by_name,
    budgets_of,
    check_relay,
    checked_header,
    checked_platform,
    checked_store,
    checked_webhook,
    unlimited_agents,
    warn_of_unlimited,
)
from xuna_middleware.endpoints.metadata import (
    ResourceMetadata,
    metadata_document,
    metadata_url,
)
from xuna_middleware.endpoints.operators import Oversight
from xuna_middleware.endpoints.routes import ISSUING, Routes
from xuna_middleware.endpoints.webhook import Deliveries
from xuna_middleware.errors import (
    PRIVATE,
    ConfigurationError,
    GateError,
    InvalidRequestError,
    NotAuthenticatedError,
    UnavailableError,
)
from xuna_middleware.events import Event, EventName, Events, Hook
from xuna_middleware.identity.authentication import (
    Authentication,
    Authenticator,
    Caller,
)
from xuna_middleware.identity.bound.request import Surroundings
from xuna_middleware.identity.credentials import VISITOR_ISSUER, Identity, Visit
from xuna_middleware.identity.jwt.verifiers import Service, Telling, Verifier
from xuna_middleware.identity.protocols import (
    DEFAULT_TOKEN_SECONDS,
    MAX_TOKEN_SECONDS,
    merge_traits,
)
from xuna_middleware.identity.proxies.trusted import Networks
from xuna_middleware.identity.rechecks import HeldToken
from xuna_middleware.issuing.explain import Explanation, explain, not_verified
from xuna_middleware.issuing.pipeline import (
    Order,
    Pipeline,
    admitted_agent,
    check_personalization,
    issue,
    meant_agent,
    named_agent,
)
from xuna_middleware.issuing.settlement import Settlement
from xuna_middleware.platform.issued import ConversationToken, SignedUrl
from xuna_middleware.platform.rest.client import Platform
from xuna_middleware.platform.webhooks import PostCallWebhook
from xuna_middleware.relay.client import Client
from xuna_middleware.relay.conversation import (
    Relaying,
    converse,
    lead_to_relay,
    relay_url,
    ticket_of,
)
from xuna_middleware.relay.live import Session, Sessions
from xuna_middleware.stores.memory.store import MemoryStore
from xuna_middleware.stores.protocol import Store, StoreError
from xuna_middleware.web.cors import AppCORS
from xuna_middleware.web.cross_site import Origins, checked_origins, origin_of
from xuna_middleware.web.lifespan import serve_lifespan
from xuna_middleware.web.refusals import REFERENCE_HEADER, Refusals
from xuna_middleware.web.servers import unfit_servers_loaded
from xuna_middleware.web.www_authenticate import Challenges, challenges_of

logger = logging.getLogger("xuna_middleware")

_EXPOSED_HEADERS: Final = (
    REFERENCE_HEADER,
    "Retry-After",
    "RateLimit",
    "RateLimit-Policy",
    "WWW-Authenticate",
    "DPoP-Nonce",
    VISITOR_HEADER,
    CHALLENGE_HEADER,
)
_ALLOWED_HEADERS: Final = (
    *("Authorization", "Content-Type", "DPoP"),
    *(VISITOR_HEADER, CHALLENGE_HEADER),
)
#: Seconds; no conversation is longer than a week.
_LONGEST: Final = 604_800

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """Hold what `overridden` may swap."""

    authentication: Authentication
    pipeline: Pipeline
    webhook: PostCallWebhook | None


class _Closing(Protocol):
    async def aclose(self) -> None: ...


class XunaGate:
    """Check who calls, decide, and issue signed URLs and conversation tokens.

    Args:
        verifier: a `Verifier` for Bearer tokens, or several, one an issuer.
        authenticator: an async function `(connection) -> Identity | None` for sessions, cookies
            and headers of your own. Give either or both; a presented Authorization header is
            decided by the verifier alone.
        agents: the agents there are; names must differ.
        platform: `XunaPlatform(…)`; by default its key comes from XUNA_AI_API_KEY.
        webhook: `PostCallWebhook(…)` takes the platform's word, signed, for how long conversations
            were, at `/webhooks/post-call`.
        visitors: the terms for callers without credentials, where an agent has `anonymous=True`;
            by default those of `Visitors()`.
        cors_origins: exact origins of pages that may use the gate from elsewhere, and protected
            paths of the app: the gate answers preflights for these, too.
        public_url: where clients reach the gate, prefix included, like "https://acme.com/xuna";
            the transport `relay` needs it.
        operators: a rule, or a function that is one: who may see and end live conversations, at
            `/sessions`. Without it there are no such routes.
        store: what the processes of a gate share: counts, used proofs and one-time tickets; by
            default a `MemoryStore`, which is one process's own.
        limits: `Limit(…)`, `Concurrent(…)` and `TalkTime(…)`, counted over all agents together;
            those of an agent are counted beside them.
        trusted_proxies: networks ("10.0.0.0/8") whose headers are believed.
        client_cert_header: in which such a proxy hands on the client's certificate (RFC 9440's
            "Client-Cert", or a percent-encoded PEM).
        on_event: functions called with every `Event`, in order, each in a thread of its own, so
            that none keeps a request waiting; `Immediate(hook)` is called on the event loop.

    An async context manager: entering checks the configuration and begins to fetch keys, leaving
    closes connections. A gate works without it, too: it starts by itself at the first request, on
    whichever event loop that comes.

    Raises:
        ConfigurationError: an option makes no sense; the text names the mend.
    """

    def __init__(
        self,
        *,
        verifier: Verifier | Sequence[Verifier] | None = None,
        authenticator: Authenticator | None = None,
        agents: Iterable[Agent],
        platform: Platform | None = None,
        webhook: PostCallWebhook | None = None,
        store: Store | None = None,
        limits: Sequence[AnyLimit] = (),
        visitors: Visitors | None = None,
        cors_origins: Iterable[str] = (),
        public_url: str | None = None,
        operators: RuleLike | None = None,
        trusted_proxies: Iterable[str] = (),
        client_cert_header: str | None = None,
        on_event: Iterable[Hook] = (),
    ) -> None:
        self._events = Events(on_event)
        self._authenticator = authenticator
        self._cors_origins = checked_origins(cors_origins)
        self._origins = Origins(self._cors_origins, public_url)
        #: What a middleware asks about cross-origin requests to the app's protected paths.
        self.app_cors = AppCORS(self._cors_origins, credentials=authenticator is not None)
        self.public_url = None if public_url is None else public_url.rstrip("/")
        by_name = agents_by_name(agents)
        self._agent_names = frozenset(by_name)
        self._visitors_only = all(agent.anonymous for agent in by_name.values())
        self._surroundings = Surroundings(
            origin=None if public_url is None else origin_of(public_url, "public_url"),
            store=checked_store(store),
            trusted_proxies=Networks(trusted_proxies),
            certificate_header=checked_header(client_cert_header, trusted_proxies),
        )
        self._entrance = self._make_entrance(by_name, visitors)
        #: Of these a line is logged at the first start.
        self._unlimited = unlimited_agents(
            by_name.values(),
            checked_limits(limits),
            anonymous_only=verifier is None and authenticator is None,
        )
        self._parts = _Parts(
            authentication=self._authentication(verifier),
            pipeline=self._pipeline(by_name, checked_platform(platform), limits),
            webhook=checked_webhook(webhook),
        )
        check_personalization(self._parts.pipeline)
        check_relay(by_name.values(), self.platform, public_url)
        self._refusals = Refusals(self._events, self._challenges())
        self._sessions = Sessions(*self._parts.pipeline.stores.all)
        self._relaying = Relaying(
            sessions=self._sessions,
            refusals=self._refusals,
            authentication=lambda: self._parts.authentication,
            url=None if self.public_url is None else relay_url(self.public_url),
        )
        self._has_operators = operators is not None
        self._routes = Routes(
            authenticate=partial(self.authenticate, base=self.public_url, visitors=True),
            issue=self._issue,
            issue_ticket=self._issue_ticket,
            converse=self._converse,
            oversight=None if operators is None else self._oversight(as_rule(operators)),
            pipeline=lambda: self._parts.pipeline,
            missing=self._missing,
            origins=self._origins,
            refusals=self._refusals,
            deliveries=self._deliveries(),
        )
        #: An ASGI app for `/.well-known/oauth-protected-resource` at the host's root (RFC 9728),
        #: where the gate is mounted; a middleware serves it by itself. None without `public_url`
        #: or without a verifier.
        self.resource_metadata = self._metadata()
        self._app = self.with_cors(self._serve)
        self._started_on: Callable[[], asyncio.AbstractEventLoop | None] = _nowhere

    def __repr__(self) -> str:
        return f"XunaGate(agents={sorted(self._parts.pipeline.agents)})"

    @property
    def platform(self) -> Platform:
        """What issues the passes."""
        return self._parts.pipeline.platform

    @property
    def webhook(self) -> PostCallWebhook | None:
        """What verifies the platform's webhooks; None where the gate takes none."""
        return self._parts.webhook

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve as an ASGI app: mounted at a path, or by itself."""
        if scope["type"] == "lifespan":
            await serve_lifespan(self, receive, send)
        elif scope["type"] in ("http", "websocket"):
            await self._app(scope, receive, send)
        else:
            raise RuntimeError(f"the gate does not serve the scope type {scope['type']!r}")

    async def __aenter__(self) -> Self:
        """Check what only the environment can tell, and begin to fetch keys.

        Raises:
            ConfigurationError: no API key is to be found, or no secret for webhooks.
        """
        self._parts.pipeline.platform.check()
        if self.webhook is not None:
            self.webhook.check()
        self._start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End what runs in the background and close connections. It can start again after that."""
        self._started_on = _nowhere
        await self._sessions.aclose()
        await self._parts.pipeline.finish()
        await self._events.flush()
        failures: list[Exception] = []
        parts: list[_Closing] = [*self._services(), self.platform, self._surroundings.store]
        if self._entrance is not None:
            parts.append(self._entrance)
        for part in parts:
            try:
                await part.aclose()
            except Exception as error:
                failures.append(error)
        if failures:
            raise ExceptionGroup("parts of the gate did not close cleanly", failures)

    async def identity(self, connection: HTTPConnection) -> Identity:
        """Verify who sent a request or opens a WebSocket; fits FastAPI's `Depends`.

        Checks: the Authorization header, or what the authenticator reads.
        Does not check: rules and limits; from which site the request came. Admits no visitors:
        whoever presents nothing is refused (401).

        Raises:
            GateError: a 400, 401, 429 or 503 that answers by itself in Starlette and FastAPI
                routes.
        """
        return (await self.authenticate(connection.scope)).identity

    async def issue(
        self,
        identity: Identity,
        agent: str | None = None,
        *,
        transport: Transport,
        dynamic_variables: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
        connection: HTTPConnection | None = None,
    ) -> SignedUrl | ConversationToken:
        """Issue a pass in a route of your own, to a caller whom you verified.

        Args:
            agent: a configured name; may be left out where there is one agent.
            dynamic_variables, overrides: count as a client's: only what the agent opens to
                clients; overrides in the platform's nested spelling.
            connection: what rules and variables of two arguments are given. A relayed conversation
                of somebody whom this gate verified in it by an opaque token, in `gate.identity()`
                or as the gate of `XunaMiddleware`, ends when that is revoked. Without
                `connection`, or where a gate with another verifier did that, it ends with `exp`.

        Checks: the agent's rule, transport, limits and variables.
        Does not check: who calls; cross-site requests. Visitors come through the gate's own routes,
        where their tickets are read and written.

        Raises:
            GateError: as the routes answer. ConfigurationError: the call itself is wrong.
        """
        if not isinstance(identity, Identity):
            raise ConfigurationError("gate.issue() takes the Identity of a verified caller")
        if transport not in ISSUING.values():
            raise ConfigurationError('transport must be "websocket" or "webrtc"')
        return await self._issue(
            Order(
                identity=identity,
                agent=agent,
                transport=transport,
                dynamic_variables=dynamic_variables,
                overrides=overrides,
                connection=connection,
                token=self._proof_in(connection, identity),
            )
        )

    async def explain(
        self,
        caller: str | Identity,
        agent: str | None = None,
        *,
        transport: Transport = "websocket",
        dynamic_variables: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
        connection: HTTPConnection | None = None,
    ) -> Explanation:
        """Tell what each step would decide about a caller and an agent, and why.

        Nothing is taken or issued; rules and functions are asked. For the operator: it holds what
        callers are never told. `str()` of it has a line for each step.

        Each function of a rule is asked once. A visitor's challenge is not solved: it is passed
        where the ticket of `connection` says so. What a signed-in caller would take along from a
        visitor's ticket is not counted.

        Args:
            caller: a Bearer token, or an identity. A token that is bound to a key or certificate
                can't be explained without its proof.

        Raises:
            ConfigurationError: a function takes a connection, and there is none.
        """
        if isinstance(caller, Identity):
            identity, how = caller, "an identity, believed"
        else:
            try:
                identity = await self._parts.authentication.verified(caller)
            except GateError as error:
                return not_verified(error)
            how = f"a token of {identity.issuer} for {identity.subject}"
        order = Order(
            identity=identity,
            agent=agent,
            transport=transport,
            dynamic_variables=dynamic_variables,
            overrides=overrides,
            connection=connection,
            visit=self._known(connection),
        )
        return await explain(self._parts.pipeline, order, how)

    async def settle(self, conversation_id: str, seconds: float) -> bool:
        """Say how long a conversation was: limits get back what it did not use, once.

        For whoever learns of ends by themselves; the platform's webhook does it by itself, see
        `PostCallWebhook`. Tells whether there was a reservation to settle; a second time there is
        none.

        Raises:
            UnavailableError: the store can't be asked. ConfigurationError: `seconds` is no length.
        """
        if type(seconds) not in (int, float) or not 0 <= seconds <= _LONGEST:
            raise ConfigurationError("gate.settle() takes the seconds that a conversation lasted")
        return await self._parts.pipeline.settlement.settle(conversation_id, seconds)

    async def sessions(self) -> tuple[Session, ...]:
        """Return the live conversations that the gate carries, in all processes with its store.

        Raises:
            UnavailableError: the store can't be asked.
        """
        return await _told(self._sessions.all())

    async def end_session(self, session_id: str) -> bool:
        """End a live conversation, in whatever process; tell whether there is such a one.

        It ends with 4412 `ended_by_operator`, at once where the store can wake that process, at the
        next heartbeat (5 s) else.

        Raises:
            UnavailableError: the store can't be told.
        """
        return await _told(self._sessions.end(session_id))

    async def revoke(self, issuer: str, subject: str, *, seconds: float = 0) -> None:
        """Revoke all that proves somebody up to now: no new credential, no reconnect.

        Tokens whose `iat` is now or earlier are refused for as long as the longest of them may
        live, by the `traits` of the verifiers that may verify this issuer (`max_lifetime` and the
        leeway), and for 24 h 30 s at least. So is whoever has no `iat`, a later sign-in included:
        API keys (until the end of the longest-lived one, 100 years where one has no end), opaque
        tokens (`undated_lifetime`), visitors (`ticket_lasts`), sessions of an authenticator. Their
        live conversations in the relay end with 4411 `revoked`. A sign-in with a later `iat` is
        good.

        Args:
            seconds: make it last this long at least, where you know of something that lives longer,
                such as the sessions that an authenticator reads. Where nothing in this gate may
                prove anybody of the issuer (another gate of the same name may), it lasts exactly
                this long, or 100 years without it, and a WARNING says so.

        Does not check: whether the provider would give a new token. Clocks: a provider's that runs
        ahead makes tokens that seem to come later.

        Raises:
            UnavailableError: the store can't be told; nobody is revoked then.
            ConfigurationError: issuer or subject is no name, or `seconds` no time up to 100 years.
        """
        whom = subject_principal(Identity(issuer=issuer, subject=subject))
        if type(seconds) not in (int, float) or not 0 <= seconds <= MAX_TOKEN_SECONDS:
            raise ConfigurationError("gate.revoke(seconds=…) takes seconds, up to 100 years")
        at, seconds = time.time(), self._revoked_for(issuer, seconds)
        await _told(self._surroundings.store.revoke(whom, at, seconds))
        try:
            await self._parts.pipeline.stores.fallback.revoke(whom, at, seconds)
        except StoreError as error:
            logger.warning(
                "gate.revoke: the store knows of it, and this process alone doesn't (%s): while "
                "the store can't be asked, limits with when_store_down='open' or 'memory' let this "
                "caller pass here; 'closed' doesn't",
                error,
            )
        self._events.emit(Event(name="revoked", time=at, issuer=issuer, subject=subject))

    async def check_standing(self, identity: Identity) -> None:
        """Refuse somebody whom `revoke()` named, in a route of your own: one look at the store.

        Raises:
            InvalidTokenError: what proves them was issued before that.
            UnavailableError: the store can't be asked.
        """
        await check_standing(identity, self._parts.pipeline.stores.shared)

    async def close_entrance(self) -> None:
        """Turn visitors away from the next request on, in every process that shares the store.

        Lasts until `open_entrance()`, 100 years at most. With a `MemoryStore` it is this process
        alone. A store that loses its data is told again by a process that knew; see docs/limits.md.

        Raises:
            UnavailableError: the store can't be told. This process turns visitors away all the
                same, until `open_entrance()` is called in any process, and tells the store when
                the next visitor comes.
            ConfigurationError: there is no entrance.
        """
        await self._checked_entrance().door.close()

    async def open_entrance(self) -> None:
        """Let visitors in again; see `close_entrance()`."""
        await self._checked_entrance().door.open()

    async def authenticate(
        self,
        scope: Scope,
        *,
        base: str | None = None,
        visitors: bool = False,
        nobody: GateError | None = None,
    ) -> Caller:
        """Return the caller of a scope and how they proved it, or note the refusal and raise it.

        `base` is the public address of whatever serves the scope: see `Presented`. With `visitors`,
        who presents nothing is one, where an agent is open to them. `nobody` is raised in place of
        a NotAuthenticatedError.
        """
        if self._started_on() is not asyncio.get_running_loop():
            self._start()
        try:
            caller = await self._caller(scope, base, visitors)
            if caller.ambient and scope["type"] == "websocket":
                self._origins.check_websocket(Headers(scope=scope))
            if caller.ticket is not None:
                self._origins.check_ticket(Headers(scope=scope), caller.ticket.origin)
        except NotAuthenticatedError as error:
            raise self._refusals.note(nobody or error) from None
        except Exception as error:
            raise self._refusals.note(error) from None
        self._parts.authentication.note_proof(scope, caller)
        if self._events.heard:
            self._parts.pipeline.emit("verified", caller.identity)
        return caller

    def refuse(self, error: GateError) -> GateError:
        """Log a refusal, tell the hooks, and return it as it is to be answered."""
        return self._refusals.note(error)

    def with_cors(self, app: ASGIApp) -> ASGIApp:
        """Wrap an app so that its answers may be read from `cors_origins`, denials included."""
        if not self._cors_origins:
            return app
        cors = CORSMiddleware(
            app,
            allow_origins=self._cors_origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=_ALLOWED_HEADERS,
            allow_credentials=self._authenticator is not None,
            expose_headers=_EXPOSED_HEADERS,
        )
        cors.preflight_headers.update(PRIVATE)
        return cors

    @contextmanager
    def overridden(
        self,
        *,
        verifier: Verifier | None = None,
        platform: Platform | None = None,
        webhook: PostCallWebhook | None = None,
    ) -> Iterator[None]:
        """Swap verifier, platform or webhook for a while, in tests; agents and rules stay.

        A gate that takes no webhooks takes none by this either.
        """
        before = self._parts
        authentication, pipeline = before.authentication, before.pipeline
        if verifier is not None:
            authentication = self._authentication(verifier)
        if platform is not None:
            pipeline = replace(pipeline, platform=platform)
        swapped = _Parts(
            authentication=authentication,
            pipeline=pipeline,
            webhook=before.webhook and (webhook or before.webhook),
        )
        self._parts, self._started_on = swapped, _nowhere
        try:
            yield
        finally:
            overlaps = self._parts is not swapped
            self._parts, self._started_on = before, _nowhere
            if overlaps:
                raise RuntimeError("gate.overridden() blocks overlap; end them in reverse order")

    async def _caller(self, scope: Scope, base: str | None, visitors: bool) -> Caller:
        entrance = self._entrance
        try:
            caller = await self._parts.authentication.authenticate(scope, base)
            if caller.identity.is_visitor and not visitors:  # by a ticket, which is used up
                raise NotAuthenticatedError(cause="ticket: a visitor's, where none is let in")
        except NotAuthenticatedError:
            # A presented header is decided by the verifier alone, and makes nobody a visitor.
            if entrance is None or not visitors or "authorization" in Headers(scope=scope):
                raise
            visit = entrance.visit(scope)
            return Caller(visit.identity, True, "visitor", visit=visit)
        if entrance is None:
            return caller
        return caller._replace(visit=entrance.known(scope))

    def _proof_in(self, connection: HTTPConnection | None, identity: Identity) -> HeldToken | None:
        if connection is None:
            return None
        return self._parts.authentication.proof_in(connection.scope, identity)

    def _known(self, connection: HTTPConnection | None) -> Visit | None:
        if self._entrance is None or connection is None:
            return None
        return self._entrance.known(connection.scope)

    def _authentication(self, verifier: Verifier | Sequence[Verifier] | None) -> Authentication:
        return Authentication(
            verifier,
            self._authenticator,
            self._surroundings,
            agents=self._agent_names,
            visitors=None if self._entrance is None else self._entrance.terms,
            visitors_only=self._visitors_only,
        )

    def _make_entrance(
        self, agents: Mapping[str, Agent], visitors: Visitors | None
    ) -> Entrance | None:
        if visitors is not None and not isinstance(visitors, Visitors):
            raise ConfigurationError("visitors takes Visitors(…)")
        if not any(agent.anonymous for agent in agents.values()):
            if visitors is not None:
                raise ConfigurationError(
                    "visitors=… says on which terms, but no agent admits any: "
                    "Agent(…, anonymous=True)"
                )
            return None
        is_secure = (self._surroundings.origin or "").startswith("https:")
        near = self._surroundings
        return Entrance(
            visitors or Visitors(), near.store, is_secure=is_secure, proxies=near.trusted_proxies
        )

    def _checked_entrance(self) -> Entrance:
        if self._entrance is None:
            raise ConfigurationError("no agent admits visitors: Agent(…, anonymous=True)")
        return self._entrance

    def _pipeline(
        self, agents: Mapping[str, Agent], platform: Platform, limits: Sequence[AnyLimit]
    ) -> Pipeline:
        start_within = getattr(platform, "start_within", None) or START_WITHIN
        everywhere = checked_limits(limits)
        visitors = None if self._entrance is None else self._entrance.visitors
        return Pipeline(
            agents=agents,
            platform=platform,
            events=self._events,
            budgets=budgets_of(agents.values(), everywhere, visitors, start_within),
            entrance=self._entrance,
            stores=Stores(shared=self._surroundings.store, fallback=MemoryStore()),
            settlement=Settlement(self._surroundings.store, self._events),
            proxies=self._surroundings.trusted_proxies,
        )

    def _oversight(self, rule: Rule) -> Oversight:
        stores = self._parts.pipeline.stores
        return Oversight(rule, stores, sessions=self.sessions, end=self.end_session)

    def _deliveries(self) -> Deliveries | None:
        configured = self._parts.webhook
        if configured is None:
            return None
        return Deliveries(
            lambda: self._parts.webhook or configured,
            self._parts.pipeline.settlement,
            self._surroundings.store,
            self._events,
        )

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._start()
        path = route_path(scope["path"], scope.get("root_path", ""), scope.get("app_root_path", ""))
        await self._routes.serve(path, scope, receive, send)

    async def _issue(self, order: Order) -> SignedUrl | ConversationToken:
        pipeline = self._parts.pipeline
        try:
            if order.transport == "websocket" and meant_agent(pipeline, order).is_relayed:
                return await lead_to_relay(pipeline, self._relaying, order, _origin_of(order))
            return await issue(pipeline, order)
        except GateError as error:
            raise self._refusals.note(
                error,
                identity=order.identity,
                agent=named_agent(self._parts.pipeline, order),
                transport=order.transport,
                told=order.told,
            ) from None

    async def _converse(self, order: Order, client: Client) -> None:
        try:
            await converse(self._parts.pipeline, self._relaying, order, client)
        except GateError as error:
            raise self._refusals.note(
                error,
                identity=order.identity,
                agent=named_agent(self._parts.pipeline, order),
                transport="relay",
            ) from None

    async def _issue_ticket(self, order: Order, origin: str | None) -> tuple[str, float]:
        pipeline = self._parts.pipeline
        try:
            if order.dynamic_variables is not None or order.overrides is not None:
                cause = "body: a ticket carries no variables and no overrides"
                raise InvalidRequestError(cause=cause)
            agent = await admitted_agent(pipeline, order)
            ticket = ticket_of(order, agent, origin)
            return await self._parts.authentication.make_ticket(ticket)
        except GateError as error:
            raise self._refusals.note(
                error,
                identity=order.identity,
                agent=named_agent(pipeline, order),
                told=order.told,
            ) from None

    @property
    def has_operators(self) -> bool:
        """Tell whether somebody may see and end live conversations."""
        return self._has_operators

    @property
    def has_relay(self) -> bool:
        """Tell whether an agent lists the transport `relay`."""
        return any("relay" in agent.transports for agent in self._parts.pipeline.agents.values())

    def _revoked_for(self, issuer: str, given: float = 0.0) -> float:
        """Return for how many seconds something may be good that proves somebody of this issuer
        now; as given, where that is longer, or where nothing here knows the issuer.
        """
        known = self._parts.authentication.max_token_seconds(issuer)
        if issuer == VISITOR_ISSUER:
            known = None
            if self._entrance is not None:
                known = max(DEFAULT_TOKEN_SECONDS, self._entrance.visitors.ticket_lasts)
        if known is not None:
            return max(given, known)
        if not given:
            logger.warning(
                "revoke(): no verifier= of this gate is for the issuer %r, so this lasts 100 "
                "years; check its spelling, or say seconds= where another gate of this name "
                "verifies it",
                issuer,
            )
        return given or MAX_TOKEN_SECONDS

    def _challenges(self) -> Challenges:
        """Return what refusals challenge with.

        Raises:
            ConfigurationError: proofs name the address of a request, which nobody said.
        """
        described = self._parts.authentication.traits
        has_metadata = self.public_url is not None and bool(described)
        metadata = metadata_url(str(self.public_url)) if has_metadata else None
        challenges = challenges_of(merge_traits(described), metadata)
        if challenges.dpop_algorithms and self.public_url is None:
            raise ConfigurationError(
                "dpop=, or dpop_algorithms of a verifier's traits, needs public_url: a proof names "
                "the address that the client asked for, "
                'which no header may tell; public_url="https://acme.com/xuna"'
            )
        return challenges

    def _metadata(self) -> ResourceMetadata | None:
        described = self._parts.authentication.traits
        if self.public_url is None or not described:
            return None
        document = metadata_document(self.public_url, described)
        return ResourceMetadata(self.public_url, document)

    def _start(self) -> None:
        """Begin what runs beside requests, once on each event loop that comes along."""
        loop = asyncio.get_running_loop()
        if self._started_on() is not loop:
            self._started_on = weakref.ref(loop)
            for service in self._services():
                if isinstance(service, Telling):
                    service.listen(self._tell)
                service.start()
            start_store = getattr(self._surroundings.store, "start", None)
            if start_store is not None:
                start_store()
            if self._entrance is not None:
                self._entrance.start()
            warn_of_unlimited(self._unlimited)
            self._unlimited = ()
            if self.has_relay:
                for unfit in unfit_servers_loaded():
                    logger.error("the relay refuses conversations on this server: %s", unfit)

    def _tell(self, name: EventName, issuer: str, cause: str) -> None:
        self._events.emit(Event(name=name, time=time.time(), issuer=issuer, cause=cause))

    def _services(self) -> Iterator[Service]:
        known = (*self._parts.authentication.verifiers, self._authenticator)
        return filter(_is_service, known)

    def _missing(self) -> list[str]:
        """Name what keeps the gate from being ready; for strangers' eyes, so names only."""
        missing = [] if all(each.ready for each in self._services()) else ["identity"]
        checked = {"platform": self.platform, "webhook": self.webhook}
        return missing + [name for name, part in checked.items() if _lacks_a_setting(part)]


async def _told(answer: Awaitable[T]) -> T:
    """Return what the store says; where it can't say anything, that is a 503."""
    try:
        return await answer
    except StoreError as error:
        raise UnavailableError(cause=f"store: {error}") from None


def _origin_of(order: Order) -> str | None:
    return None if order.connection is None else order.connection.headers.get("origin")


def _nowhere() -> None:
    """Stand for the event loop of a gate that hasn't started."""


def _lacks_a_setting(part: Platform | PostCallWebhook | None) -> bool:
    """Tell whether a part lacks what only the environment can tell."""
    try:
        if part is not None:
            part.check()
    except ConfigurationError:
        return True
    return False


def _is_service(part: object) -> TypeGuard[Service]:
    return isinstance(part, Service)
