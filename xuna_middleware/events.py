"""Events: each important step reports to the gate's hooks what happened."""

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
    """Report one thing that happened. Contains no secret, no token and no value of a variable.

    Attributes:
        name: `verified` (the caller is known), `authorized` (a rule said yes), `reserved` (limits
            were reserved), `issued` (a credential was issued), `released` (nothing was issued, so
            the reservation was given back), `settled` (the true length is known),
            `settlement_expired` (the length can't become known any more, so all that was reserved
            counts), `limit_skipped` (the store is down, and these limits are open meanwhile),
            `ticket_issued` (a one-time ticket was issued), `webhook_received` (the platform signed
            it; `cause` says what it did), `refused`, `personalization_unsupported` (the platform
            does not take variables at token creation: see `XunaPlatform(personalization=…)`),
            `keys_rotated` (an identity provider's keys have changed), `provider_down` (they can't
            be fetched; `cause` says why), `conversation_started` (the gate carries a conversation),
            `conversation_ended` (it is over; `cause` says who ended it and why), or `revoked` (a
            caller's credentials were revoked).
        time: seconds since the epoch.
        issuer, subject: the verified caller; None while nobody is verified.
        agent: the configured name; None if the request named no existing agent.
        transport: `websocket`, `webrtc` or `relay`.
        rule: the name of the rule that decided.
        code, status: of the refusal, as answered.
        cause: the reason, for the operator; not for the caller.
        reference: the refusal's `Xuna-Gate-Ref`.
        conversation_id: the platform's, if it returned one.
        limits: the names of the limits concerned.
        seconds: how long the conversation was.
        session: the gate's own id of a conversation that it carries.
        close_code: the WebSocket's close code; see docs/relay.md.
        turns: how often the agent spoke. client_bytes, platform_bytes: size of each side's frames.
        variables, overrides: the names of those that the gate sent, never the values.
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


#: Called with every event, one after another, in its own thread; see `Immediate`.
Hook: TypeAlias = Callable[[Event], None]


class Immediate:
    """Call a hook at once, on the event loop, while the request waits: `Immediate(hook)`.

    For hooks that take no time or need the running loop: counters, an asyncio.Queue, lists in
    tests (`Immediate(events.append)`). The log reports a slow one.

    Raises:
        ConfigurationError: the hook is not an ordinary function of `(event)`.
    """

    def __init__(self, hook: Hook) -> None:
        (self._hook,) = _checked_hooks([hook])
        self._failures = Paced()
        self._is_reported = False

    def __call__(self, event: Event) -> None:
        """Call the hook with an event; log any exception it raises."""
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
    """Call a hook in its own thread, in order, however long it takes: `Background(hook)`.

    A gate does this with every hook by default; use it to set how many events may wait, or to read
    `lost`.

    Args:
        hook: a function of `(event)`; exceptions are logged.
        most: how many events may wait; further ones are dropped and counted in `lost`.

    Raises:
        ConfigurationError: one of these is invalid.
    """

    def __init__(self, hook: Hook, *, most: int = 10_000) -> None:
        (self._hook,) = _checked_hooks([hook])
        if type(most) is not int or most < 1:
            raise ConfigurationError("Background(most=…) is a whole number of events, 1 or more")
        self._failures = Paced()
        self._most = most
        self._waiting: Queue[Event] = Queue(most)
        #: The process in which the thread runs: a fork doesn't inherit threads.
        self._process: int | None = None
        self._starting = Lock()
        self.lost = 0

    def __call__(self, event: Event) -> None:
        """Queue an event and return at once."""
        if self._process != os.getpid():
            self._start()
        try:
            self._waiting.put_nowait(event)
        except Full:
            self.lost += 1
            if self.lost == 1:
                logger.error("an on_event hook is too slow: events are dropped")

    def flush(self, seconds: float = 2.0) -> bool:
        """Wait until the hook has seen all queued events; return whether it has."""
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
    """Pass events to hooks. A hook's exception is logged and affects nothing else; only `Immediate`
    hooks make requests wait.
    """

    __slots__ = ("_failures", "_hooks", "has_listeners")

    def __init__(self, hooks: Iterable[Hook] = ()) -> None:
        self._hooks = tuple(map(_beside, _checked_hooks(hooks)))
        self._failures = Paced()
        #: Whether there are hooks; code on the hot path checks this first.
        self.has_listeners = bool(self._hooks)

    def emit(self, event: Event) -> None:
        for hook in self._hooks:
            _call(hook, event, self._failures)

    async def flush(self) -> None:
        """Give background hooks a little time to finish."""
        for hook in self._hooks:
            if callable(flush := getattr(hook, "flush", None)):
                await asyncio.to_thread(flush)


def _beside(hook: Hook) -> Hook:
    """Return a hook that doesn't block; one with `flush()` runs in the background already."""
    is_quick = isinstance(hook, Immediate) or callable(getattr(hook, "flush", None))
    return hook if is_quick else Background(hook)


def _call(hook: Callable[[Event], object], event: Event, failures: Paced) -> None:
    """Call a hook; log its exceptions, once a second, since it may fail at every request."""
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
