"""Rules: who is admitted, what the others are told, and what the operator reads."""

from collections.abc import Callable
from typing import Any

import pytest

from xuna_middleware.access.agents import Agent, check_rule
from xuna_middleware.access.rules.rule import (
    all_of,
    any_of,
    deny,
    require_claims,
    require_roles,
    require_scopes,
)
from xuna_middleware.errors import (
    AccessDeniedError,
    ConfigurationError,
    GateError,
    InvalidRequestError,
    UnavailableError,
)
from xuna_middleware.identity.credentials import Identity

ANNA = Identity(
    subject="anna",
    scopes=frozenset({"voice:talk", "openid"}),
    roles=frozenset({"admin"}),
    claims={
        "plan": "pro",
        "staff": True,
        "level": 1,
        "plans": ["pro"],
        "gone": None,
        "https://acme.com/plan": "gold",
        "address": {"country": "DE"},
    },
)
NOBODY = Identity(subject="nobody")


def yes(who: Identity) -> bool:
    """Admit."""
    return True


def no(who: Identity) -> bool:
    """Refuse."""
    return False


async def decided(allow: Any, who: Identity = ANNA) -> str:
    """Return the name of the rule that admitted."""
    return await check_rule(Agent("a", id="agent_1", allow=allow), who, None)


async def refused(allow: Any, who: Identity = ANNA) -> GateError:
    """Return the error that a caller meets."""
    with pytest.raises(GateError) as caught:
        await decided(allow, who)
    return caught.value


async def test_without_a_rule_every_verified_caller_is_admitted() -> None:
    """No rule, and events still have a name for the decision."""
    assert await decided(None, NOBODY) == "any verified caller"


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (require_scopes("voice:talk"), "require_scopes('voice:talk')"),
        (require_scopes("voice:talk", "openid"), "require_scopes('voice:talk', 'openid')"),
        (require_scopes("openid", "openid"), "require_scopes('openid')"),
        (require_roles("admin"), "require_roles('admin')"),
        (require_claims(plan="pro", staff=True), "require_claims('plan', 'staff')"),
        (
            require_claims({"https://acme.com/plan": "gold"}),
            "require_claims('https://acme.com/plan')",
        ),
        (require_claims({("address", "country"): "DE"}), "require_claims('address.country')"),
        (yes, "yes"),
        (all_of(yes, require_roles("admin")), "all_of(yes, require_roles('admin'))"),
        (any_of(no, yes), "any_of(no, yes)"),
        (any_of(no, all_of(yes)), "any_of(no, all_of(yes))"),
    ],
)
async def test_admitting_rules_say_their_name(rule: Any, name: str) -> None:
    """The name is what events and logs show; a rule of ours has it as its repr, too."""
    assert await decided(rule) == name
    assert rule is yes or repr(rule) == name


@pytest.mark.parametrize(
    ("rule", "code", "cause"),
    [
        (require_scopes("a", "openid"), "insufficient_scope", "scope: lacks a; the caller has "),
        (require_roles("agent"), "insufficient_role", "role: lacks agent; the caller has 'admin'"),
        (require_roles("admin", "agent"), "insufficient_role", "role: lacks agent; the caller has"),
        (require_claims(plan="Pro"), "claim_mismatch", "claim: plan is not what the rule requires"),
        (require_claims(plan="pr"), "claim_mismatch", "claim: plan is not"),
        (require_claims(staff=1), "claim_mismatch", "claim: staff is not"),
        (require_claims(level=True), "claim_mismatch", "claim: level is not"),
        (require_claims(level=1.0), "claim_mismatch", "claim: level is not"),
        (require_claims(plans="pro"), "claim_mismatch", "claim: plans is not"),
        (require_claims(gone="x"), "claim_mismatch", "claim: gone is missing"),
        (require_claims(plan="pro", other=1), "claim_mismatch", "claim: other is missing"),
        (require_claims({("address", "city"): "B"}), "claim_mismatch", "claim: address.city is m"),
        (require_claims({("plan", "p"): "B"}), "claim_mismatch", "claim: plan.p is missing"),
        (no, "access_denied", "rule: no said no"),
    ],
)
async def test_refusals_are_403s_with_a_code_and_a_cause(rule: Any, code: str, cause: str) -> None:
    """The code is for the caller, the cause for the operator; values of claims are in neither."""
    error = await refused(rule)
    assert (error.status_code, error.code) == (403, code)
    assert error.cause.startswith(cause)
    assert not {"pro", "DE", "gold"}.intersection(error.cause.split())


async def test_a_missing_scope_is_challenged() -> None:
    """RFC 6750 section 3.1: the challenge names every scope that is needed."""
    error = await refused(require_scopes("voice:talk", "b"), NOBODY)
    challenge = 'Bearer error="insufficient_scope", scope="voice:talk b"'
    assert (error.headers or {})["WWW-Authenticate"] == challenge
    assert error.cause == "scope: lacks voice:talk, b; the caller has none"


async def test_what_a_caller_holds_is_shown_bounded_and_printable() -> None:
    """A token may say anything in its scopes; a log line stays one line of sane length."""
    who = Identity(subject="s", scopes=frozenset({"\x1b[2J\n", "é" * 5_000}))
    error = await refused(require_scopes("a"), who)
    assert error.cause.isprintable()
    assert error.cause.isascii()
    assert len(error.cause) < 300


async def test_a_rule_answers_in_its_authors_words() -> None:
    """What `deny()` is given goes to the caller."""

    def pro_only(who: Identity) -> bool | AccessDeniedError:
        return deny("no_plan", "Voice is part of the Pro plan.")

    error = await refused(pro_only)
    assert isinstance(error, AccessDeniedError)
    assert (error.status_code, error.code) == (403, "no_plan")
    assert error.detail == "Voice is part of the Pro plan."
    assert error.cause.startswith("rule: ")
    assert error.cause.endswith("pro_only said no_plan")


async def test_a_denial_that_is_a_constant_is_not_shared() -> None:
    """Each caller gets an error of their own, so no traceback grows from request to request."""
    constant = AccessDeniedError(
        "No.", code="closed", cause="weekend: closed", headers={"X-A": "b"}
    )
    first, second = await refused(lambda _: constant), await refused(lambda _: constant)
    assert first is not second
    assert constant not in (first, second)
    assert (first.code, first.cause, (first.headers or {})["X-A"]) == (
        "closed",
        "weekend: closed",
        "b",
    )


async def test_a_denial_is_falsy() -> None:
    """`deny(…) and yes` must not admit by the truth of an object."""
    error = await refused(lambda who: deny("closed", "Closed.") and yes(who))
    assert error.code == "closed"
    assert await decided(lambda who: deny("closed", "Closed.") or yes(who))


async def not_awaited(who: Identity) -> bool:
    """Admit, if anybody waits for it."""
    return True


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (lambda who: None, "NoneType"),
        (lambda who: 1, "int"),
        (lambda who: "yes", "str"),
        (lambda who: [True], "list"),
        (lambda who: InvalidRequestError(), "InvalidRequestError"),
        (lambda who: not_awaited(who), "coroutine"),
        (lambda who: require_roles("admin"), "Rule"),
    ],
)
async def test_anything_but_a_decision_refuses_and_says_so(
    result: Callable[[Identity], Any], kind: str
) -> None:
    """A rule that forgets to decide admits nobody; the log names it and its mistake."""
    error = await refused(result)
    assert (error.status_code, error.code, error.detail) == (
        403,
        "access_denied",
        AccessDeniedError.default_detail,
    )
    assert "<lambda>" in error.cause
    assert f"returned a {kind}" in error.cause
    assert ("await missing" in error.trace) is (kind == "coroutine")


async def test_a_rule_that_fails_is_a_503() -> None:
    """A fault of ours is no verdict on the caller; its traceback is for the log alone."""

    def broken(who: Identity) -> bool:
        raise KeyError("row 17")

    error = await refused(broken)
    assert isinstance(error, UnavailableError)
    assert error.cause.endswith("broken raised KeyError")
    assert error.__cause__ is None
    assert "row 17" in error.trace
    assert "row 17" not in f"{error} {error!r} {error.cause}"


async def test_an_error_raised_on_purpose_passes_through() -> None:
    """A rule may raise what it could have returned, or any answer of the gate's."""
    intended = AccessDeniedError("Not on Sundays.", code="sunday")

    def never_on_sunday(who: Identity) -> bool:
        raise intended

    told = await refused(never_on_sunday)
    assert (type(told), told.code, told.detail) == (AccessDeniedError, "sunday", "Not on Sundays.")


async def test_an_error_that_is_a_constant_stays_what_it_is() -> None:
    """However often it is raised, and whatever is said beside it."""
    constant = AccessDeniedError(code="no_plan", cause="no plan")

    def rule(who: Identity) -> bool:
        raise constant

    for _ in range(50):
        told = await refused(any_of(rule, rule, no))
        assert told.cause.startswith("no plan; and ")
    assert constant.cause == "no plan"
    assert constant.__traceback__ is None


async def test_all_of_stops_at_the_first_no() -> None:
    """The answer is that rule's; later rules are not asked."""
    asked: list[str] = []

    async def third(who: Identity) -> bool:
        asked.append("third")
        return True

    error = await refused(all_of(yes, require_scopes("missing"), third))
    assert (error.code, asked) == ("insufficient_scope", [])
    await decided(all_of(yes, third))
    assert asked == ["third"]


async def test_any_of_stops_at_the_first_yes() -> None:
    """Later rules are not asked; where all say no, the first one's answer is given."""
    asked: list[str] = []

    def third(who: Identity) -> bool:
        asked.append("third")
        return False

    await decided(any_of(no, yes, third))
    assert asked == []
    error = await refused(any_of(require_scopes("missing"), third))
    assert (error.code, asked) == ("insufficient_scope", ["third"])


@pytest.mark.usefixtures("caplog")
async def test_any_of_outlives_a_rule_that_cannot_be_asked() -> None:
    """Another rule may still admit; without one the no is not certain, and the answer is 503."""

    def broken(who: Identity) -> bool:
        raise OSError

    assert await decided(any_of(broken, yes))
    assert (await refused(any_of(no, broken, no))).status_code == 503
    assert (await refused(all_of(yes, broken, no))).status_code == 503


@pytest.mark.parametrize(
    ("build", "hint"),
    [
        (lambda: require_scopes(), 'require_scopes("voice:talk", "agents:read")'),
        (lambda: require_scopes("a b"), "each an argument of its own"),
        (lambda: require_scopes(""), "one or more names"),
        (lambda: require_scopes('a"b'), "one or more names"),
        (lambda: require_scopes("a\\b"), "one or more names"),
        (lambda: require_scopes("é"), "one or more names"),
        (lambda: require_scopes(["a", "b"]), "each an argument of its own"),  # type: ignore[arg-type]
        (lambda: require_roles(), 'require_roles("agent", "admin")'),
        (lambda: require_roles("a\nb"), "one or more names"),
        (lambda: require_claims(), 'require_claims(plan="pro")'),
        (lambda: require_claims("plan"), 'require_claims(plan="pro")'),  # type: ignore[arg-type]
        (lambda: require_claims(plans=["pro"]), "for lists write a function"),
        (lambda: require_claims(plan=None), "string, number or boolean"),
        (lambda: require_claims({"plan": "pro"}, plan="free"), "each claim once"),
        (lambda: require_claims({(): "pro"}), 'claim("realm_access", "roles")'),
        (lambda: all_of(), "all_of(rule, …)"),
        (lambda: any_of(), "any_of(rule, …)"),
        (lambda: all_of(True), "(identity, connection)"),  # type: ignore[arg-type]
        (lambda: deny("No Plan", "x"), "snake_case"),
        (lambda: deny(3, "x"), "snake_case"),  # type: ignore[arg-type]
        (lambda: deny("no_plan", ""), "1 to 300"),
        (lambda: deny("no_plan", "x" * 301), "1 to 300"),
        (lambda: deny("no_plan", "a\nb"), "printable"),
        (lambda: deny("no_plan", "\ud800"), "printable"),
        (lambda: deny("no_plan", None), "printable"),  # type: ignore[arg-type]
    ],
)
def test_a_rule_that_cannot_be_meant_is_a_configuration_error(
    build: Callable[[], Any], hint: str
) -> None:
    """The text of the error shows how to write it instead."""
    with pytest.raises(ConfigurationError) as caught:
        build()
    assert hint in str(caught.value)
