"""Nothing that a debugger, a log or a crash reporter renders shows a key, a token or a secret."""

import copy
import dataclasses
import logging
import pickle
import pprint
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx
import pytest
from support.doubles import (
    API_KEY,
    SIGNED_URL,
    CountedPlatform,
    ask,
    bearer,
    make_gate,
    make_verifier,
)
from support.signing import CANARY, RSA, b64, good_claims

from xuna_middleware import (
    Agent,
    ConfigurationError,
    Credentials,
    GateError,
    Identity,
    JWTVerifier,
    PostCallWebhook,
    XunaGate,
    XunaMiddleware,
    XunaPlatform,
)
from xuna_middleware.errors import PlatformError

SECRET: Final = b64(f"{CANARY}-{CANARY}-{CANARY}-{CANARY}-{CANARY}".encode())
SECRETS: Final = {"keys": [{"kty": "oct", "kid": "s", "k": SECRET}]}
FORBIDDEN: Final = (CANARY, SECRET, API_KEY, SIGNED_URL)


def things() -> dict[str, Any]:
    """Return what holds a secret, by name."""
    platform = XunaPlatform(API_KEY)
    verifier = JWTVerifier(
        issuer="x", audience="y", jwks=SECRETS, algorithms=("HS256",), clock=lambda: 0.0
    )
    agent = Agent("support", id="agent_1", dynamic_variables={"plan": CANARY})
    webhook = PostCallWebhook([SECRET, CANARY * 4])
    gate = XunaGate(verifier=verifier, agents=[agent], platform=platform, webhook=webhook)
    return {
        "webhook": webhook,
        "platform": platform,
        "verifier": verifier,
        "gate": gate,
        "middleware": XunaMiddleware(gate, gate),
        "credentials": Credentials(scheme="bearer", token=CANARY),
        "identity": Identity(subject="anna", claims={"email": CANARY}),
    }


RENDERINGS: Final[dict[str, Callable[[Any], Any]]] = {
    "repr": repr,
    "str": str,
    "format": lambda thing: f"{thing}",
    "percent": lambda thing: "%s %r" % (thing, thing),  # noqa: UP031
    "pprint": pprint.pformat,
    "in a list": lambda thing: repr([thing]),
    "copy": lambda thing: repr(copy.copy(thing)),
}


@pytest.mark.parametrize("rendering", RENDERINGS.values(), ids=RENDERINGS.keys())
@pytest.mark.parametrize("name", things())
def test_no_rendering_shows_a_secret(name: str, rendering: Callable[[Any], Any]) -> None:
    """Each way of turning a thing into text."""
    text = rendering(things()[name])
    assert not [secret for secret in FORBIDDEN if secret in text]


@pytest.mark.parametrize("name", ["platform", "verifier", "gate", "webhook"])
def test_no_walk_over_attributes_shows_the_key(name: str) -> None:
    """`vars()`, however deep, as an error reporter walks."""
    walked = _walk(things()[name])
    assert API_KEY not in walked
    assert CANARY * 4 not in walked


def _walk(thing: Any, depth: int = 8) -> str:
    """Render a thing and whatever its attributes lead to."""
    seen: set[int] = set()
    texts: list[str] = []
    level = [thing]
    for _ in range(depth):
        level = [each for each in level if id(each) not in seen]
        seen.update(map(id, level))
        texts += [_plain_text(each) for each in level]
        level = [member for each in level for member in _members(each)]
    return "\n".join(texts)


def _plain_text(thing: Any) -> str:
    return thing if isinstance(thing, str) else repr(thing)


def _members(thing: Any) -> Iterator[Any]:
    if isinstance(thing, dict):
        yield from thing.values()
    elif isinstance(thing, list | tuple | set | frozenset):
        yield from thing
    else:
        yield from getattr(thing, "__dict__", {}).values()
        for name in getattr(type(thing), "__slots__", ()):
            yield getattr(thing, name, None)


@pytest.mark.parametrize("name", ["platform", "gate", "verifier", "middleware", "webhook"])
def test_pickling_gives_nothing_away(name: str) -> None:
    """What could be written to a disk or a queue is refused, or holds no secret."""
    try:
        pickled = pickle.dumps(things()[name])
    except Exception as error:
        pickled = str(error).encode()
    assert CANARY.encode() not in pickled
    assert SECRET.encode() not in pickled


def test_as_dict_of_values_shows_no_pass() -> None:
    """`dataclasses.asdict` is for code that means to read; a repr of it is not."""
    credentials = Credentials(scheme="bearer", token=CANARY)
    assert CANARY in dataclasses.asdict(credentials)["token"]
    assert CANARY not in repr(credentials)


def rendered(error: BaseException) -> str:
    """Return an error as a crash reporter shows it: chain, locals and all."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(report.format(chain=True))


async def test_traceback_of_a_failing_platform_shows_no_key() -> None:
    """Through our frames, with their locals, and the whole chain of exceptions."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no")

    platform = XunaPlatform(API_KEY, http_transport=httpx.MockTransport(refuse))
    gate = make_gate(platform=platform)
    with pytest.raises(PlatformError) as caught:
        await gate.issue(Identity(subject="anna"), transport="websocket")
    await gate.aclose()
    assert API_KEY not in rendered(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("answer", ['{"signed_url": 7}', SIGNED_URL, '{"signed_url": "ws://x"}'])
async def test_platforms_words_are_not_passed_on(
    answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither to the caller nor to the log."""

    def handle(request: httpx.Request) -> httpx.Response:
        text = answer.replace("ws://x", f"wss://evil.example/?{CANARY}")
        return httpx.Response(200, text=text, headers={"x-secret": CANARY})

    with caplog.at_level(logging.DEBUG):
        gate = make_gate(platform=XunaPlatform(API_KEY, http_transport=httpx.MockTransport(handle)))
        response = await ask(gate, headers=bearer(RSA.token()))
    assert response.status == 502
    assert CANARY not in f"{response} {caplog.text}"


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 422, 429, 500, 503])
async def test_platforms_errors_are_not_passed_on(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Its status, body and headers stay between it and the operator, who reads a cause of ours."""

    def handle(request: httpx.Request) -> httpx.Response:
        headers = {"x-secret": CANARY, "set-cookie": CANARY, "location": f"https://{CANARY}/"}
        return httpx.Response(status, json={"detail": {"message": CANARY}}, headers=headers)

    with caplog.at_level(logging.DEBUG):
        gate = make_gate(platform=XunaPlatform(API_KEY, http_transport=httpx.MockTransport(handle)))
        response = await ask(gate, headers=bearer(RSA.token()))
    assert response.status in (502, 503)
    assert (response.header("retry-after") is not None) or response.status == 502
    assert CANARY not in f"{response} {caplog.text}"


async def test_token_of_a_caller_is_in_no_error() -> None:
    """Refused, failed or passed: what is raised renders without it, locals of it aside."""
    token = RSA.token(good_claims(aud="account"))
    with pytest.raises(GateError) as caught:
        await make_verifier().verify(Credentials(scheme="bearer", token=token))
    chain = "".join(traceback.format_exception(caught.value))
    assert token not in f"{chain} {caught.value!r} {caught.value.cause}"
    assert caught.value.__cause__ is None


class Careless:
    """A verifier of one's own, whose exceptions say too much."""

    def __init__(self, what: BaseException | Any) -> None:
        self._what = what

    async def verify(self, credentials: Credentials) -> Any:
        if isinstance(self._what, BaseException):
            raise type(self._what)(f"{self._what}: {credentials.token}")
        return self._what


@pytest.mark.parametrize(
    "what",
    [ValueError("bad"), KeyError("x"), RecursionError("x"), None, True, {"sub": "x"}],
    ids=repr,
)
async def test_careless_verifier_is_a_503_without_its_token(
    what: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected exception or a wrong value opens nothing, and the log holds no token."""
    platform = CountedPlatform()
    gate = make_gate(platform, verifier=Careless(what))
    with caplog.at_level(logging.DEBUG):
        answer = await ask(gate, headers=bearer(f"{CANARY}.{CANARY}"))
    assert answer.status == 503
    assert platform.requests == []
    assert f"{CANARY}.{CANARY}" not in caplog.text
    assert [record for record in caplog.records if record.levelno == logging.ERROR]


async def test_careless_exception_group_and_chain(caplog: pytest.LogCaptureFixture) -> None:
    """The token is masked wherever it stands in the traceback that is logged."""

    class Chained:
        async def verify(self, credentials: Credentials) -> Any:
            try:
                raise ValueError(credentials.token)
            except ValueError as inner:
                inner.add_note(f"token {credentials.token}")
                raise ExceptionGroup("all", [KeyError(credentials.token)]) from inner

    with caplog.at_level(logging.DEBUG):
        answer = await ask(make_gate(verifier=Chained()), headers=bearer(f"{CANARY}.x.{CANARY}"))
    assert answer.status == 503
    assert f"{CANARY}.x.{CANARY}" not in caplog.text
    assert "ValueError" in caplog.text


def test_refused_key_of_the_platform_is_not_repeated() -> None:
    """A key with a blank in it is refused without any part of it."""
    with pytest.raises(ConfigurationError) as caught:
        XunaPlatform(f"{CANARY} {CANARY}")
    text = rendered(caught.value)
    frames = [line for line in text.splitlines() if CANARY in line and "XunaPlatform(f" not in line]
    assert frames == []


def test_refused_secret_of_a_verifier_is_not_repeated() -> None:
    """Neither is an HMAC secret that is too short, in the text of the error."""
    with pytest.raises(ConfigurationError) as caught:
        JWTVerifier(
            issuer="x",
            audience="y",
            jwks={"keys": [{"kty": "oct", "k": b64(CANARY.encode())}]},
            algorithms=("HS256",),
        )
    assert CANARY not in str(caught.value)
    assert b64(CANARY.encode()) not in "".join(traceback.format_exception(caught.value))


async def test_missing_key_is_a_503_at_the_first_issue(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a lifespan nobody checked before: 503, and one ERROR line that names the fix."""
    monkeypatch.delenv("XUNA_AI_API_KEY", raising=False)
    gate = make_gate(platform=XunaPlatform())
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            answer = await ask(gate, headers=bearer(RSA.token()))
            assert answer.status == 503
            assert answer.header("retry-after") is not None
    errors = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "XUNA_AI_API_KEY" in errors[0]


def test_nothing_is_left_in_the_last_exception() -> None:
    """Interactive sessions keep the last exception: it holds no key either."""
    try:
        XunaPlatform(API_KEY, base_url="ftp://x")
    except ConfigurationError:
        text = "".join(traceback.TracebackException(*sys.exc_info(), capture_locals=True).format())
    own = [line for line in text.splitlines() if API_KEY in line and "API_KEY" not in line]
    assert own == []


class Broken(XunaPlatform):
    """A platform of one's own that fails in a way nobody foresaw."""

    async def issue(self, grant: Any) -> Any:
        raise RuntimeError("no such luck")


async def test_what_nobody_foresaw_is_a_503(caplog: pytest.LogCaptureFixture) -> None:
    """One answer, logged with its traceback, and without a token or a key in it."""
    with caplog.at_level(logging.DEBUG):
        answer = await ask(make_gate(Broken(API_KEY)), headers=bearer(RSA.token()))
    assert answer.status == 503
    assert "no such luck" in caplog.text
    assert API_KEY not in caplog.text
    assert RSA.token() not in caplog.text
