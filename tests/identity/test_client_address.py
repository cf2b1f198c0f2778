"""Verifier, authenticator, or both; several issuers; and code of an operator's own that fails."""

import asyncio
import logging
from typing import Any, Final

import pytest
from starlette.requests import HTTPConnection
from support.doubles import (
    CountedPlatform,
    ask,
    bearer,
    http_scope,
    in_fast_time,
    make_gate,
    make_verifier,
)
from support.signing import CANARY, ISSUER, RSA, good_claims

from xuna_middleware import (
    AccessDeniedError,
    ConfigurationError,
    Credentials,
    Identity,
    InvalidTokenError,
    Verifier,
)
from xuna_middleware.errors import NotAuthenticatedError, UnavailableError
from xuna_middleware.identity.authentication import Authentication, Caller
from xuna_middleware.identity.bound.request import Deployment
from xuna_middleware.identity.proxies.trusted import TrustedProxies
from xuna_middleware.stores.memory.store import MemoryStore

SURROUNDINGS: Final = Deployment(
    origin=None, store=MemoryStore(), trusted_proxies=TrustedProxies(()), certificate_header=None
)
ANNA: Final = Identity(subject="anna")
OWN_ANNA: Final = Identity(subject="anna", issuer="own")
SAME_ORIGIN: Final = [(b"sec-fetch-site", b"same-origin")]


def authentication_of(verifier: Any, authenticator: Any) -> Authentication:
    """Return what decides, of a gate that stands nowhere in particular."""
    return Authentication(verifier, authenticator, SURROUNDINGS)


async def anna(connection: HTTPConnection) -> Identity | None:
    return ANNA


async def nobody(connection: HTTPConnection) -> Identity | None:
    return None


class CallableObject:
    """An authenticator that is an object."""

    async def __call__(self, connection: HTTPConnection) -> Identity | None:
        return ANNA


class OwnVerifier:
    """A verifier of one's own."""

    def __init__(self, issuer: Any = "own") -> None:
        self.issuer = issuer

    async def verify(self, credentials: Credentials) -> Identity:
        return OWN_ANNA


class SyncVerifier:
    """Not a verifier: its method is no coroutine."""

    def verify(self, credentials: Credentials) -> Identity:
        return ANNA


def sync_authenticator(connection: HTTPConnection) -> Identity | None:
    return ANNA


@pytest.mark.parametrize(
    ("verifier", "authenticator"),
    [
        (None, None),
        ([], None),
        ((), anna),
        (SyncVerifier(), None),
        (object(), None),
        ([OwnVerifier(), SyncVerifier()], None),
        ([OwnVerifier("a"), OwnVerifier("a")], None),
        ([OwnVerifier("a"), OwnVerifier(None)], None),
        (None, sync_authenticator),
        (None, lambda connection: ANNA),
        (None, "anna"),
        (None, ANNA),
    ],
)
def test_who_calls_must_be_knowable(verifier: Any, authenticator: Any) -> None:
    """Neither, something sync, or two for one issuer: a ConfigurationError with the fix."""
    with pytest.raises(ConfigurationError):
        authentication_of(verifier, authenticator)


@pytest.mark.parametrize("authenticator", [anna, CallableObject(), CallableObject().__call__])
async def test_authenticator_of_any_async_kind(authenticator: Any) -> None:
    """A function, an object, a method; what it finds is ambient."""
    caller = await authentication_of(None, authenticator).authenticate(http_scope())
    assert caller == Caller(ANNA, True, "authenticator")


async def test_bearer_is_not_ambient() -> None:
    """No browser adds it by itself."""
    authentication = authentication_of(OwnVerifier(), anna)
    found = await authentication.authenticate(http_scope(headers=bearer("x")))
    assert found == Caller(OWN_ANNA, False, "verifier")
    found = await authentication.authenticate(http_scope())
    assert found == Caller(ANNA, True, "authenticator")


async def test_authenticator_alone_reads_the_header_itself() -> None:
    """Without a verifier an Authorization header is the authenticator's affair."""
    authentication = authentication_of(None, anna)
    caller = await authentication.authenticate(http_scope(headers=[(b"authorization", b"?")]))
    assert caller.ambient


async def test_nobody_is_found() -> None:
    """Nothing presented, nobody found: the bare challenge."""
    for authentication in (
        authentication_of(OwnVerifier(), nobody),
        authentication_of(None, nobody),
    ):
        with pytest.raises(NotAuthenticatedError):
            await authentication.authenticate(http_scope())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidTokenError(cause="session: expired"), 401),
        (AccessDeniedError("No."), 403),
        (UnavailableError(retry_after=9), 503),
        (ValueError(CANARY), 503),
        (KeyError(CANARY), 503),
        (TimeoutError(), 503),
        (OSError("no database"), 503),
    ],
    ids=repr,
)
async def test_authenticator_that_raises(
    error: Exception, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The gate's own errors are its answer; anything else is a 503 with a traceback in the log."""

    async def raises(connection: HTTPConnection) -> Identity | None:
        raise error

    platform = CountedPlatform()
    with caplog.at_level(logging.ERROR):
        answer = await ask(make_gate(platform, authenticator=raises), headers=SAME_ORIGIN)
    assert answer.status == status
    assert CANARY.encode() not in answer.body
    assert bool(caplog.records) == (type(error).__module__ == "builtins")
    assert platform.requests == []


@pytest.mark.parametrize("value", [True, "anna", {"subject": "anna"}, 0, False, ("anna",)])
async def test_authenticator_that_returns_something_else(value: Any) -> None:
    """Only an Identity is one; and only None is nobody."""

    async def returns(connection: HTTPConnection) -> Any:
        return value

    platform = CountedPlatform()
    answer = await ask(make_gate(platform, authenticator=returns), headers=SAME_ORIGIN)
    assert answer.status == 503
    assert platform.requests == []


def test_authenticator_that_hangs() -> None:
    """It has two seconds."""

    async def hangs(connection: HTTPConnection) -> Identity | None:
        await asyncio.Event().wait()
        return ANNA

    async def story() -> tuple[int, float]:
        answer = await ask(make_gate(authenticator=hangs), headers=SAME_ORIGIN)
        return answer.status, asyncio.get_running_loop().time()

    status, elapsed = in_fast_time(story())
    assert status == 503
    assert elapsed == pytest.approx(2, abs=0.1)


async def test_request_that_is_cancelled_stays_cancelled() -> None:
    """A cancellation is no failure of the authenticator, and no answer."""

    async def hangs(connection: HTTPConnection) -> Identity | None:
        await asyncio.Event().wait()
        return None

    task = asyncio.create_task(ask(make_gate(authenticator=hangs)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


OTHER: Final = "https://other.example.com"


async def test_issuer_picks_the_verifier() -> None:
    """Exactly, and before any of them is asked."""
    verifier: list[Verifier] = [make_verifier(), make_verifier(issuer=OTHER), OwnVerifier()]
    authentication = authentication_of(verifier, None)
    for issuer in (ISSUER, OTHER):
        token = RSA.token(good_claims(iss=issuer))
        caller = await authentication.authenticate(http_scope(headers=bearer(token)))
        assert caller.identity.issuer == issuer
    token = RSA.token(good_claims(iss="own"))
    caller = await authentication.authenticate(http_scope(headers=bearer(token)))
    assert caller.identity == OWN_ANNA


@pytest.mark.parametrize("issuer", [OTHER + "/", OTHER.upper(), OTHER[:-1], "", None, [OTHER], {}])
async def test_issuer_of_none(issuer: Any) -> None:
    """An `iss` that is nobody's, to the letter, is refused without asking anybody."""
    asked: list[Any] = []

    class Asked(OwnVerifier):
        async def verify(self, credentials: Credentials) -> Identity:
            asked.append(credentials)
            return ANNA

    authentication = authentication_of([Asked(OTHER), Asked("second")], None)
    token = RSA.token(good_claims(iss=issuer))
    with pytest.raises(InvalidTokenError):
        await authentication.authenticate(http_scope(headers=bearer(token)))
    assert asked == []


async def test_opaque_token_among_several_issuers() -> None:
    """What is no JWT names no issuer."""
    authentication = authentication_of([OwnVerifier("a"), OwnVerifier("b")], None)
    with pytest.raises(InvalidTokenError):
        await authentication.authenticate(http_scope(headers=bearer("opaque")))


async def test_list_of_one_verifier() -> None:
    """A list of one is that one, and takes opaque tokens if it does."""
    authentication = authentication_of([OwnVerifier(None)], None)
    assert await authentication.authenticate(http_scope(headers=bearer("opaque")))


def test_identity_is_frozen_to_the_bottom() -> None:
    """Nothing downstream can widen what was verified, not even by what it was made from."""
    claims: dict[str, Any] = {"a": {"b": [1, {"c": {2}}]}, "t": (1, [2])}
    scopes = {"x"}
    who = Identity(subject="anna", claims=claims, scopes=scopes, roles={"r"})
    claims["a"]["b"].append(3)
    scopes.add("y")
    assert who.claims["a"]["b"] == (1, {"c": frozenset({2})})
    assert who.claims["t"] == (1, (2,))
    assert who.scopes == {"x"}
    assert who.roles == {"r"}
    for change in (
        lambda: who.claims.update({"x": 1}),  # type: ignore[attr-defined]
        lambda: who.claims["a"].update({"x": 1}),
        lambda: setattr(who, "subject", "boss"),
        lambda: who.claims["a"]["b"][1].clear(),
    ):
        with pytest.raises((AttributeError, TypeError)):
            change()
    assert (who.is_authenticated, who.display_name, who.identity) == (True, "anna", "anna")
    assert hash(who) == hash(Identity(subject="anna", scopes=frozenset("x"), roles=frozenset("r")))


@pytest.mark.parametrize("option", ["scopes", "roles"])
def test_words_of_an_identity_are_a_set(option: str) -> None:
    """A text would be read letter by letter."""
    options: Any = {option: "voice:talk"}
    with pytest.raises(ConfigurationError, match=option):
        Identity(subject="anna", **options)


async def test_what_nobody_foresaw_admits_nobody() -> None:
    """Here a clock that tells no time."""
    clock: Any = lambda: "noon"  # noqa: E731
    with pytest.raises((InvalidTokenError, UnavailableError, TypeError)):
        await make_verifier(clock=clock).verify(Credentials(scheme="bearer", token=RSA.token()))
