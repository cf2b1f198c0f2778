"""What a client may send once a conversation runs."""

from typing import Any, Final

import pytest

from xuna_middleware import RelayRules
from xuna_middleware.conversation.endings import (
    FRAME_NOT_OPEN,
    NO_JSON,
    SECOND_FIRST_FRAME,
    TOO_MANY_FRAMES,
)
from xuna_middleware.conversation.frames import FIRST, REFRESH
from xuna_middleware.conversation.judging import Judge, Refresh

HELLO: Final = '{"type":"user_message","text":"hello"}'
PONG: Final = '{"type":"pong","event_id":1}'
SOUND: Final = '{"user_audio_chunk":"AAAA"}'
TEXT_ONLY: Final = RelayRules(client_frames=("user_message", "user_activity"))
FREE: Final = RelayRules()
RULES: Final = (FREE, TEXT_ONLY, RelayRules(idle_timeout=60), RelayRules(frames_per_second=9))


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def judge(rules: RelayRules = FREE) -> Judge:
    return Judge(rules, Clock())


SECOND_FIRST_FRAMES: Final = (
    f'{{"type":"{FIRST}"}}',
    f' {{ "type" :\t"{FIRST}" }}\n',
    f'{{"text":"hi","type":"{FIRST}"}}',
    f'{{"typ\\u0065":"{FIRST}"}}',
    '{"type":"convers\\u0061tion_initiation_client_data"}',
    '{"type":"\\u0063onversation_initiation_client_data","user_audio_chunk":"AA"}',
    '{"\\u0074\\u0079\\u0070\\u0065":"conversation_initiation_client_dat\\u0061"}',
    # What readers take for `type` that don't mind case, or white space.
    f'{{"Type":"{FIRST}","type":"user_message"}}',
    f'{{" type ":"{FIRST}"}}',
    f'{{"type":" {FIRST}"}}',
)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("text", SECOND_FIRST_FRAMES)
def test_second_first_frame_in_any_spelling(text: str, rules: RelayRules) -> None:
    """Under no rules does a client set variables anew."""
    assert judge(rules)(text) == SECOND_FIRST_FRAME


@pytest.mark.parametrize(
    "text",
    [
        f'{{"type":"user_message","type":"{FIRST}"}}',
        f'{{"type":"{FIRST}","type":"user_message"}}',
        f'{{"type":"user_message","typ\\u0065":"{FIRST}"}}',
        f'[{{"type":"{FIRST}"}}]',
        f'{HELLO}{{"type":"{FIRST}"}}',
        f'{{"type":"{FIRST}"',
        f'\ufeff{{"type":"{FIRST}"}}',
        f'{{"type":"{FIRST}","a":NaN}}',
        '{"type":"user_message","text":"\\ud800"}',
    ],
)
def test_what_two_readers_could_read_differently(text: str) -> None:
    """Which `type` counts is nothing to guess."""
    assert judge()(text) == NO_JSON


@pytest.mark.parametrize(
    "text",
    [
        f'{{"type":"user_message","text":"{FIRST}"}}',
        f'{{"type":"user_message","nested":{{"type":"{FIRST}"}}}}',
        f'{{"type":"user_message","text":"\\"type\\":\\"{FIRST}\\""}}',
        f'{{"kind":"{FIRST}","type":"user_message"}}',
        f'{{"type":["{FIRST}"]}}',
        f'{{"type":"{FIRST}s"}}',
        HELLO,
        SOUND,
        PONG,
        "what the platform has to refuse by itself",
    ],
)
def test_what_only_looks_like_one(text: str) -> None:
    """A user may say these words."""
    assert judge()(text) is None


@pytest.mark.parametrize("rules", RULES)
def test_refresh_is_for_the_gate(rules: RelayRules) -> None:
    """Its token is in no rendering."""
    verdict = judge(rules)(f'{{"type":"{REFRESH}","token":"cAnArY"}}')
    assert verdict == Refresh("cAnArY")
    assert "cAnArY" not in repr(verdict)


@pytest.mark.parametrize("token", ["", ',"token":7', ',"token":null', ',"token":["a"]'])
def test_refresh_without_a_token(token: str) -> None:
    """It goes to nobody."""
    assert judge()(f'{{"type":"{REFRESH}"{token}}}') == NO_JSON


@pytest.mark.parametrize(
    ("frames", "text", "verdict"),
    [
        (("user_message",), HELLO, None),
        (("user_message",), PONG, None),
        (("user_message",), SOUND, FRAME_NOT_OPEN),
        (("user_message",), '{"type":"audio","audio_event":{}}', FRAME_NOT_OPEN),
        (("user_message",), HELLO[:-1] + ',"user_audio_chunk":"AA"}', FRAME_NOT_OPEN),
        (("user_message",), PONG[:-1] + ',"user_audio_chunk":"AA"}', FRAME_NOT_OPEN),
        (("user_message",), '{"type":"client_tool_result"}', FRAME_NOT_OPEN),
        (("user_message",), '{"type":"something_new"}', FRAME_NOT_OPEN),
        (("user_message",), '{"type":["user_message"]}', FRAME_NOT_OPEN),
        (("user_message",), '{"type":null}', FRAME_NOT_OPEN),
        (("user_message",), "{}", FRAME_NOT_OPEN),
        (("user_message",), "hello", NO_JSON),
        (("audio",), SOUND, None),
        (("audio",), '{"type":"audio","audio_event":{}}', None),
        (("audio",), HELLO, FRAME_NOT_OPEN),
        ((), PONG, None),
        ((), HELLO, FRAME_NOT_OPEN),
    ],
)
def test_frames_that_the_agent_opens(frames: Any, text: str, verdict: Any) -> None:
    """Whichever member tells the platform what it is."""
    assert judge(RelayRules(client_frames=frames))(text) == verdict


def test_rate_in_each_second() -> None:
    """So many a second, and then as many again."""
    clock = Clock()
    judged = Judge(RelayRules(frames_per_second=3), clock)
    for second in (1000.0, 1001.5, 1007.9):
        clock.now = second
        assert [judged(HELLO) for _ in range(4)] == [None, None, None, TOO_MANY_FRAMES]
        clock.now = int(second) + 0.999
        assert judged(HELLO) == TOO_MANY_FRAMES


@pytest.mark.parametrize("rules", [RelayRules(idle_timeout=60), TEXT_ONLY])
def test_a_pong_is_no_sign_of_life(rules: RelayRules) -> None:
    """A client answers pings by itself, while nobody speaks."""
    clock = Clock()
    judged = Judge(rules, clock)
    clock.now += 5
    judged(PONG)
    judged('{"typ\\u0065":"pong"}')
    assert judged.heard_at == 1000.0
    judged('{"type":"user_message","text":"pong"}')
    assert judged.heard_at == 1005.0
    clock.now += 5
    judged(HELLO)
    assert judged.heard_at == 1010.0
