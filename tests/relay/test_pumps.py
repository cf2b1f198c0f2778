"""Frames between a client and the platform, and all the ways in which that ends. In fast time."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
from starlette.types import Message
from support.doubles import in_fast_time, seconds
from support.scripted import GREETING, ScriptedLine
from support.talking import Talk

from xuna_middleware import ANY, RelayRules
from xuna_middleware.relay.client import Client
from xuna_middleware.relay.close_codes import (
    BINARY_FRAME,
    CLIENT_STALLED,
    FAULT,
    FRAME_NOT_OPEN,
    FRAME_TOO_LARGE,
    IDLE_TIMEOUT,
    INVALID_JSON,
    MAX_DURATION,
    PLATFORM_ERROR,
    PLATFORM_TIMEOUT,
    REVOKED,
    SECOND_FIRST_FRAME,
    TOKEN_EXPIRED,
    TOO_MANY_FRAMES,
    CloseReason,
    hung_up,
)
from xuna_middleware.relay.deadlines import Deadlines
from xuna_middleware.relay.frames import FIRST, REFRESH
from xuna_middleware.relay.pumps import Relay

HELLO: Final = '{"type":"user_message","text":"hello"}'
TURN: Final = '{"type":"agent_response","agent_response_event":{"agent_response":"hi"}}'
THE_FIRST: Final = f'{{"type":"{FIRST}"}}'

Plot = Callable[["Scene"], Awaitable[None]]


class Scene:
    """Put a relay between a client and a platform that both do as they are told."""

    def __init__(self, rules: RelayRules, *says: str | bytes) -> None:
        self.talk = Talk()
        self.line = ScriptedLine(*says)
        self.told: list[str] = []
        self.renewed: list[str] = []
        client = Client({"type": "websocket"}, self.talk.receive, self.send)
        self.ended: asyncio.Future[CloseReason] = asyncio.get_running_loop().create_future()
        self.deadlines = Deadlines(self.end)
        self.relay = Relay(
            client,
            self.line,
            rules,
            first=THE_FIRST,
            renew=self.renew,
            told=self.told.append,
            ended=self.ended,
            deadlines=self.deadlines,
        )
        #: Cleared where the client takes nothing; `is_gone` where its server says so.
        self.takes = asyncio.Event()
        self.takes.set()
        self.is_gone = False

    async def send(self, message: Message) -> None:
        await self.takes.wait()
        if self.is_gone:
            raise OSError("nobody is there")
        await self.talk.send(message)

    def end(self, ending: CloseReason) -> None:
        if not self.ended.done():
            self.ended.set_result(ending)

    async def renew(self, token: str) -> str:
        self.renewed.append(token)
        return '{"type":"answer"}'

    async def until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():  # noqa: ASYNC110 - in fast time
            await asyncio.sleep(0.001)


def played(
    plot: Plot | None = None,
    *,
    says: tuple[str | bytes, ...] = (GREETING,),
    rules: RelayRules | None = None,
    max_duration: float = 3_600,
    expires_at: float | None = None,
) -> tuple[CloseReason, float, Scene]:
    """Run a plot beside a relay; return how it ended, after how many seconds, and the scene."""

    async def story() -> tuple[CloseReason, float, Scene]:
        scene = Scene(rules or RelayRules(), *says)
        acting = None if plot is None else asyncio.ensure_future(plot(scene))
        scene.deadlines.expire_at(expires_at)
        ending = await scene.relay.run(max_duration)
        ended = seconds()
        if acting is not None:
            await acting
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, "a pump goes on"
        return ending, round(ended), scene

    return in_fast_time(story())


def test_both_ways_in_order() -> None:
    """The first frame goes before all else; sizes, turns and the conversation's id are noted."""

    async def plot(scene: Scene) -> None:
        for number in range(50):
            await scene.talk.say(f'{{"type":"user_message","text":"é{number}"}}')
            scene.line.say(f'{{"number":{number}}}')
        scene.line.say(TURN)
        await scene.until(lambda: len(scene.line.heard) == 51 and len(scene.talk.sent) == 52)
        await scene.talk.hang_up(1001, "bye")

    ending, _, scene = played(plot)
    assert ending == hung_up(1001, "bye")
    assert scene.line.heard[0] == THE_FIRST
    assert [json.loads(each)["text"] for each in scene.line.heard[1:]] == [
        f"é{number}" for number in range(50)
    ]
    assert scene.talk.frames()[1:-1] == [f'{{"number":{number}}}' for number in range(50)]
    meter = scene.relay.meter
    assert scene.told == ["conv_scripted"]
    assert (meter.client_frames, meter.platform_frames, meter.turns) == (50, 52, 1)
    assert meter.client_bytes == sum(len(each.encode()) for each in scene.line.heard[1:])
    assert meter.platform_bytes == sum(map(len, scene.talk.frames()))


@pytest.mark.parametrize(
    ("rules", "said", "ending"),
    [
        (RelayRules(), b"\x00", BINARY_FRAME),
        (RelayRules(max_frame=1024), "é" * 513, FRAME_TOO_LARGE),
        (RelayRules(), THE_FIRST, SECOND_FIRST_FRAME),
        (RelayRules(), THE_FIRST.replace("i", "\\u0069"), SECOND_FIRST_FRAME),
        (RelayRules(), THE_FIRST.upper(), SECOND_FIRST_FRAME),
        (RelayRules(client_frames=ANY), THE_FIRST.upper(), SECOND_FIRST_FRAME),
        (RelayRules(client_frames=()), HELLO, FRAME_NOT_OPEN),
        (RelayRules(max_non_audio_frame=1024), HELLO + " " * 1024, FRAME_TOO_LARGE),
        (RelayRules(), "[" * 1_000_000, FRAME_TOO_LARGE),
        (RelayRules(client_frames=ANY), '{"a":[' + "{}," * 1_000 + "0]}", INVALID_JSON),
    ],
)
def test_what_a_client_may_not_send(rules: RelayRules, said: Any, ending: CloseReason) -> None:
    """It ends the conversation, and the platform never sees it."""

    async def plot(scene: Scene) -> None:
        await scene.talk.say(said)

    told, _, scene = played(plot, rules=rules)
    assert told == ending
    assert scene.line.heard in ([THE_FIRST], [])


def test_flood() -> None:
    """No more goes on than may."""

    async def plot(scene: Scene) -> None:
        for _ in range(100):
            await scene.talk.say(HELLO)

    ending, _, scene = played(plot, rules=RelayRules(frames_per_second=20))
    assert ending == TOO_MANY_FRAMES
    assert scene.line.heard == [THE_FIRST] + [HELLO] * 20


#: Dropped, and dearer to judge than their bytes: 0.5 ms and 0.6 ms.
FOLDED: Final = json.dumps({"type": "\ufdfa" * 120, "\ufdfa" * 128: 1}, ensure_ascii=False)
NESTED: Final = '{"type":"zz","a":[' + "{}," * 998 + "0]}"


@pytest.mark.parametrize(
    ("frame", "most"),
    [
        (HELLO, 30),
        ('{"type":"user_message","text":"' + "x" * 60_000 + '"}', 1),
        ('{"user_audio_chunk":"' + "A" * 640 + '"}', 30),
        ('{"user_audio_chunk":"' + "A" * 60_000 + '"}', 2),
        ("{}", 33),
        (FOLDED, 4),
        (NESTED, 2),
    ],
    ids=["message", "long message", "audio", "long audio", "empty", "folded", "nested"],
)
def test_others_have_their_turn(frame: str, most: int) -> None:
    """Between two turns of the event loop no client's frames take more than a few milliseconds,
    whether they pass or are dropped: those that are parsed count for more than their bytes.
    """
    passed: list[int] = []

    async def plot(scene: Scene) -> None:
        for _ in range(500):
            scene.talk.to_app.put_nowait({"type": "websocket.receive", "text": frame})
        left = 500
        while left:
            await asyncio.sleep(0)
            passed.append(left - scene.talk.to_app.qsize())
            left = scene.talk.to_app.qsize()
        await scene.talk.hang_up()

    assert played(plot)[0] == hung_up(1000, "")
    assert max(passed) <= most


def test_others_have_their_turn_between_refreshes() -> None:
    """A token to verify costs more than any frame: one a turn."""
    passed: list[int] = []

    async def plot(scene: Scene) -> None:
        frame = json.dumps({"type": REFRESH, "token": "t"})
        for _ in range(100):
            scene.talk.to_app.put_nowait({"type": "websocket.receive", "text": frame})
        heard = 0
        while heard < 100:
            await asyncio.sleep(0)
            passed.append(len(scene.renewed) - heard)
            heard = len(scene.renewed)
        await scene.talk.hang_up()

    assert played(plot)[0] == hung_up(1000, "")
    assert max(passed) == 1


def test_others_have_their_turn_while_the_platform_talks() -> None:
    """The platform's frames are counted as a client's are."""
    passed: list[int] = []

    async def plot(scene: Scene) -> None:
        taken = scene.relay.meter
        heard = 0
        while heard < 2_001:
            await asyncio.sleep(0)
            passed.append(taken.platform_frames - heard)
            heard = taken.platform_frames
        await scene.talk.hang_up()

    assert played(plot, says=(GREETING, *[TURN] * 2_000))[0] == hung_up(1000, "")
    assert max(passed) <= 35


def test_largest_frame_passes() -> None:
    """In bytes, to the byte."""

    async def plot(scene: Scene) -> None:
        head, tail = '{"type":"user_message","text":"', '"}'
        await scene.talk.say(head + "é" * 495 + "a" + tail)
        await scene.until(lambda: len(scene.line.heard) == 2)
        await scene.talk.hang_up()

    assert played(plot, rules=RelayRules(max_frame=1024))[0] == hung_up(1000, "")


def test_deadlines() -> None:
    """Each at its second: the longest time, the token's end (long past here), silence."""
    assert played(max_duration=180)[:2] == (MAX_DURATION, 180)
    assert played(expires_at=1_000)[:2] == (TOKEN_EXPIRED, 0)
    assert played(rules=RelayRules(idle_timeout=60))[:2] == (IDLE_TIMEOUT, 60)


@pytest.mark.parametrize(
    ("says", "ending", "after"),
    [
        ((), PLATFORM_TIMEOUT, 10),
        ((b"\x00",), PLATFORM_ERROR, 0),
        (("<html>",), PLATFORM_ERROR, 0),
        ((GREETING, b"\x00"), PLATFORM_ERROR, 0),
    ],
)
def test_what_the_platform_begins_with(says: Any, ending: CloseReason, after: int) -> None:
    """Without a first word no client connects; a binary frame is none of its frames."""
    assert played(says=says)[:2] == (ending, after)


def test_platform_that_begins_without_an_id() -> None:
    """The client may know better what to make of it."""

    async def plot(scene: Scene) -> None:
        scene.line.hang_up(1000, "done")

    ending, _, scene = played(plot, says=('{"type":"ping"}',))
    assert ending == CloseReason(code=1000, reason="done", by="platform")
    assert scene.told == []
    assert scene.talk.frames() == ['{"type":"ping"}']


def test_platform_that_breaks_off() -> None:
    """There is no code to pass on."""

    async def plot(scene: Scene) -> None:
        scene.line.hang_up()

    assert played(plot)[0] == PLATFORM_ERROR


def test_last_words_of_the_platform_while_the_client_talks() -> None:
    """What it said before it closed arrives, and so does its code, whoever notices the end."""

    async def plot(scene: Scene) -> None:
        await scene.until(lambda: bool(scene.line.heard))
        scene.takes.clear()
        for number in range(20):
            scene.line.say({"number": number})
        scene.line.hang_up(1008, "error")
        await scene.talk.say(HELLO)
        await asyncio.sleep(1)
        scene.takes.set()

    ending, _, scene = played(plot)
    assert ending == CloseReason(code=1008, reason="error", by="platform")
    assert len(scene.talk.frames()) == 21


def test_line_that_breaks_before_the_first_frame() -> None:
    """The same."""

    async def plot(scene: Scene) -> None:
        scene.line.takes.clear()
        await asyncio.sleep(1)
        scene.line.hang_up(4321, "full")
        scene.line.takes.set()

    ending, after, scene = played(plot)
    assert (ending, after) == (CloseReason(code=4321, reason="full", by="platform"), 1)
    assert scene.line.heard == []


@pytest.mark.parametrize("talks", [True, False])
def test_platform_that_takes_nothing(talks: bool) -> None:
    """Not even the first frame, or a later one: 15 to 30 seconds."""

    async def plot(scene: Scene) -> None:
        if talks:
            await scene.until(lambda: bool(scene.line.heard))
        scene.line.takes.clear()
        await scene.talk.say(HELLO)

    async def deaf(scene: Scene) -> None:
        scene.line.takes.clear()

    ending, after, _ = played(plot if talks else deaf)
    assert ending == PLATFORM_TIMEOUT
    assert 15 <= after <= 30


def test_client_that_takes_nothing() -> None:
    """While the platform talks."""

    async def plot(scene: Scene) -> None:
        await scene.until(lambda: bool(scene.talk.sent))
        scene.takes.clear()
        scene.line.say(TURN)

    ending, after, scene = played(plot)
    assert ending == CLIENT_STALLED
    assert 15 <= after <= 30
    assert len(scene.talk.sent) == 1


def test_slow_sides_are_not_stuck() -> None:
    """A frame in ten seconds, each way: nothing waits at two looks."""

    async def plot(scene: Scene) -> None:
        for _ in range(20):
            for gate in (scene.takes, scene.line.takes):
                gate.clear()
            scene.line.say(TURN)
            await scene.talk.say(HELLO)
            await asyncio.sleep(10)
            for gate in (scene.takes, scene.line.takes):
                gate.set()
            await asyncio.sleep(0.01)
        await scene.talk.hang_up()

    assert played(plot)[0] == hung_up(1000, "")


def test_client_that_is_gone_when_it_is_talked_to() -> None:
    """Servers raise what they like."""

    async def plot(scene: Scene) -> None:
        await scene.until(lambda: bool(scene.talk.sent))
        scene.is_gone = True
        scene.line.say(TURN)

    assert played(plot)[0] == hung_up(1006, "")


def test_refresh_is_answered_and_goes_no_further() -> None:
    """It is the gate's alone."""

    async def plot(scene: Scene) -> None:
        await scene.talk.say({"type": REFRESH, "token": "fresh"})
        await scene.until(lambda: len(scene.talk.sent) == 2)
        await scene.talk.hang_up()

    ending, _, scene = played(plot)
    assert ending == hung_up(1000, "")
    assert scene.renewed == ["fresh"]
    assert '{"type":"answer"}' in scene.talk.frames()
    assert scene.line.heard == [THE_FIRST]
    assert scene.relay.meter.client_frames == 0


def test_client_that_leaves_before_it_is_answered() -> None:
    """It left; that is no fault of ours."""

    async def plot(scene: Scene) -> None:
        await scene.until(lambda: bool(scene.talk.sent))
        scene.is_gone = True
        await scene.talk.say({"type": REFRESH, "token": "fresh"})

    assert played(plot)[0] == hung_up(1006, "")


def test_first_word_from_outside_counts() -> None:
    """Whatever is said after it."""

    async def plot(scene: Scene) -> None:
        scene.end(REVOKED)
        scene.end(MAX_DURATION)

    assert played(plot)[0] == REVOKED


def test_pump_that_fails() -> None:
    """A fault of the gate's own ends it, and says so."""

    async def plot(scene: Scene) -> None:
        scene.relay._renew = None  # type: ignore[assignment]
        await scene.talk.say({"type": REFRESH, "token": "fresh"})

    assert played(plot)[0] == FAULT


def test_cancelled() -> None:
    """No pump goes on, and its length is known."""

    async def story() -> None:
        scene = Scene(RelayRules(), GREETING)
        running = asyncio.ensure_future(scene.relay.run(60))
        await asyncio.sleep(5)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert scene.relay.meter.seconds(seconds()) == 5
        assert asyncio.all_tasks() == {asyncio.current_task()}

    in_fast_time(story())
