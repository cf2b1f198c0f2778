"""A token's session over WebRTC, against a client in Python, all of it on loopback."""

import asyncio
import gc
import json
import re
import sys
from asyncio import DatagramTransport
from contextlib import AsyncExitStack

import pytest
from aiortc.mediastreams import AudioStreamTrack
from livekit.protocol.models import DataPacket, ParticipantInfo, TrackType, UserPacket
from livekit.protocol.rtc import (
    AddTrackRequest,
    JoinRequest,
    LeaveRequest,
    Ping,
    SessionDescription,
)
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from xuna_middleware.sandbox import Conversation, SandboxAgent, SandboxPlatform

from .livekit_client import (
    Line,
    Signals,
    address,
    called,
    joined,
    on_loopback,
    opened,
    talking,
    wrapped,
)
from .offers import OFFER
from .stage import AGENT, Clock, Stage, StageOf, platform_with

# One loop and one server for all of them: what differs is the platform behind it.
pytestmark = pytest.mark.asyncio(loop_scope="module")

PERSONAL = SandboxAgent(
    "agent_personal",
    first_message="Hello {{user_name}}, plan {{plan}}.",
    allowed_overrides=frozenset({"agent.language"}),
)
BRIEF = SandboxAgent("agent_brief", first_message="Quick.", max_duration=0.3)


async def ended(platform: SandboxPlatform) -> Conversation:
    """Return the last conversation once its record is finished."""
    async with asyncio.timeout(10):
        while platform.conversations[-1].live:  # noqa: ASYNC110 - it has no event to await
            await asyncio.sleep(0.01)
    return platform.conversations[-1]


async def test_a_conversation_from_begin_to_end(stage_of: StageOf) -> None:
    """The same dialogue as over a WebSocket: first words, an answer, a goodbye, a record."""
    platform = platform_with()
    async with stage_of(platform) as stage:
        given = await stage.token(participant_name="Ada")
        async with talking(stage, given, user_id="u-1") as caller:
            room = caller.socket.room
            words = [await caller.said()]
            await caller.send("user_message", text="My printer is on fire")
            words.append(await caller.said())
            assert platform.conversations[0].live
            await caller.socket.leave()
            record = await ended(platform)
    assert room.participant.identity == "Ada"
    assert [one.kind for one in room.other_participants] == [ParticipantInfo.Kind.AGENT]
    assert (room.ice_servers[:], room.subscriber_primary) == ([], False)
    assert words[0] == "[sandbox] Hello there."
    assert "My printer is on fire" in words[1]
    assert (record.id, record.agent_id, record.user_id) == (room.room.name, AGENT.id, "u-1")
    assert (record.admitted_by, record.ended_by, record.close_code) == ("token", "user", 1000)
    assert [line.text for line in record.transcript if line.role == "agent"] == words


async def test_what_was_attached_to_a_token_wins(stage_of: StageOf) -> None:
    """A client can't change what the token holds; what it adds beside that is its own."""
    platform = platform_with(PERSONAL)
    async with stage_of(platform) as stage:
        given = await stage.token(
            PERSONAL.id,
            dynamic_variables={"user_name": "Ada", "plan": "free"},
            conversation_config_override={"agent": {"language": "de"}},
        )
        async with talking(
            stage,
            given,
            dynamic_variables={"plan": "pro", "topic": "tea"},
            conversation_config_override={"agent": {"language": "fr"}},
        ) as caller:
            assert await caller.said() == "[sandbox] Hello Ada, plan free."
        record = await ended(platform)
    assert (record.dynamic_variables["plan"], record.dynamic_variables["topic"]) == ("free", "tea")
    assert record.overrides == {"agent.language": "de"}
    assert record.attached == {"user_name", "plan", "agent.language"}


async def knock(address: str) -> tuple[int, str]:
    """Return how the door is shut: status and words of the answer before the accept."""
    with pytest.raises(InvalidStatus) as shut:
        async with connect(address, proxy=None):
            pass
    return shut.value.response.status_code, (shut.value.response.body or b"").decode()


async def test_a_token_opens_one_session(stage_of: StageOf) -> None:
    """The second time, and with a token that is none, it is a 401 before the accept."""
    platform = platform_with()
    async with stage_of(platform) as stage:
        token = (await stage.token())["token"]
        async with connect(address(stage, token), proxy=None):
            await ended_or_live(platform)
        for refused in (token, f"{token[:-2]}xx", "nonsense", ""):
            status, words = await knock(address(stage, refused))
            assert (status, words) == (401, "sandbox: conversation token unknown or used before")
    assert len(platform.conversations) == 1


async def ended_or_live(platform: SandboxPlatform) -> None:
    async with asyncio.timeout(5):
        while not platform.conversations:  # noqa: ASYNC110 - it has no event to await
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("join_request=", 400),
        ("access_token={token}", 400),
        ("access_token={token}&access_token={token}&join_request=", 400),
        ("access_token={token}&join_request=&join_request=", 400),
        ("access_token={token}&join_request=%21", 400),
        ("access_token={token}&join_request=AAAA", 400),
        (f"access_token={{token}}&join_request={wrapped(b'no protobuf', packed=False)}", 400),
        (f"access_token={{token}}&join_request={wrapped(bytes(1_000_000))}", 413),
    ],
)
async def test_a_malformed_knock_uses_no_token(stage_of: StageOf, query: str, status: int) -> None:
    """It is refused before the token is looked at, and nothing huge is unpacked."""
    platform = platform_with()
    async with stage_of(platform) as stage:
        token = (await stage.token())["token"]
        door = address(stage, "").partition("?")[0]
        assert (await knock(f"{door}?{query.format(token=token)}"))[0] == status
        async with connect(address(stage, token), proxy=None):
            await ended_or_live(platform)


async def test_a_busy_agent_is_a_403(stage_of: StageOf) -> None:
    """A session counts from its admission on, before anything is connected."""
    alone = SandboxAgent("agent_alone", concurrency=1)
    async with stage_of(platform_with(alone)) as stage:
        first, second = [(await stage.token(alone.id))["token"] for _ in range(2)]
        async with connect(address(stage, first), proxy=None):
            status, words = await knock(address(stage, second))
    assert (status, words) == (403, "sandbox: too many concurrent conversations")


async def test_a_refused_client_may_ask_why(stage_of: StageOf) -> None:
    """A browser can't read the answer to its WebSocket, so LiveKit's clients ask again."""
    clock = Clock()
    async with stage_of(platform_with(clock=clock)) as stage:
        token = (await stage.token())["token"]
        origin = {"Origin": "http://localhost:3000"}

        async def why(**query: str) -> tuple[int, str]:
            answer = await stage.client.get("/rtc/v1/validate", params=query, headers=origin)
            assert answer.headers["access-control-allow-origin"] == origin["Origin"]
            return answer.status_code, answer.text

        assert await why(access_token=token) == (200, "success")
        assert await why(access_token=token) == (200, "success")
        assert (await why())[0] == 400
        unknown = (401, "sandbox: conversation token unknown or used before")
        assert await why(access_token="nonsense") == unknown
        clock.now += 3600
        assert await why(access_token=token) == (401, "sandbox: conversation token expired")


async def test_the_platform_s_end_reaches_the_client(stage_of: StageOf) -> None:
    """The time is up: an error frame, then the agent leaves, and the room is gone."""
    platform = platform_with(BRIEF)
    async with stage_of(platform) as stage:
        async with talking(stage, await stage.token(BRIEF.id)) as caller:
            await caller.said()
            frame = await caller.receive()
            await caller.socket.answer_pings()
            update = await caller.socket.signals.next("update")
            leave = await caller.socket.signals.next("leave")
        record = await ended(platform)
    assert frame["error_event"]["error_type"] == "max_duration_exceeded"
    assert [one.state for one in update.participants] == [ParticipantInfo.State.DISCONNECTED]
    assert leave.action == LeaveRequest.Action.DISCONNECT
    assert (record.ended_by, record.error) == ("agent", "max_duration_exceeded")


async def test_a_client_that_never_connects(stage_of: StageOf) -> None:
    """Its record ends when its time for that is over."""
    platform = platform_with(BRIEF)
    async with stage_of(platform) as stage:
        token = (await stage.token(BRIEF.id))["token"]
        async with connect(address(stage, token), proxy=None):
            record = await ended(platform)
    assert (record.ended_by, record.close_code) == ("user", 1006)
    assert record.close_reason == "sandbox: no data channel in time"


PACKET = DataPacket(user=UserPacket(payload=b"\xff")).SerializeToString()


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        ("text", 1003),
        (b"\xff\xff", 1007),
        (PACKET, 1007),
        (DataPacket(user=UserPacket(payload=b"no json")).SerializeToString(), 1007),
        (DataPacket(user=UserPacket(payload=b'{"type": "x"}')).SerializeToString(), 1008),
        (bytes(262_144), 1007),
    ],
)
async def test_a_bad_packet_ends_it(stage_of: StageOf, packet: str | bytes, code: int) -> None:
    """Each with its code in the record; the client sees the room go."""
    platform = platform_with()
    async with stage_of(platform) as stage:
        async with talking(stage, await stage.token()) as caller:
            await caller.said()
            caller.socket.channel.send(packet)
            await caller.socket.signals.next("leave")
        record = await ended(platform)
    assert (record.close_code, record.ended_by) == (code, "agent")
    assert record.close_reason.startswith("sandbox: ")


async def test_other_packets_and_channels_say_nothing(stage_of: StageOf) -> None:
    """What is not a user's packet on `_reliable` is let be."""
    platform = platform_with()
    async with stage_of(platform) as stage:
        token = (await stage.token())["token"]
        with on_loopback():
            async with joined(stage, token) as line:
                other = line.peer.createDataChannel("_lossy")
                await line.signals.send(offer=await line.offered())
                await line.take(await line.signals.next("answer"))
                await opened(line.channel)
                await opened(other)
                other.send(b"\xff")
                line.channel.send(DataPacket(sequence=1).SerializeToString())
                await line.send(json.dumps({"type": "user_message", "text": "Tea"}))
                words = [json.loads(await line.recv()) for _ in range(3)]
    assert "Tea" in words[-1]["agent_response_event"]["agent_response"]


@pytest.mark.parametrize(
    ("signal", "code"), [("text", 1003), (b"\xff\xff", 1007), (bytes(100_000), 1009)]
)
async def test_a_bad_signal_ends_it(stage_of: StageOf, signal: str | bytes, code: int) -> None:
    """Each with its code in the record."""
    platform = platform_with()
    async with stage_of(platform) as stage:
        async with called(stage, (await stage.token())["token"]) as caller:
            await caller.socket.signals.socket.send(signal)
            await caller.socket.signals.next("leave")
        record = await ended(platform)
    assert (record.close_code, record.ended_by) == (code, "agent")


async def test_an_offer_that_can_t_be_answered_ends_it(stage_of: StageOf) -> None:
    """Nonsense, and a restart of ICE, which isn't served."""
    platform = platform_with()
    async with stage_of(platform) as stage:
        async with called(stage, (await stage.token())["token"]) as caller:
            offer = await caller.socket.offered()
            again = re.sub("a=ice-ufrag:.*?\r", "a=ice-ufrag:other\r", offer.sdp)
            await caller.socket.signals.send(offer=SessionDescription(type="offer", sdp=again))
            await caller.socket.signals.next("leave")
        restarted = await ended(platform)
        async with called(stage, (await stage.token())["token"]) as caller:
            await caller.socket.signals.send(offer=SessionDescription(type="offer", sdp="v=0"))
            await caller.socket.signals.next("leave")
        malformed = await ended(platform)
        request = JoinRequest(publisher_offer=SessionDescription(type="offer", sdp="v=0"))
        knocking = address(stage, (await stage.token())["token"], request)
        async with asyncio.timeout(10), connect(knocking, proxy=None) as socket:
            await Signals(socket).next("leave")
        at_once = await ended(platform)
    assert (restarted.close_code, malformed.close_code, at_once.close_code) == (1008, 1008, 1008)
    assert restarted.close_reason == "sandbox: the offer restarts ICE"
    assert malformed.close_reason == "sandbox: the offer has no section, or too many"


async def test_a_client_whose_connection_is_lost(stage_of: StageOf) -> None:
    """Its WebSocket stays open, and says nothing: it counts as gone, and is told so."""
    platform = platform_with()
    async with stage_of(platform) as stage:
        async with talking(stage, await stage.token()) as caller:
            await caller.said()
            await caller.socket.peer.close()
            with pytest.raises(ConnectionClosed):
                await caller.socket.signals.next("never")
        record = await ended(platform)
    assert (record.ended_by, record.close_code) == ("user", 1006)


async def test_a_client_with_another_certificate(stage_of: StageOf) -> None:
    """Who isn't the one that signalled gets no data channel: the hash in the offer decides."""
    platform = platform_with()
    async with stage_of(platform) as stage:
        token = (await stage.token())["token"]
        with on_loopback():
            async with joined(stage, token) as line:
                offer = await line.offered()
                offer.sdp = re.sub(r"(a=fingerprint:\S+) ..", r"\1 00", offer.sdp)
                await line.signals.send(offer=offer)
                await line.take(await line.signals.next("answer"))
                record = await ended(platform)
    assert (record.ended_by, record.close_code, record.close_reason) == ("user", 1006, "")


async def test_it_is_reached_on_loopback_only(stage_of: StageOf) -> None:
    """One candidate, on this machine, whatever other addresses it has."""
    platform = platform_with()
    request = JoinRequest(publisher_offer=SessionDescription(type="offer", sdp=OFFER, id=1))
    async with stage_of(platform) as stage:
        knocking = address(stage, (await stage.token())["token"], request)
        async with asyncio.timeout(10), connect(knocking, proxy=None) as socket:
            answer = (await Signals(socket).next("answer")).sdp
    candidates = set(re.findall(r"a=candidate:\S+ \d+ (\S+) \d+ (\S+) \d+ typ (\S+)\r", answer))
    assert candidates == {("udp", "127.0.0.1", "host")}
    assert answer.count("a=end-of-candidates") == answer.count("m=")


async def test_audio_is_taken_and_thrown_away(
    stage_of: StageOf, caplog: pytest.LogCaptureFixture
) -> None:
    """A microphone is published in a second offer: it is answered, said to be unheard, and sent."""
    platform = platform_with()
    async with stage_of(platform) as stage:
        async with talking(stage, await stage.token()) as caller:
            await caller.said()
            words = await with_microphone(caller.socket)
            await caller.send("user_message", text="Tea")
            assert "Tea" in await caller.said()
            sent = await audio_sent(caller.socket)
        record = await ended(platform)
    assert "a=recvonly" in words
    assert sent > 5
    assert record.audio_bytes == 0
    assert caplog.text.count("nobody here can hear") == 1


async def with_microphone(line: Line) -> str:
    """Publish silence, twice announced, and return the answer's text."""
    for cid in ("mic", "mic-again"):
        await line.signals.send(add_track=AddTrackRequest(cid=cid, type=TrackType.AUDIO))
        assert (await line.signals.next("track_published")).cid == cid
    line.peer.addTrack(AudioStreamTrack())
    await line.signals.send(offer=await line.offered())
    answer = await line.signals.next("answer")
    await line.take(answer)
    return str(answer.sdp)


async def audio_sent(line: Line) -> int:
    """Return the packets that have left, once there are some."""
    (sender,) = line.peer.getSenders()
    while True:
        reports = (await sender.getStats()).values()
        sent = max((getattr(one, "packetsSent", 0) for one in reports), default=0)
        if sent > 5:
            return int(sent)
        await asyncio.sleep(0.02)


async def test_pings_of_signalling_are_answered(stage_of: StageOf) -> None:
    """Or a client would take the connection for lost."""
    async with stage_of(platform_with()) as stage:
        address_ = address(stage, (await stage.token())["token"])
        async with asyncio.timeout(10), connect(address_, proxy=None) as socket:
            signals = Signals(socket)
            await signals.send(ping_req=Ping(timestamp=7))
            assert (await signals.next("pong_resp")).last_ping_timestamp == 7


async def test_nothing_is_left_behind(stage_of: StageOf) -> None:
    """However it ends: no task, no socket, no live record."""
    platform = platform_with()
    async with stage_of(platform) as stage:
        before = left()
        for way in (goodbye, vanishing, closing_the_channel, knocking_only):
            await way(stage)
            await ended(platform)
            await until_left(before)
    assert [record.live for record in platform.conversations] == [False] * 4
    assert {record.ended_by for record in platform.conversations} == {"user"}


async def goodbye(stage: Stage) -> None:
    async with talking(stage, await stage.token()) as caller:
        await caller.said()
        await caller.socket.leave()


async def vanishing(stage: Stage) -> None:
    async with talking(stage, await stage.token()) as caller:
        caller.socket.signals.socket.transport.abort()


async def closing_the_channel(stage: Stage) -> None:
    async with talking(stage, await stage.token()) as caller:
        caller.socket.channel.close()
        with pytest.raises(ConnectionClosed):
            await caller.socket.signals.next("never")


async def knocking_only(stage: Stage) -> None:
    async with connect(address(stage, (await stage.token())["token"]), proxy=None):
        pass


def left() -> tuple[int, int]:
    """Count what could be left behind: tasks, and UDP sockets of this process."""
    sockets = [each for each in gc.get_objects() if issubclass(type(each), DatagramTransport)]
    return len(asyncio.all_tasks()), sum(not each.is_closing() for each in sockets)


async def until_left(before: tuple[int, int]) -> None:
    """Wait until no more is there than was before."""
    try:
        async with asyncio.timeout(5):
            while any(now > then for now, then in zip(left(), before, strict=True)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"left behind: {left()}, before: {before}")


async def test_a_stop_closes_what_runs() -> None:
    """When the server stops, a session is closed, and its record ends."""
    platform = platform_with()
    async with AsyncExitStack() as calls:
        async with Stage.of(platform) as stage:
            caller = await calls.enter_async_context(talking(stage, await stage.token()))
            await caller.said()
        with pytest.raises(ConnectionClosed):
            await caller.socket.signals.next("never")
        assert not platform.conversations[0].live
    assert platform.conversations[0].close_code == 1012


async def test_without_the_extra(stage_of: StageOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is served; a session is refused with the command that fixes it, token unused."""
    platform = platform_with()
    async with stage_of(platform) as stage:
        token = (await stage.token())["token"]
        for lacking in ("aiortc", "livekit"):
            with monkeypatch.context() as patch:
                patch.setitem(sys.modules, lacking, None)
                patch.delitem(sys.modules, "livekit.protocol")
                status, words = await knock(address(stage, token))
                validated = await stage.client.get("/rtc/v1/validate")
            assert (status, validated.status_code, validated.text) == (501, 501, words)
            assert lacking in words
            assert words.endswith('pip install "xuna-middleware[webrtc]"')
        async with connect(address(stage, token), proxy=None):
            await ended_or_live(platform)
