"""Keys at the face of a gate: sets that are refused whole, and algorithms that nobody allowed."""

from collections.abc import Mapping
from typing import Any, Final

import httpx
import pytest
from support.doubles import CHALLENGE, CountedPlatform, ask, bearer, make_gate, make_verifier
from support.signing import EC, ED, RSA, b64, jwks, rsa_signer

from xuna_middleware import ConfigurationError

SECRET: Final = {"kty": "oct", "kid": "s", "k": b64(b"k" * 64)}
PRIVATE: Final = {**EC.jwk, "kid": "private", "d": b64(b"d" * 32)}

MIXED: Final[Mapping[str, list[Mapping[str, Any]]]] = {
    "a secret beside public keys": [RSA.jwk, SECRET],
    "a private key beside public ones": [RSA.jwk, PRIVATE],
    "a private RSA member": [RSA.jwk, {**rsa_signer("two").jwk, "p": "AQAB"}],
}


@pytest.mark.parametrize("keys", MIXED.values(), ids=MIXED.keys())
async def test_set_that_gives_secrets_away_is_refused_whole(keys: Any) -> None:
    """Whoever published it doesn't tell public from private: 503 for all, its good keys too."""
    platform = CountedPlatform()
    provider = httpx.MockTransport(lambda request: httpx.Response(200, json={"keys": keys}))
    verifier = make_verifier(jwks_uri="https://id.example.com/jwks", http_transport=provider)
    gate = make_gate(platform, verifier=verifier)
    answer = await ask(gate, headers=bearer(RSA.token()))
    assert (answer.status, answer.header("retry-after")) == (503, "1")
    assert platform.requests == []
    await gate.aclose()


@pytest.mark.parametrize("keys", MIXED.values(), ids=MIXED.keys())
def test_given_set_that_gives_secrets_away(keys: Any) -> None:
    """Written down by the operator, it is a mistake that is told at once."""
    with pytest.raises(ConfigurationError, match="jwks"):
        make_verifier(jwks={"keys": keys})


async def test_one_broken_member_costs_itself_only() -> None:
    """The others go on."""
    keys = {"keys": [{**ED.jwk, "x": "AAAA"}, "x", {}, *jwks(RSA)["keys"]]}
    gate = make_gate(verifier=make_verifier(jwks=keys))
    assert (await ask(gate, headers=bearer(RSA.token()))).status == 200
    assert (await ask(gate, headers=bearer(ED.token()))).status == 401


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256", "PS384", "PS512"])
async def test_algorithm_of_the_key_that_the_verifier_does_not_take(algorithm: str) -> None:
    """An RSA key could verify it, and nobody said that it may."""
    platform = CountedPlatform()
    gate = make_gate(platform, verifier=make_verifier(jwks=jwks(RSA), algorithms=("RS256",)))
    token = rsa_signer("rsa", algorithm).token()
    answer = await ask(gate, headers=bearer(token))
    assert (answer.status, answer.header("www-authenticate")) == (401, CHALLENGE)
    assert platform.requests == []
    taken = make_gate(verifier=make_verifier(jwks=jwks(RSA), algorithms=("RS256", algorithm)))
    assert (await ask(taken, headers=bearer(token))).status == 200
