"""Personal data: what clients may add, what the server says, and how the two are put together."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from xuna_middleware.access.agents import Agent
from xuna_middleware.access.grants import Personalization
from xuna_middleware.access.values.fields import OVERRIDES
from xuna_middleware.access.values.personalize import check_client, personalize
from xuna_middleware.access.values.sources import claim
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
    claims={
        "email": "anna@example.com",
        "locale": "de",
        "age": 30,
        "nothing": None,
        "realm_access": {"roles": ["a", "b"]},
        "essay": "x" * 5_000,
        "https://acme.com/plan": "pro",
    },
)
CONNECTION = HTTPConnection({"type": "http", "headers": []})
OPEN = Agent(
    "open",
    id="agent_1",
    client_variables=("page", "count", "vip"),
    client_overrides=(
        "agent.language",
        "agent.prompt.prompt",
        "tts.speed",
        "conversation.text_only",
    ),
)
WIDE = Agent("wide", id="agent_1", client_variables=tuple(f"v{n}" for n in range(80)))


async def told(agent: Agent, client: Personalization | None = None) -> Personalization:
    """Return what Anna's conversation is given."""
    return await personalize(agent, ANNA, CONNECTION, client or check_client(agent, None, None))


async def refused(agent: Agent) -> GateError:
    """Return the error that Anna meets."""
    with pytest.raises(GateError) as caught:
        await told(agent)
    return caught.value


def made(**options: Any) -> Agent:
    """Build an agent without the type checker's help, as users do."""
    return Agent("a", id="agent_1", **options)


# What a client sends


@pytest.mark.parametrize(
    ("variables", "overrides", "taken"),
    [
        (None, None, {}),
        ({}, {}, {}),
        ({"page": "/help", "count": 3, "vip": True}, None, {}),
        ({"page": "", "count": -(2**53), "vip": 0.5}, None, {}),
        (None, {"agent": {"language": "de"}}, {"agent.language": "de"}),
        (None, {"agent": {}, "tts": {"speed": 1.2}}, {"tts.speed": 1.2}),
        (
            None,
            {"agent": {"prompt": {"prompt": "Hi"}}, "conversation": {"text_only": True}},
            {"agent.prompt.prompt": "Hi", "conversation.text_only": True},
        ),
    ],
)
def test_what_the_agent_opens_is_taken(variables: Any, overrides: Any, taken: Any) -> None:
    """Variables as they are, overrides flat, by path."""
    client = check_client(OPEN, variables, overrides)
    assert client.dynamic_variables == (variables or {})
    assert client.overrides == taken


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ([], "invalid_variable"),
        ("page", "invalid_variable"),
        (0, "invalid_variable"),
        ({"page": None}, "invalid_variable"),
        ({"page": ["x"]}, "invalid_variable"),
        ({"page": {"x": 1}}, "invalid_variable"),
        ({"page": "x" * 4_097}, "invalid_variable"),
        ({"page": "\ud800"}, "invalid_variable"),
        ({"page": "a\0b"}, "invalid_variable"),
        ({"count": 2**53 + 1}, "invalid_variable"),
        ({"count": 10**5_000}, "invalid_variable"),
        ({"count": float("inf")}, "invalid_variable"),
        ({"count": float("nan")}, "invalid_variable"),
        ({"other": "x"}, "variable_not_allowed"),
        ({"Page": "x"}, "variable_not_allowed"),
        ({"page\n": "x"}, "variable_not_allowed"),
        ({"": "x"}, "variable_not_allowed"),
        ({3: "x"}, "variable_not_allowed"),
        ({"system__agent_id": "x"}, "variable_reserved"),
        ({"secret__token": "x"}, "variable_reserved"),
        ({"SECRET__token": "x"}, "variable_reserved"),
    ],
)
def test_variables_that_are_not_as_described_are_a_400(variables: Any, code: str) -> None:
    """Whatever is wrong with them; a name of the server's alone is no different from any other."""
    with pytest.raises(InvalidRequestError) as caught:
        check_client(OPEN, variables, None)
    assert (caught.value.status_code, caught.value.code) == (400, code)


@pytest.mark.parametrize(
    "variables",
    [{f"v{n}": n for n in range(65)}, {f"v{n}": "x" * 4_000 for n in range(5)}],
)
def test_variables_are_bounded_together(variables: dict[str, Any]) -> None:
    """However many an agent opens."""
    with pytest.raises(InvalidRequestError) as caught:
        check_client(WIDE, variables, None)
    assert caught.value.code == "invalid_variable"


@pytest.mark.parametrize(
    "overrides",
    [
        {"agent": {"first_message": "x"}},
        {"agent": {"first_message": None}},
        {"agent": {"firstMessage": "x"}},
        {"agent": {"prompt": {"llm": "x"}}},
        {"agent": {"prompt": {"language": "x"}}},
        {"agent": {"prompt.prompt": "x"}},
        {"agent.language": "de"},
        {"agent.prompt": {"prompt": "x"}},
        {"language": "de"},
        {"": {}},
        {"agent": {"": "x"}},
        {3: {"language": "de"}},
        {"tts": {"voice_id": "x"}},
    ],
)
def test_an_override_that_is_not_open_is_a_403(overrides: Any) -> None:
    """Known or not, and in any other spelling than the platform's."""
    with pytest.raises(AccessDeniedError) as caught:
        check_client(OPEN, None, overrides)
    assert (caught.value.status_code, caught.value.code) == (403, "override_not_allowed")


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        "agent",
        {"agent": None},
        {"agent": "x"},
        {"agent": {"prompt": "x"}},
        {"agent": {"language": ""}},
        {"agent": {"language": None}},
        {"agent": {"language": 3}},
        {"agent": {"language": {"x": "y"}}},
        {"agent": {"language": "x" * 65}},
        {"tts": {"speed": "fast"}},
        {"tts": {"speed": True}},
        {"tts": {"speed": float("nan")}},
        {"conversation": {"text_only": "yes"}},
        {"conversation": {"text_only": 1}},
    ],
)
def test_an_open_override_of_the_wrong_type_is_a_400(overrides: Any) -> None:
    """The platform would abort the session in silence; the gate says so."""
    with pytest.raises(InvalidRequestError) as caught:
        check_client(OPEN, None, overrides)
    assert (caught.value.status_code, caught.value.code) == (400, "invalid_override")


def test_a_deep_object_costs_nothing() -> None:
    """The walk goes as deep as known paths do, not as deep as a stranger nests."""
    deep: Any = "x"
    for _ in range(50_000):
        deep = {"prompt": deep}
    with pytest.raises(InvalidRequestError):
        check_client(OPEN, None, {"agent": deep})


MARK = "zq7"
texts = st.text(max_size=8).map(lambda text: MARK + text)
keys = st.sampled_from(
    ["page", "count", "vip", "secret__", "system__", "agent", "prompt", "language", "tts", "speed"]
)
keys |= st.sampled_from(list(OVERRIDES)) | texts
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.just("")
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4)
)
objects = st.none() | st.dictionaries(keys, anything, max_size=4)
FIXED_WORDS = {
    "dynamic_variables must be an object of short strings, finite numbers and booleans.",
    "overrides must be nested objects of the values that the platform takes there.",
    "Dynamic variables of this kind are not taken from clients.",
    "A dynamic variable is not one that this agent takes from clients.",
    "An override is not one that this agent takes from clients.",
}


@settings(max_examples=400, deadline=None)
@given(variables=anything | objects, overrides=anything | objects)
def test_whatever_a_client_sends_is_taken_whole_or_refused_in_fixed_words(
    variables: Any, overrides: Any
) -> None:
    """Two errors and no third, no echo; what is taken is what was sent, open, and fit for JSON."""
    try:
        client = check_client(OPEN, variables, overrides)
    except InvalidRequestError as error:
        assert_echoes_nothing(error, 400)
    except AccessDeniedError as error:
        assert_echoes_nothing(error, 403)
    else:
        assert client.dynamic_variables == (variables or {})
        assert set(client.dynamic_variables) <= set(OPEN.client_variables)
        assert set(client.overrides) <= set(OPEN.client_overrides)
        sent = [dict(client.dynamic_variables), dict(client.overrides)]
        json.dumps(sent, allow_nan=False, ensure_ascii=False).encode()


def assert_echoes_nothing(error: GateError, status: int) -> None:
    """The caller reads fixed words; the operator at most a name, in one line of sane length."""
    assert error.status_code == status
    assert error.detail in FIXED_WORDS
    assert MARK not in f"{error} {error!r} {error.code} {error.headers}"
    assert error.cause.isprintable()
    assert len(error.cause) < 200


@pytest.mark.parametrize(
    ("variables", "overrides", "cause"),
    [
        ({"other": "x"}, None, "client variable: other is not in client_variables"),
        ({"a b": "x"}, None, "client variable: a name that no variable has is not in"),
        ({"page": None}, None, "client variable: page must be a string, boolean or finite number"),
        (None, {"agent": {"first_message": "x"}}, "client override: agent.first_message is not o"),
        (None, {"a b": "x"}, "client override: an unknown path is not open"),
        (None, {"tts": {"speed": "x"}}, "client override: tts.speed must be a finite number"),
        (None, [], "client override: overrides is no object"),
        (None, {"agent": []}, "client override: agent is no object"),
    ],
)
def test_the_cause_tells_the_operator_what_was_wrong(
    variables: Any, overrides: Any, cause: str
) -> None:
    """By a name only where it is the form of one, and never by a value."""
    with pytest.raises(GateError) as caught:
        check_client(OPEN, variables, overrides)
    assert caught.value.cause.startswith(cause)


# What the server says


async def test_literals_cost_nothing_on_a_request() -> None:
    """One value, made when the agent was built, is handed out every time."""
    agent = made(dynamic_variables={"plan": "pro"}, overrides={"agent.language": "de"})
    first, second = await told(agent), await told(agent)
    assert first is second
    assert (first.dynamic_variables, first.overrides) == ({"plan": "pro"}, {"agent.language": "de"})


async def plan_name(who: Identity) -> str:
    """Look the plan up."""
    await asyncio.sleep(0)
    return f"plan of {who.subject}"


async def everything(who: Identity, connection: HTTPConnection) -> dict[str, Any]:
    """Look all variables up."""
    assert connection is CONNECTION
    return {"user_name": who.subject, "secret__key": "k", "age": 30}


async def test_literals_claims_and_functions_stand_beside_each_other() -> None:
    """Each variable and override has its own source."""
    agent = made(
        dynamic_variables={
            "product": "Acme",
            "email": claim("email"),
            "plan": claim("https://acme.com/plan"),
            "city": claim("address", "city", default="unknown"),
            "nothing": claim("nothing", default=0),
            "plan_name": plan_name,
            "roles": lambda who: ", ".join(who.claims["realm_access"]["roles"]),
            "has_connection": lambda who, connection: connection is CONNECTION,
        },
        overrides={
            "agent.first_message": lambda who: f"Hello {who.subject}",
            "agent.language": claim("locale"),
            "tts.speed": 1.1,
        },
    )
    personal = await told(agent)
    assert personal.dynamic_variables == {
        "product": "Acme",
        "email": "anna@example.com",
        "plan": "pro",
        "city": "unknown",
        "nothing": 0,
        "plan_name": "plan of anna",
        "roles": "a, b",
        "has_connection": True,
    }
    assert personal.overrides == {
        "agent.first_message": "Hello anna",
        "agent.language": "de",
        "tts.speed": 1.1,
    }


async def test_one_function_may_return_all_variables() -> None:
    """The shape of the README's example."""
    personal = await told(made(dynamic_variables=everything, overrides={"tts.speed": 1}))
    assert personal.dynamic_variables == {"user_name": "anna", "secret__key": "k", "age": 30}
    assert personal.overrides == {"tts.speed": 1}


async def test_what_is_given_out_cannot_be_changed() -> None:
    """Nothing downstream can add to it; its repr holds names alone."""
    assert repr(await told(made(dynamic_variables={"b": 1, "a": 2}))) == (
        "Personalization(['a', 'b'], [])"
    )
    for agent in (made(dynamic_variables={"a": "x"}), made(dynamic_variables=everything)):
        with pytest.raises(TypeError):
            (await told(agent)).dynamic_variables["b"] = "y"  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "code", "cause"),
    [
        ({"dynamic_variables": {"a": claim("x", "y")}}, "claim_missing", "claim: x.y is missing"),
        (
            {"dynamic_variables": {"a": claim("nothing")}},
            "claim_missing",
            "claim: nothing is missi",
        ),
        ({"dynamic_variables": {"a": claim("email", "x")}}, "claim_missing", "claim: email.x is m"),
        (
            {"overrides": {"agent.language": claim("lang")}},
            "claim_missing",
            "claim: lang is missing",
        ),
        (
            {"dynamic_variables": {"a": claim("realm_access", "roles")}},
            "invalid_claim",
            "claim: realm_access.roles, as a, must be a string, boolean or finite number, not a t",
        ),
        (
            {"dynamic_variables": {"a": claim("essay")}},
            "invalid_claim",
            "claim: essay, as a, must be at most 4096 characters",
        ),
        (
            {"overrides": {"agent.language": claim("age")}},
            "invalid_claim",
            "claim: age, as agent.language, must be a non-empty string, not a int",
        ),
    ],
)
async def test_a_claim_that_does_not_serve_is_a_403(
    options: dict[str, Any], code: str, cause: str
) -> None:
    """It is the provider's word about this caller, and no fault of ours: others get through."""
    error = await refused(made(**options))
    assert (error.status_code, error.code) == (403, code)
    assert error.cause.startswith(cause)


def raising(who: Identity) -> str:
    """Fail."""
    raise LookupError("anna@example.com")


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"dynamic_variables": {"a": lambda who: None}}, "not a NoneType"),
        ({"dynamic_variables": {"a": lambda who: "x" * 4_097}}, "at most 4096"),
        ({"dynamic_variables": {"a": lambda who: plan_name(who)}}, "not a coroutine"),
        ({"overrides": {"agent.language": lambda who: ""}}, "leave out what is not set"),
        ({"dynamic_variables": lambda who: None}, "must be a mapping, not a NoneType"),
        ({"dynamic_variables": lambda who: [("a", "b")]}, "must be a mapping, not a list"),
        ({"dynamic_variables": lambda who: plan_name(who)}, "must be a mapping, not a coroutine"),
        ({"dynamic_variables": lambda who: {"a": None}}, "'a' must be a string"),
        ({"dynamic_variables": lambda who: {"a b": "x"}}, "a name that it returns"),
        ({"dynamic_variables": lambda who: {3: "x"}}, "a name that it returns"),
        ({"dynamic_variables": lambda who: {"system__a": "x"}}, "a name that it returns"),
        ({"dynamic_variables": lambda who: dict.fromkeys(map("a{}".format, range(65)), 1)}, "many"),
        ({"dynamic_variables": {"a": raising}}, "raised LookupError"),
        ({"overrides": {"agent.language": raising}}, "raised LookupError"),
        ({"dynamic_variables": raising}, "raised LookupError"),
    ],
)
async def test_a_function_that_does_not_serve_is_a_503(options: dict[str, Any], cause: str) -> None:
    """The log is told the variable and what is wrong; no answer and no cause holds a value."""
    error = await refused(made(**options))
    assert isinstance(error, UnavailableError)
    assert cause in error.cause
    assert "anna@" not in f"{error} {error!r} {error.cause}"
    [option] = options
    assert error.cause.startswith(f"function: {option}")
    assert error.trace


async def test_an_error_raised_on_purpose_passes_through() -> None:
    """A function of the user's may refuse in its own words."""
    intended = AccessDeniedError("Your trial has ended.", code="trial_over")

    async def trial(who: Identity) -> str:
        raise intended

    assert await refused(made(dynamic_variables={"a": trial})) is intended


async def test_functions_run_in_the_order_written_one_at_a_time() -> None:
    """Two of them may share one database session."""
    steps: list[str] = []

    def step(name: str) -> Callable[[Identity], Any]:
        async def run(who: Identity) -> str:
            steps.append(f"{name} starts")
            await asyncio.sleep(0)
            steps.append(f"{name} ends")
            return "x"

        return run

    agent = made(dynamic_variables={"b": step("b"), "a": step("a")})
    await told(agent)
    assert steps == ["b starts", "b ends", "a starts", "a ends"]


async def test_functions_of_one_agent_share_one_time_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The deadline is set once, so the wait has an end however many functions there are."""
    limit = "xuna_middleware.access.values.sources.TIME_LIMIT"
    monkeypatch.setattr(limit, 0.0)

    async def in_time(who: Identity) -> str:
        monkeypatch.setattr(limit, 3_600.0)
        return "x"

    async def late(who: Identity) -> str:
        await asyncio.Event().wait()
        return "x"

    async with asyncio.timeout(5):
        error = await refused(made(dynamic_variables={"a": in_time, "b": late}))
    assert error.cause.startswith("function: dynamic_variables 'b': ")
    assert error.cause.endswith("late raised TimeoutError")
    assert "TimeoutError" in error.trace


async def test_without_a_connection_a_function_that_takes_one_is_a_configuration_error() -> None:
    """As for rules."""
    agent = made(dynamic_variables=everything)
    with pytest.raises(ConfigurationError, match="connection=request"):
        await personalize(agent, ANNA, None, Personalization())


# Both together


async def test_the_client_adds_to_what_the_server_says() -> None:
    """Neither side's values are lost."""
    agent = made(
        dynamic_variables={"plan": "pro"},
        overrides={"agent.language": "de"},
        client_variables=("page",),
        client_overrides=("tts.speed",),
    )
    client = check_client(agent, {"page": "/help"}, {"tts": {"speed": 1.2}})
    personal = await told(agent, client)
    assert personal.dynamic_variables == {"plan": "pro", "page": "/help"}
    assert personal.overrides == {"agent.language": "de", "tts.speed": 1.2}
    assert agent.plan.fixed.dynamic_variables == {"plan": "pro"}


async def test_a_clash_is_an_error_and_nothing_is_dropped() -> None:
    """A function may return a name that is open to clients, too: then neither is used."""
    agent = made(dynamic_variables=everything, client_variables=("user_name", "page"))
    client = check_client(agent, {"user_name": "mallory", "page": "/"}, None)
    with pytest.raises(InvalidRequestError) as caught:
        await told(agent, client)
    error = caught.value
    assert (error.status_code, error.code) == (400, "variable_conflict")
    assert error.cause == "conflict: the server sets user_name too"
    assert "mallory" not in f"{error} {error!r} {error.cause}"
    assert (await told(agent, check_client(agent, {"page": "/"}, None))).dynamic_variables[
        "page"
    ] == "/"


async def test_a_clash_of_overrides_is_an_error_too() -> None:
    """It can't come of `check_client()` for the same agent; a caller of another kind meets it."""
    agent = made(overrides={"tts.speed": 1})
    with pytest.raises(InvalidRequestError, match="the server sets"):
        await told(agent, Personalization(overrides={"tts.speed": 2}))
