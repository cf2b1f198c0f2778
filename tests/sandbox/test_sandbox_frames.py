"""Frames of a client, one by one: pure tables."""

import json
from typing import Any

import pytest

from xuna_middleware.sandbox.frames import MAX_FRAME, FrameError, parse

PCM = "AAABAAIA"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"type": "user_message", "text": "hi"}, "user_message"),
        ({"type": "contextual_update", "text": "on page 2"}, "contextual_update"),
        ({"type": "contextual_update", "text": '{"a": [1, 2]},' * 5_000}, "contextual_update"),
        ({"type": "user_activity"}, "user_activity"),
        ({"type": "pong", "event_id": 3}, "pong"),
        ({"type": "feedback", "score": "like", "event_id": 1}, "feedback"),
        ({"type": "feedback", "score": None}, "feedback"),
        ({"type": "client_tool_result", "tool_call_id": "t"}, "client_tool_result"),
        ({"type": "multimodal_message", "text": {"text": "hi"}}, "multimodal_message"),
        ({"type": "multimodal_message"}, "multimodal_message"),
        ({"user_audio_chunk": PCM}, "audio"),
        ({"type": "audio", "audio_event": {"audio_base_64": PCM}}, "audio"),
        (
            {"type": "conversation_initiation_client_data"},
            "conversation_initiation_client_data",
        ),
        (
            {"type": "conversation_initiation_client_data", "dynamic_variables": None},
            "conversation_initiation_client_data",
        ),
    ],
)
def test_documented_frames(body: dict[str, Any], kind: str) -> None:
    """Every frame that the two real clients send is taken."""
    assert parse(json.dumps(body)).type == kind


def test_audio_is_decoded() -> None:
    """Both spellings of audio give the same bytes."""
    old = parse(json.dumps({"user_audio_chunk": PCM})).audio
    new = parse(json.dumps({"type": "audio", "audio_event": {"audio_base_64": PCM}})).audio
    assert old == new == b"\x00\x00\x01\x00\x02\x00"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 1007),
        ("hello", 1007),
        ("[]", 1007),
        ("null", 1007),
        ("[" * 100_000, 1007),
        ('{"type": "user_message", "text": "\\ud800"}', 1007),
        ('{"type": "pong", "event_id": NaN}', 1007),
        ('{"type": "pong", "event_id": 1e999}', 1007),
        ('{"type": "pong", "event_id": ' + "9" * 5_000 + "}", 1007),
        ("{}", 1008),
        ('{"type": 3}', 1008),
        ('{"type": ["pong"]}', 1008),
        ('{"type": "invented"}', 1008),
        ('{"type": "user_message"}', 1008),
        ('{"type": "user_message", "text": null}', 1008),
        ('{"type": "contextual_update", "text": 1}', 1008),
        ('{"type": "pong", "event_id": "1"}', 1008),
        ('{"type": "pong", "event_id": true}', 1008),
        ('{"type": "feedback"}', 1008),
        ('{"type": "feedback", "score": ["like"]}', 1008),
        ('{"type": "client_tool_result"}', 1008),
        ('{"type": "multimodal_message", "text": "hi"}', 1008),
        ('{"type": "audio"}', 1008),
        ('{"type": "audio", "audio_event": "x"}', 1008),
        ('{"user_audio_chunk": 1}', 1008),
        ('{"user_audio_chunk": "***"}', 1008),
        ('{"user_audio_chunk": "AAÄA"}', 1008),
        ('{"user_audio_chunk": "AAAA"}', 1008),
        ('{"type": "conversation_initiation_client_data", "dynamic_variables": [1]}', 1008),
        ('{"type": "conversation_initiation_client_data", "user_id": 1}', 1008),
        ('{"type": "user_message", "text": "' + "a" * MAX_FRAME + '"}', 1009),
        ('{"type": "user_activity", "x": [' + "{}," * 2_000 + "0]}", 1007),
        ('{"type": "user_activity", "x": [' + "0," * 20_000 + "0]}", 1007),
        ('{"type": "user_activity", "x": ' + "9" * 100 + "}", 1007),
    ],
)
def test_bad_frames(text: str, code: int) -> None:
    """What isn't as documented earns a close code, whatever it is."""
    with pytest.raises(FrameError) as refused:
        parse(text)
    assert refused.value.code == code
    assert len(refused.value.reason.encode()) < 100
