"""What a gate says at its start of agents without a limit."""

import logging
from typing import Any

import pytest
from support.doubles import CountedPlatform, ask, make_gate

from xuna_middleware import Agent, AnonymousAccess, Concurrent, Limit, TalkTime

CURE = 'limits=[Limit("20/hour"), Concurrent(2)]'


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "no limit" in record.message]


async def test_one_line_for_each_agent_at_the_first_start(caplog: pytest.LogCaptureFixture) -> None:
    """A WARNING that names the agent and what to write; once, however often the gate starts."""
    agents = [
        Agent("support", id="agent_1"),
        Agent("sales", id="agent_2", max_duration=300),
        Agent("limited", id="agent_3", limits=[Limit("5/day")]),
    ]
    gate = make_gate(CountedPlatform(), agents=agents)
    with caplog.at_level(logging.WARNING, "xuna_middleware"):
        for _ in range(2):
            async with gate:
                await ask(gate)
        with gate.overridden():
            await ask(gate)
    support, sales = said(caplog)
    assert "Agent('support') has no limit" in support
    assert "max_duration=600" in support
    assert "Agent('sales') has no limit" in sales
    assert "max_duration" not in sales
    for line in (support, sales):
        assert CURE in line
        assert "XunaGate(limits=…)" in line


async def test_without_a_lifespan_at_the_first_request(caplog: pytest.LogCaptureFixture) -> None:
    """As everything that a start does."""
    gate = make_gate(CountedPlatform())
    with caplog.at_level(logging.WARNING, "xuna_middleware"):
        assert not said(caplog)
        await ask(gate)
        await ask(gate)
    assert len(said(caplog)) == 1


@pytest.mark.parametrize(
    ("agent", "options"),
    [
        ({"limits": [Limit("20/hour"), Concurrent(2)], "max_duration": 600}, {}),
        ({"limits": [Concurrent(1)]}, {}),
        ({"limits": [TalkTime("1 hour/day")], "max_duration": 600}, {}),
        ({}, {"limits": [Concurrent(100, per="all")]}),
        (
            {"anonymous": True, "max_duration": 60},
            {
                "anonymous": AnonymousAccess(secret="s" * 43, limits=[Limit("9/day", per="all")]),
                "verifier": None,
            },
        ),
    ],
)
async def test_limits_are_enough(
    caplog: pytest.LogCaptureFixture, agent: dict[str, Any], options: dict[str, Any]
) -> None:
    """The agent's, the gate's, or those of anonymous callers where nobody else is admitted."""
    gate = make_gate(CountedPlatform(), agents=[Agent("a", id="agent_1", **agent)], **options)
    with caplog.at_level(logging.WARNING, "xuna_middleware"):
        async with gate:
            pass
    assert not said(caplog)


async def test_limits_of_anonymous_callers_bound_nobody_who_signed_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They are counted for those without credentials alone."""
    visitors = AnonymousAccess(secret="s" * 43, limits=[Limit("9/day", per="all")])
    agents = [Agent("a", id="agent_1", anonymous=True, max_duration=60)]
    with caplog.at_level(logging.WARNING, "xuna_middleware"):
        async with make_gate(CountedPlatform(), agents=agents, anonymous=visitors):
            pass
    assert len(said(caplog)) == 1
