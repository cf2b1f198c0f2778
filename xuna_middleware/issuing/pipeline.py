"""The steps of one request, from a known caller to a credential. Knows nothing of ASGI messages.

check input → authorize → reserve → personalize → issue

A failure after `reserve` gives the reservation back, once; so does a cancelled request.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from starlette.requests import HTTPConnection
from starlette.types import Scope

from xuna_middleware._core.single_flight import SingleFlight
from xuna_middleware.access.agents import Agent, check_rule
from xuna_middleware.access.grants import Grant, Personalization, Transport
from xuna_middleware.access.limits.budgets import TICKETS, VISITORS_TICKETS, Budget
from xuna_middleware.access.limits.keys import LimitContext, subject_principal
from xuna_middleware.access.limits.reservations import (
    EVERY_KIND,
    Remaining,
    Reservation,
    Stores,
    check_left,
    look_again,
    remaining,
    reserve,
)
from xuna_middleware.access.values.personalize import check_client, personalize
from xuna_middleware.anonymous.admission import Admission
from xuna_middleware.errors import (
    AccessDeniedError,
    ConfigurationError,
    GateError,
    InvalidRequestError,
    LimitReachedError,
    NotAuthenticatedError,
    PlatformError,
    UnavailableError,
)
from xuna_middleware.events import Event, EventName, Events
from xuna_middleware.identity.client_address import client_address
from xuna_middleware.identity.credentials import AnonymousVisitor, Identity
from xuna_middleware.identity.proxies.trusted import TrustedProxies
from xuna_middleware.identity.rechecks import HeldToken
from xuna_middleware.identity.tickets.tickets import Voucher
from xuna_middleware.issuing.settlement import Settlement, about_whom
from xuna_middleware.platform.issued import ConversationToken, SignedUrl
from xuna_middleware.platform.rest.client import Platform
from xuna_middleware.platform.wire import check_carriable
from xuna_middleware.stores.protocol import Kind, MergeUsage, Wanted
from xuna_middleware.web.refusals import Attempt

logger = logging.getLogger("xuna_middleware")


#: How many calls to the platform run at once and how many wait, for visitors and for all others.
#: `OF_ONE` is the share of one address or account: less than the total, since its calls may hang.
#: `OF_ONE_WAITING` is how many of its calls wait. XunaPlatform has enough connections for these
#: calls and those of `settlement.py` together, so no call spends its time waiting for one.
VISITORS_CALLS: Final = 4
VISITORS_WAITING: Final = 128
VISITORS_OF_ONE: Final = 3
VISITORS_OF_ONE_WAITING: Final = 112
CALLERS_CALLS: Final = 8
CALLERS_WAITING: Final = 1016
CALLERS_OF_ONE: Final = 6
CALLERS_OF_ONE_WAITING: Final = 240
#: How many agents of a list are handled in one turn of the event loop, and how many limits of them
#: are read with one command. Redis' scripts fail at a few thousand.
_AGENTS_A_TURN: Final = 16
_LIMITS_A_LOOK: Final = 256
#: Seconds for the wait and the call together: less than the lease of a relayed conversation.
CALL_SECONDS: Final = 15.0
#: Seconds between reservation and credential after which revocation is checked once more.
LOOK_AGAIN_SECONDS: Final = 1.0
#: Seconds for which a closing gate waits for its background tasks.
_PATIENCE: Final = 2.0

#: Seconds for which the store keeps a reservation's note after the last look at it.
_GRACE: Final = 60.0

Issued: TypeAlias = SignedUrl | ConversationToken
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueRequest:
    """Describe what a known caller asks for. Client values are unchecked; `repr()` omits them.

    `agent` is a configured name; it may be None if the gate has only one. `overrides` are in the
    platform's nested spelling. `visit` is the visitor that the caller is, or was before signing in.
    `has_ticket` says that the checks for a ticket were made when it was issued. `voucher` says who
    vouched for the identity: the app around the gate, unless the gate's own routes say otherwise.
    `token` is the token that proved the caller, if it can be checked again. The steps add details
    for a refusal's report, and headers for the answer, to `attempt`.
    """

    identity: Identity
    agent: str | None
    transport: Transport
    dynamic_variables: Any = field(default=None, repr=False)
    overrides: Any = field(default=None, repr=False)
    connection: HTTPConnection | None = field(default=None, repr=False)
    visit: AnonymousVisitor | None = field(default=None, repr=False)
    has_ticket: bool = False
    voucher: Voucher = "application"
    token: HeldToken | None = field(default=None, repr=False)
    attempt: Attempt = field(default_factory=Attempt, repr=False, compare=False)

    @property
    def scope(self) -> Scope:
        """The ASGI scope of the connection; empty without one."""
        return {} if self.connection is None else self.connection.scope

    @property
    def visitor(self) -> AnonymousVisitor:
        """The anonymous visitor; without a token, one who has solved no captcha."""
        visit, who = self.visit, self.identity.subject
        return (
            visit if visit is not None and visit.visitor == who else AnonymousVisitor(visitor=who)
        )


def _visitors_calls() -> SingleFlight[Any, Any]:
    return SingleFlight(
        "platform: visitors' calls",
        max_concurrent=VISITORS_CALLS,
        max_queued=VISITORS_WAITING,
        of_one=VISITORS_OF_ONE,
        of_one_waiting=VISITORS_OF_ONE_WAITING,
    )


def _callers_calls() -> SingleFlight[Any, Any]:
    return SingleFlight(
        "platform: callers' calls",
        max_concurrent=CALLERS_CALLS,
        max_queued=CALLERS_WAITING,
        of_one=CALLERS_OF_ONE,
        of_one_waiting=CALLERS_OF_ONE_WAITING,
        owners="account",
    )


class BudgetKey(NamedTuple):
    """Identify a budget: its agent, whether it is for anonymous visitors, and whether leases hold
    its slots because the gate itself carries the conversation.
    """

    agent: str
    for_visitors: bool
    leased: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The parts that the steps use, assembled once."""

    agents: Mapping[str, Agent]
    platform: Platform
    events: Events
    budgets: "Mapping[BudgetKey, Budget]"
    admission: Admission | None
    stores: Stores
    settlement: Settlement
    proxies: TrustedProxies
    clock: Callable[[], float] = time.time
    #: Bound the calls to the platform: visitors' calls, and all others.
    visitors_calls: SingleFlight[Any, Any] = field(default_factory=_visitors_calls, repr=False)
    callers_calls: SingleFlight[Any, Any] = field(default_factory=_callers_calls, repr=False)
    #: Tasks that continue after the request that started them has ended.
    background: set[asyncio.Task[Any]] = field(default_factory=set, repr=False)

    def spawn(self, story: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that outlives the request; `finish()` waits for it."""
        task = asyncio.get_running_loop().create_task(story)
        self.background.add(task)
        task.add_done_callback(self.background.discard)
        return task

    def budget(
        self, agent: Agent, identity: Identity, transport: Transport = "websocket"
    ) -> Budget:
        """Return the limits of this caller's conversations with an agent."""
        return self.budgets[BudgetKey(agent.name, identity.is_anonymous, transport == "relay")]

    async def finish(self) -> None:
        """Stop settlement, and wait briefly for the background tasks of the running event loop."""
        self.settlement.stop()
        loop = asyncio.get_running_loop()
        mine = [task for task in self.background if task.get_loop() is loop]
        if mine:
            await asyncio.wait(mine, timeout=_PATIENCE)

    def emit(self, name: EventName, identity: Identity, **about: Any) -> None:
        """Emit an event about an identity."""
        event = Event(
            name=name,
            time=self.clock(),
            issuer=identity.issuer,
            subject=identity.subject,
            **about,
        )
        self.events.emit(event)


async def issue(pipeline: Pipeline, request: IssueRequest) -> SignedUrl | ConversationToken:
    """Decide, and get the credential from the platform.

    Does not check: who calls (`request.identity` is trusted), or from which site.

    Raises:
        GateError: one of the documented answers; nothing was issued.
    """
    agent = resolve_agent(pipeline, request)
    check_transport(agent, request.transport)
    client = check_client(agent, request.dynamic_variables, request.overrides)
    rule = await authorize(pipeline, agent, request)
    about: dict[str, Any] = {"agent": agent.name, "transport": request.transport}
    loop = asyncio.get_running_loop()
    began = loop.time()
    reservation = await reserve_limits(pipeline, agent, request)
    try:
        personal = await personalize(agent, request.identity, request.connection, client)
        grant = build_grant(pipeline, agent, request, rule, personal)
        issued = await ask_platform(pipeline, grant, request.connection)
        if loop.time() - began > LOOK_AGAIN_SECONDS:  # revoked in the meantime?
            budget = pipeline.budget(agent, request.identity, request.transport)
            await look_again(reservation, budget, request.identity, pipeline.stores)
        await merge_anonymous_usage(pipeline, agent, request)
    except BaseException:
        await release_reservation(pipeline, reservation, request.identity, **about)
        raise
    _remember_reservation(pipeline, reservation, request, issued)
    pipeline.emit(
        "issued",
        request.identity,
        rule=rule,
        conversation_id=issued.conversation_id,
        limits=reservation.limits,
        variables=tuple(grant.personalization.dynamic_variables),
        overrides=tuple(grant.personalization.overrides),
        **about,
    )
    return issued


async def authorize_for_ticket(pipeline: Pipeline, request: IssueRequest) -> Agent:
    """Make the checks that a ticket needs: the agent exists, its rule admits the caller, and its
    limits have something left. Takes nothing from them; tickets have a separate limit.

    Raises:
        GateError: one of the documented answers.
    """
    agent = resolve_agent(pipeline, request)
    rule = await authorize(pipeline, agent, request)
    await check_limits(pipeline, agent, request)
    await reserve(
        VISITORS_TICKETS if request.identity.is_anonymous else TICKETS,
        limit_context(pipeline, agent, request.identity, request.connection),
        pipeline.stores,
    )
    pipeline.emit("ticket_issued", request.identity, agent=agent.name, rule=rule)
    return agent


async def authorize(pipeline: Pipeline, agent: Agent, request: IssueRequest) -> str:
    """Ask the agent's rule, and check a visitor's captcha; return the rule's name.

    Raises:
        GateError: one of the documented answers.
    """
    rule = await check_rule(agent, request.identity, request.connection)
    await _check_admission(pipeline, request)
    about: dict[str, Any] = {"agent": agent.name, "transport": request.transport}
    pipeline.emit("authorized", request.identity, rule=rule, **about)
    return rule


async def check_limits(
    pipeline: Pipeline, agent: Agent, request: IssueRequest
) -> tuple[Remaining, ...]:
    """Return what is left of a request's limits. Takes nothing from them.

    Raises:
        LimitReachedError: one of them has too little left. UnavailableError: the store is
            unavailable.
    """
    context = limit_context(pipeline, agent, request.identity, request.connection)
    budget = pipeline.budget(agent, request.identity, request.transport)
    return await check_left(budget, context, pipeline.stores)


async def usable_agents(
    pipeline: Pipeline, identity: Identity, connection: HTTPConnection
) -> list[tuple[Agent, tuple[Remaining, ...]]]:
    """Return the agents whose rule admits this caller, and what is left of their limits.

    Issues and reserves nothing.

    Raises:
        UnavailableError: one of the rules, or the store, can't answer now.
    """
    if identity.is_anonymous and not await _may_enter(pipeline, identity):
        return []
    usable: list[Agent] = []
    asked: list[_Asked] = []
    for number, agent in enumerate(pipeline.agents.values(), 1):
        if number % _AGENTS_A_TURN == 0:
            await asyncio.sleep(0)  # many agents must not block the event loop
        if identity.is_anonymous and not agent.anonymous:
            continue
        budget = pipeline.budget(agent, identity)
        try:
            await check_rule(agent, identity, connection)
            context = limit_context(pipeline, agent, identity, connection)
            wanted = await budget.quotas_for(context) if budget.counted else ()
        except UnavailableError:
            raise
        except GateError:
            continue
        usable.append(agent)
        asked.append((budget, wanted))
    left: list[tuple[Remaining, ...]] = []
    for some in _looks(asked):
        left += await remaining(some, pipeline.stores)
        await asyncio.sleep(0)
    return list(zip(usable, left, strict=True))


_Asked: TypeAlias = tuple[Budget, Sequence[Wanted]]


def _looks(asked: Sequence[_Asked]) -> list[list[_Asked]]:
    """Divide what is asked into commands; the limits of one agent are never divided."""
    looks: list[list[_Asked]] = []
    limits = 0
    for each in asked:
        limits += len(each[1])
        if not looks or limits > _LIMITS_A_LOOK:
            looks.append([])
            limits = len(each[1])
        looks[-1].append(each)
    return looks


def named_agent(pipeline: Pipeline, request: IssueRequest) -> str | None:
    """Return the configured name of a request's agent; None if no such agent is configured."""
    if request.agent is None and len(pipeline.agents) == 1:
        return next(iter(pipeline.agents))
    return request.agent if request.agent in pipeline.agents else None


def check_personalization(pipeline: Pipeline) -> None:
    """Refuse agents whose client would carry values that it must not; log what it could change.

    Raises:
        ConfigurationError: a prompt, a model or a secret would go through the client.
    """
    for agent in pipeline.agents.values():
        carried = [each for each in agent.transports if pipeline.platform.client_carries(each)]
        check_carriable(
            agent.name,
            transports=carried,
            dynamic_variables=agent.variable_names,
            overrides=(*agent.override_paths, *agent.client_overrides),
        )
        if carried and (agent.dynamic_variables or agent.overrides):
            logger.warning(
                "agent %r: over %s the client carries its variables and overrides, and can change "
                "them; what must not be forged belongs to the other transports",
                agent.name,
                " and ".join(carried),
            )


def resolve_agent(pipeline: Pipeline, request: IssueRequest) -> Agent:
    """Return the agent of a request. For visitors, an agent that isn't anonymous doesn't exist."""
    if not request.identity.is_anonymous:
        return _find_agent(pipeline.agents, request.agent)
    agent = pipeline.agents.get(named_agent(pipeline, request) or "")
    if agent is None or not agent.anonymous:
        raise NotAuthenticatedError(cause="no credentials: and no agent that visitors may use")
    return agent


async def _check_admission(pipeline: Pipeline, request: IssueRequest) -> None:
    """Check that anonymous access isn't paused, and the visitor's captcha. Others pass."""
    admission = pipeline.admission
    if admission is None or not request.identity.is_anonymous:
        return
    await admission.check_not_paused(request.visitor, request.scope)
    if request.has_ticket:
        return
    admitted = await admission.check_challenge(request.visitor, request.connection)
    request.attempt.headers.update(admission.headers(admitted, request.scope))


async def _may_enter(pipeline: Pipeline, visitor: Identity) -> bool:
    try:
        return pipeline.admission is not None and await pipeline.admission.switch.check(
            visitor.subject
        )
    except AccessDeniedError:
        return False


async def merge_anonymous_usage(pipeline: Pipeline, agent: Agent, request: IssueRequest) -> None:
    """End the anonymous token of a caller who has signed in, and move the visitor's usage to them.

    This happens only after a credential was issued, so a refused request changes nothing. If the
    token can't be ended, no usage moves: nobody else may continue under the person's name.
    """
    admission, visit = pipeline.admission, request.visit
    budget = pipeline.budget(agent, request.identity, request.transport)
    move = _move(budget, request)
    if admission is None or visit is None or move is None:
        return
    if not budget.counted:  # the token ends all the same, and other agents may have limits
        move = move._replace(seconds=admission.options.token_seconds)
    try:
        if await admission.leave(visit, move):
            request.attempt.headers.update(admission.forget_headers(request.scope))
    except UnavailableError as error:
        logger.warning("visitors: the ticket of one who signed in stays good: %s", error.cause)


def _move(budget: Budget, request: IssueRequest) -> MergeUsage | None:
    """Return how usage moves from a visitor to the caller who signed in; None if it doesn't."""
    if request.visit is None or request.identity.is_anonymous:
        return None
    visitor, person = request.visit.identity, request.identity
    return MergeUsage(subject_principal(visitor), subject_principal(person), budget.longest)


def _find_agent(agents: Mapping[str, Agent], name: str | None) -> Agent:
    if name is None:
        if len(agents) != 1:
            raise InvalidRequestError(
                "Name the agent.", code="agent_missing", cause="agent: several, and none named"
            )
        return next(iter(agents.values()))
    agent = agents.get(name)
    if agent is None:
        raise InvalidRequestError(
            "There is no such agent.",
            status_code=404,
            code="unknown_agent",
            cause="agent: the request names none that is configured",
        )
    return agent


def check_transport(agent: Agent, transport: Transport) -> None:
    """Refuse a transport that the agent doesn't allow. The relay counts as a WebSocket."""
    is_open = transport in agent.transports
    if not is_open and not (transport == "relay" and "websocket" in agent.transports):
        raise AccessDeniedError(
            "This agent does not take this transport.",
            code="transport_not_allowed",
            cause=f"transport: agent {agent.name!r} is not open to {transport}",
        )


def build_grant(
    pipeline: Pipeline, agent: Agent, request: IssueRequest, rule: str, personal: Personalization
) -> Grant:
    """Return the grant that the platform exchanges for a credential."""
    return Grant(
        identity=request.identity,
        agent=agent.name,
        agent_id=agent.id,
        transport=request.transport,
        personalization=personal,
        rule=rule,
        is_metered=pipeline.budget(agent, request.identity, request.transport).is_metered,
    )


async def reserve_limits(pipeline: Pipeline, agent: Agent, request: IssueRequest) -> Reservation:
    """Reserve from all limits, or from none; see `reserve()`."""
    budget = pipeline.budget(agent, request.identity, request.transport)
    context = limit_context(pipeline, agent, request.identity, request.connection)
    move = _move(budget, request) if budget.counted else None
    reservation = await _reserve_or_settle(pipeline, budget, context, move)
    about: dict[str, Any] = {"agent": agent.name, "transport": request.transport}
    if reservation.limits:
        pipeline.emit("reserved", request.identity, limits=reservation.limits, **about)
    if reservation.uncounted:
        pipeline.emit("limit_skipped", request.identity, limits=reservation.uncounted, **about)
    return reservation


async def _reserve_or_settle(
    pipeline: Pipeline, budget: Budget, context: LimitContext, move: MergeUsage | None
) -> Reservation:
    """Reserve; if time or slots are short, settle ended conversations and try once more."""
    try:
        return await reserve(budget, context, pipeline.stores, move)
    except LimitReachedError as refusal:
        open_ones = refusal.conversations
        if not await pipeline.settlement.settle_finished(pipeline.platform, open_ones, context):
            raise
    return await reserve(budget, context, pipeline.stores, move)


def _remember_reservation(
    pipeline: Pipeline, reservation: Reservation, request: IssueRequest, issued: Issued
) -> None:
    """Record, in the background, which conversation settles a reservation."""
    if issued.conversation_id is None or reservation.store is None:
        return
    reserve_limits = reservation.milliseconds
    if reserve_limits is None:
        return
    seconds = pipeline.budget(pipeline.agents[issued.agent], request.identity).settled_within
    about = about_whom(request.identity, issued.agent)
    pipeline.spawn(reservation.remember(issued.conversation_id, about, seconds + _GRACE))
    pipeline.settlement.expect(
        pipeline.platform, issued.conversation_id, seconds, reserve_limits, request.identity
    )


def limit_context(
    pipeline: Pipeline, agent: Agent, identity: Identity, connection: HTTPConnection | None
) -> LimitContext:
    return LimitContext(
        identity=identity,
        agent=agent.name,
        connection=connection,
        address=lambda: _address(pipeline, connection),
    )


def _address(pipeline: Pipeline, connection: HTTPConnection | None) -> str | None:
    return None if connection is None else client_address(connection.scope, pipeline.proxies)


async def release_reservation(
    pipeline: Pipeline,
    reservation: Reservation,
    identity: Identity,
    *,
    kinds: Sequence[Kind] = EVERY_KIND,
    **about: Any,
) -> None:
    """Give everything back, even if the waiting request is cancelled again."""

    async def give_back() -> None:
        if await reservation.release(kinds):
            pipeline.emit("released", identity, limits=reservation.limits, **about)

    await asyncio.shield(pipeline.spawn(give_back()))


async def ask_platform(
    pipeline: Pipeline, grant: Grant, connection: HTTPConnection | None
) -> SignedUrl | ConversationToken:
    """Get the credential within `CALL_SECONDS`. The caller gets a 503 if the settings are wrong, or
    if too many calls already wait, in total or for this account (for a visitor: this address).

    Raises:
        PlatformError, UnavailableError: there is no credential.
    """
    call = partial(pipeline.platform.issue, grant)
    try:
        async with asyncio.timeout(CALL_SECONDS):
            issued: Issued
            if grant.identity.is_anonymous:
                owner = _address(pipeline, connection)
                issued = await pipeline.visitors_calls.alone(call, owner)
            else:
                issued = await pipeline.callers_calls.alone(call, subject_principal(grant.identity))
            return issued
    except TimeoutError:
        cause = f"platform: no answer within {CALL_SECONDS:g} s, the wait for a turn included"
        raise UnavailableError(cause=cause, retry_after=1) from None
    except ConfigurationError as error:
        raise UnavailableError(cause=f"configuration: {error}") from None
    except PlatformError as error:
        if error.code == "personalization_unsupported":
            pipeline.emit(
                "personalization_unsupported",
                grant.identity,
                agent=grant.agent,
                transport=grant.transport,
                cause=error.cause,
            )
        raise
