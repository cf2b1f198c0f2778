"""An agent's configuration: what is taken, what is refused while it is built, and how it reads."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from xuna_middleware.access.agents import Agent
from xuna_middleware.access.rules.rule import require_scopes
from xuna_middleware.access.values.fields import OVERRIDES
from xuna_middleware.access.values.sources import claim
from xuna_middleware.errors import ConfigurationError


def agent(**options: Any) -> Agent:
    """Build an agent without the type checker's help, as users do."""
    return Agent(**{"name": "support", "id": "agent_1", **options})


def test_an_agent_needs_only_a_name_and_an_id() -> None:
    """Everything else has a default that adds nothing and opens nothing."""
    plain = Agent("support", id="agent_1")
    assert plain.transports == ("websocket", "webrtc")
    assert (plain.client_variables, plain.client_overrides) == (frozenset(), frozenset())
    assert (plain.variable_names, plain.override_paths) == (frozenset(), frozenset())
    assert plain.plan.is_fixed
    assert not plain.needs_connection
    assert not plain.plan.fixed


def test_names_are_known_before_any_request() -> None:
    """The gate asks for them when it is built, to see what a client would have to carry."""
    built = agent(
        dynamic_variables={"plan": "pro", "email": claim("email"), "secret__key": lambda who: "k"},
        overrides={"agent.language": claim("locale", default="en"), "tts.speed": 1.1},
        client_variables=["page", "page"],
        client_overrides={"tts.voice_id"},
    )
    assert built.variable_names == {"plan", "email", "secret__key"}
    assert built.override_paths == {"agent.language", "tts.speed"}
    assert built.client_variables == frozenset({"page"})
    assert built.client_overrides == frozenset({"tts.voice_id"})
    assert agent(dynamic_variables=lambda who: {}).variable_names == frozenset()


@pytest.mark.parametrize(
    "option",
    [
        {"dynamic_variables": lambda who, connection: {}},
        {"dynamic_variables": {"a": lambda who, connection: "x"}},
        {"overrides": {"agent.language": lambda who, connection: "x"}},
        {"allow": lambda who, connection: True},
    ],
)
def test_a_function_of_two_anywhere_needs_the_connection(option: dict[str, Any]) -> None:
    """One is enough, wherever it stands."""
    assert agent(**option).needs_connection


def test_an_agent_cannot_be_changed() -> None:
    """Neither itself nor by way of what it was built from; the repr holds no value."""
    variables: dict[str, Any] = {"secret__key": "hunter2"}
    overrides: dict[str, Any] = {"agent.first_message": "hunter3"}
    built = agent(dynamic_variables=variables, overrides=overrides, allow=require_scopes("a"))
    variables["secret__key"] = overrides["agent.first_message"] = "other"
    assert built.dynamic_variables == {"secret__key": "hunter2"}
    assert built.overrides == {"agent.first_message": "hunter3"}
    assert "hunter" not in repr(built)
    assert len({built, built}) == 1
    with pytest.raises(FrozenInstanceError):
        built.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        built.overrides["agent.language"] = "de"  # type: ignore[index]


@pytest.mark.parametrize(
    "values",
    [
        {"agent.first_message": "x" * 4_096, "agent.language": "de"},
        {"agent.prompt.prompt": "x" * 32_768, "agent.prompt.llm": "m"},
        {"conversation.text_only": False, "tts.model_id": "m", "tts.voice_id": "v"},
        {"tts.speed": 1, "tts.stability": 0.5, "tts.similarity_boost": 0},
    ],
)
def test_overrides_of_the_right_type_are_taken(values: dict[str, Any]) -> None:
    """Literals are ready to be handed out as they are."""
    assert agent(overrides=values).plan.fixed.overrides == values


@pytest.mark.parametrize("value", ["", "x" * 4_096, "a\nb", 0, -(2**53), 2**53, 1.5, True, False])
def test_scalars_are_taken_as_variables(value: Any) -> None:
    """An empty text is a value of a variable, unlike of an override."""
    assert agent(dynamic_variables={"_a1": value}).plan.fixed.dynamic_variables == {"_a1": value}


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"name": ""}, "name must be 1 to 64 of A-Z a-z 0-9 . _ -"),
        ({"name": "a b"}, "name must be"),
        ({"name": "a" * 65}, "name must be"),
        ({"name": "agent\n"}, "name must be"),
        ({"name": None}, "name must be"),
        ({"id": ""}, "agent_7101…"),
        ({"id": "a b"}, "agent_7101…"),
        ({"id": "a\n"}, "agent_7101…"),
        ({"id": "a" * 129}, "agent_7101…"),
        ({"id": None}, "agent_7101…"),
        ({"allow": False}, "write a function of (identity) or (identity, connection)"),
        ({"transports": "webrtc"}, 'transports=("webrtc",)'),
        ({"transports": ()}, "some of 'websocket', 'webrtc' and 'relay'"),
        ({"transports": ("http",)}, "some of 'websocket'"),
        ({"relay": {"max_frame": 1024}}, "relay takes RelayRules(…)"),
        ({"user_id": "everybody"}, "user_id takes claim(…) or a function"),
        ({"transports": None}, "takes a tuple of strings"),
        ({"client_variables": "page"}, 'client_variables=("page",)'),
        ({"client_variables": (1,)}, "takes a tuple of strings"),
        ({"client_variables": {"page": "x"}}, "takes a tuple of strings"),
        ({"client_variables": ("1a",)}, "start with no digit"),
        ({"client_variables": ("secret__a",)}, "come from the server only"),
        ({"client_variables": ("system__a",)}, "the platform's own"),
        ({"client_overrides": "agent.language"}, 'client_overrides=("agent.language",)'),
        ({"client_overrides": ("agent.languages",)}, "there are agent.first_message, agent.lang"),
        ({"dynamic_variables": None}, "dynamic_variables takes a mapping"),
        ({"dynamic_variables": [("a", "b")]}, "dynamic_variables takes a mapping"),
        ({"dynamic_variables": dict}, "is no function"),
        ({"dynamic_variables": lambda: {"a": 1}}, "(identity, connection)"),
        ({"dynamic_variables": {"": "x"}}, "start with no digit"),
        ({"dynamic_variables": {"a-b": "x"}}, "start with no digit"),
        ({"dynamic_variables": {"a" * 65: "x"}}, "start with no digit"),
        ({"dynamic_variables": {3: "x"}}, "start with no digit"),
        ({"dynamic_variables": {"system__time": "x"}}, "the platform's own"),
        ({"dynamic_variables": {"System__time": "x"}}, "the platform's own"),
        ({"dynamic_variables": {"a": None}}, "not a NoneType; or give it claim(…) or a function"),
        ({"dynamic_variables": {"a": ["x"]}}, "not a list"),
        ({"dynamic_variables": {"a": float("nan")}}, "finite number"),
        ({"dynamic_variables": {"a": float("inf")}}, "finite number"),
        ({"dynamic_variables": {"a": 2**53 + 1}}, "finite number"),
        ({"dynamic_variables": {"a": "x" * 4_097}}, "at most 4096 characters"),
        ({"dynamic_variables": {"a": "x\0"}}, "no NUL"),
        ({"dynamic_variables": {"a": "\udc00"}}, "no lone surrogate"),
        ({"dynamic_variables": {"a": lambda: "x"}}, "dynamic_variables 'a': "),
        ({"dynamic_variables": {"a": str}}, "is no function"),
        ({"dynamic_variables": {"a": claim("a", default=None)}}, "not a NoneType"),
        ({"dynamic_variables": {"a": require_scopes("a")}}, "not a Rule"),
        ({"dynamic_variables": {f"a{n}": n for n in range(65)}}, "at most 64 variables"),
        ({"dynamic_variables": {f"a{n}": claim("a") for n in range(65)}}, "at most 64 variables"),
        ({"dynamic_variables": {f"a{n}": "x" * 4_000 for n in range(5)}}, "16384 characters"),
        ({"overrides": None}, "overrides takes a mapping"),
        ({"overrides": lambda who: {}}, "overrides takes a mapping"),
        ({"overrides": {"agent": {"language": "de"}}}, f"there are {', '.join(OVERRIDES)}"),
        ({"overrides": {"agent.language": ""}}, "leave out what is not set"),
        ({"overrides": {"agent.language": None}}, "leave out what is not set"),
        ({"overrides": {"agent.language": "x" * 65}}, "at most 64 characters"),
        ({"overrides": {"agent.language": claim("l", default="")}}, "leave out what is not set"),
        ({"overrides": {"conversation.text_only": 1}}, "must be True or False"),
        ({"overrides": {"tts.speed": "1"}}, "must be a finite number, not a str"),
        ({"overrides": {"tts.speed": True}}, "must be a finite number, not a bool"),
        ({"overrides": {"tts.speed": lambda: 1}}, "overrides 'tts.speed': "),
        (
            {"dynamic_variables": {"a": "x"}, "client_variables": ("a", "b")},
            "a: the server's value always wins",
        ),
        (
            {"overrides": {"tts.speed": 1}, "client_overrides": ("tts.speed",)},
            "tts.speed: the server's value always wins",
        ),
    ],
)
def test_what_cannot_work_is_refused_while_it_is_built(options: dict[str, Any], hint: str) -> None:
    """The text names the agent and how to fix it."""
    with pytest.raises(ConfigurationError) as caught:
        agent(**options)
    assert str(caught.value).startswith("Agent(")
    assert hint in str(caught.value)


def test_configuration_errors_repeat_no_value() -> None:
    """A secret that is too long is told of by its name."""
    with pytest.raises(ConfigurationError) as caught:
        agent(dynamic_variables={"secret__key": "hunter2" * 1_000})
    assert "secret__key" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("path", [(), ("",), ("a", 3), (["a"],)])
def test_a_claim_is_named_by_texts(path: tuple[Any, ...]) -> None:
    """A path has one text for each step."""
    with pytest.raises(ConfigurationError, match="one or more non-empty strings"):
        claim(*path)
