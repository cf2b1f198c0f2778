"""What the steps of `--check` share: what was found so far, and how an answer is judged."""

import base64
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import httpx

from xuna_middleware.demo.stage import Stage
from xuna_middleware.demo.visitor import Visitor

SIGNED_URL: Final = "/xuna/get-signed-url"
_REFERENCE: Final = "Xuna-Gate-Ref"


@dataclass(slots=True, kw_only=True)
class Walk:
    """Hold what earlier steps found for later ones. Secrets are in no rendering.

    Attributes:
        log: what was logged so far, a line each.
        tokens: access tokens by person. passes: the platform's, as the gate answered, in order.
        carried: how many conversations the gate carried, each with a pass that it kept.
        refused: status, code and reference of every refusal.
        secrets: all that must turn up nowhere.
    """

    stage: Stage
    visitor: Visitor
    log: list[str] = field(repr=False)
    tokens: dict[str, str] = field(default_factory=dict, repr=False)
    passes: list[dict[str, Any]] = field(default_factory=list, repr=False)
    carried: int = 0
    refused: list[tuple[int, str, str]] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set, repr=False)

    @property
    def issued(self) -> int:
        """How many passes the platform should have given so far."""
        return len(self.passes) + self.carried


#: Returns nothing, or raises with what is wrong.
Step: TypeAlias = Callable[[Walk], Awaitable[None]]


def expect(condition: object, wrong: str) -> None:
    """Raise AssertionError, with words that hold no secret, unless the condition holds."""
    if not condition:
        raise AssertionError(wrong)


def signs_in(person: str) -> Step:
    """Return the step in which this person signs in."""

    async def step(walk: Walk) -> None:
        token = await walk.visitor.sign_in(person)
        walk.tokens[person] = token
        walk.secrets.add(token)
        me = await walk.visitor.get("/api/me", token)
        expect(me.status_code == httpx.codes.OK, f"the protected path answers {me.status_code}")
        name = next(one.name for one in walk.stage.provider.people if one.subject == person)
        expect(me.json()["name"] == name, "the app behind the gate sees somebody else")

    return step


def granted(walk: Walk, answer: httpx.Response, transport: str) -> dict[str, Any]:
    """Return the pass that the gate gave, once it is known to be one, and remember it."""
    expect(answer.status_code == httpx.codes.OK, f"the gate answers {answer.status_code}")
    given = dict(answer.json())
    walk.passes.append(given)
    walk.secrets.add(given.get("token") or given["signed_url"].partition("?")[2])
    expect(answer.headers["cache-control"] == "no-store", "the answer may be stored")
    expect(given["transport"] == transport, "the transport is another")
    return given


def refused(walk: Walk, answer: httpx.Response, status: int, code: str) -> None:
    """Check that the gate said no in the documented way, and that the platform gave nothing."""
    expect(answer.status_code == status, f"the gate answers {answer.status_code}, not {status}")
    expect(answer.headers["content-type"] == "application/problem+json", "it is no problem+json")
    expect(answer.json()["code"] == code, f"its code is {answer.json()['code']}")
    expect(answer.headers.get(_REFERENCE), "it has no reference")
    walk.refused.append((status, code, answer.headers[_REFERENCE]))
    expect(len(walk.stage.platform.issued) == walk.issued, "something was issued all the same")


def tampered(token: str, **claims: Any) -> str:
    """Return the token with claims changed and its old signature."""
    header, payload, signature = token.split(".")
    told = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    changed = json.dumps({**told, **claims}).encode()
    return f"{header}.{base64.urlsafe_b64encode(changed).decode().rstrip('=')}.{signature}"


def solved(puzzle: str) -> str:
    """Do the work of a challenge, as the page's `work.js` does."""
    bits, text = puzzle.removeprefix("work;bits=").split(";puzzle=")
    number = 0
    while _number_of(f"{text}.{number}") >> (256 - int(bits)):
        number += 1
    return f"{text}.{number}"


def _number_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest())


def leaks(secret: str, text: str) -> bool:
    """Say whether the secret, or its last part, which is the random one, is in the text."""
    return secret in text or secret[-24:] in text
