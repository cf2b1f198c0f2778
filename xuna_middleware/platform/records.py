"""The platform's record of a conversation: whether it is over, and how long it lasted. Pure.

`GET /v1/convai/conversations/{conversation_id}` is XUNA AI's; it documents that the metadata has a
duration, but not its name. `status` and `metadata.call_duration_secs` are the ElevenLabs API's. An
answer that has neither proves nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from xuna_middleware._core.strict_json import TRANSCRIPT
from xuna_middleware.platform.rest.requests import ApiRequest
from xuna_middleware.platform.rest.responses import json_object

#: Bytes: the answer contains the transcript.
MAX_BYTES: Final = TRANSCRIPT.size

_PATH: Final = "/v1/convai/conversations/"
_OVER: Final = ("done", "failed")
_LONGEST: Final = 86_400 * 7


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationRecord:
    """The record of an ended conversation: how many seconds it lasted."""

    seconds: float


def ask_conversation(conversation_id: str) -> ApiRequest:
    """Return the request for a conversation. Its id is the platform's own, `conv_…`."""
    return ApiRequest(method="GET", path=_PATH + quote(conversation_id, safe=""), params={})


def read_conversation(status: int, body: bytes) -> ConversationRecord | None:
    """Return an ended conversation's record; None if it is running, or the answer is unclear."""
    members = json_object(body, TRANSCRIPT) if status == 200 else None
    if members is None or members.get("status") not in _OVER:
        return None
    seconds = length(members)
    return None if seconds is None else ConversationRecord(seconds=seconds)


def length(conversation: Mapping[str, Any]) -> float | None:
    """Return how many seconds an ended conversation lasted; None if the answer doesn't say."""
    metadata = conversation.get("metadata")
    seconds: Any = metadata.get("call_duration_secs") if isinstance(metadata, dict) else None
    if type(seconds) not in (int, float) or not math.isfinite(seconds):
        return None
    return float(seconds) if 0 <= seconds <= _LONGEST else None
