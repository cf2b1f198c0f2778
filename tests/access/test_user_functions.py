"""Functions of the user's: which shapes are taken, with what they are called, and for how long."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from xuna_middleware.access.agents import Agent, check_rule
from xuna_middleware.access.rules.rule import all_of, any_of
from xuna_middleware.errors import ConfigurationError, GateError, UnavailableError
from xuna_middleware.identity.credentials import Identity

ANNA = Identity(subject="anna")
CONNECTION = HTTPConnection({"type": "http", "headers": []})


def one(who: Identity) -> bool:
    return who is ANNA


async def one_async(who: Identity) -> bool:
    return who is ANNA


def two(who: Identity, connection: HTTPConnection) -> bool:
    return who is ANNA and connection is CONNECTION


async def two_async(who: Identity, connection: HTTPConnection) -> bool:
    return who is ANNA and connection is CONNECTION


def three(wanted: bool, who: Identity, connection: HTTPConnection) -> bool:
    return wanted and connection is CONNECTION


async def keyword(who: Identity, *, wanted: bool) -> bool:
    return wanted


class Checks:
    """Hold rules as methods, and be one."""

    def one(self, who: Identity) -> bool:
        return who is ANNA

    async def two(self, who: Identity, connection: HTTPConnection) -> bool:
        return connection is CONNECTION

    @staticmethod
    def alone(who: Identity) -> bool:
        return who is ANNA

    def __call__(self, who: Identity) -> bool:
        return who is ANNA


class AsyncCheck:
    """Be an async rule."""

    async def __call__(self, who: Identity, connection: HTTPConnection) -> bool:
        return connection is CONNECTION


def decorated(function: Callable[[Identity], bool]) -> Callable[..., bool]:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> bool:
        return function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    ("function", "takes_connection", "name"),
    [
        (one, False, "one"),
        (one_async, False, "one_async"),
        (two, True, "two"),
        (two_async, True, "two_async"),
        (lambda who: True, False, "<lambda>"),
        (lambda who, wanted=True: wanted, False, "<lambda>"),
        (lambda who, connection, request=None: request is None, True, "<lambda>"),
        (lambda who, *more: not more, False, "<lambda>"),
        (lambda who, **more: not more, False, "<lambda>"),
        (partial(three, True), True, "three"),
        (partial(partial(three, True), connection=CONNECTION), False, "three"),
        (partial(keyword, wanted=True), False, "keyword"),
        (partial(AsyncCheck()), True, "AsyncCheck"),
        (Checks().one, False, "Checks.one"),
        (Checks().two, True, "Checks.two"),
        (Checks.alone, False, "Checks.alone"),
        (Checks(), False, "Checks"),
        (AsyncCheck(), True, "AsyncCheck"),
        (decorated(one), False, "one"),
    ],
)
async def test_every_shape_of_function_is_called_with_what_it_takes(
    function: Any, takes_connection: bool, name: str
) -> None:
    """Parameters with a default are left alone; the others say what to pass."""
    agent = Agent("a", id="agent_1", allow=function)
    assert agent.needs_connection is takes_connection
    assert (await check_rule(agent, ANNA, CONNECTION)).endswith(name)


@pytest.mark.parametrize(
    ("function", "hint"),
    [
        (lambda: True, "requires ()"),
        (lambda who=None: True, "requires ()"),
        (lambda *who: True, "requires ()"),
        (three, "requires (wanted, who, connection)"),
        (keyword, "requires (who, wanted)"),
        (lambda who, connection=None: True, "'connection' must have none"),
        (lambda who, request=None: True, "'request' must have none"),
        (Checks, "is no function"),
        (True, "is no function"),
        ("one", "is no function"),
        (one(ANNA), "is no function"),
        (min, "can't be read"),
    ],
)
def test_a_function_of_another_shape_is_a_configuration_error(function: Any, hint: str) -> None:
    """It names the agent and the function, and says what to write."""
    with pytest.raises(ConfigurationError) as caught:
        Agent("support", id="agent_1", allow=function)
    assert str(caught.value).startswith("Agent('support'): rule ")
    assert hint in str(caught.value)


@pytest.mark.parametrize("rule", [two, all_of(one, two), any_of(one, two_async)])
async def test_without_a_connection_a_function_that_takes_one_is_a_configuration_error(
    rule: Any,
) -> None:
    """`gate.issue()` may be called without one; the error says what to pass."""
    agent = Agent("a", id="agent_1", allow=rule)
    with pytest.raises(ConfigurationError, match=r"connection=request"):
        await check_rule(agent, ANNA, None)


async def late(who: Identity) -> bool:
    """Wait for what never comes."""
    await asyncio.Event().wait()
    return True


async def stubborn(who: Identity) -> bool:
    """Swallow the cancellation, and say yes."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return True
    return False


@pytest.mark.parametrize("function", [late, stubborn])
async def test_an_async_function_that_is_late_is_a_503(
    function: Callable[[Identity], Awaitable[bool]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also one that answers after its time: what it says then came of being cancelled."""
    monkeypatch.setattr("xuna_middleware.access.values.sources.TIME_LIMIT", 0.0)
    with pytest.raises(UnavailableError) as caught:
        await check_rule(Agent("a", id="agent_1", allow=function), ANNA, None)
    assert caught.value.cause.endswith(f"{function.__name__} raised TimeoutError")
    assert "TimeoutError" in caught.value.trace


async def test_a_cancelled_request_stays_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    """The client went away: nobody is to be answered, nothing to be logged."""
    task = asyncio.create_task(check_rule(Agent("a", id="agent_1", allow=late), ANNA, None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert caplog.records == []


async def test_a_traceback_for_the_log_shows_no_values() -> None:
    """Lines of code, yes; the arguments and locals of the failing function, no."""

    def failing(who: Identity) -> bool:
        private = str(who.claims["email"])
        return bool(1 / (len(private) * 0))

    who = Identity(subject="anna", claims={"email": "anna@example.com"})
    with pytest.raises(GateError) as caught:
        await check_rule(Agent("a", id="agent_1", allow=failing), who, None)
    assert "ZeroDivisionError" in caught.value.trace
    assert "anna@example.com" not in caught.value.trace
