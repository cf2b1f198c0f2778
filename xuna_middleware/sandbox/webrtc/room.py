"""The room of one conversation, in LiveKit's messages: who is in it, and what it says. Pure.

Two are in it: the client, under the name that its token holds, and the agent. A room is named
after its conversation, which is where a client learns the conversation's id from.
"""

import secrets
from dataclasses import dataclass
from typing import Final, Self

from livekit.protocol.models import (
    DataPacket,
    DisconnectReason,
    ParticipantInfo,
    ParticipantPermission,
    ServerInfo,
    TrackInfo,
    UserPacket,
)
from livekit.protocol.models import Room as RoomInfo
from livekit.protocol.rtc import (
    AddTrackRequest,
    JoinResponse,
    LeaveRequest,
    ParticipantUpdate,
    Ping,
    Pong,
    SessionDescription,
    SignalResponse,
    TrackPublishedResponse,
)

from xuna_middleware.sandbox.passes import Issued

#: Seconds between a client's pings, and how long it waits for an answer.
PING_INTERVAL: Final = 10
PING_TIMEOUT: Final = 30
_VERSION: Final = "sandbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Hold the names of one room.

    Attributes:
        name: the conversation's id. client: the identity in the client's token.
        agent: the agent's identity; clients know an agent by its first letters.
        agent_sid: its session's id. agent_name: as its maker calls it.
        started_at: seconds since the epoch.
    """

    name: str
    client: str
    agent: str
    agent_sid: str
    agent_name: str
    started_at: int

    @classmethod
    def of(cls, issued: Issued, *, agent_name: str, now: float) -> Self:
        """Open the room that this token admits to."""
        return cls(
            name=issued.conversation_id,
            client=issued.participant or "",
            agent=f"agent-{secrets.token_hex(6)}",
            agent_sid=_sid("PA"),
            agent_name=agent_name,
            started_at=int(now),
        )

    def joined(self) -> SignalResponse:
        """Return the first message: the room, the client's place in it, and the agent's.

        No ICE server is named, and the client's own peer connection is the only one.
        """
        return SignalResponse(
            join=JoinResponse(
                room=RoomInfo(
                    sid=_sid("RM"),
                    name=self.name,
                    creation_time=self.started_at,
                    num_participants=2,
                ),
                participant=self._client(),
                other_participants=[self._agent(present=True)],
                server_version=_VERSION,
                server_info=ServerInfo(version=_VERSION, edition=ServerInfo.Edition.Standard),
                ping_interval=PING_INTERVAL,
                ping_timeout=PING_TIMEOUT,
                subscriber_primary=False,
            )
        )

    def left(self) -> tuple[SignalResponse, SignalResponse]:
        """Return the end in two messages: the agent has left, and the room is gone for good."""
        gone = self._agent(present=False)
        leave = LeaveRequest(
            reason=DisconnectReason.ROOM_DELETED, action=LeaveRequest.Action.DISCONNECT
        )
        return (
            SignalResponse(update=ParticipantUpdate(participants=[gone])),
            SignalResponse(leave=leave),
        )

    def says(self, text: str) -> bytes:
        """Return a data packet in which the agent says this."""
        user = UserPacket(participant_identity=self.agent, payload=text.encode())
        packet = DataPacket(
            kind=DataPacket.Kind.RELIABLE, participant_identity=self.agent, user=user
        )
        return packet.SerializeToString()

    def _client(self) -> ParticipantInfo:
        return ParticipantInfo(
            sid=_sid("PA"),
            identity=self.client,
            name=self.client,
            state=ParticipantInfo.State.ACTIVE,
            joined_at=self.started_at,
            permission=ParticipantPermission(
                can_publish=True, can_subscribe=True, can_publish_data=True
            ),
        )

    def _agent(self, *, present: bool) -> ParticipantInfo:
        states = ParticipantInfo.State
        return ParticipantInfo(
            sid=self.agent_sid,
            identity=self.agent,
            name=self.agent_name,
            state=states.ACTIVE if present else states.DISCONNECTED,
            joined_at=self.started_at,
            kind=ParticipantInfo.Kind.AGENT,
        )


def answered(text: str, offer: SessionDescription) -> SignalResponse:
    """Return the answer to this offer; the number tells the client to which."""
    return SignalResponse(answer=SessionDescription(type="answer", sdp=text, id=offer.id))


def published(request: AddTrackRequest) -> SignalResponse:
    """Return that a track may be sent, without which a client goes on waiting."""
    track = TrackInfo(
        sid=_sid("TR"),
        type=request.type,
        name=request.name,
        source=request.source,
        muted=request.muted,
        stream=request.stream,
    )
    return SignalResponse(track_published=TrackPublishedResponse(cid=request.cid, track=track))


def pong(ping: Ping, now: float) -> SignalResponse:
    """Return the answer to a ping."""
    return SignalResponse(
        pong_resp=Pong(last_ping_timestamp=ping.timestamp, timestamp=int(now * 1000))
    )


def _sid(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(6)}"
