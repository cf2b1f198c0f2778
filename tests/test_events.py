"""Events are values; a hook that fails harms nobody."""

import asyncio
import dataclasses
import logging
import threading
from functools import partial
from typing import Any

import pytest
from support.doubles import CountedPlatform, ask, bearer, make_gate, make_verifier
from support.signing import RSA

from xuna_middleware import Agent, ConfigurationError, Event, Immediate, XunaGate
from xuna_middleware.events import Background, Events


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
    events = Events(
        [
            Immediate(lambda event: seen.append((1, event))),
            Immediate(lambda event: seen.append((2, event))),
        ]
    )
    event = Event(name="issued", time=1.0)
    events.emit(event)
    assert seen == [(1, event), (2, event)]


def test_failing_hook_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The next hook is called, and the log has the traceback."""
    seen: list[Event] = []

    def fails(event: Event) -> None:
        raise ValueError("the hook's own fault")

    with caplog.at_level(logging.ERROR):
        Events([Immediate(fails), Immediate(seen.append)]).emit(Event(name="verified", time=1.0))
    assert len(seen) == 1
    assert "the hook's own fault" in caplog.text


async def test_failing_hook_changes_no_answer() -> None:
    """Neither a pass nor a refusal."""

    def fails(event: Event) -> None:
        raise ValueError

    gate = make_gate(on_event=[fails])
    assert (await ask(gate, headers=bearer(RSA.token()))).status == 200
    assert (await ask(gate)).status == 401


def plain_gate(*hooks: Any) -> XunaGate:
    """Return a gate whose hooks are handed over as a user does."""
    platform = CountedPlatform().client()
    agents = [Agent("support", id="agent_1")]
    return XunaGate(
        verifier=make_verifier(), agents=agents, platform=platform, on_event=list(hooks)
    )


async def test_hook_that_hangs_keeps_nobody_waiting() -> None:
    """Not even the first request: each hook has a thread of its own, and its events in order."""
    go, seen, others = threading.Event(), list[str](), list[str]()

    def hangs(event: Event) -> None:
        go.wait(5)
        seen.append(event.name)

    gate = plain_gate(hangs, lambda event: others.append(event.name))
    for _ in range(2):
        assert (await ask(gate, headers=bearer(RSA.token()))).status == 200
    assert not seen
    go.set()
    await gate.aclose()
    assert seen == others == 2 * ["verified", "authorized", "issued"]


async def test_immediate_hook_is_called_on_the_loop() -> None:
    """Before the answer, where a queue of the loop can take the event."""
    queue = asyncio.Queue[Event]()
    threads: list[int] = []
    gate = plain_gate(
        Immediate(queue.put_nowait), Immediate(lambda event: threads.append(threading.get_ident()))
    )
    assert (await ask(gate, headers=bearer(RSA.token()))).status == 200
    assert queue.qsize() == 3
    assert set(threads) == {threading.get_ident()}


class AsyncHook:
    """An object that is called like an async function."""

    async def __call__(self, event: Event) -> None:
        raise AssertionError("never awaited")


@pytest.mark.parametrize("wrap", [Immediate, Background, lambda hook: Events([hook])])
@pytest.mark.parametrize("hook", [AsyncHook(), partial(AsyncHook()), asyncio.sleep, "x", None])
def test_hooks_that_would_lose_their_events(wrap: Any, hook: Any) -> None:
    """What is async, or can't be called, is told at once."""
    with pytest.raises(ConfigurationError, match="on_event"):
        wrap(hook)


def test_hook_that_returns_a_coroutine(caplog: pytest.LogCaptureFixture) -> None:
    """Only the call shows it: the log does, too."""
    hook = AsyncHook()
    Events([Immediate(lambda event: hook(event))]).emit(Event(name="verified", time=1.0))  # type: ignore[arg-type]
    assert "must not be async" in caplog.text


def test_slow_immediate_hook_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """While it runs every request waits, so the log names the fix."""
    wait = threading.Event()

    def slow(event: Event) -> None:
        wait.wait(0.03)

    hook = Immediate(slow)
    for _ in range(2):
        hook(Event(name="verified", time=1.0))
    assert caplog.text.count("without Immediate") == 1
