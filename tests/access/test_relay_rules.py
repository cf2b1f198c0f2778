"""What the relay lets a client do: checked when it is written."""

import pickle
from typing import Any

import pytest

from xuna_middleware import ANY, Agent, ConfigurationError, RelayRules
from xuna_middleware.access.relay_rules import CLIENT_FRAMES


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"idle_timeout": 0}, "idle_timeout"),
        ({"idle_timeout": -1}, "idle_timeout"),
        ({"idle_timeout": True}, "idle_timeout"),
        ({"idle_timeout": "60"}, "idle_timeout"),
        ({"idle_timeout": float("nan")}, "idle_timeout"),
        ({"idle_timeout": 86_401}, "idle_timeout"),
        ({"max_frame": 1023}, "max_frame"),
        ({"max_frame": 1024.0}, "max_frame"),
        ({"max_frame": None}, "max_frame"),
        ({"max_frame": 64 * 1024 * 1024 + 1}, "max_frame"),
        ({"frames_per_second": 0}, "frames_per_second"),
        ({"frames_per_second": 1.5}, "frames_per_second"),
        ({"frames_per_second": True}, "frames_per_second"),
        ({"client_frames": "user_message"}, r"\(\"user_message\",\)"),
        ({"client_frames": 7}, "tuple"),
        ({"client_frames": None}, "client_frames=ANY"),
        ({"client_frames": (ANY,)}, "ANY for all kinds"),
        ({"max_non_audio_frame": 1023}, "max_non_audio_frame"),
        ({"max_non_audio_frame": 1024 * 1024 + 1}, "max_non_audio_frame"),
        ({"max_non_audio_frame": None}, "max_non_audio_frame"),
        ({"client_frames": ("user_mesage",)}, "contextual_update, feedback"),
        ({"client_frames": ("pong",)}, "pong needs no word"),
        ({"client_frames": ("conversation_initiation_client_data",)}, "there are"),
    ],
)
def test_rules_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    """The text names the fix."""
    with pytest.raises(ConfigurationError, match=said):
        RelayRules(**options)


def test_rules_that_do() -> None:
    """At their bounds; by default on the size of a frame, and which a client may send."""
    assert RelayRules() == RelayRules(
        max_frame=1024 * 1024, max_non_audio_frame=64 * 1024, client_frames=CLIENT_FRAMES
    )
    rules = RelayRules(
        idle_timeout=86_400, max_frame=1024, frames_per_second=1, client_frames=["audio"]
    )
    assert rules.client_frames == frozenset({"audio"})
    assert RelayRules(client_frames=()).client_frames == frozenset()


def test_any_is_one_value_and_says_its_name() -> None:
    """As it is written."""
    assert RelayRules(client_frames=ANY).client_frames is ANY
    assert "client_frames=ANY," in repr(RelayRules(client_frames=ANY))
    assert pickle.loads(pickle.dumps(ANY)) is ANY


def test_agent_takes_rules_alone() -> None:
    """Not what looks like them."""
    with pytest.raises(ConfigurationError, match=r"RelayRules\(…\)"):
        Agent("support", id="agent_1", relay={"max_frame": 1024})  # type: ignore[arg-type]
