"""A LiveKit client in Python, as far as a conversation needs one: signalling, and a data channel.

It stands on aiortc's `RTCPeerConnection`, which the sandbox does not.
"""

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self
from urllib.parse import urlencode

import aioice.ice
import pytest
from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
)
from livekit.protocol.models import DataPacket, UserPacket
from livekit.protocol.rtc import (
    JoinRequest,
    JoinResponse,
    LeaveRequest,
    SessionDescription,
    SignalRequest,
    SignalResponse,
    WrappedJoinRequest,
)
from websockets.asyncio.client import ClientConnection, connect

from .stage import Caller, Stage


@contextmanager
def on_loopback() -> Iterator[None]:
    """Let aiortc's clients have this machine's own address, and no other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])
        yield


def wrapped(request: bytes, *, packed: bool = True) -> str:
    """Return a join request as it stands in the query."""
    kinds = WrappedJoinRequest.Compression
    return encoded(
        WrappedJoinRequest(
            compression=kinds.GZIP if packed else kinds.NONE,
            join_request=gzip.compress(request, mtime=0) if packed else request,
        )
    )


def encoded(whole: WrappedJoinRequest) -> str:
    return base64.urlsafe_b64encode(whole.SerializeToString()).decode()


def address(stage: Stage, token: str, request: JoinRequest | None = None) -> str:
    """Return where a client with this token knocks."""
    joining = wrapped((request or JoinRequest()).SerializeToString())
    query = urlencode({"access_token": token, "join_request": joining})
    return f"{stage.url.replace('http', 'ws', 1)}/rtc/v1?{query}"


async def opened(channel: RTCDataChannel) -> None:
    """Wait until the channel is open."""
    told = asyncio.Event()
    channel.on("open", told.set)
    if channel.readyState != "open":
        await told.wait()


class Signals:
    """Read and write signals, over a WebSocket that is open."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.others: list[SignalResponse] = []

    async def send(self, **message: Any) -> None:
        await self.socket.send(SignalRequest(**message).SerializeToString())

    async def next(self, kind: str) -> Any:
        """Return the next message of this kind; what comes before it is put by."""
        while True:
            data = await self.socket.recv()
            assert isinstance(data, bytes)
            response = SignalResponse.FromString(data)
            if response.WhichOneof("message") == kind:
                return getattr(response, kind)
            self.others.append(response)


class Line:
    """Send and receive frames over `_reliable`; `socket` is what signalling goes over."""

    def __init__(self, signals: Signals, peer: RTCPeerConnection, channel: RTCDataChannel) -> None:
        self.signals = signals
        self.peer = peer
        self.channel = channel
        self.room = JoinResponse()
        self.offers = 0
        self._heard: asyncio.Queue[DataPacket] = asyncio.Queue()
        channel.on("message", lambda data: self._heard.put_nowait(DataPacket.FromString(data)))

    @classmethod
    def over(cls, socket: ClientConnection, peer: RTCPeerConnection) -> Self:
        return cls(Signals(socket), peer, peer.createDataChannel("_reliable"))

    async def send(self, message: str) -> None:
        packet = DataPacket(user=UserPacket(payload=message.encode()))
        self.channel.send(packet.SerializeToString())

    async def recv(self) -> str:
        packet = await self._heard.get()
        assert packet.participant_identity.startswith("agent-")
        return packet.user.payload.decode()

    async def answer_pings(self) -> None:
        """Answer the ping that asks whether the last words have arrived, as clients do."""
        while (frame := json.loads(await self.recv()))["type"] != "ping":
            pass
        pong = {"type": "pong", "event_id": frame["ping_event"]["event_id"]}
        await self.send(json.dumps(pong))

    async def offered(self) -> SessionDescription:
        """Return an offer of all that the peer connection has by now."""
        await self.peer.setLocalDescription(await self.peer.createOffer())
        self.offers += 1
        sdp = self.peer.localDescription.sdp
        return SessionDescription(type="offer", sdp=sdp, id=self.offers)

    async def take(self, answer: SessionDescription) -> None:
        """Take the answer to the last offer."""
        assert (answer.type, answer.id) == ("answer", self.offers)
        await self.peer.setRemoteDescription(RTCSessionDescription(answer.sdp, "answer"))

    async def leave(self) -> None:
        """Say goodbye, as a client does that ends the session itself."""
        await self.signals.send(leave=LeaveRequest())


@asynccontextmanager
async def joined(stage: Stage, token: str) -> AsyncIterator[Line]:
    """Join with the offer in a signal of its own, as Firefox does; the answer is not taken yet."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    async with asyncio.timeout(20), connect(address(stage, token), proxy=None) as socket:
        line = Line.over(socket, peer)
        line.room = await line.signals.next("join")
        try:
            yield line
        finally:
            await peer.close()


@asynccontextmanager
async def called(stage: Stage, token: str) -> AsyncIterator[Caller[Line]]:
    """Join and connect; nothing is heard or said yet."""
    with on_loopback():
        async with joined(stage, token) as line:
            await line.signals.send(offer=await line.offered())
            await line.take(await line.signals.next("answer"))
            await opened(line.channel)
            yield Caller(line)


@asynccontextmanager
async def talking(
    stage: Stage, given: Mapping[str, Any], **initiation: Any
) -> AsyncIterator[Caller[Line]]:
    """Begin a conversation with what the platform gave for a token; its metadata is taken."""
    async with called(stage, given["token"]) as caller:
        assert caller.socket.room.room.name == given["conversation_id"]
        assert await caller.begin(**initiation) == given["conversation_id"]
        yield caller
