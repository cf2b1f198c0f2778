"""Carry frames between a client and the platform until one side, or a rule, ends it.

Two pumps, one per direction; each waits for the slower side, so order is kept and nothing piles up.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from xuna_middleware.access.relay_rules import RelayRules
from xuna_middleware.errors import trace_of
from xuna_middleware.platform.protocol import PlatformConnection
from xuna_middleware.relay.client import Client, without_text
from xuna_middleware.relay.close_codes import (
    CLIENT_STALLED,
    FAULT,
    FRAME_TOO_LARGE,
    GONE,
    PLATFORM_ERROR,
    PLATFORM_TIMEOUT,
    CloseReason,
    ConversationClosedError,
    closed_by_platform,
)
from xuna_middleware.relay.deadlines import Deadlines
from xuna_middleware.relay.frame_filter import Dropped, FrameFilter, Refresh
from xuna_middleware.relay.frames import conversation_of, is_turn
from xuna_middleware.relay.usage import Meter, size_of

logger = logging.getLogger("xuna_middleware")

#: Seconds for the platform's first frame.
_SPEAKS_WITHIN: Final = 10.0
#: Seconds between two looks at whether a frame is stuck.
_STUCK: Final = 15.0
#: Bytes of one side's frames after which other tasks get a turn: thousands of frames may be ready
#: at once, and none of them would wait. Each frame counts `_EACH` extra bytes, for receiving it;
#: each byte of a client's frame that is parsed counts `_PARSED` times, since parsing costs up to
#: that many times as much. 64 KiB take about 2 ms.
_TURN: Final = 64 * 1024
_EACH: Final = 2048
_PARSED: Final = 20
#: The number of the first frame, which the platform takes before any other.
_THE_FIRST: Final = -1
#: The close reasons for a side that takes no frame: the client, the platform.
_STALLS: Final = (CLIENT_STALLED, PLATFORM_TIMEOUT)

#: Takes a client's fresh token and returns the frame that answers it.
Renew: TypeAlias = Callable[[str], Awaitable[str]]


class Relay:
    """Carry one conversation.

    Args:
        client, line: the two ends, open; the caller closes them.
        first: the first frame, for the platform.
        rules: what the client may do.
        renew: called with a fresh token; returns the answer.
        told: called with the conversation's id, if the platform's first frame has it.
        ended: the close reason, once something outside ends it.
        deadlines: end it on time; the token's expiry may be set already.
        warn: logs warnings that the client's frames cause.
    """

    def __init__(
        self,
        client: Client,
        line: PlatformConnection,
        rules: RelayRules,
        *,
        first: str,
        renew: Renew,
        told: Callable[[str], None],
        ended: "asyncio.Future[CloseReason]",
        deadlines: Deadlines,
        warn: Callable[..., None] = logger.warning,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._client = client
        self._line = line
        self._first = first
        self._rules = rules
        self._renew = renew
        self._told = told
        self._judge = FrameFilter(rules, loop.time)
        self._ended = ended
        self._deadlines = deadlines
        self._warn = warn
        #: The number of the frame that the client, or the platform, has yet to take; 0 is none.
        self._waiting_for_client = 0
        self._waiting_for_platform = 0
        self._waited = (0, 0)
        self._dropped: set[bool] = set()
        self.meter = Meter(began=loop.time())

    async def run(self, max_duration: float) -> CloseReason:
        """Carry frames until the end, and return how it ended.

        `max_duration` counts from now; a fresh token extends the token's expiry, but not this.
        """
        try:
            self._set_deadlines(max_duration)
            return await self._pump()
        finally:
            self._deadlines.cancel()
            self.meter.ended = asyncio.get_running_loop().time()

    def _set_deadlines(self, max_duration: float) -> None:
        self._deadlines.last_at_most(max_duration)
        if self._rules.idle_timeout is not None:
            self._deadlines.be_heard(self._rules.idle_timeout, lambda: self._judge.heard_at)
        self._deadlines.look_every(_STUCK, self._stuck)

    async def _pump(self) -> CloseReason:
        """Run both pumps until one of them, or something outside, ends the conversation."""
        if self._ended.done():  # before any frame was carried
            return self._ended.result()
        pumps = [
            asyncio.ensure_future(self._to_client()),
            asyncio.ensure_future(self._to_platform()),
        ]
        try:
            await asyncio.wait((self._ended, *pumps), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            told = await asyncio.gather(*pumps, return_exceptions=True)
        _log_faults(told)
        if self._ended.done():
            return self._ended.result()
        return next((one for one in told if isinstance(one, CloseReason)), FAULT)

    async def _to_platform(self) -> CloseReason:
        """Forward the first frame, then all later frames of the client."""
        self._waiting_for_platform = _THE_FIRST
        try:
            await self._line.send(self._first)
        except Exception:  # as in _from_client()
            return await self._said_by_the_other()
        self._waiting_for_platform = 0
        try:
            return await self._from_client()
        except ConversationClosedError as error:
            return error.ending

    async def _from_client(self) -> CloseReason:
        """Forward the client's frames."""
        receive, send, judge, meter = self._client.receive, self._line.send, self._judge, self.meter
        max_frame, turn = self._rules.max_frame, _Turn()
        while True:
            if turn.left < 0:
                await turn.pass_on()
            message = await receive()
            text = message.get("text")
            if text is None:
                return without_text(message)
            size = size_of(text)
            if size > max_frame:
                return FRAME_TOO_LARGE
            verdict = judge(text)
            turn.left -= _EACH + (size * _PARSED if judge.has_parsed else size)
            if verdict is not None:
                if isinstance(verdict, CloseReason):
                    return verdict
                if isinstance(verdict, Dropped):
                    self._log_dropped(verdict)
                else:
                    await self._answer_refresh(verdict)
                    turn.left = -1  # verifying a token costs more than any frame
                continue
            meter.client_frames += 1
            meter.client_bytes += size
            self._waiting_for_platform = meter.client_frames
            try:
                await send(text)
            except Exception:  # the connection's own error: it has ended
                return await self._said_by_the_other()
            self._waiting_for_platform = 0
            del message, text  # it may be large, and the next one may take long to come

    async def _said_by_the_other(self) -> CloseReason:
        """Wait: the other pump forwards the platform's last frames, and returns how it ended."""
        return await asyncio.shield(self._ended)

    async def _to_client(self) -> CloseReason:
        """Forward the platform's frames."""
        recv, send, meter, turn = self._line.recv, self._client.send, self.meter, _Turn()
        try:
            frame = await self._first_word()
            while not isinstance(frame, bytes):
                size = size_of(frame)
                turn.left -= size + _EACH
                meter.platform_frames += 1
                meter.platform_bytes += size
                self._waiting_for_client = meter.platform_frames
                try:
                    await send({"type": "websocket.send", "text": frame})
                except Exception:  # servers raise different errors if the client has gone
                    return GONE
                self._waiting_for_client = 0
                if is_turn(frame):
                    meter.turns += 1
                del frame  # as in _from_client()
                if turn.left < 0:
                    await turn.pass_on()
                try:
                    frame = await recv()
                except Exception:  # the connection's own error; `ended` says how
                    return closed_by_platform(self._line.ended)
        except ConversationClosedError as error:
            return error.ending
        return PLATFORM_ERROR

    async def _first_word(self) -> str | bytes:
        """Return the platform's first frame, without which no client connects.

        Raises:
            ConversationClosedError: no frame comes in time, or it is not valid.
        """
        try:
            async with asyncio.timeout(_SPEAKS_WITHIN):
                frame = await self._line.recv()
        except TimeoutError:
            raise ConversationClosedError(PLATFORM_TIMEOUT) from None
        except Exception:  # as in _to_client()
            raise ConversationClosedError(closed_by_platform(self._line.ended)) from None
        conversation_id = conversation_of(frame)
        if conversation_id is not None:
            self._told(conversation_id)
        return frame

    async def _answer_refresh(self, refresh: Refresh) -> None:
        """Renew with a fresh token and send the answer.

        Raises:
            ConversationClosedError: the client has gone.
        """
        answer = await self._renew(refresh.token)
        try:
            await self._client.send({"type": "websocket.send", "text": answer})
        except Exception:  # as in _to_client()
            raise ConversationClosedError(GONE) from None

    def _log_dropped(self, frame: Dropped) -> None:
        """Log the first dropped frame of a conversation for each reason, and no others."""
        if frame.is_odd_text in self._dropped:
            return
        self._dropped.add(frame.is_odd_text)
        if frame.is_odd_text:
            self._warn(
                "a client's frame %s was dropped: the client cut a text inside an emoji, say; "
                "in JavaScript, text.toWellFormed() fixes that before it is sent",
                frame.kind,
            )
        else:
            self._warn(
                "a client's frame %s was dropped, like all of this conversation that are not "
                "documented; to pass them on: RelayRules(client_frames=ANY)",
                frame.kind,
            )

    def _stuck(self) -> CloseReason | None:
        """Return the close reason if a side is stuck: its frame has waited since the last look."""
        before, self._waited = self._waited, (self._waiting_for_client, self._waiting_for_platform)
        for was, still, ending in zip(before, self._waited, _STALLS, strict=True):
            if was and was == still:
                return ending
        return None


class _Turn:
    """Count the rest of one pump's turn on the event loop, in bytes."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = _TURN

    async def pass_on(self) -> None:
        """Let other tasks run, and begin the next turn."""
        await asyncio.sleep(0)
        self.left = _TURN


def _log_faults(told: Sequence[CloseReason | BaseException]) -> None:
    """Log the gate's own faults; the text of a traceback contains no frames."""
    for one in told:
        if isinstance(one, Exception):
            logger.error("a relayed conversation failed\n%s", trace_of(one))
