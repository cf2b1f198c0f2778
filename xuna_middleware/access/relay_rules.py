"""Rules for clients in relayed conversations. Pure values, checked when built."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from xuna_middleware.errors import ConfigurationError


class AnyFrame(Enum):
    """Define the type of the single value `ANY`."""

    ANY = "ANY"

    def __repr__(self) -> str:
        return self.name


#: `RelayRules(client_frames=ANY)`: kinds of frames that the gate does not know also pass.
ANY: Final = AnyFrame.ANY

#: The documented frames of a client after its first; `audio` also covers `user_audio_chunk`.
#: npm's `@elevenlabs/client` 1.25 and PyPI's `elevenlabs` 2.78 send these and `pong`.
CLIENT_FRAMES: Final = frozenset(
    {
        "audio",
        "client_tool_result",
        "contextual_update",
        "feedback",
        "mcp_tool_approval_result",
        "multimodal_message",
        "user_activity",
        "user_message",
    }
)
_MEBIBYTE: Final = 1024 * 1024
_LARGEST_FRAME: Final = 64 * _MEBIBYTE
_LARGEST_NON_AUDIO: Final = _MEBIBYTE
_FASTEST: Final = 100_000
_LONGEST_IDLE: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayRules:
    """Say what a client may do in a relayed conversation: `Agent(…, relay=RelayRules(…))`.

    Attributes:
        idle_timeout: seconds without a client frame other than `pong` after which the conversation
            ends; None disables this. A microphone sends frames even while nobody speaks.
        max_frame: bytes of one frame, in either direction.
        max_non_audio_frame: bytes of a client's frame that is not audio; at most 1 MiB, which takes
            up to 10 ms to parse. Whatever its size, it may have 65,536 backslashes. Audio here
            means the two shapes that clients send: `{"user_audio_chunk": "…"}` and
            `{"type": "audio", "audio_event": {"audio_base_64": "…"}}`.
        frames_per_second: of the client, in each second; None is without a bound.
        client_frames: the kinds of frames that a client may send, such as
            `("user_message", "user_activity")` for text only. By default all documented ones;
            `ANY` also passes kinds that the gate does not know. `pong` may always be sent.
            A documented kind that is left out ends the conversation (4403); an undocumented kind
            is dropped, and logged once, so that a newer client keeps working.

    Raises:
        ConfigurationError: one of these is invalid; the text says how to write it.
    """

    idle_timeout: float | None = None
    max_frame: int = _MEBIBYTE
    frames_per_second: int | None = None
    client_frames: Collection[str] | AnyFrame = CLIENT_FRAMES
    max_non_audio_frame: int = 64 * 1024

    def __post_init__(self) -> None:
        if self.idle_timeout is not None and not _is_seconds(self.idle_timeout):
            raise ConfigurationError("idle_timeout takes seconds, up to a day: idle_timeout=60")
        if not _is_whole(self.max_frame, 1024, _LARGEST_FRAME):
            raise ConfigurationError("max_frame takes bytes, from 1024 to 64 MiB")
        if not _is_whole(self.max_non_audio_frame, 1024, _LARGEST_NON_AUDIO):
            raise ConfigurationError("max_non_audio_frame takes bytes, from 1024 to 1 MiB")
        rate = self.frames_per_second
        if rate is not None and not _is_whole(rate, 1, _FASTEST):
            raise ConfigurationError("frames_per_second takes a whole number: frames_per_second=50")
        if self.client_frames is not ANY:
            object.__setattr__(self, "client_frames", _frames(self.client_frames))


def _frames(names: Any) -> frozenset[str]:
    if names is None:
        raise ConfigurationError(
            "client_frames=None says nothing; for all kinds: client_frames=ANY"
        )
    if isinstance(names, str) or not isinstance(names, Collection):
        raise ConfigurationError(f'client_frames takes a tuple: client_frames=("{names}",)')
    if not CLIENT_FRAMES.issuperset(names):
        raise ConfigurationError(
            f"client_frames: there are {', '.join(sorted(CLIENT_FRAMES))}, or ANY for all kinds; "
            "pong needs no word"
        )
    return frozenset(names)


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= _LONGEST_IDLE


def _is_whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most
