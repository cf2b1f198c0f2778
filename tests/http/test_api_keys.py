"""API keys: for callers without a provider, sent as Bearer, kept as hashes."""

import logging
import time
from typing import Any, Final

import pytest
from support.doubles import CHALLENGE, CountedPlatform, ask, bearer, make_gate, make_verifier
from support.signing import NOW, RSA

from xuna_middleware import (
    Agent,
    APIKey,
    APIKeyVerifier,
    ConfigurationError,
    Credentials,
    Event,
    hash_api_key,
    new_api_key,
    require_scopes,
)
from xuna_middleware.identity import NewAPIKey

MADE: Final = new_api_key()
KIOSK: Final = APIKey(hash=MADE.hash, subject="kiosk-7", scopes=["voice:talk"], claims={"floor": 3})


def verifier(*keys: APIKey, **options: Any) -> APIKeyVerifier:
    return APIKeyVerifier(keys or (KIOSK,), **options)


async def test_key_opens() -> None:
    """As a Bearer token, without a header of its own page: it is not ambient."""
    platform = CountedPlatform()
    heard: list[Event] = []
    agents = [Agent("support", id="agent_1", allow=require_scopes("voice:talk"))]
    gate = make_gate(platform, verifier=verifier(), agents=agents, on_event=[heard.append])
    headers = [*bearer(MADE.key), (b"sec-fetch-site", b"cross-site")]
    assert (await ask(gate, headers=headers)).status == 200
    assert (heard[0].issuer, heard[0].subject) == ("api-key", "kiosk-7")


async def test_identity_of_a_key() -> None:
    """Everything that is written beside the hash is what the key proves."""
    made = new_api_key()
    key = APIKey(hash=made.hash, subject="x", scopes=["s"], roles=["r"], claims={"c": [1]})
    own = APIKeyVerifier([key], issuer="devices")
    identity = await own.verify(Credentials(scheme="bearer", token=made.key))
    assert (own.issuer, identity.issuer, identity.subject) == ("devices", "devices", "x")
    assert (identity.scopes, identity.roles) == (frozenset("s"), frozenset("r"))
    assert identity.claims == {"c": (1,)}


def mistyped(key: str) -> str:
    return key[:10] + ("a" if key[10] != "a" else "b") + key[11:]


@pytest.mark.parametrize(
    "key",
    [
        mistyped(MADE.key),
        new_api_key().key,
        MADE.key[:-1],
        MADE.key + "a",
        MADE.key.upper(),
        MADE.hash.replace(":", "_"),
        "xgk_",
        "xgk_" + "é" * 49,
        RSA.token(),
    ],
    ids=["mistyped", "unknown", "short", "long", "case", "hash", "prefix", "odd", "a JWT"],
)
async def test_other_keys_are_the_one_401(key: str, caplog: pytest.LogCaptureFixture) -> None:
    """Mistyped, unknown or no key at all: nothing is told apart, nothing is shown."""
    platform = CountedPlatform()
    with caplog.at_level(logging.DEBUG):
        answer = await ask(make_gate(platform, verifier=verifier()), headers=bearer(key))
    if "é" not in key:
        assert (answer.status, answer.header("www-authenticate")) == (401, CHALLENGE)
    assert answer.status in (400, 401)
    assert platform.requests == []
    assert key[4:] not in caplog.text or key == "xgk_"


async def test_beside_a_provider() -> None:
    """In a list each token goes where it belongs."""
    gate = make_gate(verifier=[make_verifier(), verifier()])
    assert (await ask(gate, headers=bearer(MADE.key))).status == 200
    assert (await ask(gate, headers=bearer(RSA.token()))).status == 200
    assert (await ask(gate, headers=bearer(new_api_key().key))).status == 401


async def test_rotation_is_a_list() -> None:
    """Old and new are good together, and stand for one subject."""
    newer = new_api_key()
    both = verifier(KIOSK, APIKey(hash=newer.hash, subject="kiosk-7"))
    gate = make_gate(verifier=both)
    for key in (MADE.key, newer.key):
        assert (await ask(gate, headers=bearer(key))).status == 200
    alone = make_gate(verifier=verifier(APIKey(hash=newer.hash, subject="kiosk-7")))
    assert (await ask(alone, headers=bearer(MADE.key))).status == 401


async def test_key_with_an_end() -> None:
    """Good until its last second, and not in it."""
    now = [NOW - 1]
    ending = APIKey(hash=MADE.hash, subject="guest", expires_at=NOW)
    gate = make_gate(verifier=verifier(ending, clock=lambda: now[0]))
    assert (await ask(gate, headers=bearer(MADE.key))).status == 200
    now[0] = NOW
    assert (await ask(gate, headers=bearer(MADE.key))).status == 401


async def test_dpop_scheme_is_not_for_keys() -> None:
    """No key can be bound to another."""
    headers = [(b"authorization", b"DPoP " + MADE.key.encode())]
    mixed = [make_verifier(dpop="accepted"), verifier()]
    for verifiers in (verifier(), mixed):
        gate = make_gate(verifier=verifiers, public_url="https://acme.com/xuna")
        answer = await ask(gate, headers=headers)
        assert (answer.status, answer.json()["code"]) == (401, "not_authenticated")


def test_keys_are_random_and_shown_by_nothing() -> None:
    """A repr has the hash alone; of a thousand keys no two begin alike."""
    assert MADE.key not in f"{MADE!r} {KIOSK!r} {verifier()!r}"
    assert repr(MADE) == f"NewAPIKey(hash={MADE.hash!r})"
    assert len({new_api_key().key[:20] for _ in range(1000)}) == 1000
    assert isinstance(MADE, NewAPIKey)
    assert len(MADE.key) == 53
    assert hash_api_key(MADE.key) == MADE.hash


@pytest.mark.parametrize(
    "make",
    [
        lambda: APIKey(hash=MADE.key, subject="x"),
        lambda: APIKey(hash=MADE.hash.upper(), subject="x"),
        lambda: APIKey(hash="", subject="x"),
        lambda: APIKey(hash=None, subject="x"),  # type: ignore[arg-type]
        lambda: APIKey(hash=MADE.hash, subject="x", expires_at="soon"),  # type: ignore[arg-type]
        lambda: verifier(APIKey(hash=MADE.hash, subject="")),
        lambda: verifier(APIKey(hash=MADE.hash, subject="x", scopes="one")),
        lambda: verifier(KIOSK, APIKey(hash=MADE.hash, subject="another")),
        lambda: APIKeyVerifier([]),
        lambda: APIKeyVerifier(None),  # type: ignore[arg-type]
        lambda: APIKeyVerifier(KIOSK),  # type: ignore[arg-type]
        lambda: APIKeyVerifier([MADE.key]),  # type: ignore[list-item]
        lambda: hash_api_key(mistyped(MADE.key)),
        lambda: hash_api_key(b"x"),  # type: ignore[arg-type]
    ],
)
def test_mistakes_are_told_at_once_without_the_key(make: Any) -> None:
    """A plain key where its hash belongs is likely, and the text must not hold it."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert MADE.key[4:30] not in str(caught.value)


async def test_as_fast_for_many_keys() -> None:
    """Ten thousand keys are looked up, not walked through."""
    keys = [APIKey(hash=f"sha256:{number:064x}", subject=f"s{number}") for number in range(10_000)]
    gate = make_gate(verifier=APIKeyVerifier([*keys, KIOSK]))
    began = time.process_time()
    for _ in range(200):
        assert (await ask(gate, headers=bearer(MADE.key))).status == 200
    assert time.process_time() - began < 2
