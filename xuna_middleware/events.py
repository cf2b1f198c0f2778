"""What happened, as values: each step that matters tells it to the gate's hooks."""

import inspect
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from xuna_middleware.errors import ConfigurationError

logger = logging.getLogger("xuna_middleware")

EventName: TypeAlias = Literal[
    "verified",
    "authorized",
    "reserved",
    "issued",
    "released",
    "settled",
    "uncounted",
    "ticket_issued",
    "refused",
    "personalization_unsupported",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Tell one thing that happened. Holds no secret, no token and no value of a variable.

    Attributes:
        name: `verified` (the caller is known), `authorized` (a rule said yes), `reserved` (limits
            were taken), `issued` (a credential left), `released` (nothing was issued, so it was
            given back), `settled` (the true length is known), `uncounted` (the store is down, and
            these limits are open meanwhile), `ticket_issued` (a one-time ticket left), `refused`,
            or `personalization_unsupported` (the platform does not take variables at token
            creation: see `XunaPlatform(personalization=…)`).
        time: seconds since the epoch.
        issuer, subject: who, as verified; None while nobody is.
        agent: the configured name; None where the request named none that exists.
        transport: `websocket` or `webrtc`.
        rule: the name of the rule that decided.
        code, status: of the refusal, as answered.
        cause: why, in the operator's words; not for the caller.
        reference: the refusal's `Xuna-Gate-Ref`.
        conversation_id: where the platform told one.
        limits: the names of the limits that this is about.
        seconds: how long the conversation was.
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
    variables: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()


#: A hook is called on the event loop with every event, so it must not block.
Hook: TypeAlias = Callable[[Event], None]


class Events:
    """Hand events to hooks. A hook that raises is logged and harms nobody else."""

    __slots__ = ("_hooks", "heard")

    def __init__(self, hooks: Iterable[Hook] = ()) -> None:
        self._hooks = _checked_hooks(hooks)
        #: Whether anybody listens; what is on the hot path asks first.
        self.heard = bool(self._hooks)

    def emit(self, event: Event) -> None:
        for hook in self._hooks:
            try:
                hook(event)
            except Exception:
                logger.exception("an on_event hook failed on %r", event.name)


def _checked_hooks(hooks: Iterable[Hook]) -> tuple[Hook, ...]:
    checked = tuple(hooks) if isinstance(hooks, Iterable) else (hooks,)
    for hook in checked:
        if not callable(hook) or inspect.iscoroutinefunction(hook):
            raise ConfigurationError(
                "on_event takes a list of ordinary functions of (event); one that awaits can put "
                "the event into an asyncio.Queue"
            )
    return checked
