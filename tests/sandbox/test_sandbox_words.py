"""What agents say, and how it is filled in: pure tables."""

from typing import Any

import pytest

from xuna_middleware.sandbox import SandboxAgent
from xuna_middleware.sandbox.agents import fill, flatten
from xuna_middleware.sandbox.replies import MARK, opening, reply


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello {{user_name}}.", "Hello Ada."),
        ("Hello {{ user_name }}.", "Hello Ada."),
        ("{{count}} of {{price}}, {{vip}}", "3 of 1.5, true"),
        ("Nothing {{unknown}} here", "Nothing  here"),
        ("{{secret__key}} stays", "{{secret__key}} stays"),
        (
            "{user_name} and {{1x}} are no placeholders",
            "{user_name} and {{1x}} are no placeholders",
        ),
    ],
)
def test_placeholders_are_filled(text: str, words: str) -> None:
    """Every kind of scalar is spoken; a secret never is."""
    known: dict[str, Any] = {
        "user_name": "Ada",
        "count": 3,
        "price": 1.5,
        "vip": True,
        "secret__key": "hush",
    }
    assert fill(text, known) == words


@pytest.mark.parametrize(
    ("variables", "missing"),
    [
        ({}, ("plan", "user_name")),
        ({"plan": "pro"}, ("user_name",)),
        ({"plan": "pro", "user_name": ""}, ()),
    ],
)
def test_required_variables(variables: dict[str, Any], missing: tuple[str, ...]) -> None:
    """Required are those listed and those that the words name, less those with a default."""
    agent = SandboxAgent("agent_x", required_variables=("plan",), default_variables={"city": "?"})
    said = ("Hi {{user_name}} in {{city}} at {{system__time}} with {{secret__key}}",)
    assert agent.missing(variables, said=said) == missing


@pytest.mark.parametrize(
    ("overrides", "closed"),
    [
        ({}, ()),
        ({"agent.language": "de"}, ()),
        ({"conversation.text_only": True, "text_only": True}, ()),
        ({"agent.language": ""}, ("agent.language",)),
        ({"agent.language": None}, ("agent.language",)),
        ({"tts.voice_id": "v"}, ("tts.voice_id",)),
        ({"agent": "de"}, ("agent",)),
    ],
)
def test_override_switches(overrides: dict[str, Any], closed: tuple[str, ...]) -> None:
    """Only what is switched on is taken; empty and null are not "left out"."""
    agent = SandboxAgent("agent_x", allowed_overrides=frozenset({"agent.language"}))
    assert agent.closed(overrides) == closed


def test_overrides_by_path() -> None:
    """Nested objects become paths, empty ones nothing: the JS client sends those."""
    nested = {"agent": {"prompt": {"prompt": "p"}, "language": "de"}, "tts": {}}
    assert flatten(nested) == {"agent.prompt.prompt": "p", "agent.language": "de"}


def test_overrides_nested_without_end() -> None:
    """Depth is no way to a fault: below eight levels an object counts as a value."""
    nested: dict[str, Any] = {}
    for _ in range(900):
        nested = {"a": nested}
    assert list(flatten(nested)) == [".".join("a" * 9)]


@pytest.mark.parametrize(
    "wrong", [{"required_variables": "plan"}, {"allowed_overrides": "agent.language"}]
)
def test_a_lone_text_is_no_collection(wrong: dict[str, Any]) -> None:
    """A forgotten comma is an error with its fix, not a set of letters."""
    with pytest.raises(TypeError, match="collection of names"):
        SandboxAgent("agent_x", **wrong)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_duration_is_more_than_nothing(seconds: float) -> None:
    """No duration that would never end, or end before it begins."""
    with pytest.raises(ValueError, match="max_duration"):
        SandboxAgent("agent_x", max_duration=seconds)


def answer(text: str, turn: int = 1, **variables: Any) -> str:
    return reply(text, turn=turn, agent="Iris", prompt="You know {{topic}}.", variables=variables)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("Who are you?", "Iris"),
        ("who are you", "You know tea."),
        ("What do you know about me?", "plan is pro, topic is tea"),
        ("hello", "Hello, Ada"),
        ("thank you", "Ada"),
        ("Goodbye", "Ada"),
        ("Is it open?", "[sandbox]"),
        ("My printer is on fire", "My printer is on fire"),
        ("{plan} {0}", "{plan} {0}"),
        ("", "“”"),
    ],
)
def test_answers_fit_the_question(text: str, holds: str) -> None:
    """A rule picks the answer; whatever is said, it says that it is a sandbox."""
    words = answer(text, user_name="Ada", plan="pro", topic="tea")
    assert words.startswith(MARK)
    assert holds in words


def test_answers_vary() -> None:
    """The same words three times get three answers."""
    assert len({answer("The same again", turn=turn) for turn in (1, 2, 3)}) == 3


def test_reserved_variables_are_not_told() -> None:
    """Neither secrets nor the system's own names come up when it tells what it knows."""
    words = answer("what do you know about me", secret__key="hush", system__agent_id="agent_x")
    assert "hush" not in words
    assert "agent_x" not in words


def test_the_opening() -> None:
    """It is marked, filled, and left out where the user begins."""
    assert opening("Hello {{user_name}}", {"user_name": "Ada"}) == "[sandbox] Hello Ada"
    assert opening("", {}) == ""
