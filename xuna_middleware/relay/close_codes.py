"""How a relayed conversation ends: one code and one reason for each way.

| code | reason | why |
|---|---|---|
| 1000 | | the client or the platform ended it |
| 1001 | `going_away` | the gate stops |
| 1003 | `binary_frame` | the client sent a binary frame |
| 1009 | `frame_too_large` | the client sent more than `max_frame`, or than \
`max_non_audio_frame` in a frame that is not audio |
| 4400 | `invalid_json`, `first_frame_expected`, `second_first_frame`, `member_not_allowed`, \
`variable_not_allowed`, `variable_conflict`, … | a client's frame isn't allowed or isn't valid |
| 4401 | `token_expired` | the token's `exp` has passed |
| 4403 | `frame_not_allowed`, `override_not_allowed`, … | the agent doesn't open that to clients |
| 4408 | `first_frame_timeout`, `idle_timeout`, `client_stalled` | the client took too long |
| 4410 | `max_duration` | the agent's `max_duration` is over, or an hour if it has none |
| 4411 | `revoked` | the caller's credentials were revoked, here or by their provider |
| 4412 | `ended_by_operator` | an operator ended it |
| 4429 | `too_many_frames` | the client sent more than `frames_per_second` |
| 4502 | `platform_error` | the platform refused, broke off, or sent an invalid frame |
| 4503 | `lease_lost` | its lease ran out: the store, or this process, was away for too long |
| 4503 | `unavailable` | the provider of the caller's token did not answer for two intervals |
| 4504 | `platform_timeout` | the platform took too long |

The platform's own close passes through with its code and reason (RFC 6455 section 7.4).
"""

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from xuna_middleware.errors import GateError

By: TypeAlias = Literal["client", "platform", "gate"]

#: In bytes: the room for a reason in a close frame (RFC 6455 section 5.5).
_LONGEST_REASON: Final = 123
#: No code came with the close (RFC 6455 section 7.1.5): an ordinary end.
_NO_CODE: Final = 1005
_NORMAL: Final = 1000
#: Statuses of refusals that have their own close code.
_STATUSES: Final = (400, 401, 403, 429, 502, 503, 504)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseReason:
    """Describe how a conversation ended: the close code, its reason, and who ended it.

    `option` is the option of `RelayRules` that would change it, if there is one; for the log.
    """

    code: int
    reason: str
    by: By = "gate"
    option: str = field(default="", compare=False, repr=False)


class ConversationClosedError(Exception):
    """End a conversation from anywhere in its code; contains no text of a frame."""

    def __init__(self, ending: CloseReason) -> None:
        super().__init__(ending.reason)
        self.ending = ending


GOING_AWAY: Final = CloseReason(code=1001, reason="going_away")
BINARY_FRAME: Final = CloseReason(code=1003, reason="binary_frame")
FRAME_TOO_LARGE: Final = CloseReason(code=1009, reason="frame_too_large", option="max_frame")
NON_AUDIO_FRAME_TOO_LARGE: Final = CloseReason(
    code=1009, reason="frame_too_large", option="max_non_audio_frame"
)
INVALID_JSON: Final = CloseReason(code=4400, reason="invalid_json")
FIRST_FRAME_EXPECTED: Final = CloseReason(code=4400, reason="first_frame_expected")
SECOND_FIRST_FRAME: Final = CloseReason(code=4400, reason="second_first_frame")
MEMBER_NOT_OPEN: Final = CloseReason(code=4400, reason="member_not_allowed")
TOKEN_EXPIRED: Final = CloseReason(code=4401, reason="token_expired")
FRAME_NOT_OPEN: Final = CloseReason(code=4403, reason="frame_not_allowed", option="client_frames")
FIRST_FRAME_TIMEOUT: Final = CloseReason(code=4408, reason="first_frame_timeout")
IDLE_TIMEOUT: Final = CloseReason(code=4408, reason="idle_timeout", option="idle_timeout")
CLIENT_STALLED: Final = CloseReason(code=4408, reason="client_stalled")
MAX_DURATION: Final = CloseReason(code=4410, reason="max_duration")
REVOKED: Final = CloseReason(code=4411, reason="revoked")
ENDED_BY_OPERATOR: Final = CloseReason(code=4412, reason="ended_by_operator")
TOO_MANY_FRAMES: Final = CloseReason(
    code=4429, reason="too_many_frames", option="frames_per_second"
)
PLATFORM_ERROR: Final = CloseReason(code=4502, reason="platform_error")
LEASE_LOST: Final = CloseReason(code=4503, reason="lease_lost")
PLATFORM_TIMEOUT: Final = CloseReason(code=4504, reason="platform_timeout")
#: The process stops, or the gate itself has a fault.
FAULT: Final = CloseReason(code=1011, reason="internal_error")


#: The code for a side that broke off (RFC 6455 section 7.1.5).
BROKEN_OFF: Final = 1006
#: The client left without a close.
GONE: Final = CloseReason(code=BROKEN_OFF, reason="", by="client")


def hung_up(code: int, reason: str) -> CloseReason:
    """Return the close reason of a conversation that its client left."""
    return CloseReason(code=code, reason=reason, by="client")


def closed_by_platform(told: tuple[int, str] | None) -> CloseReason:
    """Return the close reason for the platform's close; without a close, it broke off."""
    if told is None:
        return PLATFORM_ERROR
    code, reason = told
    if code == _NO_CODE:
        return CloseReason(code=_NORMAL, reason="", by="platform")
    return (
        CloseReason(code=code, reason=reason, by="platform")
        if is_sendable(code)
        else PLATFORM_ERROR
    )


def refused(error: GateError) -> CloseReason:
    """Return the close reason for a refusal: 4000 plus its status, and its code as the reason."""
    if error.status_code in _STATUSES:
        return CloseReason(code=4000 + error.status_code, reason=error.code)
    return CloseReason(code=4400, reason=error.code)


def cause_of(ending: CloseReason) -> str:
    """Return who ended it and why, in one printable line; reasons may hold any characters."""
    word = "".join(letter if letter.isprintable() else "?" for letter in ending.reason)
    return f"{ending.by}: {word or 'closed'}"


def told_to_platform(ending: CloseReason) -> tuple[int, str]:
    """Return the code and reason to send to the platform: the client's own, or else 1000."""
    if ending.by == "client" and is_sendable(ending.code):
        return ending.code, short(ending.reason)
    return _NORMAL, ""


def is_sendable(code: int) -> bool:
    """Return whether a close frame may contain a code (RFC 6455 section 7.4)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def short(reason: str) -> str:
    """Return a reason, cut to the room in a close frame."""
    return reason.encode("utf-8", "replace")[:_LONGEST_REASON].decode("utf-8", "ignore")
