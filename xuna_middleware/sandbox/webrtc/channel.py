"""Frames over the data channel `_reliable`: each travels as the user payload of a data packet."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from aiortc import InvalidStateError, RTCDataChannel
from google.protobuf.message import DecodeError
from livekit.protocol.models import DataPacket

from xuna_middleware.sandbox import frames
from xuna_middleware.sandbox.carrier import Ended
from xuna_middleware.sandbox.frames import MAX_FRAME
from xuna_middleware.sandbox.webrtc.room import Room

LABEL: Final = "_reliable"
#: Seconds that a client has for connecting.
CONNECT_WAIT: Final = 15.0
#: Bytes of one packet: a frame of the largest size, and what stands around it.
_MAX_PACKET: Final = MAX_FRAME + 1_024
#: Frames that may wait to be taken, and bytes that may wait to be sent.
_MAX_WAITING: Final = 256
_MAX_UNSENT: Final = 1_048_576
#: Seconds for signalling to say why a connection was lost: a client that leaves does both at once.
_GRACE: Final = 1.0
#: Seconds for the last words to arrive before the room closes, and the ping that asks.
_LAST_WORDS: Final = 1.0
_LAST_PING: Final = 0


class ChannelCarrier:
    """Carry frames over a channel that is still to come; the first `send` waits for it.

    Args:
        room: in whose name the agent speaks.
        patience: seconds that the client has until its channel must be open.
        leave: closes the room for the client.

    Does not: take frames from other channels, or packets that hold no user payload.
    """

    def __init__(
        self, room: Room, *, patience: float, leave: Callable[[], Awaitable[None]]
    ) -> None:
        self._room = room
        self._patience = patience
        self._leave = leave
        self._opened: asyncio.Future[RTCDataChannel | None] = asyncio.Future()
        self._heard: asyncio.Queue[str | Ended] = asyncio.Queue()
        self._end: Ended | None = None

    def adopt(self, channel: RTCDataChannel) -> None:
        """Take the channel if it is the one. A second one of that name is let be."""
        if channel.label == LABEL and not self._opened.done():
            channel.on("message", self._take)
            channel.on("close", self.lost)
            self._opened.set_result(channel)

    def end(self, end: Ended) -> None:
        """Let it end so, once what was heard before is taken. The first end counts."""
        if self._end is None:
            self._end = end
            self._heard.put_nowait(end)
            if not self._opened.done():
                self._opened.set_result(None)

    def lost(self) -> None:
        """Let it end soon: the connection is gone, and signalling may still say why."""
        asyncio.get_running_loop().call_later(_GRACE, self.end, Ended(1006, by="user"))

    async def send(self, text: str) -> None:
        """Send one frame. Raises Ended where the client is gone, or never came."""
        channel = await self._channel()
        if channel.bufferedAmount > _MAX_UNSENT:
            raise Ended(1008, "sandbox: the client takes no frames", by="agent")
        try:
            channel.send(self._room.says(text))
        except InvalidStateError:
            raise Ended(1006, by="user") from None
        except ValueError:
            raise Ended(1009, "sandbox: too large for the client", by="agent") from None

    async def receive(self) -> str:
        """Return the next frame. Raises Ended as it was told to."""
        heard = await self._heard.get()
        if isinstance(heard, Ended):
            raise heard
        return heard

    async def close(self, code: int, reason: str) -> None:
        """Let the last words arrive, then close the room. LiveKit has no place for the code."""
        if self._end is None:
            with suppress(Ended, TimeoutError):
                async with asyncio.timeout(_LAST_WORDS):
                    await self._taken()
        await self._leave()

    async def _taken(self) -> None:
        """Wait until the client has taken every frame: it answers a ping that comes after them.

        The room closes over another connection, which would often be faster than the last words.
        """
        await self.send(frames.encode(frames.ping(_LAST_PING, None)))
        while not _answers(await self.receive()):
            pass

    async def _channel(self) -> RTCDataChannel:
        await asyncio.wait({self._opened}, timeout=self._patience)
        channel = self._opened.result() if self._opened.done() else None
        if channel is None:
            raise self._end or Ended(1006, "sandbox: no data channel in time", by="user")
        return channel

    def _take(self, data: bytes | str) -> None:
        if self._end is not None:
            return
        try:
            text = _user_text(data)
        except Ended as end:
            self.end(end)
            return
        if self._heard.qsize() >= _MAX_WAITING:
            self.end(Ended(1008, "sandbox: too many frames at once", by="agent"))
        elif text is not None:
            self._heard.put_nowait(text)


def _user_text(data: bytes | str) -> str | None:
    """Return the frame in a packet, None where it holds something else. Raises Ended."""
    if isinstance(data, str):
        raise Ended(1003, "sandbox: packets are binary", by="agent")
    if len(data) > _MAX_PACKET:
        raise Ended(1009, "sandbox: packet too large", by="agent")
    try:
        packet = DataPacket.FromString(data)
        return packet.user.payload.decode() if packet.HasField("user") else None
    except (DecodeError, UnicodeDecodeError):
        raise Ended(1007, "sandbox: packet is malformed", by="agent") from None


def _answers(text: str) -> bool:
    """Say whether this frame answers the last ping."""
    try:
        frame = frames.parse(text)
    except frames.FrameError:
        return False
    return frame.type == "pong" and frame.body["event_id"] == _LAST_PING
