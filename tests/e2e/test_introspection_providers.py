"""Opaque tokens of three real providers, of three code bases, at a gate that asks about them."""

import time
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any, Final

import pytest
from support.doubles import ask, bearer, make_gate

from xuna_middleware import Credentials, Identity, IntrospectionVerifier, XunaGate

from .opaque import OfNode, OpaqueProvider, Script, running_script
from .provider import Provider

#: For how many seconds a good answer serves.
KEEP: Final = 10


@pytest.fixture(scope="module")
def toolkit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    """Run PyPI's `django-oauth-toolkit`. Its answers name no audience, so clients are listed."""
    further = {"client_ids": ("robot", "web")}
    with running_script("toolkit.py", tmp_path_factory.mktemp("toolkit"), further) as script:
        yield script


@pytest.fixture(scope="module")
def canaille(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    """Run PyPI's `canaille`."""
    directory, further = tmp_path_factory.mktemp("canaille"), {"audience": "resource"}
    with running_script("canaille_server.py", directory, further) as script:
        yield script


@pytest.fixture(scope="module")
def node(oidc_provider: Provider) -> OfNode:
    """Run npm's `oidc-provider`."""
    return OfNode(provider=oidc_provider)


@pytest.fixture(params=["node", "toolkit", "canaille"])
def provider(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def verifier_of(provider: OpaqueProvider, **options: Any) -> IntrospectionVerifier:
    return IntrospectionVerifier(**{"cache_seconds": KEEP, **provider.options, **options})


async def identified(provider: OpaqueProvider, token: str) -> Identity:
    async with aclosing(verifier_of(provider)) as verifier:
        return await verifier.verify(Credentials(scheme="bearer", token=token))


async def status(gate: XunaGate, token: str) -> int:
    """Return how the gate answers; a refusal is the one 401 that gives nothing away."""
    answer = await ask(gate, headers=bearer(token))
    if answer.status == 401:
        assert answer.json()["code"] == "invalid_token"
        assert answer.header("www-authenticate") == 'Bearer error="invalid_token"'
    return answer.status


async def test_good_token(provider: OpaqueProvider) -> None:
    """A client's token passes, and is known by its client; it ends when the provider says."""
    token, now = provider.token(), time.time()

    identity = await identified(provider, token)

    assert (identity.issuer, identity.subject) == (provider.options["issuer"], provider.subject)
    assert identity.client_id == provider.subject
    assert identity.expires_at is not None
    assert now + 500 < identity.expires_at < now + 700
    async with aclosing(make_gate(verifier=verifier_of(provider))) as gate:
        assert await status(gate, token) == 200


async def test_revoked_token_is_refused_within_keep(provider: OpaqueProvider) -> None:
    """What was said before serves until `cache_seconds` are over, and not for longer."""
    token, later = provider.token(), 0.0
    verifier = verifier_of(provider, clock=lambda: time.time() + later)
    async with aclosing(make_gate(verifier=verifier)) as gate:
        assert await status(gate, token) == 200
        provider.revoke(token)
        later = KEEP + 1
        assert await status(gate, token) == 401


async def test_revoked_token_is_refused_at_once_where_nothing_is_kept(
    provider: OpaqueProvider,
) -> None:
    """With `cache_seconds=0` each request asks."""
    token = provider.token()
    async with aclosing(make_gate(verifier=verifier_of(provider, cache_seconds=0))) as gate:
        assert await status(gate, token) == 200
        provider.revoke(token)
        assert await status(gate, token) == 401


async def test_expired_token_is_refused(provider: OpaqueProvider) -> None:
    """The provider no longer calls it active."""
    token = provider.expired_token()
    async with aclosing(make_gate(verifier=verifier_of(provider))) as gate:
        assert await status(gate, token) == 401


async def test_token_ends_by_our_own_clock(provider: OpaqueProvider) -> None:
    """An answer that is still kept doesn't outlive the token."""
    token, later = provider.token(), 0.0
    verifier = verifier_of(provider, cache_seconds=60, clock=lambda: time.time() + later)
    identity = await verifier.verify(Credentials(scheme="bearer", token=token))
    assert identity.expires_at is not None
    async with aclosing(make_gate(verifier=verifier)) as gate:
        later = identity.expires_at - time.time() - 30
        assert await status(gate, token) == 200
        later += 31
        assert await status(gate, token) == 401


async def test_token_for_another_is_refused(provider: OpaqueProvider) -> None:
    """Good at the provider, for another audience or of another client than those wanted."""
    async with aclosing(make_gate(verifier=verifier_of(provider))) as gate:
        assert await status(gate, provider.stray_token()) == 401
        assert await status(gate, "made-up-token-that-nobody-issued") == 401
        assert await status(gate, provider.token()) == 200


async def test_wrong_secret_of_ours_blames_no_caller(provider: OpaqueProvider) -> None:
    """The provider refuses this service, not the token: 503, and the gate is not ready."""
    verifier = verifier_of(provider, client_secret="a-secret-of-nobody-at-all")
    async with aclosing(make_gate(verifier=verifier)) as gate:
        answer = await ask(gate, headers=bearer(provider.token()))
        assert (answer.status, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.header("retry-after") or "") >= 1
        ready = await ask(gate, "/readyz")
        assert (ready.status, ready.json()["missing"]) == (503, ["identity"])


async def test_person_known_by_another_name_than_sub(toolkit: Script) -> None:
    """One of them says `username` where others say `sub`."""
    identity = await identified(toolkit, toolkit.token_of("ada"))
    assert (identity.subject, identity.client_id) == ("ada", "web")
    assert identity.scopes == {"talk", "introspection"}


async def test_audience_of_a_resource_indicator(toolkit: Script) -> None:
    """A token that was asked for one resource is for no other (RFC 8707)."""
    voice, other = "https://voice.example.com/", "https://other.example.com/"
    options = {"client_ids": (), "audience": voice}
    async with aclosing(make_gate(verifier=verifier_of(toolkit, **options))) as gate:
        assert await status(gate, toolkit.token(resource=voice)) == 200
        assert await status(gate, toolkit.token(resource=other)) == 401
        assert await status(gate, toolkit.token()) == 401


ASKERS: Final = ("service", "poster", "signer")


@pytest.mark.parametrize("asker", ASKERS)
async def test_each_way_to_prove_who_asks(oidc_provider: Provider, asker: str) -> None:
    """The secret as Basic and in the body, and an assertion by a key of one's own (RFC 7523)."""
    proofs: dict[str, dict[str, Any]] = {
        "service": {"auth_method": "client_secret_basic"},
        "poster": {"auth_method": "client_secret_post"},
        "signer": {"private_key": oidc_provider.signer_key, "private_key_algorithm": "ES256"},
    }
    verifier = IntrospectionVerifier(
        oidc_provider.issuer,
        client_id=asker,
        client_secret=oidc_provider.secrets.get(asker),
        audience="voice",
        subject_claims=("sub", "client_id"),
        **proofs[asker],
    )
    async with aclosing(make_gate(verifier=verifier)) as gate:
        token = oidc_provider.client_credentials("opaque", "voice")
        assert await status(gate, token) == 200
        oidc_provider.revoke(token)
        assert await status(gate, oidc_provider.client_credentials("opaque", "other")) == 401


async def test_person_of_an_opaque_token(oidc_provider: Provider) -> None:
    """A sign-in with code and PKCE gives an opaque token; its subject is who signed in."""
    token = oidc_provider.code_pkce("opaque", "voice", user="ada@example.com")
    identity = await identified(OfNode(provider=oidc_provider), token)
    assert (identity.subject, identity.client_id) == ("ada@example.com", "app")
