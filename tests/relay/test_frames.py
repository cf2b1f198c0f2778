"""Frames: what a client's first frame may hold, and what can't hide in a later one."""

import json
from typing import Any, Final

import pytest

from xuna_middleware.relay.close_codes import (
    FIRST_FRAME_EXPECTED,
    INVALID_JSON,
    MEMBER_NOT_OPEN,
    PLATFORM_ERROR,
    CloseReason,
    ConversationClosedError,
)
from xuna_middleware.relay.frames import (
    FIRST,
    METADATA,
    conversation_of,
    is_turn,
    kind_of,
    read_first,
    read_frame,
)

DEEP: Final = '{"type":"' + FIRST + '","dynamic_variables":' + '{"a":' * 40 + "1" + "}" * 41


def first(**members: Any) -> str:
    return json.dumps({"type": FIRST, **members})


def test_first_frame_with_everything_that_is_open() -> None:
    """Variables and overrides as they came, whose client it is, and no user of the client's."""
    frame = read_first(
        first(
            dynamic_variables={"page": "home"},
            conversation_config_override={"agent": {"language": "de"}},
            user_id="somebody-else",
            source_info={"source": "js", "version": "1"},
        )
    )
    assert frame.dynamic_variables == {"page": "home"}
    assert frame.overrides == {"agent": {"language": "de"}}
    assert frame.source_info == {"source": "js", "version": "1"}
    assert not hasattr(frame, "user_id")


def test_first_frame_with_nothing_in_it() -> None:
    """Members that are null are members that aren't there."""
    empty = first(
        dynamic_variables=None, conversation_config_override=None, user_id=None, source_info=None
    )
    assert read_first(empty) == read_first(first())
    assert read_first(first()).dynamic_variables is None


def test_what_a_first_frame_holds_is_in_no_rendering() -> None:
    """It is a client's own data."""
    shown = repr(
        read_first(
            first(
                dynamic_variables={"a": "cAnArY"},
                conversation_config_override={"agent": {"language": "cAnArY"}},
            )
        )
    )
    assert "cAnArY" not in shown


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        ("", INVALID_JSON),
        ("hello", INVALID_JSON),
        ("[]", INVALID_JSON),
        ('"' + FIRST + '"', INVALID_JSON),
        (first() + first(), INVALID_JSON),
        (first()[:-1] + ',"type":"' + FIRST + '"}', INVALID_JSON),
        (first()[:-1] + ',"user_id":"a","user_id":"b"}', INVALID_JSON),
        (first()[:-1] + ',"dynamic_variables":{"a":1,"a":2}}', INVALID_JSON),
        (first()[:-1] + ',"dynamic_variables":{"a":NaN}}', INVALID_JSON),
        (first()[:-1] + ',"dynamic_variables":{"a":1e400}}', INVALID_JSON),
        (first(dynamic_variables={"a": "\ud800"}), INVALID_JSON),
        ('{"type":"' + FIRST + '","a":"\ud800"}', INVALID_JSON),
        (DEEP, INVALID_JSON),
        ("{" * 100_000, INVALID_JSON),
        ("{}", FIRST_FRAME_EXPECTED),
        ('{"type":null}', FIRST_FRAME_EXPECTED),
        ('{"type":["' + FIRST + '"]}', FIRST_FRAME_EXPECTED),
        ('{"type":"user_message","text":"hello"}', FIRST_FRAME_EXPECTED),
        ('{"Type":"' + FIRST + '"}', FIRST_FRAME_EXPECTED),
        (first(custom_llm_extra_body={}), MEMBER_NOT_OPEN),
        (first(custom_llm_extra_body=None), MEMBER_NOT_OPEN),
        (first(branch_id="main"), MEMBER_NOT_OPEN),
        (first(source_info="js"), MEMBER_NOT_OPEN),
        (first(source_info=["js"]), MEMBER_NOT_OPEN),
        (first(source_info={"source": 1}), MEMBER_NOT_OPEN),
        (first(source_info={"source": {"a": "b"}}), MEMBER_NOT_OPEN),
        (first(source_info={"source": "x" * 129}), MEMBER_NOT_OPEN),
        (first(source_info={"x" * 129: "source"}), MEMBER_NOT_OPEN),
        (first(source_info={"source": "a\nb"}), MEMBER_NOT_OPEN),
        (first(source_info={f"n{i}": "x" for i in range(9)}), MEMBER_NOT_OPEN),
    ],
)
def test_what_is_no_first_frame(text: str, ending: CloseReason) -> None:
    """Each has one word, and none of them repeats what was sent."""
    with pytest.raises(ConversationClosedError) as caught:
        read_first(text)
    assert caught.value.ending == ending
    assert str(caught.value) == ending.reason


def test_source_info_up_to_its_bounds() -> None:
    """Eight short words are taken."""
    source = {f"n{i}" + "x" * 126: "é" * 128 for i in range(8)}
    assert read_first(first(source_info=source)).source_info == source


@pytest.mark.parametrize("escaped", ["\\u0074ype", "typ\\u0065"])
def test_escaped_letters_are_read_as_what_they_are(escaped: str) -> None:
    """A first frame in another spelling is a first frame."""
    assert read_first(f'{{"{escaped}":"{FIRST}"}}') == read_first(first())


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({"type": "user_message"}, "user_message"),
        ({"user_audio_chunk": ""}, "audio"),
        ({"type": "user_message", "user_audio_chunk": ""}, "user_message"),
        ({"type": None, "user_audio_chunk": ""}, None),
        ({}, None),
    ],
)
def test_kind_of_a_frame(members: dict[str, Any], kind: Any) -> None:
    """Audio comes without one."""
    assert kind_of(members) == kind


def told(conversation_id: Any, kind: str = METADATA) -> str:
    event = {"conversation_id": conversation_id}
    return json.dumps({"type": kind, f"{METADATA}_event": event})


@pytest.mark.parametrize(
    ("frame", "conversation_id"),
    [
        (told("conv_1"), "conv_1"),
        (told(7), None),
        (told("conv_1", "ping"), None),
        ("{}", None),
        (f'{{"type":"{METADATA}","{METADATA}_event":"conv_1"}}', None),
    ],
)
def test_conversation_of_the_platforms_first_frame(frame: str, conversation_id: Any) -> None:
    """Where it tells none, there is none, and the frame passes."""
    assert conversation_of(frame) == conversation_id


@pytest.mark.parametrize("frame", ["", "<html>", "[]", "\ud800", b"", told("a").encode()])
def test_what_is_no_frame_of_the_platforms(frame: str | bytes) -> None:
    """Garbage and binary frames end it."""
    with pytest.raises(ConversationClosedError) as caught:
        conversation_of(frame)
    assert caught.value.ending == PLATFORM_ERROR


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ('{"type":"agent_response","agent_response_event":{"agent_response":"hi"}}', True),
        ('{"type": "agent_response"}', True),
        ('{"type":"agent_response_correction"}', False),
        ('{"type":"ping","text":"agent_response"}', False),
        ('{"type":"agent_response"', False),
        ("", False),
    ],
)
def test_turns_of_the_agent(text: str, is_one: bool) -> None:
    """One frame of the agent's is one turn."""
    assert is_turn(text) is is_one


def test_frames_are_read_one_way_or_not_at_all() -> None:
    """Duplicate members would be read differently by different readers."""
    assert read_frame('{"a":1}') == {"a": 1}
    with pytest.raises(ConversationClosedError):
        read_frame('{"a":1,"a":2}')
