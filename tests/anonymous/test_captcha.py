"""Challenges for visitors: a service's verdict, and work that was really done."""

import hashlib
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from starlette.requests import HTTPConnection
from support.doubles import http_scope

from xuna_middleware import ConfigurationError, MemoryStore, ProofOfWork, hcaptcha, turnstile
from xuna_middleware.errors import UnavailableError
from xuna_middleware.stores import StoreError

SECRET = "cAnArY-site-secret"


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def request(*answers: str) -> HTTPConnection:
    """Return a request that carries these answers."""
    headers = [(b"xuna-challenge", answer.encode("utf-8")) for answer in answers]
    return HTTPConnection(http_scope(headers=headers))


def service(answer: Any, seen: list[httpx.Request] | None = None) -> httpx.MockTransport:
    """Stand in for siteverify."""

    def handle(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    return httpx.MockTransport(handle)


@pytest.mark.parametrize(
    ("make", "address"),
    [
        (turnstile, "https://challenges.cloudflare.com/turnstile/v0/siteverify"),
        (hcaptcha, "https://api.hcaptcha.com/siteverify"),
    ],
)
async def test_service_is_asked_as_documented(make: Callable[..., Any], address: str) -> None:
    """A form with the site's secret and the page's answer."""
    seen: list[httpx.Request] = []
    challenge = make(SECRET, http_transport=service({"success": True}, seen))
    assert await challenge.verify(request("from the page")) is True
    (sent,) = seen
    assert (sent.method, str(sent.url)) == ("POST", address)
    assert parse_qs(sent.content.decode()) == {"secret": [SECRET], "response": ["from the page"]}
    assert SECRET not in repr(challenge)
    await challenge.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        {"success": False, "error-codes": ["timeout-or-duplicate"]},
        {"success": "true"},
        {"success": 1},
        {},
    ],
)
async def test_only_true_passes(answer: Any) -> None:
    """Anything else is a no."""
    assert await turnstile(SECRET, http_transport=service(answer)).verify(request("x")) is False


@pytest.mark.parametrize("answers", [(), ("",), ("a", "b"), ("x" * 8193,)])
async def test_answers_that_are_none(answers: tuple[str, ...]) -> None:
    """Nobody is asked."""
    seen: list[httpx.Request] = []
    challenge = turnstile(SECRET, http_transport=service({"success": True}, seen))
    assert await challenge.verify(request(*answers)) is False
    assert not seen


@pytest.mark.parametrize(
    ("hostname", "passes"), [("www.acme.com", True), ("evil", False), (None, False)]
)
async def test_host_on_which_it_was_solved(hostname: Any, passes: bool) -> None:
    """Only where names are given."""
    transport = service({"success": True, "hostname": hostname})
    challenge = turnstile(SECRET, hostnames=("www.acme.com",), http_transport=transport)
    assert await challenge.verify(request("x")) is passes
    assert await turnstile(SECRET, http_transport=transport).verify(request("x")) is True


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ConnectError("refused"),
        httpx.Response(500, text="<html>"),
        httpx.Response(200, content=b"[]"),
        httpx.Response(200, content=b"x" * 100_000),
    ],
)
async def test_service_that_does_not_say(answer: Any) -> None:
    """It is no verdict: 503, and the secret is in no cause."""
    with pytest.raises(UnavailableError) as caught:
        await turnstile(SECRET, http_transport=service(answer)).verify(request("x"))
    assert SECRET not in caught.value.cause


@pytest.mark.parametrize("hostnames", ["acme.com", 7, None, ("",), (7,)])
def test_hostnames_that_are_none(hostnames: Any) -> None:
    """One text would be a set of letters."""
    with pytest.raises(ConfigurationError, match="hostnames"):
        turnstile(SECRET, hostnames=hostnames)


@pytest.mark.parametrize("secret", ["", None, "a\nb", 7])
def test_secrets_that_are_none(secret: Any) -> None:
    """Told at once."""
    with pytest.raises(ConfigurationError, match="secret"):
        turnstile(secret)


def puzzle_of(work: ProofOfWork) -> tuple[int, str]:
    match = re.fullmatch(r"work;bits=(\d+);puzzle=([\w-]+)", work.headers()["Xuna-Challenge"])
    assert match
    return int(match[1]), match[2]


def solve(bits: int, puzzle: str) -> str:
    number = 0
    while int.from_bytes(hashlib.sha256(f"{puzzle}.{number}".encode()).digest()) >> (256 - bits):
        number += 1
    return f"{puzzle}.{number}"


async def test_work_is_taken_once() -> None:
    """By all who share the store and the secret."""
    store, secret = MemoryStore(), "s" * 32
    one, other = (ProofOfWork(6, secret=secret, store=store) for _ in range(2))
    solution = solve(*puzzle_of(one))
    assert await other.verify(request(solution)) is True
    assert await one.verify(request(solution)) is False


async def test_work_in_time() -> None:
    """A puzzle ends; one that another worker's clock dated ahead is good, up to 30 seconds."""
    clock = Clock()
    work = ProofOfWork(4, seconds=60, clock=clock)
    late, early = solve(*puzzle_of(work)), solve(*puzzle_of(work))
    clock.now += 60
    assert await work.verify(request(late)) is False
    clock.now -= 91
    assert await work.verify(request(early)) is False
    clock.now += 1
    assert await work.verify(request(early)) is True


async def test_work_that_was_not_done() -> None:
    """Not enough bits, another's puzzle, or no puzzle at all."""
    work = ProofOfWork(12)
    _, puzzle = puzzle_of(work)
    good = solve(12, puzzle)
    wrong = next(f"{puzzle}.{n}" for n in range(99) if f"{puzzle}.{n}" != good)
    foreign = solve(12, puzzle_of(ProofOfWork(12))[1])
    for answer in (wrong, foreign, puzzle, f"{puzzle}.", f"{puzzle}.x", "", ".1", "--.1"):
        assert await work.verify(request(answer)) is False, answer
    assert await work.verify(request(f"{puzzle}.{'9' * 300}")) is False
    assert await work.verify(request(good, good)) is False
    assert await work.verify(request(good)) is True


async def test_work_without_a_store() -> None:
    """Whether it is the first time can't be known: 503."""

    class Down(MemoryStore):
        async def put(self, *about: Any, **options: Any) -> bool:
            raise StoreError("the store does not answer")

    work = ProofOfWork(4, store=Down())
    with pytest.raises(UnavailableError):
        await work.verify(request(solve(*puzzle_of(work))))


@pytest.mark.parametrize(
    "options", [{"bits": 0}, {"bits": 33}, {"bits": True}, {"seconds": 0}, {"secret": "short"}]
)
def test_work_that_makes_no_sense(options: dict[str, Any]) -> None:
    """Told at once."""
    with pytest.raises(ConfigurationError, match="ProofOfWork"):
        ProofOfWork(**options)
