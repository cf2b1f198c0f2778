"""Events are values; a hook that fails harms nobody."""

import dataclasses
import logging
from typing import Any

import pytest
from doubles import ask, bearer, make_gate
from signing import RSA

from xuna_middleware import Event
from xuna_middleware.events import Events


def test_event_is_a_frozen_value() -> None:
    """All fields by name, none to be changed."""
    event = Event(name="verified", time=1.0, subject="anna")
    assert event == Event(name="verified", time=1.0, subject="anna")
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.subject = "boss"  # type: ignore[misc]
    with pytest.raises(TypeError):
        Event("verified", 1.0)  # type: ignore[call-arg]


def test_event_has_no_place_for_a_secret() -> None:
    """No field that could hold a token, a pass, a claim or a value."""
    fields = {field.name for field in dataclasses.fields(Event)}
    assert fields == {
        *("name", "time", "issuer", "subject", "agent", "transport", "rule", "code", "status"),
        *("cause", "reference", "conversation_id", "variables", "overrides"),
        *("limits", "seconds", "session", "close_code", "turns"),
        *("client_bytes", "platform_bytes"),
    }


def test_hooks_are_called_in_order() -> None:
    """Each with every event."""
    seen: list[Any] = []
    events = Events([lambda event: seen.append((1, event)), lambda event: seen.append((2, event))])
    event = Event(name="issued", time=1.0)
    events.emit(event)
    assert seen == [(1, event), (2, event)]


def test_failing_hook_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The next hook is called, and the log has the traceback."""
    seen: list[Event] = []

    def fails(event: Event) -> None:
        raise ValueError("the hook's own fault")

    with caplog.at_level(logging.ERROR):
        Events([fails, seen.append]).emit(Event(name="verified", time=1.0))
    assert len(seen) == 1
    assert "the hook's own fault" in caplog.text


async def test_failing_hook_changes_no_answer() -> None:
    """Neither a pass nor a refusal."""

    def fails(event: Event) -> None:
        raise ValueError

    gate = make_gate(on_event=[fails])
    assert (await ask(gate, headers=bearer(RSA.token()))).status == 200
    assert (await ask(gate)).status == 401
