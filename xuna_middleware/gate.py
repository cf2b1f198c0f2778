"""The gate: its options and its public methods.

Mount a `XunaGate` as an ASGI app, call its methods in your own routes, or put it in front of an
app with `XunaMiddleware`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from xuna_middleware.access import Agent, AnyLimit, RuleLike, Transport, ensure_not_revoked
from xuna_middleware.anonymous.options import AnonymousAccess
from xuna_middleware.assembly import Options, assemble, override
from xuna_middleware.endpoints import (
    ISSUING,
    Core,
    Routes,
    admission_of,
    check_environment,
    close,
    end_session,
    identify,
    issue_to_app,
    list_sessions,
    revoke,
    start,
)
from xuna_middleware.errors import ConfigurationError, GateError
from xuna_middleware.events import Hook
from xuna_middleware.identity import Authenticator, Identity, Verifier
from xuna_middleware.issuing import Explanation, IssueRequest, explain, not_verified
from xuna_middleware.platform import ConversationToken, Platform, PostCallWebhook, SignedUrl
from xuna_middleware.relay.live import LiveSession
from xuna_middleware.stores import Store
from xuna_middleware.web.lifespan import serve_lifespan

#: Seconds; no conversation is longer than a week.
_LONGEST: Final = 604_800


class XunaGate:
    """Verify callers, decide, and issue signed URLs and conversation tokens.

    Args:
        verifier: a `Verifier` for Bearer tokens, or several, one for each issuer.
        authenticator: an async function `(connection) -> Identity | None` for your own sessions,
            cookies and headers. Give a verifier, an authenticator or both; if a request has an
            Authorization header, the verifier alone decides.
        agents: the agents; their names must differ.
        platform: `XunaPlatform(…)`; by default its key comes from XUNA_AI_API_KEY.
        webhook: `PostCallWebhook(…)` receives the lengths of conversations, signed by the platform,
            at `/webhooks/post-call`.
        anonymous: the terms on which callers without credentials use agents with
            `anonymous=True`; by default `AnonymousAccess()`.
        cors_origins: exact origins of other sites whose pages may use the gate and the app's
            protected paths. The gate answers preflights for both.
        public_url: the address at which clients reach the gate, prefix included, such as
            "https://acme.com/xuna"; the transport `relay` needs it.
        operators: a rule, or a function that is one, for who may list and end live conversations
            at `/sessions`. Without it these routes don't exist.
        store: state that the gate's processes share; by default a `MemoryStore`, for one process.
        limits: `Limit(…)`, `Concurrent(…)` and `TalkTime(…)` for all agents together, in addition
            to those of each agent.
        trusted_proxies: networks ("10.0.0.0/8") whose forwarding headers the gate trusts.
        client_cert_header: the header in which such a proxy forwards the client's certificate (RFC
            9440's "Client-Cert", or a percent-encoded PEM).
        on_event: functions called with every `Event`, in order, each in its own thread;
            `Immediate(hook)` is called on the event loop.

    An async context manager: entering checks the configuration and starts to fetch keys, leaving
    closes connections. Without it the gate starts at the first request on each event loop.

    Raises:
        ConfigurationError: an option makes no sense; the text names the fix.
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
        anonymous: AnonymousAccess | None = None,
        cors_origins: Iterable[str] = (),
        public_url: str | None = None,
        operators: RuleLike | None = None,
        trusted_proxies: Iterable[str] = (),
        client_cert_header: str | None = None,
        on_event: Iterable[Hook] = (),
    ) -> None:
        self._core = assemble(
            Options(
                verifier=verifier,
                authenticator=authenticator,
                agents=agents,
                platform=platform,
                webhook=webhook,
                store=store,
                limits=limits,
                anonymous=anonymous,
                cors_origins=cors_origins,
                public_url=public_url,
                operators=operators,
                trusted_proxies=trusted_proxies,
                client_cert_header=client_cert_header,
                on_event=on_event,
            )
        )
        #: The address at which clients reach the gate, without a trailing slash; None if not given.
        self.public_url = self._core.public_url
        #: An ASGI app to add at the host's root for `/.well-known/oauth-protected-resource` (RFC
        #: 9728) if the gate is mounted; `XunaMiddleware` serves it itself. None without
        #: `public_url` or without a verifier.
        self.resource_metadata = self._core.metadata
        self._app = self._core.cors.wrap(self._serve)

    def __repr__(self) -> str:
        return f"XunaGate(agents={sorted(self._core.pipeline.agents)})"

    @property
    def platform(self) -> Platform:
        """The platform that issues credentials."""
        return self._core.pipeline.platform

    @property
    def webhook(self) -> PostCallWebhook | None:
        """The verifier of the platform's webhooks; None if the gate takes none."""
        return self._core.webhook

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve as an ASGI app: mounted at a path, or by itself."""
        if scope["type"] == "lifespan":
            await serve_lifespan(self, receive, send)
        elif scope["type"] in ("http", "websocket"):
            await self._app(scope, receive, send)
        else:
            raise RuntimeError(f"the gate does not serve the scope type {scope['type']!r}")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await Routes(self._core).serve(scope, receive, send)

    async def __aenter__(self) -> Self:
        """Check the settings that come from the environment, and start to fetch keys.

        Raises:
            ConfigurationError: the API key or the webhooks' secret is missing.
        """
        check_environment(self._core)
        start(self._core)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop background tasks and close connections. The gate can start again afterwards."""
        await close(self._core)

    async def identity(self, connection: HTTPConnection) -> Identity:
        """Verify who sent a request or opens a WebSocket; fits FastAPI's `Depends`.

        Checks: the Authorization header, or what the authenticator reads.
        Does not check: rules, limits, and from which site the request came. Callers who present
        nothing get a 401, even if agents are anonymous.

        Raises:
            GateError: a 400, 401, 429, 431 or 503, which Starlette and FastAPI turn into a
                response by themselves.
        """
        return (await identify(self._core, connection.scope)).identity

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
        """Issue a credential in your own route, to a caller you have verified.

        Args:
            agent: a configured name; may be left out if there is only one agent.
            dynamic_variables, overrides: treated as the client's: only those that the agent
                opens to clients; overrides in the platform's nested spelling.
            connection: passed to rules and variables that take two arguments. If this gate
                verified the caller's opaque token in this connection, a relayed conversation ends
                when the token is revoked; otherwise it ends with `exp`.

        Checks: the agent's rule, transport, limits and variables.
        Does not check: who calls; cross-site requests. Anonymous visitors use the gate's own
        routes.

        Raises:
            GateError: the same answers as the routes give. ConfigurationError: the call is wrong.
        """
        if not isinstance(identity, Identity):
            raise ConfigurationError("gate.issue() takes the Identity of a verified caller")
        if transport not in ISSUING.values():
            raise ConfigurationError('transport must be "websocket" or "webrtc"')
        request = IssueRequest(
            identity=identity,
            agent=agent,
            transport=transport,
            dynamic_variables=dynamic_variables,
            overrides=overrides,
            connection=connection,
            token=self._core.authentication.proof_of(connection, identity),
        )
        return await issue_to_app(self._core, request)

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
        """Return what each step would decide about a caller and an agent, and why.

        Reserves and issues nothing; calls rules and functions, each once. For operators: it has
        details that callers never see. Its `str()` has a line for each step. A captcha counts as
        solved if the anonymous token of `connection` says so. Usage that a sign-in would move is
        not counted.

        Args:
            caller: a Bearer token, or an identity. A token bound to a key or certificate can't be
                explained without its proof.

        Raises:
            ConfigurationError: a function takes a connection, and there is none.
        """
        core = self._core
        if isinstance(caller, Identity):
            identity, how = caller, "an identity, believed"
        else:
            try:
                identity = await core.authentication.verify_token(caller)
            except GateError as error:
                return not_verified(error)
            how = f"a token of {identity.issuer} for {identity.subject}"
        request = IssueRequest(
            identity=identity,
            agent=agent,
            transport=transport,
            dynamic_variables=dynamic_variables,
            overrides=overrides,
            connection=connection,
            visit=core.visit_of(connection),
        )
        return await explain(core.pipeline, request, how)

    async def settle(self, conversation_id: str, seconds: float) -> bool:
        """Report how long a conversation was: limits get back the unused time, once.

        The platform's webhook does this by itself; see `PostCallWebhook`. Returns whether there was
        a reservation to settle; after the first time there is none.

        Raises:
            UnavailableError: the store is unavailable. ConfigurationError: `seconds` is invalid.
        """
        if type(seconds) not in (int, float) or not 0 <= seconds <= _LONGEST:
            raise ConfigurationError("gate.settle() takes the seconds that a conversation lasted")
        return await self._core.pipeline.settlement.settle(conversation_id, seconds)

    async def sessions(self) -> tuple[LiveSession, ...]:
        """Return the live conversations that the gate carries, of all processes with its store.

        Raises:
            UnavailableError: the store is unavailable.
        """
        return await list_sessions(self._core)

    async def end_session(self, session_id: str) -> bool:
        """End a live conversation in any process; return whether it exists.

        It ends with 4412 `ended_by_operator`: at once if the store can wake that process,
        otherwise at the next heartbeat (5 s).

        Raises:
            UnavailableError: the store is unavailable.
        """
        return await end_session(self._core, session_id)

    async def revoke(self, issuer: str, subject: str, *, seconds: float = 0) -> None:
        """Revoke what was issued to a caller up to now: no new credential, no reconnect.

        Tokens whose `iat` is now or earlier are refused for the longest lifetime that the `traits`
        of the issuer's verifiers allow (`max_lifetime` and the leeway), and for at least 24 h 30 s.
        Callers without `iat` are refused for that long, too, even after a new sign-in: API keys
        (until the longest-lived one ends; 100 years if one has no end), opaque tokens
        (`undated_lifetime`), visitors (`token_seconds`), sessions of an authenticator. The caller's
        live conversations in the relay end with 4411 `revoked`. A token with a later `iat` is good.

        Args:
            seconds: the minimum duration, if you know of something that lives longer, such as the
                sessions that an authenticator reads. If no verifier of this gate serves the
                issuer, the revocation lasts exactly this long; without `seconds` it lasts 100
                years, and a WARNING says so.

        Does not check: whether the provider would issue a new token, nor the provider's clock: if
        it runs ahead, its tokens look newer than they are.

        Raises:
            UnavailableError: the store is unavailable; nobody is revoked.
            ConfigurationError: issuer or subject is invalid, or `seconds` is not 0 to 100 years.
        """
        await revoke(self._core, issuer, subject, seconds)

    async def ensure_not_revoked(self, identity: Identity) -> None:
        """Refuse a revoked caller in your own route, with one query to the store.

        Raises:
            InvalidTokenError: the caller was revoked after the token was issued.
            UnavailableError: the store is unavailable.
        """
        await ensure_not_revoked(identity, self._core.store)

    async def pause_anonymous(self) -> None:
        """Refuse anonymous visitors from the next request on, in every process with this store.

        Lasts until `resume_anonymous()`, at most 100 years. With a `MemoryStore` it affects this
        process alone. If the store loses its data, a process that knew of the pause sets it again;
        see docs/limits.md.

        Raises:
            UnavailableError: the store is unavailable. This process still refuses visitors, until
                any process calls `resume_anonymous()`, and tries again at the next visitor.
            ConfigurationError: no agent is anonymous.
        """
        await admission_of(self._core).switch.pause()

    async def resume_anonymous(self) -> None:
        """Admit anonymous visitors again; see `pause_anonymous()`."""
        await admission_of(self._core).switch.resume()

    @contextmanager
    def overridden(
        self,
        *,
        verifier: Verifier | None = None,
        platform: Platform | None = None,
        webhook: PostCallWebhook | None = None,
    ) -> Iterator[None]:
        """Replace verifier, platform or webhook temporarily, in tests; agents and rules stay.

        A gate without a webhook stays without one.
        """
        before = self._core
        swapped = override(before, verifier=verifier, platform=platform, webhook=webhook)
        self._core = swapped
        swapped.runtime.leave()  # the parts start at the next request
        try:
            yield
        finally:
            overlaps = self._core is not swapped
            self._core = before
            before.runtime.leave()
            if overlaps:
                raise RuntimeError("gate.overridden() blocks overlap; end them in reverse order")


def core_of(gate: XunaGate) -> Core:
    """Return the current parts of a gate."""
    return gate._core
