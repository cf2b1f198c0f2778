"""What happened, as values: each step that matters tells it to the gate's hooks."""

import asyncio
import inspect
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from queue import Full, Queue
from threading import Lock, Thread
from typing import Final, Literal, TypeAlias

from xuna_middleware._core.callables import is_async
from xuna_middleware._core.log_rate import Paced
from xuna_middleware.errors import ConfigurationError

logger = logging.getLogger("xuna_middleware")

#: Seconds; a hook that takes longer is reported, once.
_SLOW: Final = 0.02

EventName: TypeAlias = Literal[
    "verified",
    "authorized",
    "reserved",
    "issued",
    "released",
    "settled",
    "settlement_expired",
    "limit_skipped",
    "ticket_issued",
    "webhook_received",
    "refused",
    "personalization_unsupported",
    "keys_rotated",
    "provider_down",
    "conversation_started",
    "conversation_ended",
    "revoked",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Tell one thing that happened. Holds no secret, no token and no value of a variable.

    Attributes:
        name: `verified` (the caller is known), `authorized` (a rule said yes), `reserved` (limits
            were taken), `issued` (a credential left), `released` (nothing was issued, so it was
            given back), `settled` (the true length is known), `settlement_expired` (it can't become
            known any more, so it counts in full), `limit_skipped` (the store is down, and these
            limits are open meanwhile), `ticket_issued` (a one-time ticket left), `webhook_received`
            (one that the platform signed; `cause` says what became of it), `refused`,
            `personalization_unsupported` (the platform does not take variables at token creation:
            see `XunaPlatform(personalization=…)`), `keys_rotated` (an identity provider's keys are
            others than before), `provider_down` (they can't be fetched; `cause` says why),
            `conversation_started` (the gate carries a conversation), `conversation_ended` (it is
            over; `cause` says by whom and why), or `revoked` (somebody's credentials were).
        time: seconds since the epoch.
        issuer, subject: who, as verified; None while nobody is.
        agent: the configured name; None where the request named none that exists.
        transport: `websocket`, `webrtc` or `relay`.
        rule: the name of the rule that decided.
        code, status: of the refusal, as answered.
        cause: why, in the operator's words; not for the caller.
        reference: the refusal's `Xuna-Gate-Ref`.
        conversation_id: where the platform told one.
        limits: the names of the limits that this is about.
        seconds: how long the conversation was.
        session: the gate's own name for a conversation that it carries.
        close_code: what the WebSocket was closed with; see docs/relay.md.
        turns: how often the agent spoke. client_bytes, platform_bytes: of the frames of each side.
        variables, overrides: names of what left the gate, never the values.
    """

    name: EventName
    time: float
    issuer: str | None = None
    subject: str | None = None
    agent: str | None = None
    transport: str | None = None
    rule: str | None = None
    code: str | None = None
    status: int | None = None
    cause: str | None = None
    reference: str | None = None
    conversation_id: str | None = None
    limits: tuple[str, ...] = ()
    seconds: float | None = None
    session: str | None = None
    close_code: int | None = None
    turns: int | None = None
    client_bytes: int | None = None
    platform_bytes: int | None = None
    variables: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()


#: Called with every event, one after another, in a thread of its own; see `Immediate`.
Hook: TypeAlias = Callable[[Event], None]


class Immediate:
    """Call a hook at once, on the event loop, while the request waits: `Immediate(hook)`.

    For hooks that take no time, or have to do with the running loop: counters, an asyncio.Queue,
    the lists of tests (`Immediate(events.append)`). One that takes long is reported in the log.

    Raises:
        ConfigurationError: it is no ordinary function of `(event)`.
    """

    def __init__(self, hook: Hook) -> None:
        (self._hook,) = _checked_hooks([hook])
        self._failures = Paced()
        self._is_reported = False

    def __call__(self, event: Event) -> None:
        """Tell an event; what the hook raises is logged."""
        began = time.monotonic()
        _call(self._hook, event, self._failures)
        if time.monotonic() - began > _SLOW and not self._is_reported:
            self._is_reported = True
            logger.warning(
                "an on_event hook took more than %d ms, while every request waits: give it to "
                "the gate without Immediate(…)",
                _SLOW * 1000,
            )


class Background:
    """Call a hook in a thread of its own, in order, however long it takes: `Background(hook)`.

    What a gate does with every hook; write it to say how many may wait, or to read `lost`.

    Args:
        hook: a function of `(event)`; what it raises is logged.
        most: events that may wait; one more is dropped, and counted in `lost`.

    Raises:
        ConfigurationError: one of these makes no sense.
    """

    def __init__(self, hook: Hook, *, most: int = 10_000) -> None:
        (self._hook,) = _checked_hooks([hook])
        if type(most) is not int or most < 1:
            raise ConfigurationError("Background(most=…) is a whole number of events, 1 or more")
        self._failures = Paced()
        self._most = most
        self._waiting: Queue[Event] = Queue(most)
        #: The process in which the thread runs: a fork has none of its parent's.
        self._process: int | None = None
        self._starting = Lock()
        self.lost = 0

    def __call__(self, event: Event) -> None:
        """Take an event, and return at once."""
        if self._process != os.getpid():
            self._start()
        try:
            self._waiting.put_nowait(event)
        except Full:
            self.lost += 1
            if self.lost == 1:
                logger.error("an on_event hook is too slow: events are dropped")

    def flush(self, seconds: float = 2.0) -> bool:
        """Wait until the hook has seen all that was taken; tell whether it has."""
        if self._process != os.getpid():
            return True
        until = time.monotonic() + seconds
        with self._waiting.all_tasks_done:
            while self._waiting.unfinished_tasks:
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self._waiting.all_tasks_done.wait(left)
        return True

    def _start(self) -> None:
        with self._starting:
            if self._process == os.getpid():
                return
            self._waiting, self.lost = Queue(self._most), 0
            run = partial(self._run, self._waiting)
            Thread(target=run, name="xuna-gate events", daemon=True).start()
            self._process = os.getpid()

    def _run(self, waiting: Queue[Event]) -> None:
        while True:
            event = waiting.get()
            _call(self._hook, event, self._failures)
            waiting.task_done()


class Events:
    """Hand events to hooks. A hook that raises is logged and harms nobody else, and none but an
    `Immediate` one keeps anybody waiting.
    """

    __slots__ = ("_failures", "_hooks", "has_listeners")

    def __init__(self, hooks: Iterable[Hook] = ()) -> None:
        self._hooks = tuple(map(_beside, _checked_hooks(hooks)))
        self._failures = Paced()
        #: Whether anybody listens; what is on the hot path asks first.
        self.has_listeners = bool(self._hooks)

    def emit(self, event: Event) -> None:
        for hook in self._hooks:
            _call(hook, event, self._failures)

    async def flush(self) -> None:
        """Give hooks that work in the background a little time to finish."""
        for hook in self._hooks:
            if callable(flush := getattr(hook, "flush", None)):
                await asyncio.to_thread(flush)


def _beside(hook: Hook) -> Hook:
    """Return a hook that returns at once: one that can be flushed works beside requests already."""
    is_quick = isinstance(hook, Immediate) or callable(getattr(hook, "flush", None))
    return hook if is_quick else Background(hook)


def _call(hook: Callable[[Event], object], event: Event, failures: Paced) -> None:
    """Call a hook; log what it raises, once a second, since it may fail at every request."""
    try:
        told = hook(event)
        if inspect.iscoroutine(told):
            told.close()
            raise TypeError("a hook must not be async: what it returned was never awaited")
    except Exception:
        left_out = failures.admit(event.name)
        if left_out is not None:
            logger.exception("an on_event hook failed on %r%s", event.name, left_out)


def _checked_hooks(hooks: Iterable[Hook]) -> tuple[Hook, ...]:
    checked = tuple(hooks) if isinstance(hooks, Iterable) else (hooks,)
    for hook in checked:
        if not callable(hook) or is_async(hook):
            raise ConfigurationError(
                "on_event takes a list of ordinary functions of (event); one that awaits can take "
                "events from an asyncio.Queue: Immediate(queue.put_nowait)"
            )
    return checked
