"""Webhooks as the platform sends them, signed by no code of ours."""

import hashlib
import hmac
import json
from typing import Any, Final

from support.signing import CANARY, NOW

SECRET: Final = f"wsec_{CANARY}_of_the_tests"
HEADER: Final = "elevenlabs-signature"


def digest(body: bytes, time: object = int(NOW), secret: str = SECRET) -> str:
    """Return what `v0` is for this body, signed at that time."""
    signed = str(time).encode() + b"." + body
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def signature(body: bytes, time: object = int(NOW), secret: str = SECRET) -> str:
    """Return the header's value for this body, signed at that time."""
    return f"t={time},v0={digest(body, time, secret)}"


def transcript(conversation_id: Any = "conv_1", seconds: Any = 7, **further: Any) -> bytes:
    """Return the body that says how long a conversation was."""
    told = {
        "type": "post_call_transcription",
        "event_timestamp": int(NOW),
        "data": {
            "agent_id": "agent_1",
            "conversation_id": conversation_id,
            "status": "done",
            "transcript": [{"role": "user", "message": CANARY, "time_in_call_secs": 1}],
            "metadata": {"start_time_unix_secs": int(NOW) - 60, "call_duration_secs": seconds},
        },
    }
    return json.dumps({**told, **further}).encode()
