"""Step-up (RFC 9470): how and when somebody signed in, and what they are asked for."""

from typing import Any, Final

import pytest
from support.doubles import Answer, CountedPlatform, ask, bearer, make_gate
from support.signing import NOW, RSA, good_claims

from xuna_middleware import (
    Agent,
    ConfigurationError,
    all_of,
    any_of,
    require_acr,
    require_auth_age,
    require_scopes,
)
from xuna_middleware.errors import StepUpRequiredError

RECENT: Final = require_auth_age(300, clock=lambda: NOW)
STRONG: Final = require_acr("mfa", "phr")


async def asked(rule: Any, **claims: Any) -> tuple[Answer, CountedPlatform]:
    platform = CountedPlatform()
    gate = make_gate(platform, agents=[Agent("support", id="agent_1", allow=rule)])
    return await ask(gate, headers=bearer(RSA.token(good_claims(**claims)))), platform


async def assert_step_up(rule: Any, parameters: str, **claims: Any) -> None:
    """Check status, body, challenge, and that nobody else heard of it."""
    answer, platform = await asked(rule, **claims)
    assert (answer.status, answer.json()["code"]) == (401, "insufficient_user_authentication")
    challenge = f'Bearer error="insufficient_user_authentication", {parameters}'
    assert answer.header("www-authenticate") == challenge
    assert platform.requests == []


@pytest.mark.parametrize("acr", ["mfa", "phr"])
async def test_strong_enough(acr: str) -> None:
    """One of the values is enough."""
    assert (await asked(STRONG, acr=acr))[0].status == 200


@pytest.mark.parametrize(
    "claims", [{}, *({"acr": a} for a in ("pwd", "MFA", "", None, 1, ["mfa"]))]
)
async def test_not_strong_enough(claims: Any) -> None:
    """Another value, another type or none at all: the challenge names what would do."""
    await assert_step_up(STRONG, 'acr_values="mfa phr"', **claims)


@pytest.mark.parametrize("ago", [-30, 0, 299, 300, 330, 29.5])
async def test_recent_enough(ago: float) -> None:
    """As old as allowed, and the leeway, both ways."""
    assert (await asked(RECENT, auth_time=NOW - ago))[0].status == 200


@pytest.mark.parametrize(
    "claims",
    [{}, *({"auth_time": t} for t in (NOW - 331, NOW + 31, True, None, "1", [NOW], 1e300, 2**60))],
)
async def test_not_recent_enough(claims: Any) -> None:
    """Longer ago, ahead, no number or none at all."""
    await assert_step_up(RECENT, 'max_age="300"', **claims)


async def test_both_in_one_challenge() -> None:
    """Nobody should sign in twice."""
    both = 'acr_values="mfa phr", max_age="300"'
    await assert_step_up(all_of(STRONG, RECENT), both)
    await assert_step_up(all_of(STRONG, RECENT), 'max_age="300"', acr="mfa")


async def test_the_stricter_of_two() -> None:
    """Of two ages the shorter, of two lists what is in both; the first where nothing is."""
    shorter = require_auth_age(60, clock=lambda: NOW)
    await assert_step_up(all_of(RECENT, shorter), 'max_age="60"')
    await assert_step_up(all_of(STRONG, require_acr("phr", "x")), 'acr_values="phr"')
    await assert_step_up(all_of(STRONG, require_acr("x")), 'acr_values="mfa phr"')


@pytest.mark.parametrize("first", [True, False])
async def test_nobody_steps_up_in_vain(first: bool) -> None:
    """Where a scope is lacking, too, that is the answer: signing in again wouldn't help."""
    scope = require_scopes("admin")
    rule = all_of(STRONG, scope) if first else all_of(scope, STRONG)
    answer, _ = await asked(rule)
    assert (answer.status, answer.json()["code"]) == (403, "insufficient_scope")


async def test_either_way_will_do() -> None:
    """`any_of` answers with its first rule's refusal."""
    rule = any_of(STRONG, require_scopes("admin"))
    assert (await asked(rule, scope="admin"))[0].status == 200
    await assert_step_up(rule, 'acr_values="mfa phr"')


async def test_rule_of_ones_own() -> None:
    """A function may raise it, with what it wants."""

    def rule(who: object) -> bool:
        raise StepUpRequiredError(acr_values=["gold"], max_age=5)

    await assert_step_up(rule, 'acr_values="gold", max_age="5"')


@pytest.mark.parametrize("values", [(), ("",), ("a b",), ('a"',), ("a\\",), ("é",), (1,)])
def test_acr_that_can_t_stand_in_a_challenge(values: Any) -> None:
    """Refused when the rule is made."""
    with pytest.raises(ConfigurationError, match="require_acr"):
        require_acr(*values)


@pytest.mark.parametrize(
    ("seconds", "leeway"),
    [(-1, 0), (1.5, 0), (True, 0), ("1", 0), (1, -1), (1, 301), (1, float("nan")), (1, True)],
)
def test_age_that_is_none(seconds: Any, leeway: Any) -> None:
    """Refused when the rule is made."""
    with pytest.raises(ConfigurationError, match="require_auth_age"):
        require_auth_age(seconds, leeway=leeway)


def test_names_in_events() -> None:
    """A rule reads as it was written."""
    name = "all_of(require_acr('mfa', 'phr'), require_auth_age(300))"
    assert repr(all_of(STRONG, RECENT)) == name


@pytest.mark.parametrize("value", ['a"', "a\nb", "é", "a\\"])
def test_error_of_ones_own_that_could_not_be_sent(value: str) -> None:
    """What would break the header out of its quotes is refused where it is made."""
    with pytest.raises(ConfigurationError, match="challenge"):
        StepUpRequiredError(acr_values=[value])
