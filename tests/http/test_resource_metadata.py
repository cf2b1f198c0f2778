"""Protected resource metadata (RFC 9728): where it is, what it says, and who points at it."""

from typing import Any, Final

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from support.doubles import ask, echo_app, knock, make_gate, make_verifier
from support.signing import ISSUER

from xuna_middleware import Identity, IntrospectionVerifier, XunaGate, XunaMiddleware

PUBLIC: Final = "https://voice.acme.com/front/xuna"
PATH: Final = "/.well-known/oauth-protected-resource/front/xuna"
PLAIN: Final = {
    "resource": PUBLIC,
    "authorization_servers": [ISSUER],
    "bearer_methods_supported": ["header"],
}


def gate_of(**options: Any) -> XunaGate:
    return make_gate(**{"public_url": PUBLIC, **options})


async def test_served_at_the_hosts_root_when_wrapped() -> None:
    """Without credentials, for any page to read, and for caches to keep a while."""
    app = XunaMiddleware(echo_app, gate_of(), protect=["/"])
    answer = await ask(app, PATH, headers=[(b"host", b"evil.example.com")])
    assert (answer.status, answer.json()) == (200, PLAIN)
    assert answer.header("content-type") == "application/json"
    assert answer.header("access-control-allow-origin") == "*"
    assert answer.header("cache-control") == "public, max-age=300"


@pytest.mark.parametrize("root_path", ["", "/front"])
async def test_beneath_a_servers_root_path(root_path: str) -> None:
    """A proxy may hand on the well-known address with or without the app's own prefix."""
    app = XunaMiddleware(echo_app, gate_of())
    assert (await ask(app, PATH, root_path=root_path)).json() == PLAIN


async def test_mounted_alone() -> None:
    """For a gate that is mounted: two lines in the app's own routes."""
    gate = gate_of()
    assert gate.resource_metadata is not None
    routes = [
        Mount("/.well-known/oauth-protected-resource", gate.resource_metadata),
        Mount("/front/xuna", gate),
    ]
    app = Starlette(routes=routes)
    assert (await ask(app, PATH)).json() == PLAIN
    assert (await ask(app, PATH + "/x")).status == 404
    assert (await ask(app, "/.well-known/oauth-protected-resource/")).status == 404


@pytest.mark.parametrize("path", [PATH + "/", PATH + "x", PATH[:-5], PATH.upper()])
async def test_other_paths_are_the_apps(path: str) -> None:
    """One address to the letter; all else beneath /.well-known is the app's own."""
    app = XunaMiddleware(echo_app, gate_of())
    assert (await ask(app, path)).body == b"the app"


async def test_methods() -> None:
    """GET and HEAD; a WebSocket finds nothing there."""
    app = XunaMiddleware(echo_app, gate_of())
    head = await ask(app, PATH, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    post = await ask(app, PATH, method="POST")
    assert (post.status, post.header("allow")) == (405, "GET, HEAD")
    assert (await knock(app, PATH))[0]["type"] == "websocket.close"


async def test_what_verifiers_say_of_themselves() -> None:
    """Several issuers, proofs and certificates."""
    other = "https://other.example.com"
    verifiers = [
        make_verifier(dpop="required", mtls="accepted"),
        make_verifier(issuer=other, dpop="required"),
    ]
    answer = await ask(XunaMiddleware(echo_app, gate_of(verifier=verifiers)), PATH)
    said = answer.json()
    assert said["authorization_servers"] == [ISSUER, other]
    assert said["dpop_signing_alg_values_supported"][:2] == ["RS256", "RS384"]
    assert said["dpop_bound_access_tokens_required"] is True
    assert said["tls_client_certificate_bound_access_tokens"] is True


async def test_what_verifiers_say_that_take_one_proof_or_none() -> None:
    """What is off is not announced, of JWTs and of opaque tokens."""

    def opaque(**options: Any) -> IntrospectionVerifier:
        return IntrospectionVerifier(
            ISSUER, client_id="gate", client_secret="s", audience="voice", **options
        )

    for make in (make_verifier, opaque):
        dpop = await ask(XunaMiddleware(echo_app, gate_of(verifier=make(dpop="accepted"))), PATH)
        assert "RS256" in dpop.json()["dpop_signing_alg_values_supported"]
        assert "tls_client_certificate_bound_access_tokens" not in dpop.json()
        mtls = await ask(XunaMiddleware(echo_app, gate_of(verifier=make(mtls="required"))), PATH)
        assert mtls.json()["tls_client_certificate_bound_access_tokens"] is True
        assert "dpop_signing_alg_values_supported" not in mtls.json()


async def test_nothing_without_public_url_or_verifier() -> None:
    """Nothing is guessed from a Host header, and sessions are no OAuth."""

    async def nobody(connection: object) -> Identity | None:
        return None

    for gate in (make_gate(), gate_of(verifier=None, authenticator=nobody)):
        assert gate.resource_metadata is None
        app = XunaMiddleware(echo_app, gate, protect=["/api"])
        assert (await ask(app, PATH)).body == b"the app"
        assert (await ask(app, "/api")).header("www-authenticate") == "Bearer"


async def test_challenges_point_at_it() -> None:
    """Every 401, and the 403 that asks for a scope, say where it is."""
    url = "https://voice.acme.com" + PATH
    app = XunaMiddleware(echo_app, gate_of(), protect=["/api"])
    nobody = await ask(app, "/api")
    assert nobody.header("www-authenticate") == f'Bearer resource_metadata="{url}"'
    bad = await ask(app, "/xuna/get-signed-url", headers=[(b"authorization", b"Bearer x")])
    expected = f'Bearer error="invalid_token", resource_metadata="{url}"'
    assert bad.header("www-authenticate") == expected


async def test_public_url_at_the_root() -> None:
    """A gate without a path has its metadata at the well-known path itself."""
    gate = make_gate(public_url="https://voice.acme.com/")
    app = XunaMiddleware(echo_app, gate, prefix="")
    answer = await ask(app, "/.well-known/oauth-protected-resource")
    assert answer.json()["resource"] == "https://voice.acme.com"
    assert gate.resource_metadata is not None
    mounted = Starlette(
        routes=[Mount("/.well-known/oauth-protected-resource", gate.resource_metadata)]
    )
    answer = await ask(mounted, "/.well-known/oauth-protected-resource/")
    assert answer.json()["resource"] == "https://voice.acme.com"


async def test_scope_types_that_are_none() -> None:
    """It serves requests, and says so."""
    app = gate_of().resource_metadata
    assert app is not None
    with pytest.raises(RuntimeError, match="lifespan"):
        await app({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
