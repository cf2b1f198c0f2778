"""What the operator's own code returns and raises: no open gate, no 500, and no flood."""

import asyncio
import logging
from functools import partial
from typing import Any

import pytest
from starlette.requests import HTTPConnection
from support.doubles import CountedPlatform, ask, bearer, echo_app, make_gate, make_verifier
from support.signing import RSA

from xuna_middleware import (
    AccessDeniedError,
    Agent,
    ConfigurationError,
    Credentials,
    Event,
    GateError,
    Identity,
    XunaGate,
    XunaMiddleware,
)
from xuna_middleware.errors import UnavailableError
from xuna_middleware.gate import core_of

SAME_ORIGIN = [(b"sec-fetch-site", b"same-origin")]


def gate_of(answer: Any, platform: CountedPlatform) -> XunaGate:
    """Return a gate whose authenticator gives this answer, or raises it."""

    async def authenticator(connection: HTTPConnection) -> Any:
        value = answer() if callable(answer) else answer
        if isinstance(value, Exception):
            raise value
        return value

    return make_gate(platform, authenticator=authenticator)


@pytest.mark.parametrize("path", ["/", "/foo", "/foo/", "/api/x", "/foo.txt", "/xunafoo", "//x"])
async def test_everything_can_be_protected(path: str) -> None:
    """`protect=["/"]` leaves nothing open but the gate's own routes."""
    wrapped = XunaMiddleware(echo_app, make_gate(), protect=["/"])
    assert (await ask(wrapped, path)).status == 401
    assert (await ask(wrapped, path)).status == 401, "the second look is the first's"
    assert (await ask(wrapped, path, headers=bearer(RSA.token()))).status == 200


@pytest.mark.parametrize("subject", [None, "", 7, "a\nb", "x" * 256, b"ada"])
async def test_nobody_is_no_identity(subject: Any) -> None:
    """`Identity(subject=session.get("user"))` with nobody signed in must not be a caller."""
    with pytest.raises(ConfigurationError, match="returns None"):
        Identity(subject=subject)
    platform = CountedPlatform()
    gate = gate_of(lambda: Identity(subject=subject), platform)
    assert (await ask(gate, headers=SAME_ORIGIN)).status == 503
    assert platform.requests == []


@pytest.mark.parametrize("issuer", [None, "", 7])
def test_an_issuer_is_a_name(issuer: Any) -> None:
    """The pair of issuer and subject names a person, so both are there."""
    with pytest.raises(ConfigurationError):
        Identity(subject="ada", issuer=issuer)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Identity(subject="ada"), 200),
        (Identity(subject="ada", expires_at=4e9), 200),
        (Identity(subject="ada", expires_at=1.0), 401),
        (None, 401),
        ("ada", 503),
        (True, 503),
        (KeyError("x"), 503),
        (AccessDeniedError("Not you.", code="not_you"), 403),
        (GateError("Wait.", status_code=499, code="wait"), 499),
        (GateError("Later.", status_code=460), 460),
    ],
)
async def test_what_an_authenticator_answers(answer: Any, status: int) -> None:
    """An identity admits while it lasts; anything unforeseen is a 503, whatever its status says."""
    platform = CountedPlatform()
    given = await ask(gate_of(answer, platform), headers=SAME_ORIGIN)
    assert given.status == status
    assert len(platform.requests) == (status == 200)
    assert given.header("xuna-gate-ref") or status == 200


@pytest.mark.parametrize(
    "options",
    [
        {"status_code": 200},
        {"status_code": 204},
        {"status_code": 700},
        {"status_code": True},
        {"code": "Not A Code"},
        {"code": ""},
        {"detail": "two\nlines"},
        {"detail": "\ud800"},
        {"detail": 7},
        {"headers": {"X-A": "a\r\nSet-Cookie: b=c"}},
        {"headers": {"X-A": "ü"}},
        {"headers": {"Retry-After": 5}},
    ],
)
def test_an_error_that_could_not_be_sent_cannot_be_built(options: dict[str, Any]) -> None:
    """Where it is raised, the mistake is seen; on the wire it would be a 500, or a split answer."""
    with pytest.raises(ConfigurationError):
        GateError(**options)


class OddError(AccessDeniedError):
    """An error of the user's whose class wants arguments of its own."""

    def __new__(cls, *, reason: str) -> "OddError":
        return super().__new__(cls)

    def __init__(self, *, reason: str) -> None:
        super().__init__("No.", code=reason)


class OddVerifier:
    """A verifier of the user's that refuses in its own way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def verify(self, credentials: Credentials) -> Identity:
        raise self._error


@pytest.mark.parametrize("path", ["/api", "/xuna/get-signed-url"])
async def test_errors_of_any_shape_pass_through(path: str) -> None:
    """On protected paths and on the gate's routes alike."""
    gate = make_gate(verifier=OddVerifier(OddError(reason="odd_one")))
    wrapped = XunaMiddleware(echo_app, gate, protect=["/api"])
    answer = await ask(wrapped, path, headers=bearer("abc"))
    assert (answer.status, answer.json()["code"]) == (403, "odd_one")


async def test_failing_code_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A stranger's bad cookie can make an authenticator fail, but not fill a disk."""
    gate = gate_of(ValueError("bad cookie"), CountedPlatform())
    for _ in range(100):
        assert (await ask(gate, headers=SAME_ORIGIN)).status == 503
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert 1 <= len(errors) <= 3
    assert "ValueError: bad cookie" in errors[0].getMessage()


async def test_no_part_of_a_token_is_in_a_verifiers_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a verifier of one's own puts into its exception is blotted out, segment by segment."""
    token = RSA.token()
    _, payload, signature = token.split(".")
    gate = make_gate(verifier=OddVerifier(ValueError(f"bad {payload} and {signature}")))
    assert (await ask(gate, headers=bearer(token))).status == 503
    assert "bad … and …" in caplog.text
    assert payload not in caplog.text


async def test_a_partial_is_an_authenticator() -> None:
    """Dependencies may be bound to it."""

    async def authenticator(database: str, connection: HTTPConnection) -> Identity | None:
        return Identity(subject=database)

    gate = make_gate(authenticator=partial(authenticator, "ada"))
    assert (await ask(gate, headers=SAME_ORIGIN)).status == 200


async def test_a_refusal_behind_the_identity_names_it() -> None:
    """The operator sees whose browser was made to ask from elsewhere, and whose body was bad."""
    events: list[Event] = []
    gate = gate_of(Identity(subject="ada"), CountedPlatform())
    heard = make_gate(
        authenticator=core_of(gate).authentication.authenticator, on_event=[events.append]
    )
    assert (await ask(heard, headers=[(b"sec-fetch-site", b"cross-site")])).status == 403
    assert (await ask(heard, query=b"agent=a&agent=b", headers=SAME_ORIGIN)).status == 400
    refused = [event for event in events if event.name == "refused"]
    assert [(event.subject, event.transport) for event in refused] == [("ada", "websocket")] * 2


async def test_one_rule_that_cannot_be_asked_is_a_503_for_the_list() -> None:
    """What the caller may use is not known then; a rule that says no only leaves its agent out."""

    def broken(who: Identity) -> bool:
        raise KeyError

    def paywall(who: Identity) -> bool:
        raise GateError("Pay.", status_code=402, code="pay")

    agents = [Agent("a", id="agent_1"), Agent("b", id="agent_2", allow=paywall)]
    listed = await ask(make_gate(agents=agents), "/agents", headers=bearer(RSA.token()))
    assert [agent["name"] for agent in listed.json()["agents"]] == ["a"]
    agents.append(Agent("c", id="agent_3", allow=broken))
    assert (
        await ask(make_gate(agents=agents), "/agents", headers=bearer(RSA.token()))
    ).status == 503


async def test_the_servers_and_the_clients_variables_have_one_bound() -> None:
    """Together they are no more than one conversation is given."""
    agent = Agent(
        "support",
        id="agent_1",
        dynamic_variables=lambda who: {f"s{n}": "x" * 200 for n in range(40)},
        client_variables=[f"c{n}" for n in range(40)],
    )
    gate = make_gate(agents=[agent])
    who = Identity(subject="ada")
    few, many = {"c0": "x"}, {f"c{n}": "x" * 200 for n in range(40)}
    issued = await gate.issue(who, transport="websocket", dynamic_variables=few)
    assert len((issued.session or {})["dynamicVariables"]) == 41
    with pytest.raises(GateError) as caught:
        await gate.issue(who, transport="websocket", dynamic_variables=many)
    assert (caught.value.status_code, caught.value.code) == (400, "invalid_variable")


async def test_swaps_that_overlap_are_told() -> None:
    """Two tests that swap one gate at a time would leave the sandbox in it."""
    gate = make_gate()
    first, second = gate.overridden(verifier=make_verifier()), gate.overridden()
    before = gate.platform
    with pytest.raises(RuntimeError, match="overlap"), first:
        second.__enter__()
    with pytest.raises(RuntimeError, match="overlap"):
        second.__exit__(None, None, None)
    assert gate.platform is before


@pytest.mark.parametrize(
    "options",
    [
        {"on_event": [asyncio.sleep]},
        {"on_event": ["x"]},
        {"on_event": 7},
        {"agents": Agent("a", id="agent_1")},
        {"agents": []},
        {"agents": None},
        {"agents": [Agent("a", id="agent_1"), Agent("a", id="agent_2")]},
        {"platform": "k"},
        {"cors_origins": None},
        {"public_url": "https://acme.com/xuna?a=b"},
        {"public_url": "https://acme.com/xuna#a"},
        {"verifier": []},
        {"verifier": object()},
        {"authenticator": lambda connection: None},
    ],
)
def test_a_gate_that_makes_no_sense_is_not_built(options: dict[str, Any]) -> None:
    """The mistake is told where it is made."""
    defaults: dict[str, Any] = {"verifier": make_verifier(), "agents": [Agent("a", id="agent_1")]}
    with pytest.raises(ConfigurationError):
        XunaGate(**{**defaults, **options})


@pytest.mark.parametrize("options", [{"prefix": None}, {"prefix": 7}, {"protect": None}])
def test_a_middleware_that_makes_no_sense_is_not_built(options: dict[str, Any]) -> None:
    """Nor is a middleware."""
    with pytest.raises(ConfigurationError):
        XunaMiddleware(echo_app, make_gate(), **options)


def test_a_503_always_says_when_to_come_back() -> None:
    """In whole seconds, one at least."""
    assert (UnavailableError(retry_after=0.2).headers or {})["Retry-After"] == "1"
