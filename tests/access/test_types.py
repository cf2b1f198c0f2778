"""Declared kinds of variables and overrides, whichever side sets them, and required ones."""

from typing import Any

import pytest
from starlette.requests import HTTPConnection
from support.doubles import CountedPlatform, ask, bearer, make_gate
from support.signing import RSA, good_claims

from xuna_middleware import (
    Agent,
    ConfigurationError,
    Flag,
    Identity,
    Number,
    OneOf,
    Text,
    accept_language,
    claim,
)
from xuna_middleware.access.values.accept_language import best_language

ME = {"sub": "user-1"}


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Text(5), ["", "12345", "äöü"], ["123456", 1, True, None, "a\0", "\ud800"]),
        (Text(5, min_length=2), ["12"], ["1", ""]),
        (Text(5, required=True), ["1"], ["", 1]),
        (Number(), [0, -1.5, 2**53], [float("nan"), float("inf"), True, "1", 2**53 + 1]),
        (Number(0, 10), [0, 10, 9.99], [-0.1, 10.1]),
        (Number(minimum=0), [0, 10**9], [-1]),
        (Number(0, 10, whole=True), [3, 3.0], [3.5]),
        (Flag(), [True, False], [1, 0, "true", None]),
        (OneOf("de", "en"), ["de"], ["DE", "d", "", None]),
        (OneOf(1, True), [1, True], ["1", 1.0, 0, False]),
    ],
)
def test_kinds(kind: Any, good: list[Any], bad: list[Any]) -> None:
    """Type, length and bounds."""
    assert [kind.check(value) for value in good] == [None] * len(good)
    for value in bad:
        assert kind.check(value), value


@pytest.mark.parametrize(
    "make",
    [
        lambda: Text(0),
        lambda: Text(5000),
        lambda: Text(3, min_length=4),
        lambda: Text(3.5),  # type: ignore[arg-type]
        lambda: Text(True),
        lambda: Number(3, 2),
        lambda: Number(float("nan")),
        lambda: Number("1"),  # type: ignore[arg-type]
        lambda: OneOf(),
        lambda: OneOf([1]),
        lambda: OneOf(None),
    ],
)
def test_kinds_that_make_no_sense(make: Any) -> None:
    """Refused where they are written."""
    with pytest.raises(ConfigurationError):
        make()


async def post(agent: Agent, body: str, **claims: Any) -> tuple[int, str | None]:
    """Ask for a token and return status and code."""
    gate = make_gate(agents=[agent])
    headers = [
        *bearer(RSA.token(good_claims(**(ME | claims)))),
        (b"content-type", b"application/json"),
        (b"accept-language", b"fr;q=0.9, de-CH"),
    ]
    answer = await ask(
        gate, "/conversation-token", method="POST", headers=headers, body=body.encode()
    )
    return answer.status, answer.json().get("code")


def agent(**options: Any) -> Agent:
    return Agent("support", id="agent_1", **options)


CLIENT = {"variable_types": {"age": Number(0, 120)}, "client_variables": ("age", "note")}


@pytest.mark.parametrize(
    ("options", "body", "told"),
    [
        (CLIENT, '{"dynamic_variables": {"age": 40, "note": "x"}}', (200, None)),
        (CLIENT, '{"dynamic_variables": {"age": 121}}', (400, "invalid_variable")),
        (CLIENT, '{"dynamic_variables": {"age": "40"}}', (400, "invalid_variable")),
        (CLIENT, "{}", (200, None)),
        (
            {"client_overrides": {"agent.language": OneOf("de", "en")}},
            '{"overrides": {"agent": {"language": "de"}}}',
            (200, None),
        ),
        (
            {"client_overrides": {"agent.language": OneOf("de", "en")}},
            '{"overrides": {"agent": {"language": "fr"}}}',
            (400, "invalid_override"),
        ),
        (
            {"client_overrides": {"tts.speed": Number(0.8, 1.1)}},
            '{"overrides": {"tts": {"speed": 2}}}',
            (400, "invalid_override"),
        ),
        (
            {"client_overrides": {"tts.speed": Number(0.8, 1.1)}},
            '{"overrides": {"tts": {"voice_id": "x"}}}',
            (403, "override_not_allowed"),
        ),
    ],
)
async def test_what_clients_send(options: dict[str, Any], body: str, told: Any) -> None:
    """Declared kinds bind clients."""
    assert await post(agent(**options), body) == told


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (claim("age"), (403, "invalid_claim")),
        (lambda who: who.claims["age"], (503, "unavailable")),
    ],
)
async def test_what_the_server_says(source: Any, told: Any) -> None:
    """They bind claims and functions as well, each answered as ever."""
    options = {"variable_types": {"age": Number(0, 120)}, "dynamic_variables": {"age": source}}
    assert await post(agent(**options), "{}", age=40) == (200, None)
    assert await post(agent(**options), "{}", age=400) == told


async def test_what_a_mapping_function_says() -> None:
    """One function for all of them, too."""

    def all_of_them(who: Identity) -> dict[str, Any]:
        return {"age": who.claims["age"]}

    options = {"variable_types": {"age": Number(0, 120)}, "dynamic_variables": all_of_them}
    assert await post(agent(**options), "{}", age=40) == (200, None)
    assert await post(agent(**options), "{}", age=400) == (503, "unavailable")


REQUIRED = {"variable_types": {"name": Text(20, required=True)}, "client_variables": ("name",)}


class TestRequired:
    """Without them the platform would end the conversation; so it isn't begun."""

    async def test_from_the_client(self) -> None:
        """A 400, before anything is issued; without a body as well."""
        assert await post(agent(**REQUIRED), "{}") == (400, "variable_missing")
        body = '{"dynamic_variables": {"name": "Anna"}}'
        assert await post(agent(**REQUIRED), body) == (200, None)
        platform = CountedPlatform()
        gate = make_gate(platform, agents=[agent(**REQUIRED)])
        answer = await ask(gate, headers=bearer(RSA.token(good_claims())))
        assert (answer.status, answer.json()["code"]) == (400, "variable_missing")
        assert not platform.requests

    @pytest.mark.parametrize(
        ("returned", "told"),
        [({"name": "Anna"}, (200, None)), ({}, (503, "unavailable"))],
    )
    async def test_from_a_function(self, returned: Any, told: Any) -> None:
        """What it doesn't return is its author's fault."""
        options = {
            "variable_types": REQUIRED["variable_types"],
            "dynamic_variables": lambda who: returned,
        }
        assert await post(agent(**options), "{}") == told

    async def test_from_either(self) -> None:
        """Where the function leaves it to the client, the client is told."""
        options = {**REQUIRED, "dynamic_variables": lambda who: {}}
        assert await post(agent(**options), "{}") == (400, "variable_missing")
        body = '{"dynamic_variables": {"name": "Anna"}}'
        assert await post(agent(**options), body) == (200, None)

    def test_from_nobody(self) -> None:
        """Nobody could ever talk."""
        with pytest.raises(ConfigurationError, match="name: required"):
            agent(variable_types={"name": Text(required=True)})


@pytest.mark.parametrize(
    "options",
    [
        {"variable_types": ["name"]},
        {"variable_types": {"name": str}},
        {"variable_types": {"system__x": Text()}},
        {"variable_types": {"a b": Text()}},
        {"variable_types": {"age": Number(0, 9)}, "dynamic_variables": {"age": 10}},
        {"client_overrides": {"agent.language": "de"}},
        {"client_overrides": {"agent.color": Text()}},
    ],
)
def test_declarations_that_make_no_sense(options: dict[str, Any]) -> None:
    """Refused when the agent is built."""
    with pytest.raises(ConfigurationError):
        agent(**options)


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("DE", "de"),
        ("de-CH", "de"),
        ("de-Latn-CH-1996", "de"),
        ("pt", "pt-BR"),
        ("pt-PT", "en"),
        ("pt-BR", "pt-BR"),
        ("fr, de;q=0.5", "de"),
        ("de;q=0.5, pt-BR;q=0.8", "pt-BR"),
        ("de;q=0, en;q=0.1", "en"),
        ("de;q=0", "en"),
        ("*", "en"),
        ("*;q=0.1, de;q=0.2", "de"),
        ("fr", "en"),
        ("de;q=2", "en"),
        ("de;q=x, pt-BR", "pt-BR"),
        ("\0, ;;;, de", "de"),
        ("x" * 5000 + ",de", "en"),
    ],
)
def test_accept_language(header: str, language: str) -> None:
    """The best liked that the agent speaks, else the first."""
    assert best_language(header, ("en", "de", "pt-BR")) == language


async def test_language_of_the_request() -> None:
    """As the source of an override."""
    platform = CountedPlatform()
    one = agent(overrides={"agent.language": accept_language("en", "de")})
    gate = make_gate(platform, agents=[one])
    headers = [*bearer(RSA.token(good_claims())), (b"accept-language", b"fr, de-AT;q=0.8")]
    await ask(gate, "/conversation-token", headers=headers)
    assert b'"language":"de"' in platform.requests[0].content
    assert one.needs_connection


@pytest.mark.parametrize("languages", [(), ("",), ("english please",), (7,)])
def test_languages_that_are_none(languages: Any) -> None:
    """Told at once."""
    with pytest.raises(ConfigurationError, match="accept_language"):
        accept_language(*languages)


def test_language_function_has_the_usual_shape() -> None:
    """It can be called like any source."""
    scope = {"type": "http", "headers": [(b"accept-language", b"de")]}
    function = accept_language("en", "de")
    assert function(Identity(subject="u"), HTTPConnection(scope)) == "de"
