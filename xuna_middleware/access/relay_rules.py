"""What a client may do in a conversation that the gate carries. Pure values, checked when built."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from xuna_middleware.errors import ConfigurationError

#: What a client says in a conversation; `audio` stands for `user_audio_chunk`, too.
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
_FASTEST: Final = 100_000
_LONGEST_IDLE: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayRules:
    """Say what a client may do in a relayed conversation: `Agent(…, relay=RelayRules(…))`.

    Attributes:
        idle_timeout: seconds without a frame of the client's other than `pong` after which the
            conversation ends; None never. A microphone sends frames while nobody speaks, too.
        max_frame: bytes of one frame, in either direction.
        frames_per_second: of the client's, in each second; None is without a bound.
        client_frames: which frames a client may send, such as `("user_message", "user_activity")`
            for text only; None is all. `pong` always may be sent. Each frame is read as strict
            JSON then; without this rule only those that could be a second first frame are.

    Raises:
        ConfigurationError: one of these makes no sense; the text says how to write it.
    """

    idle_timeout: float | None = None
    max_frame: int = _MEBIBYTE
    frames_per_second: int | None = None
    client_frames: Collection[str] | None = None

    def __post_init__(self) -> None:
        if self.idle_timeout is not None and not _is_seconds(self.idle_timeout):
            raise ConfigurationError("idle_timeout takes seconds, up to a day: idle_timeout=60")
        if not _is_whole(self.max_frame, 1024, _LARGEST_FRAME):
            raise ConfigurationError("max_frame takes bytes, from 1024 to 64 MiB")
        rate = self.frames_per_second
        if rate is not None and not _is_whole(rate, 1, _FASTEST):
            raise ConfigurationError("frames_per_second takes a whole number: frames_per_second=50")
        if self.client_frames is not None:
            object.__setattr__(self, "client_frames", _frames(self.client_frames))


def _frames(names: Any) -> frozenset[str]:
    if isinstance(names, str) or not isinstance(names, Collection):
        raise ConfigurationError(f'client_frames takes a tuple: client_frames=("{names}",)')
    if not CLIENT_FRAMES.issuperset(names):
        raise ConfigurationError(
            f"client_frames: there are {', '.join(sorted(CLIENT_FRAMES))}; pong needs no word"
        )
    return frozenset(names)


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= _LONGEST_IDLE


def _is_whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most
