"""The platform step's pure parts: attempts, what clients may carry, and the key."""

import asyncio
import copy
import dataclasses
import json
import logging
import pickle
import pprint
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from xuna_middleware._core.http import OutboundError, Reply
from xuna_middleware.access.grants import Transport
from xuna_middleware.errors import ConfigurationError
from xuna_middleware.platform.rest import retry as attempts
from xuna_middleware.platform.secrets import Secret
from xuna_middleware.platform.wire import check_carriable, not_for_clients

EPOCH = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


@dataclass
class Course:
    """A time that passes only when somebody waits, and attempts that end as told."""

    ends: list[tuple[float, Reply | OutboundError]]
    time: float = 100.0
    given: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    async def once(self, seconds: float) -> Reply:
        self.given.append(round(seconds, 3))
        took, end = self.ends[len(self.given) - 1]
        self.time += took
        if isinstance(end, OutboundError):
            raise end
        return end

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds

    async def run(self) -> attempts.Outcome:
        return await attempts.send(
            self.once, seconds=10, clock=lambda: EPOCH, now=lambda: self.time, sleep=self.sleep
        )


def reply(status: int, after: str | None = None) -> Reply:
    headers = {} if after is None else {"retry-after": after}
    return Reply(status=status, headers=headers, body=b"")


GOOD = reply(200)
CONNECT = OutboundError("connect", "x")


@pytest.mark.parametrize(
    ("took", "first", "waits", "given"),
    [
        pytest.param(2.0, CONNECT, [0.1], [10, 7.9], id="no connection"),
        pytest.param(1.0, reply(502), [0.1], [10, 8.9], id="502"),
        pytest.param(1.0, reply(503, "3"), [3.0], [10, 6], id="waits as asked"),
        pytest.param(1.0, reply(503, "8"), [8.0], [10, 1], id="just fits"),
        pytest.param(1.0, reply(503, "9"), [], [10], id="does not fit"),
        pytest.param(0.0, reply(504, "0"), [0.0], [10, 10], id="at once"),
        pytest.param(8.95, CONNECT, [], [10], id="too late for another"),
        pytest.param(8.0, reply(503), [0.1], [10, 1.9], id="late, but not too late"),
        pytest.param(0.0, reply(503, "nonsense"), [0.1], [10, 9.9], id="unreadable"),
        pytest.param(0.0, reply(503, "Fri, 15 Jan 2027 08:00:04 GMT"), [4.0], [10, 6], id="date"),
        pytest.param(0.0, reply(503, "Fri, 15 Jan 2027 09:00:00 GMT"), [], [10], id="far date"),
        pytest.param(1.0, reply(500), [], [10], id="500"),
        pytest.param(1.0, reply(429, "1"), [], [10], id="429"),
        pytest.param(1.0, reply(401), [], [10], id="401"),
        pytest.param(9.0, OutboundError("timeout", "x"), [], [10], id="timeout"),
        pytest.param(0.0, OutboundError("protocol", "x"), [], [10], id="protocol"),
        pytest.param(0.0, OutboundError("too_large", "x"), [], [10], id="too large"),
    ],
)
async def test_one_more_attempt_within_the_time(
    took: float, first: Reply | OutboundError, waits: list[float], given: list[float]
) -> None:
    """Which outcomes are tried again, after which pause, with how much time left of the ten."""
    course = Course([(took, first), (0, GOOD)])
    outcome = await course.run()
    assert (course.waits, course.given) == (waits, given)
    assert outcome is (GOOD if len(given) == 2 else first)


async def test_the_second_outcome_counts() -> None:
    """Whatever the second attempt ends in is the outcome; there is no third."""
    last = OutboundError("timeout", "x")
    course = Course([(0, CONNECT), (0, last), (0, GOOD)])
    assert await course.run() is last


async def test_real_time_is_the_default() -> None:
    """Without a clock of the test's it is the machine's."""

    async def once(seconds: float) -> Reply:
        assert 0 < seconds <= 10
        return GOOD

    assert await attempts.send(once, seconds=10) is GOOD


async def test_a_cancelled_pause_sends_nothing_more() -> None:
    """A caller who goes away while we wait isn't served."""
    course = Course([(0, reply(503, "5")), (0, GOOD)])

    async def gone(_: float) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await attempts.send(course.once, seconds=10, now=lambda: 0.0, sleep=gone)
    assert course.given == [10]


def test_names_that_no_client_may_carry() -> None:
    """Prompts, models and secrets, and what the JS client would drop without a word."""
    variables = ["name", "secret__a", "Secret__B", "system__x"]
    overrides = ["agent.first_message", "agent.prompt.prompt", "tts.model_id", "tts.style"]
    assert not_for_clients(variables, overrides) == (
        "Secret__B",
        "agent.prompt.prompt",
        "secret__a",
        "tts.model_id",
        "tts.style",
    )
    assert not_for_clients({"name": 1}, {"tts.voice_id": "v"}) == ()


@pytest.mark.parametrize(
    ("transports", "variables", "overrides", "fits"),
    [
        (("websocket",), ["secret__a"], [], False),
        (("webrtc", "websocket"), [], ["agent.prompt.prompt"], False),
        (("websocket",), ["a"], ["agent.language"], True),
        ((), ["secret__a"], ["agent.prompt.llm"], True),
    ],
)
def test_agents_that_clients_cannot_serve(
    transports: tuple[Transport, ...], variables: list[str], overrides: list[str], fits: bool
) -> None:
    """The gate learns it when it is built, with the relay as the fix."""

    def check() -> None:
        check_carriable(
            "support", transports=transports, dynamic_variables=variables, overrides=overrides
        )

    if fits:
        check()
        return
    with pytest.raises(ConfigurationError, match="relay") as caught:
        check()
    assert 'agent "support"' in str(caught.value)
    assert [*variables, *overrides][0] in str(caught.value)


CANARY = "xk-5f0c9e-canary"


@dataclass
class Holder:
    """Something of a user's that holds the key."""

    key: Secret


@pytest.mark.parametrize(
    "render",
    [
        repr,
        str,
        ascii,
        lambda key: f"{key}",
        lambda key: f"{key:>80}",
        lambda key: f"{key!s:.3}",
        lambda key: logging.makeLogRecord({"msg": "%s %r", "args": (key, key)}).getMessage(),
        lambda key: pprint.pformat([key]),
        lambda key: str(dataclasses.asdict(Holder(key))),
        lambda key: repr(Holder(key)),
        lambda key: repr(copy.deepcopy(key)) + repr(copy.copy(key)),
        lambda key: json.dumps({"key": key}, default=str),
        lambda key: " ".join(repr(getattr(key, name)) for name in dir(key)),
        lambda key: repr([getattr(key, name) for name in type(key).__slots__]),
        lambda key: str(ValueError(key)),
    ],
)
def test_every_rendering_of_the_key_is_masked(render: Callable[[Secret], str]) -> None:
    """No part of it is shown, not even how long it is."""
    shown = render(Secret(CANARY))
    assert not [part for part in (CANARY, CANARY[:4], CANARY[-4:]) if part in shown]


@pytest.mark.parametrize("refuses", [pickle.dumps, vars, json.dumps, bytes, len, iter])
def test_what_the_key_refuses(refuses: Callable[[Any], Any]) -> None:
    """It can't be pickled, listed, or taken for a text."""
    with pytest.raises(TypeError) as caught:
        refuses(Secret(CANARY))
    assert CANARY not in str(caught.value)


def test_the_key_is_revealed_on_purpose_only() -> None:
    """There is one way to it, and it has a name that is found by searching."""
    key = Secret(CANARY)
    key.check("api_key")
    assert key.reveal() == CANARY
