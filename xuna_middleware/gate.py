"""The gate: its options, and what can be asked of it.

A `XunaGate` is an ASGI app that can be mounted, a thing to ask in a route of one's own
(`issue`, `identity`), and what `XunaMiddleware` puts in front of an app.
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
        anonymous: the terms for callers without credentials, where an agent has `anonymous=True`;
            by default those of `AnonymousAccess()`.
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
        #: Where clients reach the gate, without a slash at its end; None where nobody said.
        self.public_url = self._core.public_url
        #: An ASGI app for `/.well-known/oauth-protected-resource` at the host's root (RFC 9728),
        #: where the gate is mounted; a middleware serves it by itself. None without `public_url`
        #: or without a verifier.
        self.resource_metadata = self._core.metadata
        self._app = self._core.cors.wrap(self._serve)

    def __repr__(self) -> str:
        return f"XunaGate(agents={sorted(self._core.pipeline.agents)})"

    @property
    def platform(self) -> Platform:
        """What issues the passes."""
        return self._core.pipeline.platform

    @property
    def webhook(self) -> PostCallWebhook | None:
        """What verifies the platform's webhooks; None where the gate takes none."""
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
        """Check what only the environment can tell, and begin to fetch keys.

        Raises:
            ConfigurationError: no API key is to be found, or no secret for webhooks.
        """
        check_environment(self._core)
        start(self._core)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End what runs in the background and close connections. It can start again after that."""
        await close(self._core)

    async def identity(self, connection: HTTPConnection) -> Identity:
        """Verify who sent a request or opens a WebSocket; fits FastAPI's `Depends`.

        Checks: the Authorization header, or what the authenticator reads.
        Does not check: rules and limits; from which site the request came. Admits no visitors:
        whoever presents nothing is refused (401).

        Raises:
            GateError: a 400, 401, 429 or 503 that answers by itself in Starlette and FastAPI
                routes.
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
        """Say how long a conversation was: limits get back what it did not use, once.

        For whoever learns of ends by themselves; the platform's webhook does it by itself, see
        `PostCallWebhook`. Tells whether there was a reservation to settle; a second time there is
        none.

        Raises:
            UnavailableError: the store can't be asked. ConfigurationError: `seconds` is no length.
        """
        if type(seconds) not in (int, float) or not 0 <= seconds <= _LONGEST:
            raise ConfigurationError("gate.settle() takes the seconds that a conversation lasted")
        return await self._core.pipeline.settlement.settle(conversation_id, seconds)

    async def sessions(self) -> tuple[LiveSession, ...]:
        """Return the live conversations that the gate carries, in all processes with its store.

        Raises:
            UnavailableError: the store can't be asked.
        """
        return await list_sessions(self._core)

    async def end_session(self, session_id: str) -> bool:
        """End a live conversation, in whatever process; tell whether there is such a one.

        It ends with 4412 `ended_by_operator`, at once where the store can wake that process, at the
        next heartbeat (5 s) else.

        Raises:
            UnavailableError: the store can't be told.
        """
        return await end_session(self._core, session_id)

    async def revoke(self, issuer: str, subject: str, *, seconds: float = 0) -> None:
        """Revoke all that proves somebody up to now: no new credential, no reconnect.

        Tokens whose `iat` is now or earlier are refused for as long as the longest of them may
        live, by the `traits` of the verifiers that may verify this issuer (`max_lifetime` and the
        leeway), and for 24 h 30 s at least. So is whoever has no `iat`, a later sign-in included:
        API keys (until the end of the longest-lived one, 100 years where one has no end), opaque
        tokens (`undated_lifetime`), visitors (`token_seconds`), sessions of an authenticator. Their
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
        await revoke(self._core, issuer, subject, seconds)

    async def ensure_not_revoked(self, identity: Identity) -> None:
        """Refuse somebody whom `revoke()` named, in a route of your own: one look at the store.

        Raises:
            InvalidTokenError: what proves them was issued before that.
            UnavailableError: the store can't be asked.
        """
        await ensure_not_revoked(identity, self._core.store)

    async def pause_anonymous(self) -> None:
        """Turn visitors away from the next request on, in every process that shares the store.

        Lasts until `resume_anonymous()`, 100 years at most. With a `MemoryStore` it is this process
        alone. A store that loses its data is told again by a process that knew; see docs/limits.md.

        Raises:
            UnavailableError: the store can't be told. This process turns visitors away all the
                same, until `resume_anonymous()` is called in any process, and tells the store when
                the next visitor comes.
            ConfigurationError: there is no entrance.
        """
        await admission_of(self._core).switch.pause()

    async def resume_anonymous(self) -> None:
        """Let visitors in again; see `pause_anonymous()`."""
        await admission_of(self._core).switch.resume()

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
    """Return what a gate is made of now."""
    return gate._core
