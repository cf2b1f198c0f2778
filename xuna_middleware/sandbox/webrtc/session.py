"""One client's session: LiveKit's signalling beside the dialogue that it is for.

The story is `Session.run`: the dialogue begins with the session and waits for its data channel,
while `_listen` tells the client about its room, answers its offers and hears it leave.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from google.protobuf.message import DecodeError
from livekit.protocol.rtc import (
    JoinRequest,
    SessionDescription,
    SignalRequest,
    SignalResponse,
)
from starlette.websockets import WebSocket, WebSocketDisconnect

from xuna_middleware.sandbox.carrier import Ended
from xuna_middleware.sandbox.dialogue import ENDED, Dialogue
from xuna_middleware.sandbox.webrtc import room as rooms
from xuna_middleware.sandbox.webrtc.channel import CONNECT_WAIT, ChannelCarrier
from xuna_middleware.sandbox.webrtc.peer import Peer
from xuna_middleware.sandbox.webrtc.room import Room
from xuna_middleware.sandbox.webrtc.sdp import OfferError
from xuna_middleware.sandbox.workspace import POLICY, Admission, Workspace

#: Bytes of one signal: an offer of 64 KB, and what stands around it.
MAX_SIGNAL: Final = 98_304
logger = logging.getLogger("xuna_middleware.sandbox")


class Session:
    """Hold one session over an admitted WebSocket, from its accept to whatever ends it.

    Does not: resume (a client that loses its WebSocket has left), restart ICE, or take media
    further than to throw it away.
    """

    def __init__(
        self, workspace: Workspace, socket: WebSocket, admission: Admission, *, ping_interval: float
    ) -> None:
        agent, issued = admission.agent, admission.issued
        assert issued is not None, "only a token admits here"  # noqa: S101
        self._clock = workspace.clock
        self._socket = socket
        self._room = Room.of(issued, agent_name=agent.name, now=workspace.clock())
        self._carrier = ChannelCarrier(
            self._room, patience=min(CONNECT_WAIT, agent.max_duration), leave=self._leave
        )
        self._peer = Peer(on_channel=self._carrier.adopt, on_lost=self._carrier.lost)
        self._told_deaf = False
        self._dialogue = Dialogue(workspace, self._carrier, admission, ping_interval=ping_interval)

    async def run(self, join: JoinRequest) -> None:
        """Serve it, and leave nothing behind: no task, no socket, no peer connection."""
        listening = asyncio.create_task(self._listen(join))
        try:
            await self._dialogue.run()
        finally:
            listening.cancel()
            await asyncio.wait({listening})
            await self._peer.close()
            await self._hang_up()

    async def _listen(self, join: JoinRequest) -> None:
        """Follow the client's signals until it goes, and tell the dialogue how it ended."""
        try:
            await self._socket.accept()
            await self._send(self._room.joined())
            if join.HasField("publisher_offer"):
                await self._answer(join.publisher_offer)
            while True:
                await self._take(await self._signal())
        except Ended as end:
            self._carrier.end(end)
        except OfferError as bad:
            self._carrier.end(Ended(POLICY, f"sandbox: {bad}", by="agent"))
        except WebSocketDisconnect:
            self._carrier.end(Ended(1006, by="user"))
        except Exception:
            self._carrier.end(Ended(1011, "sandbox: fault", by="agent", error="internal_error"))
            logger.exception("signalling failed")

    async def _signal(self) -> SignalRequest:
        """Return the next signal. A disconnect ends it, and so does what is none."""
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise Ended(message.get("code", 1005), message.get("reason") or "", by="user")
        data = message.get("bytes")
        if data is None:
            raise Ended(1003, "sandbox: signals are binary", by="agent")
        if len(data) > MAX_SIGNAL:
            raise Ended(1009, "sandbox: signal too large", by="agent")
        try:
            return SignalRequest.FromString(data)
        except DecodeError:
            raise Ended(1007, "sandbox: signal is malformed", by="agent") from None

    async def _take(self, signal: SignalRequest) -> None:
        """Do what one signal asks. Candidates are not needed: the client's checks bring them."""
        match signal.WhichOneof("message"):
            case "offer":
                await self._answer(signal.offer)
            case "add_track":
                self._tell_deaf()
                await self._send(rooms.published(signal.add_track))
            case "ping_req":
                await self._send(rooms.pong(signal.ping_req, self._clock()))
            case "leave":
                raise Ended(ENDED, by="user")

    async def _answer(self, offer: SessionDescription) -> None:
        await self._send(rooms.answered(await self._peer.answer(offer.sdp), offer))

    async def _send(self, message: SignalResponse) -> None:
        await self._socket.send_bytes(message.SerializeToString())

    async def _leave(self) -> None:
        with suppress(RuntimeError, WebSocketDisconnect):
            for message in self._room.left():
                await self._send(message)

    async def _hang_up(self) -> None:
        with suppress(RuntimeError, WebSocketDisconnect):
            await self._socket.close()

    def _tell_deaf(self) -> None:
        """Say it once: who speaks to a rehearsal waits for an answer."""
        if not self._told_deaf:
            self._told_deaf = True
            logger.warning("a client sends audio or video: nobody here can hear or see")
