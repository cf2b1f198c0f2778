"""Tokens that a real provider bound to a DPoP key, at gates that a real server serves."""

from collections.abc import Iterator, Mapping
from contextlib import aclosing
from typing import Any, Final

import httpx
import pytest
from support.doubles import ask, bearer, make_gate
from support.proofs import make_proof
from support.signing import Signer, ec_signer, ed_signer

from xuna_middleware import IntrospectionVerifier

from .authority import Authority
from .gates import Gate, proxied_gate, served_gate
from .nginx import find_nginx
from .provider import Provider

KEY: Final = ec_signer("client")
ROUTE: Final = "/xuna/get-signed-url"
#: Where the gate stands. `mounted` is without a middleware, `prefix` is what a proxy strips.
LAYOUTS: Final[Mapping[str, Mapping[str, str]]] = {
    "alone": {},
    "behind a prefix": {"prefix": "/front"},
    "mounted, behind a prefix": {"app": "mounted", "prefix": "/front"},
}


@pytest.fixture(scope="module", params=list(LAYOUTS))
def gate(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    oidc_provider: Provider,
) -> Iterator[Gate]:
    layout: Any = LAYOUTS[request.param]
    with served_gate(tmp_path_factory.mktemp("gate"), oidc_provider, "dpop", **layout) as gate:
        yield gate


@pytest.fixture(scope="module")
def token(oidc_provider: Provider) -> str:
    """Return a token that the provider bound to KEY, after its nonce."""
    return oidc_provider.bound_to_key("ES256", "voice", KEY)


def get(
    url: str, token: str, proof: str | None = None, *, scheme: str = "DPoP", **options: Any
) -> httpx.Response:
    headers = {"Authorization": f"{scheme} {token}"} | ({"DPoP": proof} if proof else {})
    return httpx.get(url, headers=headers, trust_env=False, timeout=20, **options)


def good_proof(gate: Gate, token: str, *, key: Signer = KEY, **options: Any) -> str:
    return make_proof(key, "GET", gate.public + ROUTE, token, **options)


def assert_refused(reply: httpx.Response) -> None:
    assert (reply.status_code, reply.json()["code"]) == (401, "invalid_token")
    assert 'DPoP error="invalid_token"' in reply.headers["www-authenticate"]


def test_token_passes_with_a_proof_once(gate: Gate, token: str) -> None:
    """A proof for the public address passes; the same one again, stolen from a log, does not."""
    proof = good_proof(gate, token)

    assert get(gate.inner + ROUTE, token, proof).status_code == 200
    assert_refused(get(gate.inner + ROUTE, token, proof))
    assert get(gate.inner + ROUTE, token, good_proof(gate, token)).status_code == 200


def test_token_alone_is_worth_nothing(gate: Gate, token: str) -> None:
    """Without a proof, under the scheme Bearer, and with somebody else's key."""
    assert_refused(get(gate.inner + ROUTE, token))
    assert_refused(get(gate.inner + ROUTE, token, good_proof(gate, token), scheme="Bearer"))
    assert_refused(get(gate.inner + ROUTE, token, good_proof(gate, token, key=ed_signer("thief"))))


def test_proof_for_another_address_is_refused(gate: Gate, token: str) -> None:
    """Another path, another host that claims to be the gate, another method."""
    another_path = make_proof(KEY, "GET", f"{gate.public}/xuna/conversation-token", token)
    another_host = make_proof(KEY, "GET", f"http://evil.example.com{ROUTE}", token)
    another_method = make_proof(KEY, "POST", gate.public + ROUTE, token)
    for proof in (another_path, another_host, another_method):
        assert_refused(get(gate.inner + ROUTE, token, proof))


def test_token_of_no_key_is_refused(gate: Gate, oidc_provider: Provider) -> None:
    """The same provider's ordinary token, where proofs are required."""
    assert_refused(
        get(gate.inner + ROUTE, oidc_provider.client_credentials("ES256", "voice"), scheme="Bearer")
    )


def test_protected_path_behind_a_prefix(
    oidc_provider: Provider, token: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A route of the app's own has its own public address, prefix included."""
    directory = tmp_path_factory.mktemp("gate")
    with served_gate(directory, oidc_provider, "dpop", prefix="/front") as gate:
        inner = make_proof(KEY, "GET", f"{gate.inner}/api/me", token)
        assert_refused(get(f"{gate.inner}/api/me", token, inner))
        public = make_proof(KEY, "GET", f"{gate.public}/api/me", token)
        assert get(f"{gate.inner}/api/me", token, public).status_code == 200


def test_nonce_of_the_gate(
    oidc_provider: Provider, token: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The gate hands out a nonce with a 401, and takes each proof with it once (section 9)."""
    with served_gate(tmp_path_factory.mktemp("gate"), oidc_provider, "nonce") as gate:
        asked = get(gate.inner + ROUTE, token, good_proof(gate, token))
        assert asked.status_code == 401
        assert 'DPoP error="use_dpop_nonce"' in asked.headers["www-authenticate"]
        nonce = asked.headers["dpop-nonce"]

        proof = good_proof(gate, token, nonce=nonce)
        assert get(gate.inner + ROUTE, token, proof).status_code == 200
        assert_refused(get(gate.inner + ROUTE, token, proof))
        assert get(gate.inner + ROUTE, token, good_proof(gate, token, nonce="x")).status_code == 401


def test_behind_nginx(
    oidc_provider: Provider,
    authority: Authority,
    token: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The whole way of a client: TLS at a real proxy, which strips a prefix; nothing is guessed."""
    nginx = find_nginx()
    if nginx is None:
        pytest.skip("no nginx here: apt-get install nginx")
    directory = tmp_path_factory.mktemp("gate")
    with proxied_gate(nginx, directory, authority, oidc_provider, "dpop") as gate:
        proof = good_proof(gate, token)
        url, trust = gate.public + ROUTE, authority.client()
        assert get(url, token, proof, verify=trust).status_code == 200
        assert_refused(get(url, token, proof, verify=trust))


async def test_opaque_token_bound_to_a_key(oidc_provider: Provider) -> None:
    """What an opaque token is bound to, its introspection says."""
    token = oidc_provider.bound_to_key("opaque", "voice", KEY)
    verifier = IntrospectionVerifier(
        oidc_provider.issuer,
        client_id=oidc_provider.service_id,
        client_secret=oidc_provider.service_secret,
        audience="voice",
        subject_claims=("sub", "client_id"),
        dpop="required",
    )
    public = "https://voice.example.com/xuna"
    proof = make_proof(KEY, "GET", f"{public}/get-signed-url", token)
    headers = [(b"authorization", f"DPoP {token}".encode()), (b"dpop", proof.encode())]

    async with aclosing(make_gate(verifier=verifier, public_url=public)) as gate:
        assert (await ask(gate, headers=headers)).status == 200
        assert (await ask(gate, headers=headers)).status == 401
        assert (await ask(gate, headers=bearer(token))).status == 401
