"""What the relay lets a client do: checked when it is written."""

from typing import Any

import pytest

from xuna_middleware import Agent, ConfigurationError, RelayRules


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
        ({"client_frames": ("user_mesage",)}, "contextual_update, feedback"),
        ({"client_frames": ("pong",)}, "pong needs no word"),
        ({"client_frames": ("conversation_initiation_client_data",)}, "there are"),
    ],
)
def test_rules_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    """The text names the mend."""
    with pytest.raises(ConfigurationError, match=said):
        RelayRules(**options)


def test_rules_that_do() -> None:
    """At their bounds; by default there is one, on the size of a frame."""
    assert RelayRules() == RelayRules(max_frame=1024 * 1024)
    rules = RelayRules(
        idle_timeout=86_400, max_frame=1024, frames_per_second=1, client_frames=["audio"]
    )
    assert rules.client_frames == frozenset({"audio"})
    assert RelayRules(client_frames=()).client_frames == frozenset()


def test_agent_takes_rules_alone() -> None:
    """Not what looks like them."""
    with pytest.raises(ConfigurationError, match=r"RelayRules\(…\)"):
        Agent("support", id="agent_1", relay={"max_frame": 1024})  # type: ignore[arg-type]
