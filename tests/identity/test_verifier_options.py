"""What a verifier is told when it is built: everything that makes no sense is refused there."""

from typing import Any, Final

import pytest
from support.doubles import make_verifier
from support.signing import AUDIENCE, ISSUER, KEYS, RSA, b64

from xuna_middleware import ConfigurationError, JWTVerifier, OIDCVerifier
from xuna_middleware.identity import JWKSRefresh

SECRET: Final = {"kty": "oct", "kid": "s", "k": b64(b"k" * 32)}

REFUSED: Final[dict[str, dict[str, Any]]] = {
    "no keys": {"jwks": None},
    "both kinds of keys": {"jwks_uri": ISSUER + "/keys", "jwks": KEYS},
    "jwks no set": {"jwks": {}},
    "jwks a list": {"jwks": [dict(RSA.jwk)]},
    "jwks empty": {"jwks": {"keys": []}},
    "jwks with a private key": {"jwks": {"keys": [{**RSA.jwk, "d": "AQAB"}]}},
    "jwks mixed": {"jwks": {"keys": [dict(RSA.jwk), SECRET]}},
    "secret empty": {"jwks": {"keys": [{"kty": "oct", "k": ""}]}, "algorithms": ("HS256",)},
    "secret short": {
        "jwks": {"keys": [{"kty": "oct", "k": b64(b"k" * 31)}]},
        "algorithms": ("HS256",),
    },
    "one secret of two short": {
        "jwks": {"keys": [SECRET, {"kty": "oct", "kid": "t", "k": b64(b"k" * 8)}]},
        "algorithms": ("HS256",),
    },
    "secret short for its algorithm": {"jwks": {"keys": [SECRET]}, "algorithms": ("HS512",)},
    "secret, and no HMAC accepted": {"jwks": {"keys": [SECRET]}},
    "HMAC accepted, and no secret": {"algorithms": ("HS256",)},
    "no key for the algorithms": {"jwks": {"keys": [dict(RSA.jwk)]}, "algorithms": ("ES256",)},
    "issuer empty": {"issuer": ""},
    "issuer no text": {"issuer": None},
    "issuer with a newline": {"issuer": "x\n"},
    "audience missing": {"audience": ()},
    "audience None": {"audience": None},
    "audience empty": {"audience": ""},
    "audience with an empty one": {"audience": ("a", "")},
    "audience a number": {"audience": (7,)},
    "algorithms empty": {"algorithms": ()},
    "algorithms a text": {"algorithms": "RS256"},
    "algorithm none": {"algorithms": ("none",)},
    "algorithm unknown": {"algorithms": ("RS256", "RS1")},
    "algorithm ES256K": {"algorithms": ("ES256K",)},
    "token_types a text": {"token_types": "at+jwt"},
    "token_types empty": {"token_types": ()},
    "token_types with a logout token": {"token_types": ("at+jwt", "logout+jwt")},
    "token_types with DPoP in capitals": {"token_types": ("DPoP+JWT",)},
    "token_types with application/secevent": {"token_types": ("application/secevent+jwt",)},
    "leeway negative": {"leeway": -1},
    "leeway NaN": {"leeway": float("nan")},
    "leeway infinite": {"leeway": float("inf")},
    "leeway over the cap": {"leeway": 301},
    "leeway true": {"leeway": True},
    "leeway a text": {"leeway": "30"},
    "leeway None": {"leeway": None},
    "max_lifetime NaN": {"max_lifetime": float("nan")},
    "max_lifetime negative": {"max_lifetime": -1},
    "max_lifetime infinite": {"max_lifetime": float("inf")},
    "scope_claims a text": {"scope_claims": "scope"},
    "scope_claims with a list": {"scope_claims": (["a", "b"],)},
    "role_claims with an empty path": {"role_claims": ((),)},
    "role_claims with a number": {"role_claims": (7,)},
    "role_claims with a number in a path": {"role_claims": (("a", 7),)},
    "audience_claim empty": {"audience_claim": ""},
    "audience_claim no text": {"audience_claim": None},
}


@pytest.mark.parametrize("options", REFUSED.values(), ids=REFUSED.keys())
def test_option_that_makes_no_sense(options: dict[str, Any]) -> None:
    """A ConfigurationError, which is a ValueError, with a sentence in it."""
    usual: dict[str, Any] = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": KEYS}
    with pytest.raises(ConfigurationError) as caught:
        JWTVerifier(**{**usual, **options})
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) > 15
    assert SECRET["k"] not in str(caught.value)


def test_keys_inside_the_cluster() -> None:
    """Plain http where the host was named, and nowhere else."""
    make_verifier(jwks_uri="http://keys:8080/jwks", insecure_hosts=("keys",))
    for named in ((), ("other",)):
        with pytest.raises(ConfigurationError, match="insecure_hosts"):
            make_verifier(jwks_uri="http://keys:8080/jwks", insecure_hosts=named)


def test_audience_is_always_required() -> None:
    """There is no way to leave it out."""
    with pytest.raises(TypeError):
        JWTVerifier(issuer=ISSUER, jwks=KEYS)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        OIDCVerifier(ISSUER)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "options",
    [
        {"algorithms": ("HS256",)},
        {"metadata_url": "http://id.example.com/doc"},
        {"metadata_url": "id.example.com"},
        {"insecure_hosts": "keycloak"},
        {"insecure_hosts": ("http://keycloak",)},
        {"insecure_hosts": ("keycloak:8080",)},
        {"endpoint_hosts": "a.example"},
        {"endpoint_hosts": ("https://a.example",)},
        {"endpoint_hosts": ("*.example",)},
        {"endpoint_hosts": ("a.example/x",)},
        {"endpoint_hosts": ("",)},
        {"endpoint_hosts": (7,)},
    ],
    ids=str,
)
def test_oidc_option_that_makes_no_sense(options: dict[str, Any]) -> None:
    """Discovery has options of its own."""
    with pytest.raises(ConfigurationError):
        OIDCVerifier(ISSUER, audience=AUDIENCE, **options)


@pytest.mark.parametrize("name", ["refresh_after", "max_stale", "cooldown"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, True, "10", None])
def test_freshness_refuses_what_is_no_duration(name: str, value: Any) -> None:
    """NaN would make keys good for ever."""
    with pytest.raises(ConfigurationError):
        JWKSRefresh(**{name: value})


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"refresh_after": 0}, "10 seconds or more"),
        ({"refresh_after": 9.9}, "10 seconds or more"),
        ({"max_stale": 0, "refresh_after": 10}, "10 seconds or more"),
        ({"cooldown": 0}, "1 seconds or more"),
        ({"refresh_after": 601, "max_stale": 600}, "max_stale=…\\) must be refresh_after or more"),
        ({"max_stale": 299}, "max_stale=…\\) must be refresh_after or more"),
    ],
    ids=str,
)
def test_freshness_out_of_bounds(options: dict[str, Any], hint: str) -> None:
    """No fetching without pause, and no set that is too old before it is renewed."""
    with pytest.raises(ConfigurationError, match=hint):
        JWKSRefresh(**options)


def test_freshness_at_its_bounds() -> None:
    """The least of each is accepted."""
    assert JWKSRefresh(refresh_after=10, max_stale=10, cooldown=1).max_stale == 10


@pytest.mark.parametrize("freshness", [300, 0, {"refresh_after": 300}])
def test_freshness_of_another_type(freshness: Any) -> None:
    """A number isn't taken for one, nor is what is false taken for none."""
    with pytest.raises(ConfigurationError, match="JWKSRefresh"):
        OIDCVerifier(ISSUER, audience=AUDIENCE, freshness=freshness)


def test_verifiers_show_their_issuer_only() -> None:
    """In logs they are told apart by it."""
    assert repr(make_verifier()) == f"JWTVerifier(issuer='{ISSUER}')"
    assert repr(OIDCVerifier(ISSUER, audience=AUDIENCE)) == f"OIDCVerifier(issuer='{ISSUER}')"


async def test_given_keys_are_ready_at_once() -> None:
    """Nothing to fetch, nothing to wait for, nothing to stop."""
    verifier = make_verifier()
    assert verifier.ready
    verifier.start()
    await verifier.aclose()
    assert verifier.ready


async def test_fetched_keys_are_a_problem_until_they_are_here() -> None:
    """Readiness says so; nothing is fetched just by being built or asked."""
    verifier = OIDCVerifier(ISSUER, audience=AUDIENCE)
    assert not verifier.ready
    await verifier.aclose()
