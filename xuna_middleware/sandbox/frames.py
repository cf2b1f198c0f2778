"""Frames of a conversation, both ways, whatever carries them. Pure: text in, value out.

A client's frame is a JSON object with a `type`, save for `{"user_audio_chunk": "…"}`. What isn't
as documented closes the conversation: 1003 for binary, 1007 for what is no JSON object, 1008 for
the wrong members or an unknown type, 1009 beyond 256 KB.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from xuna_middleware.sandbox import strict_json

MAX_FRAME: Final = 262_144
AUDIO_FORMAT: Final = "pcm_16000"
Frame: TypeAlias = dict[str, Any]


class FrameError(Exception):
    """Refuse a frame, with the close code that it earns."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFrame:
    """One frame of a client, its members checked; audio is already decoded."""

    type: str
    body: Mapping[str, Any] = field(repr=False)
    audio: bytes = field(default=b"", repr=False)


def parse(text: str) -> ClientFrame:
    """Return the frame in this text. Raises FrameError."""
    if len(text) > MAX_FRAME:
        raise FrameError(1009, "frame too large")
    body = _json_object(text)
    kind = "audio" if "type" not in body and "user_audio_chunk" in body else body.get("type")
    if not isinstance(kind, str) or kind not in _CHECKS:
        raise FrameError(1008, "unknown frame type")
    if not _CHECKS[kind](body):
        raise FrameError(1008, f"malformed {kind} frame")
    return ClientFrame(type=kind, body=body, audio=_audio(body) if kind == "audio" else b"")


def encode(frame: Frame) -> str:
    """Return the frame as the text that travels."""
    return json.dumps(frame, ensure_ascii=False, separators=(",", ":"))


def metadata(conversation_id: str) -> Frame:
    """Return the frame that must come first, or a client never connects."""
    event = {
        "conversation_id": conversation_id,
        "agent_output_audio_format": AUDIO_FORMAT,
        "user_input_audio_format": AUDIO_FORMAT,
    }
    return {
        "type": "conversation_initiation_metadata",
        "conversation_initiation_metadata_event": event,
    }


def agent_response(text: str, event_id: int) -> Frame:
    """Return words of the agent."""
    event = {"agent_response": text, "event_id": event_id}
    return {"type": "agent_response", "agent_response_event": event}


def ping(event_id: int, ping_ms: int | None) -> Frame:
    """Return a ping; `ping_ms` is the latency that was measured last, in milliseconds."""
    return {"type": "ping", "ping_event": {"event_id": event_id, "ping_ms": ping_ms}}


def error(code: int, error_type: str, message: str) -> Frame:
    """Return an error; what follows it is the close."""
    event = {"code": code, "error_type": error_type, "message": message}
    return {"type": "error", "error_event": event}


def _json_object(text: str) -> dict[str, Any]:
    try:
        body = strict_json.loads(text)
    except ValueError:
        raise FrameError(1007, "frame is not JSON") from None
    if not isinstance(body, dict):
        raise FrameError(1007, "frame is not a JSON object")
    return body


def _audio(body: Mapping[str, Any]) -> bytes:
    """Decode PCM: signed 16-bit little-endian, 16 kHz, mono, hence an even number of bytes."""
    encoded = body["audio_event"]["audio_base_64"] if "type" in body else body["user_audio_chunk"]
    try:
        audio = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise FrameError(1008, "audio is not base64") from None
    if len(audio) % 2:
        raise FrameError(1008, "audio is not 16-bit PCM")
    return audio


def _text(body: Mapping[str, Any]) -> bool:
    return isinstance(body.get("text"), str)


def _any(_: Mapping[str, Any]) -> bool:
    return True


def _carries_audio(body: Mapping[str, Any]) -> bool:
    if "type" not in body:
        return isinstance(body["user_audio_chunk"], str)
    event = body.get("audio_event")
    return isinstance(event, dict) and isinstance(event.get("audio_base_64"), str)


def _numbered(body: Mapping[str, Any]) -> bool:
    return isinstance(body.get("event_id"), int) and not isinstance(body["event_id"], bool)


def _tool_result(body: Mapping[str, Any]) -> bool:
    return isinstance(body.get("tool_call_id"), str)


def _scored(body: Mapping[str, Any]) -> bool:
    return body.get("score", "") in ("like", "dislike", None)


def _multimodal(body: Mapping[str, Any]) -> bool:
    text = body.get("text")
    return text is None or (isinstance(text, dict) and isinstance(text.get("text"), str))


def _initiation(body: Mapping[str, Any]) -> bool:
    objects = ("dynamic_variables", "conversation_config_override", "custom_llm_extra_body")
    user = body.get("user_id")
    return (user is None or isinstance(user, str)) and all(
        isinstance(body.get(name) or {}, dict) for name in objects
    )


_CHECKS: Final[Mapping[str, Callable[[Mapping[str, Any]], bool]]] = {
    "audio": _carries_audio,
    "client_tool_result": _tool_result,
    "contextual_update": _text,
    "conversation_initiation_client_data": _initiation,
    "feedback": _scored,
    "mcp_tool_approval_result": _tool_result,
    "multimodal_message": _multimodal,
    "pong": _numbered,
    "user_activity": _any,
    "user_message": _text,
}
