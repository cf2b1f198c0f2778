"""explain(): what each step would decide, and why, without issuing."""

import asyncio
from typing import Any

import pytest
from starlette.requests import HTTPConnection
from support.doubles import CountedPlatform, ask, http_scope, make_gate
from support.signing import RSA, good_claims

from xuna_middleware import (
    Agent,
    AnonymousAccess,
    ConfigurationError,
    Identity,
    Limit,
    TalkTime,
    XunaGate,
    all_of,
    any_of,
    claim,
    none_of,
    require_claims,
    require_roles,
    require_scopes,
    with_timeout,
)
from xuna_middleware.identity.credentials import AnonymousVisitor

NAMES = ["verify", "agent", "check input", "authorize", "reserve", "personalize", "issue"]


def token(**claims: Any) -> str:
    return RSA.token(good_claims(**claims))


def agent(**options: Any) -> Agent:
    return Agent("support", id="agent_1", **options)


async def test_who_may() -> None:
    """Every step passes, and nothing is asked of the platform or taken of a limit."""
    platform = CountedPlatform()
    gate = make_gate(
        platform,
        agents=[
            agent(
                allow=require_scopes("voice:talk"),
                dynamic_variables={"plan": claim("plan")},
                limits=[Limit("1/hour"), TalkTime("10 minutes/day")],
                max_duration=60,
            )
        ],
    )
    for _ in range(3):
        told = await gate.explain(token(plan="cAnArY-plan"))
        assert told.allowed
        assert str(told).splitlines() == [
            "✓ verify: a token of https://id.example.com for user-1",
            "✓ agent: support, over websocket",
            "✓ check input: nothing was sent",
            "✓ authorize: require_scopes('voice:talk') says yes",
            "✓ reserve: support: 1/hour per subject: 1 of 1 credentials left; "
            "support: 10 minutes/day per subject: 600 of 600 seconds left",
            "✓ personalize: plan",
            "✓ issue: would ask the platform for a signed URL",
        ]
    assert not platform.requests


@pytest.mark.parametrize(
    ("changes", "options", "asked", "step", "status", "why"),
    [
        ({"exp": 1}, {}, {}, "verify", 401, "expired"),
        ({}, {}, {"agent": "other"}, "agent", 404, "none that is configured"),
        ({}, {"transports": ("webrtc",)}, {}, "agent", 403, "transport"),
        ({}, {}, {"dynamic_variables": {"x": 1}}, "check input", 400, "x is not in"),
        ({}, {"allow": require_roles("admin")}, {}, "authorize", 403, "lacks admin"),
        ({}, {"allow": lambda who: 1 / 0}, {}, "authorize", 503, "ZeroDivisionError"),
        (
            {},
            {"dynamic_variables": {"p": claim("plan")}},
            {},
            "personalize",
            403,
            "plan is missing",
        ),
    ],
)
async def test_who_may_not(
    changes: dict[str, Any],
    options: dict[str, Any],
    asked: dict[str, Any],
    step: str,
    status: int,
    why: str,
) -> None:
    """The step that refuses says what the caller gets, and why; the rest is not reached."""
    told = await make_gate(agents=[agent(**options)]).explain(token(**changes), **asked)
    assert not told.allowed
    assert [each.name for each in told.steps if not each.depth] == NAMES
    (refusing,) = [each for each in told.steps if each.passed is False]
    assert (refusing.name, refusing.status) == (step, status)
    assert why in refusing.text
    after = told.steps[told.steps.index(refusing) + 1 :]
    assert all(each.passed is None for each in after)


async def test_limit_that_is_reached() -> None:
    """Looked at, not taken."""
    gate = make_gate(agents=[agent(limits=[Limit("1/hour")])])
    who = Identity(subject="user-1", issuer="https://idp.example")
    await gate.issue(who, transport="websocket")
    told = await gate.explain(who)
    (refusing,) = [each for each in told.steps if each.passed is False]
    assert (refusing.name, refusing.status) == ("reserve", 429)
    assert "1/hour per subject" in refusing.text


async def test_rules_in_rules() -> None:
    """Each is asked by itself, so that all reasons are there."""
    rule = any_of(
        all_of(require_scopes("voice:talk"), require_claims(plan="pro")), require_roles("x")
    )
    told = await make_gate(agents=[agent(allow=rule)]).explain(token())
    rules = [(each.depth, each.passed) for each in told.steps if each.name in ("authorize", "rule")]
    assert rules == [(0, False), (1, False), (2, True), (2, False), (1, False)]
    assert "    ✗ rule: claim: plan is missing (403)" in str(told)


async def test_each_function_is_asked_once() -> None:
    """However deep it lies: it may ask somebody else."""
    asked: list[str] = []

    def rule(who: Identity) -> bool:
        asked.append("rule")
        return len(asked) == 1

    async def late(who: Identity) -> bool:
        asked.append("late")
        await asyncio.sleep(0.02)
        return True

    around = with_timeout(all_of(late, require_scopes("voice:talk")), seconds=0.005)
    whole = all_of(any_of(all_of(rule)), none_of(require_roles("x"), none_of(rule)), around)
    told = await make_gate(agents=[agent(allow=whole)]).explain(token())
    assert sorted(asked) == ["late", "rule", "rule"], "the rule stands there twice"
    assert not told.allowed
    assert "took too long" in str(told)


def a_visitor(visitor: str = "somebody") -> Identity:
    return AnonymousVisitor(visitor=visitor).identity


async def by_word(connection: HTTPConnection) -> bool:
    return True


def public(**terms: Any) -> XunaGate:
    limits = [Limit("9/day", per="all")]
    open_one = agent(anonymous=True, max_duration=60, limits=limits)
    return make_gate(agents=[open_one], anonymous=AnonymousAccess(secret="s" * 43, **terms))


def page(**options: Any) -> HTTPConnection:
    return HTTPConnection(http_scope(**options))


async def test_visitor_is_admitted() -> None:
    """It has a step of its own."""
    gate = public()
    told = await gate.explain(a_visitor(), connection=page())
    assert told.allowed
    names = [each.name for each in told.steps if not each.depth]
    assert names == [*NAMES[:4], "admission", *NAMES[4:]]
    assert "✓ admission: open, no captcha" in str(told)


async def test_visitor_while_access_is_paused() -> None:
    """The gate says no, and so does this."""
    gate = public()
    await gate.pause_anonymous()
    told = await gate.explain(a_visitor(), connection=page())
    assert not told.allowed
    (refusing,) = [each for each in told.steps if each.passed is False]
    assert (refusing.name, refusing.status) == ("admission", 403)
    assert refusing.text == "visitors: anonymous access is paused; see gate.resume_anonymous()"


async def test_visitor_and_a_challenge() -> None:
    """Passed where the ticket says so; nobody is asked to judge an answer."""
    gate = public(captcha=by_word)
    told = await gate.explain(a_visitor(), connection=page())
    assert not told.allowed
    assert "✗ admission: challenge" in str(told)
    headers = [(b"sec-fetch-site", b"same-origin")]
    answer = await ask(gate, headers=headers)
    ticket = (answer.header("Xuna-Visitor") or "").encode()
    visitor = ticket.decode().rsplit(".", 3)[0]
    connection = page(headers=[(b"xuna-visitor", ticket)])
    assert (await gate.explain(a_visitor(visitor), connection=connection)).allowed
    assert not (await gate.explain(a_visitor("other"), connection=connection)).allowed


async def test_token_that_is_none() -> None:
    """Not a word of it is repeated."""
    told = await make_gate().explain("cAnArY.not.token")
    assert not told.allowed
    assert "cAnArY" not in str(told)


async def test_function_of_the_request() -> None:
    """Needs one, as everywhere."""

    def rule(who: Identity, request: HTTPConnection) -> bool:
        return True

    with pytest.raises(ConfigurationError, match="connection"):
        await make_gate(agents=[agent(allow=rule)]).explain(token())
