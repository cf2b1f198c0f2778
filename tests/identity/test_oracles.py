"""We accept ⇒ joserfc and PyJWT accept: mutated tokens, judged by three readers.

One way only: being stricter than the others is the purpose.
"""

import json
import time
from typing import Any, Final

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import KeySet as TheirKeySet
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry
from support.bad_tokens import FOR_ANYBODY, FOR_PLAIN_JWT
from support.signing import (
    AUDIENCE,
    EC,
    ED,
    ISSUER,
    KEYS,
    RSA,
    Signer,
    b64,
    good_claims,
    raw,
    unb64,
)

from xuna_middleware import Credentials, Identity, InvalidTokenError, JWTVerifier

#: joserfc wants `Ed25519` said instead (RFC 9864); providers say both.
pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")

ALGORITHMS: Final = ["RS256", "RS384", "RS512", "PS256", "ES256", "EdDSA", "Ed25519"]
SIGNERS: Final = {signer.kid: signer for signer in (RSA, EC, ED)}
THEIR_KEYS: Final = TheirKeySet.import_key_set(KEYS)  # type: ignore[arg-type]
VERIFIER: Final = JWTVerifier(
    issuer=ISSUER, audience=AUDIENCE, jwks=KEYS, token_types=("at+jwt", "JWT", "")
)


def live_claims(**changes: Any) -> dict[str, Any]:
    """Return good claims for the real clock, since PyJWT knows no other."""
    now = time.time()
    return {**good_claims(), "iat": now - 10, "exp": now + 600, **changes}


async def ours(token: str) -> Identity | None:
    """Return whom we believe the token names; None where we refuse it."""
    try:
        return await VERIFIER.verify(Credentials(scheme="bearer", token=token))
    except InvalidTokenError:
        return None


def by_joserfc(token: str) -> dict[str, Any]:
    """Verify with joserfc, strictly configured, or raise."""
    header = jwt.get_unverified_header(token)
    types = {"ES": "EC", "Ed": "OKP"}
    bare = [key for key in THEIR_KEYS if key.key_type == types.get(header["alg"][:2], "RSA")]
    keys = THEIR_KEYS if "kid" in header else bare[0]
    # Unknown header parameters are to be ignored (RFC 7515 section 4), which is not its default.
    lenient = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
    verified = jws.deserialize_compact(token, keys, registry=lenient)
    claims: dict[str, Any] = json.loads(verified.payload)
    rules: dict[str, Any] = {"essential": True}
    registry = JWTClaimsRegistry(
        leeway=30,
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": AUDIENCE},
        exp=rules,  # type: ignore[arg-type]
        sub=rules,  # type: ignore[arg-type]
    )
    registry.validate(claims)
    return claims


def by_pyjwt(token: str) -> dict[str, Any]:
    """Verify with PyJWT, strictly configured, or raise."""
    kid = jwt.get_unverified_header(token).get("kid")
    keys = jwt.PyJWKSet.from_dict(KEYS)
    fitting = [key for key in keys.keys if key.key_id == kid] if kid is not None else keys.keys
    named = jwt.get_unverified_header(token)["alg"]
    candidates = fitting if kid is not None else [key for key in fitting if _fits(key, named)]
    claims: dict[str, Any] = jwt.decode(
        token,
        candidates[0].key,
        algorithms=["RS256", "RS384", "RS512", "PS256", "ES256", "EdDSA"],
        audience=AUDIENCE,
        issuer=ISSUER,
        leeway=30,
        options={"require": ["exp", "iat", "iss", "aud", "sub"]},
    )
    return claims


def _fits(key: Any, algorithm: str) -> bool:
    families = {"RSA": ("RS", "PS"), "EC": ("ES",), "OKP": ("Ed",)}
    return algorithm[:2] in families[key.key_type]


async def judged(token: str) -> bool:
    """Check the implication for one token; tell whether we accepted it."""
    identity = await ours(token)
    if identity is None:
        return False
    claims = by_joserfc(token)
    assert claims["sub"] == identity.subject
    if jwt.get_unverified_header(token)["alg"] != "Ed25519":  # PyJWT knows it as EdDSA only
        assert by_pyjwt(token)["sub"] == identity.subject
    return True


@pytest.mark.parametrize("signer", SIGNERS.values(), ids=SIGNERS.keys())
async def test_good_token_is_accepted_by_all_three(signer: Signer) -> None:
    """The control: the oracle isn't true for want of anything accepted."""
    assert await judged(signer.token(live_claims()))


async def test_named_bad_tokens() -> None:
    """Each row of the tables that we accept would have to be accepted by all three (none is)."""
    rows = {**FOR_ANYBODY, **FOR_PLAIN_JWT}
    assert [name for name, make in rows.items() if await judged(make())] == []


odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from([AUDIENCE, ISSUER, [AUDIENCE], ["x", AUDIENCE], [], {}, "at+jwt", "JWT"]),
    st.lists(st.sampled_from([AUDIENCE, "x", 7]), max_size=2),
)
near_now = st.integers(-100, 100).map(lambda seconds: time.time() + seconds)
claim_changes = st.dictionaries(
    st.sampled_from(
        ["iss", "sub", "aud", "exp", "iat", "nbf", "typ", "scope", "cnf", "nonce", "x"]
    ),
    st.one_of(odd, near_now),
    max_size=3,
)
header_changes = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "cty", "zip", "jwk", "x", "url"]),
    st.one_of(odd, st.sampled_from([*ALGORITHMS, "none", "HS256", *SIGNERS])),
    max_size=2,
)


@given(
    signer=st.sampled_from(sorted(SIGNERS)),
    claims=claim_changes,
    header=header_changes,
    left_out=st.sets(
        st.sampled_from(["iss", "sub", "aud", "exp", "iat", "kid", "typ"]), max_size=1
    ),
)
@example(signer="rsa", claims={}, header={}, left_out=set())
async def test_signed_after_mutation(
    signer: str, claims: dict[str, Any], header: dict[str, Any], left_out: set[str]
) -> None:
    """Claims and headers changed, then signed well: only the reading decides."""
    which = SIGNERS[signer]
    full_header = {k: v for k, v in {**which.header(), **header}.items() if k not in left_out}
    full_claims = {k: v for k, v in live_claims(**claims).items() if k not in left_out}
    await judged(which.token(full_claims, full_header))


letters = st.sampled_from("ABab01-_=+/. \n")


@given(
    signer=st.sampled_from(sorted(SIGNERS)),
    at=st.floats(0, 1),
    letter=letters,
    how=st.sampled_from(["replaced", "inserted", "dropped", "doubled"]),
)
async def test_one_letter_changed(signer: str, at: float, letter: str, how: str) -> None:
    """One letter anywhere: nothing but the very token is accepted."""
    token = SIGNERS[signer].token(live_claims())
    place = min(int(at * len(token)), len(token) - 1)
    after = {"replaced": letter, "inserted": letter + token[place], "dropped": ""}
    mutated = token[:place] + after.get(how, token[place] * 2) + token[place + 1 :]
    accepted = await judged(mutated)
    assert accepted == (mutated == token)


@given(bit=st.integers(0, 8 * 64 - 1), signer=st.sampled_from(["ec", "ed"]))
async def test_one_bit_of_a_signature(bit: int, signer: str) -> None:
    """Each bit of a signature counts."""
    head, _, signature = SIGNERS[signer].token(live_claims()).rpartition(".")
    octets = bytearray(unb64(signature))
    octets[bit // 8] ^= 1 << bit % 8
    assert not await judged(f"{head}.{b64(bytes(octets))}")


@given(text=st.binary(max_size=60))
async def test_any_octets_as_payload(text: bytes) -> None:
    """Signed nonsense is nonsense."""
    assert not await judged(RSA.token(text))


@given(filler=st.sampled_from([b" ", b"\n", b"\t", b"\r"]), number=st.integers(0, 40))
async def test_white_space_in_the_payload(filler: bytes, number: int) -> None:
    """JSON's own white space changes nothing, for nobody."""
    text = raw(live_claims())
    assert await judged(RSA.token(filler * number + text + filler * number))
