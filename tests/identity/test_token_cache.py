"""Verified tokens are remembered: shortly, boundedly, and not beyond their keys."""

import asyncio
from typing import Any

import httpx
import pytest
from support.doubles import in_fast_time, make_verifier
from support.signing import ISSUER, NOW, RSA, good_claims, jwks, rsa_signer

from xuna_middleware import Credentials, Identity, InvalidTokenError
from xuna_middleware.identity import JWKSRefresh
from xuna_middleware.identity.jwt.token_cache import (
    MAX_OCTETS,
    MAX_TOKEN_LENGTH,
    MAX_TOKENS,
    SECONDS,
    RememberedTokens,
    fingerprint,
)

ANNA = Identity(subject="anna")


def put(
    tokens: RememberedTokens,
    key: bytes,
    *,
    not_before: float = 0,
    until: float = 10,
    octets: int = 1000,
    now: float = 0,
) -> None:
    tokens.put(key, ANNA, not_before, until, octets=octets, now=now)


def test_remembered_for_its_time_alone() -> None:
    """From the moment it is valid to the moment it isn't, the end excluded."""
    tokens = RememberedTokens()
    put(tokens, b"x", not_before=10, until=20)
    assert [tokens.get(b"x", now) for now in (9.9, 10, 19.9, 20)] == [None, ANNA, ANNA, None]
    assert tokens.get(b"y", 15) is None
    tokens.clear()
    assert tokens.get(b"x", 15) is None


def test_number_is_bounded_and_the_oldest_goes_first() -> None:
    """However many callers there are."""
    tokens = RememberedTokens()
    for number in range(MAX_TOKENS + 10):
        put(tokens, b"%d" % number)
    assert tokens.get(b"9", 1) is None
    assert tokens.get(b"10", 1) is ANNA
    assert len(tokens._entries) == MAX_TOKENS


def test_octets_are_bounded_and_the_oldest_goes_first() -> None:
    """However large their tokens are; what goes, or is dropped, makes room again."""
    tokens = RememberedTokens()
    fit = MAX_OCTETS // MAX_TOKEN_LENGTH
    for number in range(fit + 10):
        put(tokens, b"%d" % number, octets=MAX_TOKEN_LENGTH)
    assert tokens.get(b"9", 1) is None
    assert tokens.get(b"10", 1) is ANNA
    assert len(tokens._entries) == fit
    tokens.drop(b"12")
    put(tokens, b"11", octets=MAX_TOKEN_LENGTH)
    put(tokens, b"new", octets=MAX_TOKEN_LENGTH)
    assert tokens.get(b"10", 1) is ANNA
    tokens.clear()
    for number in range(fit):
        put(tokens, b"%d" % number, octets=MAX_TOKEN_LENGTH)
    assert tokens.get(b"0", 1) is ANNA


def test_what_is_too_large_is_not_remembered() -> None:
    """Nor is what was remembered of it before."""
    tokens = RememberedTokens()
    put(tokens, b"x", octets=MAX_TOKEN_LENGTH)
    assert tokens.get(b"x", 1) is ANNA
    put(tokens, b"x", octets=MAX_TOKEN_LENGTH + 1)
    assert tokens.get(b"x", 1) is None


def test_what_has_ended_goes_first() -> None:
    """A few callers after many: nothing is kept of those, a few entries at a time."""
    tokens = RememberedTokens()
    for number in range(1000):
        put(tokens, b"%d" % number)
    for number in range(1000, 1400):
        put(tokens, b"%d" % number, until=100, now=10)
        assert len(tokens._entries) >= 1000 - 4 * (number - 999)
    assert len(tokens._entries) == 400
    assert tokens.get(b"1000", 50) is ANNA


def test_remembering_again_costs_nobody_their_place() -> None:
    """A full memory forgets nothing when a token it has comes back."""
    tokens = RememberedTokens()
    for number in range(MAX_TOKENS):
        put(tokens, b"%d" % number)
    put(tokens, b"7", not_before=5, until=15)
    assert tokens.get(b"0", 1) is ANNA
    assert tokens.get(b"7", 12) is ANNA


def test_fingerprint_is_of_the_whole_token() -> None:
    """The last letter counts, and the token can't be read out of it."""
    assert fingerprint("a" * 8000) != fingerprint("a" * 7999 + "b")
    assert len(fingerprint(RSA.token())) == 32


def credentials(token: str) -> Credentials:
    return Credentials(scheme="bearer", token=token)


async def test_same_identity_for_the_same_token() -> None:
    """The second time it is remembered; bad and long tokens never are."""
    verifier = make_verifier()
    token, long = RSA.token(), RSA.token(good_claims(pad="x" * MAX_TOKEN_LENGTH))
    assert await verifier.verify(credentials(token)) is await verifier.verify(credentials(token))
    first = await verifier.verify(credentials(long))
    assert first == await verifier.verify(credentials(long))
    assert first is not await verifier.verify(credentials(long))


async def test_remembered_for_a_minute_at_most() -> None:
    """After that the signature is checked anew."""
    now = [NOW]
    verifier = make_verifier(clock=lambda: now[0])
    token = RSA.token()
    first = await verifier.verify(credentials(token))
    now[0] += SECONDS - 0.1
    assert await verifier.verify(credentials(token)) is first
    now[0] += 0.1
    assert await verifier.verify(credentials(token)) is not first


async def test_one_verifier_remembers_nothing_for_another() -> None:
    """Good for one audience is not good for the other."""
    voice, other = make_verifier(), make_verifier(audience="other")
    await voice.verify(credentials(RSA.token()))
    with pytest.raises(InvalidTokenError):
        await other.verify(credentials(RSA.token()))


async def test_bad_tokens_are_not_remembered() -> None:
    """A flood of them leaves nothing behind."""
    verifier = make_verifier()
    for number in range(300):
        with pytest.raises(InvalidTokenError):
            await verifier.verify(credentials(RSA.token(good_claims(aud=f"{number}"))))
    assert not verifier._remembered._entries


def test_withdrawn_key_ends_what_is_remembered() -> None:
    """When the keys change, every token is checked anew against the new ones."""
    published: list[Any] = [jwks(RSA, rsa_signer("second"))]
    handler = httpx.MockTransport(lambda _: httpx.Response(200, json=published[0]))

    async def story() -> None:
        verifier = make_verifier(
            jwks_uri=f"{ISSUER}/keys",
            http_transport=handler,
            freshness=JWKSRefresh(refresh_after=20),
        )
        token = RSA.token()
        await verifier.verify(credentials(token))
        published[0] = jwks(rsa_signer("second"))
        await asyncio.sleep(21)
        with pytest.raises(InvalidTokenError):
            await verifier.verify(credentials(token))
        await verifier.aclose()

    in_fast_time(story())
