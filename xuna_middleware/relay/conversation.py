"""The steps of a conversation that the gate carries itself, from a known caller to its end.

check agent → authorize → reserve → ask for variables → signed URL → accept →
first frame: check, merge → connect → carry → give back, settle

A refusal before the accept is an HTTP status; after it, a close code (`relay/close_codes.py`).
However the conversation ends, its lease is released and its true length settled, once.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlencode

from xuna_middleware._core.strict_json import SMALL
from xuna_middleware.access.agents import Agent, check_rule
from xuna_middleware.access.grants import Personalization
from xuna_middleware.access.limits.reservations import EVERY_KIND, Reservation, revoked, standing_of
from xuna_middleware.access.values.personalize import ask_server, ask_user_id, check_client, merge
from xuna_middleware.errors import (
    AccessDeniedError,
    ConfigurationError,
    GateError,
    InvalidRequestError,
    InvalidTokenError,
    PlatformError,
    UnavailableError,
)
from xuna_middleware.identity.authentication import Authentication
from xuna_middleware.identity.credentials import Identity
from xuna_middleware.identity.rechecks import HeldToken
from xuna_middleware.identity.tickets.tickets import Ticket
from xuna_middleware.issuing.pipeline import (
    IssueRequest,
    Pipeline,
    ask_platform,
    authorize,
    authorize_for_ticket,
    build_grant,
    check_transport,
    merge_anonymous_usage,
    release_reservation,
    reserve_limits,
    resolve_agent,
)
from xuna_middleware.issuing.settlement import about_whom
from xuna_middleware.platform.issued import ConversationToken, SignedUrl
from xuna_middleware.platform.protocol import PlatformConnection
from xuna_middleware.platform.rest.responses import conversation_id
from xuna_middleware.platform.wire import for_client, for_platform, not_for_clients
from xuna_middleware.relay.client import Client
from xuna_middleware.relay.close_codes import (
    FAULT,
    GOING_AWAY,
    REVOKED,
    CloseReason,
    ConversationClosedError,
    cause_of,
    refused,
    told_to_platform,
)
from xuna_middleware.relay.frames import FIRST, REFRESH, FirstFrame, read_first
from xuna_middleware.relay.live import LiveConversation, LiveSession, Sessions, new_session_id
from xuna_middleware.relay.pumps import Relay
from xuna_middleware.relay.rechecks import Recheck
from xuna_middleware.relay.usage import Meter
from xuna_middleware.stores.protocol import Kind, StoreError
from xuna_middleware.web.refusals import Attempt, Refusals

logger = logging.getLogger("xuna_middleware")

_NOT_SLOTS: Final[tuple[Kind, ...]] = ("rate", "time")
#: Seconds for which the store keeps a note after the longest conversation that it may settle.
_LATE: Final = 7200.0

#: Claims that state times, not what a caller may do.
_TIMES: Final = frozenset({"exp", "iat", "nbf"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayContext:
    """The parts that conversations use in addition to the pipeline.

    `url` is the address of `/conversation` for clients; None without a `public_url`.
    """

    sessions: Sessions
    refusals: Refusals
    authentication: Authentication
    url: str | None
    clock: Callable[[], float] = time.time


@dataclass(slots=True, kw_only=True)
class _Conversation:
    """One conversation, filled in as more becomes known."""

    request: IssueRequest
    agent: Agent
    server: Personalization
    user_id: str | None
    signed: SignedUrl = field(repr=False)
    reservation: Reservation
    live: LiveConversation
    #: The identity that the caller's token proved when it was last checked.
    identity: Identity
    #: The token to check again while the conversation runs, how often, and what checks it.
    token: HeldToken | None = field(repr=False)
    recheck_seconds: float | None
    recheck: Recheck | None = None
    #: Whether the store has a note to settle its time; if not, this process gives the time back.
    is_pending: bool = False
    line: PlatformConnection | None = None
    relay: Relay | None = None

    @property
    def note(self) -> str:
        """The id by which its time is settled: the platform's, if known."""
        return self.signed.conversation_id or self.live.session.id

    @property
    def meter(self) -> Meter:
        """The usage; zero if the conversation never reached the platform."""
        return Meter(began=0.0, ended=0.0) if self.relay is None else self.relay.meter


def relay_url(public_url: str) -> str:
    """Return the address of a gate's relay for clients: its public URL with a WebSocket scheme."""
    return f"ws{public_url.removeprefix('http')}/conversation"


def ticket_of(request: IssueRequest, agent: Agent, origin: str | None) -> Ticket:
    """Return the ticket for a request, its agent and the page that sent it."""
    return Ticket(
        identity=request.identity,
        agent=agent.name,
        origin=origin,
        voucher=request.voucher,
        token=request.token,
    )


async def issue_relay_url(
    pipeline: Pipeline, relay_context: RelayContext, request: IssueRequest, origin: str | None
) -> SignedUrl:
    """Return a signed URL that leads to the gate itself and contains a one-time ticket.

    Checks limits, but reserves nothing until the conversation starts. `session` holds what the
    client asked for, to be sent in its first frame, which is checked again.

    Raises:
        GateError: one of the documented answers.
    """
    request = replace(request, transport="relay")
    agent = resolve_agent(pipeline, request)
    session = _carried(
        check_client(agent, request.dynamic_variables, request.overrides, is_whole=False)
    )
    await authorize_for_ticket(pipeline, request)
    ticket, seconds = await relay_context.authentication.make_ticket(
        ticket_of(request, agent, origin)
    )
    return SignedUrl(
        url=f"{relay_context.url}?{urlencode({'agent': agent.name, 'ticket': ticket})}",
        agent=agent.name,
        start_by=relay_context.clock() + seconds,
        session=session,
    )


async def run_conversation(
    pipeline: Pipeline, relay_context: RelayContext, request: IssueRequest, client: Client
) -> None:
    """Carry one conversation to its end.

    Does not check: who calls (`request.identity` is trusted), or from which page.

    Raises:
        GateError: one of the documented answers; the client was not accepted.
    """
    client.check_server()
    conversation = await _open(pipeline, relay_context, request)
    ending = GOING_AWAY  # a server that stops cancels this task
    try:
        ending = await _run(pipeline, relay_context, conversation, client)
    except ConversationClosedError as ended:
        ending = ended.ending
    except Exception as error:  # reported, and sent to the client as a close code
        reported = _report(relay_context, conversation, error)
        ending = refused(reported) if isinstance(error, GateError) else FAULT
    finally:
        closing = pipeline.spawn(_close(pipeline, relay_context, conversation, client, ending))
        await asyncio.shield(closing)


async def _open(
    pipeline: Pipeline, relay_context: RelayContext, request: IssueRequest
) -> _Conversation:
    """Decide, reserve, and get a signed URL: everything before the accept."""
    agent = resolve_agent(pipeline, request)
    check_transport(agent, "relay")
    _check_life(request.identity, relay_context.clock())
    _check_platform(pipeline)
    rule = await authorize(pipeline, agent, request)
    recheck_seconds = await relay_context.authentication.recheck_interval(request.token)
    began = asyncio.get_running_loop().time()
    reservation = await reserve_limits(pipeline, agent, request)
    live = _live(pipeline, relay_context, request, agent, reservation)
    about: dict[str, Any] = {"agent": agent.name, "transport": "relay"}
    try:
        server = await ask_server(agent, request.identity, request.connection)
        user_id = await ask_user_id(agent, request.identity, request.connection)
        signed = _signed(
            await ask_platform(
                pipeline, build_grant(pipeline, agent, request, rule, server), request.connection
            )
        )
    except BaseException:
        await release_reservation(pipeline, reservation, request.identity, **about)
        raise
    live.session = replace(live.session, conversation_id=signed.conversation_id)
    try:
        await _hold_lease(relay_context, live, began)
        await merge_anonymous_usage(pipeline, agent, request)
    except BaseException:  # the lease may be held all the same, and its slots with it
        is_held = await asyncio.shield(pipeline.spawn(relay_context.sessions.abandon(live)))
        kinds = _NOT_SLOTS if is_held else EVERY_KIND
        await release_reservation(pipeline, reservation, request.identity, kinds=kinds, **about)
        raise
    return _Conversation(
        request=request,
        agent=agent,
        server=server,
        user_id=user_id,
        signed=signed,
        reservation=reservation,
        live=live,
        identity=request.identity,
        token=request.token,
        recheck_seconds=recheck_seconds,
    )


async def _run(
    pipeline: Pipeline, relay_context: RelayContext, conversation: _Conversation, client: Client
) -> CloseReason:
    """Accept the client, forward its first frame, and carry the frames that follow."""
    agent, live = conversation.agent, conversation.live
    await _remember_reservation(pipeline, conversation)
    await client.accept()
    live.deadlines.expire_at(conversation.request.identity.expires_at)
    conversation.recheck = _rechecker(relay_context, conversation)
    conversation.recheck.start(conversation.recheck_seconds, soon=conversation.request.has_ticket)
    first = await live.race_with_end(_first_frame(conversation, client))
    await live.race_with_end(_connect(pipeline, conversation))
    assert conversation.line is not None, "it is connected"  # noqa: S101
    conversation.relay = Relay(
        client,
        conversation.line,
        agent.relay,
        first=first,
        renew=_renewer(relay_context, conversation),
        told=_conversation_namer(live),
        ended=live.word,
        deadlines=live.deadlines,
        warn=relay_context.refusals.warn,
    )
    pipeline.emit(
        "conversation_started",
        conversation.request.identity,
        agent=agent.name,
        transport="relay",
        session=live.session.id,
        conversation_id=live.session.conversation_id,
        limits=conversation.reservation.limits,
        variables=tuple(conversation.server.dynamic_variables),
        overrides=tuple(conversation.server.overrides),
    )
    return await conversation.relay.run(agent.longest_relayed)


async def _connect(pipeline: Pipeline, conversation: _Conversation) -> None:
    """Connect to the platform. If that fails, give the rates back; `_close()` does the rest."""
    max_frame = conversation.agent.relay.max_frame
    try:
        conversation.line = await pipeline.platform.connect(
            conversation.signed, max_frame=max_frame
        )
    except Exception:
        await conversation.reservation.release(("rate",))
        raise


async def _first_frame(conversation: _Conversation, client: Client) -> str:
    """Return the first frame for the platform: the client's values merged with the server's.

    Raises:
        ConversationClosedError: the client sent no valid frame.
        GateError: the frame asks for values that aren't allowed, or that the server sets.
    """
    agent = conversation.agent
    rules = agent.relay
    text = await client.first(rules.max_frame, rules.max_non_audio_frame)
    frame = read_first(text, SMALL._replace(size=rules.max_non_audio_frame))
    sent = check_client(agent, frame.dynamic_variables, frame.overrides)
    return _written(merge(agent, conversation.server, sent), conversation.user_id, frame)


def _written(personal: Personalization, user_id: str | None, frame: FirstFrame) -> str:
    members: dict[str, Any] = {"type": FIRST, **for_platform(personal)}
    if user_id is not None:
        members["user_id"] = user_id
    if frame.source_info is not None:
        members["source_info"] = frame.source_info
    return json.dumps(members, ensure_ascii=False, separators=(",", ":"))


def _signed(issued: SignedUrl | ConversationToken) -> SignedUrl:
    if not isinstance(issued, SignedUrl):
        raise PlatformError(cause="platform: gave a token where a signed URL was asked for")
    return issued


def _live(
    pipeline: Pipeline,
    relay_context: RelayContext,
    request: IssueRequest,
    agent: Agent,
    reservation: Reservation,
) -> LiveConversation:
    session = LiveSession(
        id=new_session_id(),
        issuer=request.identity.issuer,
        subject=request.identity.subject,
        agent=agent.name,
        started_at=relay_context.clock(),
    )
    store = reservation.store or pipeline.stores.shared
    return LiveConversation(
        session,
        store,
        reservation.slots,
        standing_of(request.identity),
        lease_required=store is pipeline.stores.shared,
    )


async def _hold_lease(relay_context: RelayContext, live: LiveConversation, began: float) -> None:
    """Take the lease. Refuse if it comes so late that another caller may have the slots."""
    try:
        await relay_context.sessions.enter(live)
    except StoreError as error:
        raise UnavailableError(cause=f"store: {error}") from None
    if live.word.done():  # revoked since the reservation
        raise revoked()
    if live.is_late(began):
        cause = "relay: it began too late, when others might have had the slots that it was given"
        raise UnavailableError(cause=cause, retry_after=1)


async def _remember_reservation(pipeline: Pipeline, conversation: _Conversation) -> None:
    """Remember the reservation, so that any process can settle it if this one dies."""
    longest = conversation.agent.longest_relayed
    about = about_whom(conversation.request.identity, conversation.agent.name)
    conversation.is_pending = await conversation.reservation.remember(
        conversation.note, about, longest + _LATE, kinds=("time",)
    )


def _renewer(
    relay_context: RelayContext, conversation: _Conversation
) -> Callable[[str], Awaitable[str]]:
    """Return a function that takes the caller's fresh token and returns the answer's frame."""

    async def renew(token: str) -> str:
        known = conversation.request.identity
        try:
            identity = await relay_context.authentication.verify_token(token)
            if not _is_same_caller(identity, known):
                raise AccessDeniedError(code="subject_mismatch", cause="refresh: of another caller")
            await check_rule(conversation.agent, identity, conversation.request.connection)
            held = HeldToken(token, identity.issuer)
            seconds = await relay_context.authentication.recheck_interval(held)
        except GateError as error:
            return _answer({"code": _report(relay_context, conversation, error).code})
        conversation.live.renew(standing_of(identity), identity.expires_at)
        conversation.identity, conversation.token = identity, held
        if conversation.recheck is not None:
            conversation.recheck.start(seconds)
        return _answer({"expires_at": identity.expires_at})

    return renew


def _rechecker(relay_context: RelayContext, conversation: _Conversation) -> Recheck:
    """Return the `Recheck` that verifies a conversation's token again."""

    async def ask() -> None:
        try:
            identity = await _verify_again(relay_context, conversation)
        except UnavailableError:
            raise
        except GateError as error:
            _report(relay_context, conversation, error)
            raise ConversationClosedError(REVOKED) from None
        try:
            await _authorize_again(conversation, identity)
        except UnavailableError:
            raise
        except GateError as error:
            raise ConversationClosedError(
                refused(_report(relay_context, conversation, error))
            ) from None
        conversation.identity = identity
        if identity.expires_at is not None:
            conversation.live.deadlines.expire_at(identity.expires_at)

    return Recheck(
        ask,
        lambda error: refused(_report(relay_context, conversation, error)),
        conversation.live.end,
    )


def _report(
    relay_context: RelayContext, conversation: _Conversation, error: Exception
) -> GateError:
    """Report a refusal that came after the accept."""
    attempt = Attempt(
        identity=conversation.identity, agent=conversation.agent.name, transport="relay"
    )
    return relay_context.refusals.report(error, attempt)


async def _verify_again(relay_context: RelayContext, conversation: _Conversation) -> Identity:
    """Return the identity that the conversation's token proves now: the same caller as before.

    Raises:
        InvalidTokenError: it proves another caller, or none. UnavailableError: the provider
            can't answer now.
    """
    assert conversation.token is not None, "it is asked about"  # noqa: S101
    identity = await relay_context.authentication.recheck(conversation.token)
    if not _is_same_caller(identity, conversation.identity):
        raise InvalidTokenError(cause="recheck: the token is another caller's now")
    return identity


async def _authorize_again(conversation: _Conversation, identity: Identity) -> None:
    """Ask the agent's rule again if the provider's answer about the caller has changed.

    Raises:
        GateError: the rule says no, or can't be asked.
    """
    if _grants_of(identity) != _grants_of(conversation.identity):
        await check_rule(conversation.agent, identity, conversation.request.connection)


def _is_same_caller(one: Identity, other: Identity) -> bool:
    return (one.issuer, one.subject) == (other.issuer, other.subject)


def _grants_of(identity: Identity) -> tuple[object, ...]:
    """Return what a rule may decide by: scopes, roles, client id, and claims without times."""
    claims = {name: value for name, value in identity.claims.items() if name not in _TIMES}
    return identity.scopes, identity.roles, identity.client_id, claims


def _conversation_namer(live: LiveConversation) -> Callable[[str], None]:
    """Return a function that takes the platform's id of the conversation and keeps a valid one."""

    def told(named: str) -> None:
        known = conversation_id(named)
        if known is not None:
            live.set_conversation_id(known)

    return told


def _answer(members: Mapping[str, Any]) -> str:
    return json.dumps({"type": REFRESH, **members}, separators=(",", ":"))


async def _close(
    pipeline: Pipeline,
    relay_context: RelayContext,
    conversation: _Conversation,
    client: Client,
    ending: CloseReason,
) -> None:
    """Close both sides, give back what was not used, and emit `conversation_ended`."""
    meter, live = conversation.meter, conversation.live
    if conversation.recheck is not None:
        conversation.recheck.stop()
    live.deadlines.cancel()
    if ending.option:
        relay_context.refusals.warn(
            "a conversation with the agent %r ended with %d %s; see RelayRules(%s=…)",
            conversation.agent.name,
            ending.code,
            ending.reason,
            ending.option,
        )
    goodbyes = [client.close(ending)]
    if conversation.line is not None:
        goodbyes.append(conversation.line.close(*told_to_platform(ending)))
    await asyncio.gather(*goodbyes, return_exceptions=True)
    seconds = meter.seconds(asyncio.get_running_loop().time())
    await relay_context.sessions.leave(live)
    pipeline.emit(
        "conversation_ended",
        conversation.request.identity,
        agent=conversation.agent.name,
        transport="relay",
        session=live.session.id,
        conversation_id=live.session.conversation_id,
        close_code=ending.code,
        cause=cause_of(ending),
        seconds=seconds,
        turns=meter.turns,
        client_bytes=meter.client_bytes,
        platform_bytes=meter.platform_bytes,
    )
    try:
        await _settle(pipeline, conversation, seconds)
    finally:
        live.gone.set()


async def _settle(pipeline: Pipeline, conversation: _Conversation, seconds: float) -> None:
    """Give back the unused time, once, even if others settle it, too."""
    if not conversation.is_pending:
        await conversation.reservation.give_back_time(seconds)
        return
    try:
        await pipeline.settlement.settle(conversation.note, seconds, conversation.live.store)
    except Exception as error:  # UnavailableError, or anything from a user's store
        why = error.cause if isinstance(error, UnavailableError) else type(error).__name__
        logger.warning("could not refund unused talk time: %s", why)


def _check_life(identity: Identity, now: float) -> None:
    """Refuse a token that only the leeway keeps valid: the conversation would end at once."""
    if identity.expires_at is not None and now >= identity.expires_at:
        raise InvalidTokenError(cause="expired: no conversation begins by the leeway alone")


def _check_platform(pipeline: Pipeline) -> None:
    """Check that the platform can carry conversations, before anything is reserved."""
    try:
        pipeline.platform.check_relay()
    except ConfigurationError as error:
        raise UnavailableError(cause=f"configuration: {error}") from None


def _carried(sent: Personalization) -> Mapping[str, Any] | None:
    """Return what the client asked for, in the spelling of its own first frame."""
    if not_for_clients(sent.dynamic_variables, sent.overrides):
        raise InvalidRequestError(
            "An override that you sent belongs into the first frame of the conversation.",
            code="override_not_carried",
            cause="client override: no client library carries it; the first frame may",
        )
    return for_client(sent) or None
