"""Signed URLs and tokens without a server: once, in time, genuine."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from xuna_middleware.sandbox.passes import (
    MAX_UNUSED,
    SIGNED_URL_LIFE,
    TOKEN_LIFE,
    Issued,
    PassError,
    Passes,
)

from .stage import Clock


def test_a_signature_works_once() -> None:
    """The second use of a signed URL is refused."""
    passes = Passes(clock=Clock())
    issued, signature = passes.sign("agent_one")
    assert passes.redeem_signature("agent_one", signature) == issued
    with pytest.raises(PassError, match="used before"):
        passes.redeem_signature("agent_one", signature)


@pytest.mark.parametrize(
    ("agent_id", "change"),
    [
        ("agent_two", lambda signature: signature),
        ("agent_one", lambda signature: signature[:-1]),
        ("agent_one", lambda signature: signature[:-2] + "AA"),
        ("agent_one", lambda signature: signature.upper()),
        ("agent_one", lambda signature: signature + "="),
        ("agent_one", lambda signature: signature.partition(".")[0]),
        ("agent_one", lambda _: ""),
        ("agent_one", lambda _: "conv_ä.\udcff"),
    ],
)
def test_a_changed_signature_is_refused_and_the_right_one_still_works(
    agent_id: str, change: object
) -> None:
    """Neither another agent nor another signature opens; trying doesn't spend the real one."""
    assert callable(change)
    passes = Passes(clock=Clock())
    issued, signature = passes.sign("agent_one")
    with pytest.raises(PassError):
        passes.redeem_signature(agent_id, change(signature))
    assert passes.redeem_signature("agent_one", signature) == issued


@pytest.mark.parametrize("kind", ["signed URL", "conversation token"])
@pytest.mark.parametrize("late", [0, 1, 10_000])
def test_passes_end(kind: str, late: int) -> None:
    """Fifteen minutes for a signed URL, ten for a token, not a second longer."""
    clock = Clock()
    redeem, life = _redeemable(Passes(clock=clock), kind)
    clock.now += life + late
    with pytest.raises(PassError, match=f"{kind} expired"):
        redeem()


@pytest.mark.parametrize("kind", ["signed URL", "conversation token"])
def test_passes_hold_until_their_end(kind: str) -> None:
    """In the last second they still open."""
    clock = Clock()
    redeem, life = _redeemable(Passes(clock=clock), kind)
    clock.now += life - 1
    assert redeem().agent_id == "agent_one"


def _redeemable(passes: Passes, kind: str) -> tuple[Callable[[], Issued], int]:
    if kind == "signed URL":
        _, signature = passes.sign("agent_one")
        return lambda: passes.redeem_signature("agent_one", signature), SIGNED_URL_LIFE
    _, token = passes.token("agent_one")
    return lambda: passes.redeem_token(token), TOKEN_LIFE


def test_the_token_has_the_shape_of_livekit() -> None:
    """An HS256 JWT with video grants for the one room that is named after the conversation."""
    clock = Clock()
    issued, token = Passes(clock=clock).token("agent_one", participant="Ada")
    header, claims = (_decoded(part) for part in token.split(".")[:2])
    assert (header["alg"], header["typ"]) == ("HS256", "JWT")
    assert claims["video"]["room"] == issued.conversation_id
    assert claims["video"]["roomJoin"] is True
    assert claims["sub"] == "Ada"
    assert claims["exp"] == clock.now + TOKEN_LIFE


def _decoded(part: str) -> dict[str, Any]:
    value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert isinstance(value, dict)
    return value


def test_a_token_works_once_and_brings_what_was_attached() -> None:
    """What was attached at creation comes back with it, the first time only."""
    passes = Passes(clock=Clock())
    _, token = passes.token("agent_one", dynamic_variables={"plan": "pro"})
    assert passes.redeem_token(token).dynamic_variables == {"plan": "pro"}
    for refused in (token, token[:-1], "", "a.b.c", "\udcff"):
        with pytest.raises(PassError):
            passes.redeem_token(refused)


def test_unused_passes_have_a_number() -> None:
    """Beyond the bound the oldest unused pass is forgotten, which refuses it."""
    passes = Passes(clock=Clock())
    _, oldest = passes.sign("agent_one")
    for _ in range(MAX_UNUSED):
        _, newest = passes.sign("agent_one")
    with pytest.raises(PassError):
        passes.redeem_signature("agent_one", oldest)
    assert passes.redeem_signature("agent_one", newest).agent_id == "agent_one"
    assert len(passes.issued) == 1_000


def test_no_rendering_shows_a_pass() -> None:
    """What is remembered of a pass holds no part of it, and no personal value in its repr."""
    passes = Passes(clock=Clock())
    issued, token = passes.token("agent_one", dynamic_variables={"user_name": "Ada Moreau"})
    assert token.split(".")[2] not in repr(issued)
    assert "Moreau" not in repr(issued)
