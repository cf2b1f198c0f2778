"""One conversation, from the first frame to the close.

The story is `Dialogue.run`: metadata goes out at once (a client waits for it before anything else),
the client's initiation frame is awaited for a moment, then the agent speaks and answers until
somebody ends it or its time is up.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from xuna_middleware.sandbox import frames, replies
from xuna_middleware.sandbox.agents import Scalar, flatten
from xuna_middleware.sandbox.carrier import Carrier, Ended
from xuna_middleware.sandbox.frames import ClientFrame, Frame, FrameError
from xuna_middleware.sandbox.inbox import Inbox
from xuna_middleware.sandbox.records import Conversation, Line
from xuna_middleware.sandbox.workspace import POLICY, Admission, Workspace

INITIATION_WAIT: Final = 5.0
ENDED: Final = 1000
logger = logging.getLogger("xuna_middleware.sandbox")


class Dialogue:
    """Hold one conversation: agent and client in turn, the record beside them.

    It begins with the record: from then on it counts, even while its transport still connects.
    """

    def __init__(
        self, workspace: Workspace, carrier: Carrier, admission: Admission, *, ping_interval: float
    ) -> None:
        self._workspace = workspace
        self._clock = workspace.clock
        self._carrier = carrier
        self._agent = admission.agent
        self._issued = admission.issued
        self._record = workspace.open(admission)
        self._prompt = admission.agent.prompt
        self._inbox = Inbox(carrier.receive)
        self._event_id = 0
        self._turn = 0
        self._ping_interval = ping_interval
        self._pinged: tuple[int, float] | None = None

    async def run(self) -> None:
        """Talk until it ends, and leave a finished record whatever ends it."""
        end = Ended(1011, "sandbox: fault", by="agent", error="internal_error")
        try:
            await self._talk(asyncio.get_running_loop().time() + self._agent.max_duration)
        except Ended as reached:
            end = reached
        finally:
            self._inbox.close()
            self._finish(end)
        if end.by == "agent":
            await self._carrier.close(end.code, end.reason)

    async def _talk(self, deadline: float) -> None:
        await self._send(frames.metadata(self._record.id))
        first = await self._initiate()
        if first is not None:
            await self._take(first)
        while self._left(deadline) > 0:
            message = await self._inbox.next(self._patience(deadline))
            if message is not None:
                await self._take(_parsed(message))
            elif self._left(deadline) > 0:
                await self._ping()
        raise await self._fail(ENDED, "max_duration_exceeded", "its time is up")

    async def _initiate(self) -> ClientFrame | None:
        """Await the initiation frame, check what it brings, and speak first.

        Returns another frame that came in its place, to be taken after.
        """
        message = await self._inbox.next(min(INITIATION_WAIT, self._agent.max_duration))
        frame = None if message is None else _parsed(message)
        initial = frame is not None and frame.type == "conversation_initiation_client_data"
        await self._personalize(frame.body if frame is not None and initial else {})
        await self._open()
        return None if initial else frame

    async def _personalize(self, body: Mapping[str, Any]) -> None:
        """Put the client's values below those that were attached at creation, which always win."""
        attached = self._issued.dynamic_variables if self._issued else {}
        overrides = self._issued.overrides if self._issued else {}
        record = self._record
        record.dynamic_variables = {
            **self._agent.default_variables,
            **_variables(body),
            **attached,
            **_system(record),
        }
        sent = flatten(body.get("conversation_config_override") or {})
        record.overrides = {**sent, **overrides}
        record.attached = frozenset({*attached, *overrides})
        record.user_id = body.get("user_id")
        await self._check()

    async def _check(self) -> None:
        """End it where an override isn't switched on (in silence) or a variable is missing."""
        if closed := self._agent.closed(self._record.overrides):
            logger.warning("overrides not switched on for the agent: %s", _named(closed))
            raise Ended(POLICY, by="agent", error="override_error")
        self._prompt = self._overridden("agent.prompt.prompt", self._agent.prompt)
        said = (self._first_message(), self._prompt)
        if missing := self._agent.missing(self._record.dynamic_variables, said=said):
            logger.warning("required dynamic variables missing: %s", ", ".join(missing))
            message = f"required dynamic variables missing: {', '.join(missing)}"
            raise await self._fail(POLICY, "missing_dynamic_variable", message)

    async def _open(self) -> None:
        if words := replies.opening(self._first_message(), self._record.dynamic_variables):
            await self._say(words)

    async def _take(self, frame: ClientFrame) -> None:
        """Do what one frame asks. `user_activity` and results of tools ask for nothing."""
        match frame.type:
            case "user_message":
                await self._answer(frame.body["text"])
            case "multimodal_message":
                await self._answer((frame.body.get("text") or {}).get("text", ""))
            case "audio":
                await self._hear(frame.audio)
            case "contextual_update":
                self._record.context.append(frame.body["text"])
            case "feedback":
                self._record.feedback.append(frame.body["score"])
            case "pong":
                self._measure(frame.body["event_id"])
            case "conversation_initiation_client_data":
                raise Ended(POLICY, "sandbox: initiation must come first, once", by="agent")

    async def _answer(self, text: str) -> None:
        self._turn += 1
        self._record.transcript.append(Line(role="user", text=text, time=self._clock()))
        words = replies.reply(
            text,
            turn=self._turn,
            agent=self._agent.name,
            prompt=self._prompt,
            variables=self._record.dynamic_variables,
        )
        await self._say(words)

    async def _hear(self, audio: bytes) -> None:
        """Count the audio; say once that nobody hears it."""
        first = self._record.audio_bytes == 0
        self._record.audio_bytes += len(audio)
        if first and audio:
            await self._say(replies.deaf())

    async def _say(self, words: str) -> None:
        self._event_id += 1
        self._record.transcript.append(Line(role="agent", text=words, time=self._clock()))
        await self._send(frames.agent_response(words, self._event_id))

    async def _ping(self) -> None:
        self._event_id += 1
        self._pinged = (self._event_id, asyncio.get_running_loop().time())
        await self._send(frames.ping(self._event_id, self._record.latency_ms))

    def _measure(self, event_id: int) -> None:
        """Note the latency of the ping this answers; a pong to no ping says nothing."""
        if self._pinged is not None and self._pinged[0] == event_id:
            elapsed = asyncio.get_running_loop().time() - self._pinged[1]
            self._record.latency_ms = round(elapsed * 1000)
            self._pinged = None

    async def _fail(self, code: int, error_type: str, message: str) -> Ended:
        """Send an error frame and return the end that follows it."""
        await self._send(frames.error(code, error_type, f"Sandbox: {message}"))
        return Ended(code, f"sandbox: {error_type}", by="agent", error=error_type)

    async def _send(self, frame: Frame) -> None:
        await self._carrier.send(frames.encode(frame))

    def _overridden(self, path: str, usual: str) -> str:
        return str(self._record.overrides.get(path, usual))

    def _first_message(self) -> str:
        return self._overridden("agent.first_message", self._agent.first_message)

    def _left(self, deadline: float) -> float:
        return deadline - asyncio.get_running_loop().time()

    def _patience(self, deadline: float) -> float:
        return max(0.0, min(self._left(deadline), self._ping_interval))

    def _finish(self, end: Ended) -> None:
        record = self._record
        record.ended_at = self._clock()
        record.close_code, record.close_reason = end.code, end.reason
        record.ended_by, record.error = end.by, end.error
        self._workspace.close(record)


def _parsed(text: str) -> ClientFrame:
    """Return the frame in this text. A bad one ends the conversation."""
    try:
        return frames.parse(text)
    except FrameError as bad:
        raise Ended(bad.code, f"sandbox: {bad.reason}", by="agent") from None


def _variables(body: Mapping[str, Any]) -> dict[str, Scalar]:
    given = body.get("dynamic_variables") or {}
    for name, value in given.items():
        if name.startswith("system__") or not isinstance(value, str | int | float | bool):
            raise Ended(POLICY, "sandbox: dynamic variables are scalars, none system__", by="agent")
    return dict(given)


def _named(paths: Sequence[str]) -> str:
    """Return some of a client's names for the log, short and on one line."""
    return ", ".join(ascii(path[:60]) for path in paths[:5])


def _system(record: Conversation) -> dict[str, Scalar]:
    return {"system__conversation_id": record.id, "system__agent_id": record.agent_id}
