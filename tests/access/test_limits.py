"""Limits as their author writes them: what is understood, and what is refused with the fix."""

import re
from typing import Any

import pytest
from support.doubles import make_gate

from xuna_middleware import (
    Agent,
    Concurrent,
    ConfigurationError,
    Identity,
    InvalidTokenError,
    Limit,
    LimitReachedError,
    MemoryStore,
    RedisStore,
    TalkTime,
    claim,
)
from xuna_middleware.access.limits.budgets import make_budget
from xuna_middleware.access.limits.keys import LimitContext, subject_principal
from xuna_middleware.access.limits.reservations import Stores, reserve
from xuna_middleware.errors import UnavailableError


@pytest.mark.parametrize(
    ("rate", "most", "seconds"),
    [
        ("10/minute", 10, 60),
        ("10 / minute", 10, 60),
        ("100 per day", 100, 86_400),
        ("50/5 minutes", 50, 300),
        ("1/second", 1, 1),
        ("7 per 2 weeks", 7, 1_209_600),
        ("3/hours", 3, 3600),
    ],
)
def test_rates(rate: str, most: int, seconds: int) -> None:
    """A count, a slash or "per", and a period, several of them too."""
    limit = Limit(rate)
    assert (limit.most, limit.seconds) == (most, seconds)


@pytest.mark.parametrize(
    ("budget", "most", "seconds"),
    [
        ("60 minutes/day", 3600, 86_400),
        ("2 hours per week", 7200, 604_800),
        ("90 seconds/10 minutes", 90, 600),
        ("1 minute/hour", 60, 3600),
    ],
)
def test_budgets(budget: str, most: int, seconds: int) -> None:
    """A length, and the period in which it is there."""
    limit = TalkTime(budget)
    assert (limit.most, limit.seconds) == (most, seconds)


@pytest.mark.parametrize(
    "rate",
    [
        *("", "10", "0/minute", "-1/minute", "ten/minute", "10/fortnight", "10/0 days", 10, None),
        *("10/400 days", "1e3/day", "٣/minute", "10/minute ", "10//minute"),
    ],
)
def test_rates_that_are_none(rate: Any) -> None:
    """Refused where they are written."""
    with pytest.raises(ConfigurationError, match=r"10/minute|366 days"):
        Limit(rate)


@pytest.mark.parametrize("budget", ["60/day", "60 minutes", "0 minutes/day", "1 month/year", 60])
def test_budgets_that_are_none(budget: Any) -> None:
    """Refused where they are written."""
    with pytest.raises(ConfigurationError, match="60 minutes/day"):
        TalkTime(budget)


@pytest.mark.parametrize("number", [0, -1, True, 1.5, "2", 10_000_000])
def test_numbers_of_conversations_that_are_none(number: Any) -> None:
    """A whole number from 1."""
    with pytest.raises(ConfigurationError, match=r"Concurrent\(2\)"):
        Concurrent(number)


@pytest.mark.parametrize("per", ["user", "", (), None, 3, ["subject"], ("subject", "sub")])
def test_per_that_names_nobody(per: Any) -> None:
    """Whom to count must be known."""
    with pytest.raises(ConfigurationError, match="Limit: per"):
        Limit("1/day", per=per)


@pytest.mark.parametrize("name", ["", 'a"b', "a\\b", "ä", "x" * 65, "a\nb", 7])
def test_names_that_no_header_carries(name: Any) -> None:
    """Callers read names in RateLimit-Policy."""
    with pytest.raises(ConfigurationError, match="name is 1 to 64"):
        Limit("1/day", name=name)


def test_fail_mode_must_be_known() -> None:
    """A word that means nothing is no way to fail."""
    with pytest.raises(ConfigurationError, match="deny"):
        Limit("1/day", on_unavailable="shut")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "limits",
    [
        [Limit("1/day"), Limit("2/day")],
        [Concurrent(1), Concurrent(2)],
        [TalkTime("1 hour/day"), TalkTime("2 hours/day")],
        [Limit("1/day", name="a"), Limit("1/hour", name="a")],
    ],
)
def test_limits_that_count_alike(limits: Any) -> None:
    """Two of one kind, for the same people and the same time, would be one count."""
    with pytest.raises(ConfigurationError, match=r"count alike|are called 'a'"):
        Agent("a", id="agent_1", limits=limits, max_duration=60)


def test_limits_that_count_apart() -> None:
    """Another kind, period, principal or name is another count."""
    limits: list[Limit | Concurrent] = [
        Limit("1/day"),
        Limit("1/hour"),
        Limit("1/day", per="agent"),
        Limit("1/day", per=claim("tenant")),
        Limit("1/day", name="burst"),
        Concurrent(1),
    ]
    assert len(Agent("a", id="agent_1", limits=limits).limits) == 6


def test_limits_of_one_name() -> None:
    """Whoever reads a header or `violated-policies` could not tell them apart."""
    limits: list[Any] = [Limit("1/day", name="x"), TalkTime("5 minutes/day", name="x")]
    with pytest.raises(ConfigurationError, match="different names"):
        Agent("a", id="agent_1", limits=limits, max_duration=60)


@pytest.mark.parametrize(
    "name", ["a\r\nb", "é\x7f", "a\x00", 'a"b\\c', "\ud800", "x" * 20_000, "\U0001f600"]
)
async def test_claims_of_any_name(name: str) -> None:
    """Stand in headers as far as a header may hold them."""
    gate = make_gate(limits=[Limit("1/day", per=claim(name))])
    who = Identity(subject="anna", claims={name: "v"})
    await gate.issue(who, transport="websocket")
    with pytest.raises(LimitReachedError) as caught:
        await gate.issue(who, transport="websocket")
    policy = (caught.value.headers or {})["RateLimit-Policy"]
    assert re.fullmatch(r'"1/day per [\x20\x21\x23-\x5b\x5d-\x7e]{1,64}";q=1;w=86400', policy)


@pytest.mark.parametrize("limits", ["10/minute", Limit("1/day"), ["10/minute"], [Limit], None])
def test_limits_that_are_no_list(limits: Any) -> None:
    """The fix is in the text, for an agent and for the gate."""
    with pytest.raises(ConfigurationError, match="limits"):
        Agent("a", id="agent_1", limits=limits)
    with pytest.raises(ConfigurationError, match="limits"):
        make_gate(limits=limits)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "600", 86_401])
def test_durations_that_are_none(seconds: Any) -> None:
    """Seconds, up to a day."""
    with pytest.raises(ConfigurationError, match="max_duration"):
        Agent("a", id="agent_1", max_duration=seconds)


def test_talk_time_needs_the_longest_conversation() -> None:
    """On the agent, or on the gate over an agent: what nobody settles counts in full."""
    with pytest.raises(ConfigurationError, match="max_duration=600"):
        make_gate(agents=[Agent("a", id="agent_1", limits=[TalkTime("1 hour/day")])])
    with pytest.raises(ConfigurationError, match=r"Agent\('b'\).*max_duration=600"):
        make_gate(
            agents=[Agent("a", id="agent_1", max_duration=60), Agent("b", id="agent_2")],
            limits=[TalkTime("1 hour/day")],
        )


def test_less_time_than_one_conversation() -> None:
    """Nobody could ever talk."""
    with pytest.raises(ConfigurationError, match="nobody could ever talk"):
        make_gate(
            agents=[Agent("a", id="agent_1", max_duration=120, limits=[TalkTime("1 minute/day")])]
        )


async def test_limits_that_read_the_request_need_one() -> None:
    """In a route of one's own the request is passed on."""
    for limit in (Limit("9/day", per="address"), Limit("9/day", per=lambda who, request: "x")):
        gate = make_gate(agents=[Agent("a", id="agent_1", limits=[limit])])
        with pytest.raises(ConfigurationError, match="connection=request"):
            await gate.issue(Identity(subject="u"), transport="websocket")


@pytest.mark.parametrize("limits", [(), (Limit("9/day"), Concurrent(3))])
async def test_revoked_callers_reserve_nothing(limits: Any) -> None:
    """The 401 of any bad token, whether something is counted or not."""
    store = MemoryStore()
    budget = make_budget(Agent("a", id="agent_1", limits=limits), (), 900)
    before, after = (
        LimitContext(identity=Identity(subject="u", claims={"iat": iat}), agent="a")
        for iat in (1000, 1001)
    )
    stores = Stores(shared=store, fallback=store)
    assert (await reserve(budget, before, stores)).limits == budget.titles
    await store.revoke(subject_principal(before.identity), 1000.0, 60)
    with pytest.raises(InvalidTokenError) as caught:
        await reserve(budget, before, stores)
    assert caught.value.cause.startswith("revoked: ")
    assert (await reserve(budget, after, stores)).limits == budget.titles


async def test_revocation_that_can_t_be_read() -> None:
    """Where no limit says what happens then, nothing is issued."""
    stores = Stores(
        shared=RedisStore("redis://127.0.0.1:1/0", namespace="xuna"), fallback=MemoryStore()
    )
    budget = make_budget(Agent("a", id="agent_1"), (), 900)
    asked = LimitContext(identity=Identity(subject="u"), agent="a")
    with pytest.raises(UnavailableError):
        await reserve(budget, asked, stores)
    await stores.shared.aclose()
