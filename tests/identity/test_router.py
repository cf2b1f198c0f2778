"""Several issuers in one gate: each token goes to the verifier that it is for, and to no other."""

import asyncio
from typing import Any, Final
from urllib.parse import parse_qs

import httpx
import pytest
from support.doubles import CountedPlatform, ask, bearer, in_fast_time, make_gate, make_verifier
from support.signing import (
    EC,
    ED,
    ISSUER,
    RSA,
    Signer,
    good_claims,
    jwks,
    proof,
    rsa_signer,
    thumbprint,
)

from xuna_middleware import (
    APIKey,
    APIKeyVerifier,
    ConfigurationError,
    Credentials,
    Identity,
    IntrospectionVerifier,
    InvalidTokenError,
    XunaGate,
    new_api_key,
)
from xuna_middleware.gate import core_of
from xuna_middleware.identity import JWKSRefresh

OTHER: Final = "https://other.example.com"
PUBLIC: Final = "https://acme.com/xuna"


def of(issuer: str, **changes: Any) -> dict[str, Any]:
    return good_claims(iss=issuer, **changes)


async def status(gate: XunaGate, token: str) -> int:
    return (await ask(gate, headers=bearer(token))).status


async def test_keys_audiences_and_algorithms_are_each_issuers_own() -> None:
    """What one issuer may, another may not; nothing is shared but the gate."""
    ours = make_verifier(jwks=jwks(RSA), algorithms=("RS256",), audience="ours")
    theirs = make_verifier(issuer=OTHER, jwks=jwks(EC), algorithms=("ES256",), audience="theirs")
    gate = make_gate(verifier=[ours, theirs])
    assert await status(gate, RSA.token(of(ISSUER, aud="ours"))) == 200
    assert await status(gate, EC.token(of(OTHER, aud="theirs"))) == 200
    assert await status(gate, RSA.token(of(OTHER, aud="theirs"))) == 401
    assert await status(gate, EC.token(of(ISSUER, aud="ours"))) == 401
    assert await status(gate, RSA.token(of(ISSUER, aud="theirs"))) == 401


async def test_one_kid_at_two_issuers() -> None:
    """A key is looked up by issuer and kid, never by kid alone."""
    mine, other = rsa_signer("one"), rsa_signer("two")
    same = {**other.jwk, "kid": "one"}
    gate = make_gate(
        verifier=[
            make_verifier(jwks=jwks(mine)),
            make_verifier(issuer=OTHER, jwks={"keys": [same]}),
        ]
    )
    crossed = other.token(of(ISSUER), header=mine.header())
    assert await status(gate, mine.token(of(ISSUER))) == 200
    assert await status(gate, other.token(of(OTHER), header=mine.header())) == 200
    assert await status(gate, crossed) == 401


async def test_migration_from_one_provider_to_another() -> None:
    """Both are listed for a while: whoever holds an old token goes on, new ones are taken."""
    old, new = make_verifier(jwks=jwks(RSA)), make_verifier(issuer=OTHER, jwks=jwks(ED))
    before, during, after = (
        make_gate(verifier=old),
        make_gate(verifier=[old, new]),
        make_gate(verifier=new),
    )
    tokens = RSA.token(of(ISSUER)), ED.token(of(OTHER))
    assert [await status(before, token) for token in tokens] == [200, 401]
    assert [await status(during, token) for token in tokens] == [200, 200]
    assert [await status(after, token) for token in tokens] == [401, 200]


class Published:
    """A provider that publishes one key at a time, counted."""

    def __init__(self, *signers: Signer) -> None:
        self.signers = signers
        self.fetches = 0

    def transport(self) -> httpx.MockTransport:
        def handle(request: httpx.Request) -> httpx.Response:
            self.fetches += 1
            return httpx.Response(200, json=jwks(*self.signers))

        return httpx.MockTransport(handle)


def fetching(issuer: str, provider: Published) -> Any:
    return make_verifier(
        issuer=issuer,
        jwks_uri=f"{issuer}/jwks",
        http_transport=provider.transport(),
        freshness=JWKSRefresh(cooldown=10),
    )


def test_a_flood_at_one_issuer_stops_no_rotation_at_another() -> None:
    """Cooldowns are each issuer's own: the other's new key is found at first sight."""

    async def story() -> None:
        flooded, rotating = Published(RSA), Published(EC)
        gate = make_gate(verifier=[fetching(ISSUER, flooded), fetching(OTHER, rotating)])
        assert await status(gate, EC.token(of(OTHER))) == 200
        for number in range(50):
            token = RSA.token(of(ISSUER), header=RSA.header(kid=f"made-up-{number}"))
            assert await status(gate, token) == 401
        rotating.signers = (ED,)
        assert await status(gate, ED.token(of(OTHER))) == 200
        assert flooded.fetches <= 2
        await gate.aclose()

    in_fast_time(story())


async def test_foreign_issuers_cause_no_fetch() -> None:
    """The unverified `iss` is looked at before any I/O."""
    provider = Published(RSA)
    gate = make_gate(verifier=[fetching(ISSUER, provider), make_verifier(issuer=OTHER)])
    core_of(gate).runtime.enter(asyncio.get_running_loop())  # nothing begins in the background
    platform = CountedPlatform()
    for issuer in ("https://evil.example.com", ISSUER + "/", ISSUER.upper(), "", None, [ISSUER]):
        assert await status(gate, RSA.token(of(issuer))) == 401  # type: ignore[arg-type]
    assert provider.fetches == 0
    assert platform.requests == []


class Tickets:
    """A verifier of one's own that knows its tokens by their looks."""

    asked = 0

    def recognizes(self, token: str) -> bool:
        return token.startswith("own_")

    async def verify(self, credentials: Credentials) -> Identity:
        self.asked += 1
        if credentials.token != "own_good":
            raise InvalidTokenError(cause="own: no")
        return Identity(subject="owner", issuer="own")


async def test_verifier_that_recognizes_its_tokens() -> None:
    """It is asked first and alone: its no is the answer, and other tokens never reach it."""
    own = Tickets()
    gate = make_gate(verifier=[make_verifier(), own, make_verifier(issuer=OTHER)])
    assert await status(gate, "own_good") == 200
    assert await status(gate, "own_bad") == 401
    assert await status(gate, RSA.token()) == 200
    assert await status(gate, "opaque") == 401
    assert own.asked == 2


async def test_bound_tokens_go_to_a_verifier_that_asks_for_proofs() -> None:
    """Among several, each by its own word: one takes DPoP, the other has never heard of it."""
    gate = make_gate(
        verifier=[make_verifier(dpop="required"), make_verifier(issuer=OTHER)], public_url=PUBLIC
    )
    for issuer, expected in ((ISSUER, 200), (OTHER, 401)):
        token = RSA.token(of(issuer, cnf={"jkt": thumbprint(EC.jwk)}))
        made = proof(EC, token, f"{PUBLIC}/get-signed-url", jti=issuer)
        headers = [(b"authorization", b"DPoP " + token.encode()), (b"dpop", made)]
        assert (await ask(gate, headers=headers)).status == expected


async def test_remembered_choice_is_never_a_remembered_yes() -> None:
    """The verifier is asked each time; a choice that was kept decides nothing."""
    own = Tickets()
    gate = make_gate(verifier=[own, make_verifier()])
    for _ in range(3):
        assert await status(gate, "own_good") == 200
    assert own.asked == 3


async def test_choices_are_bounded() -> None:
    """Good tokens without end don't make it grow."""
    from xuna_middleware.identity.router import IssuerRouter

    class Anyone(Tickets):
        async def verify(self, credentials: Credentials) -> Identity:
            return Identity(subject="owner")

    choice = IssuerRouter([Anyone(), make_verifier()])
    for number in range(4200):
        await choice.verify(Credentials(scheme="bearer", token=f"own_{number}"))
    assert len(choice._choices) == 4096
    with pytest.raises(InvalidTokenError):
        await choice.verify(Credentials(scheme="bearer", token="é"))


def introspecting(
    issuer: str, sent: list[str], token: str, **options: Any
) -> IntrospectionVerifier:
    """Return a verifier whose provider knows one token, and keeps what it was sent."""

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(parse_qs(request.content.decode())["token"][0])
        answer = {"active": sent[-1] == token, "sub": "user-1", "client_id": "app"}
        return httpx.Response(200, json=answer)

    return IntrospectionVerifier(
        issuer,
        client_id="gate",
        client_secret="s" * 10,
        client_ids=("app",),
        introspection_endpoint=f"{issuer}/introspect",
        http_transport=httpx.MockTransport(handle),
        **options,
    )


@pytest.mark.parametrize("pattern", [{}, {"token_pattern": ".*"}], ids=["default", "anything"])
@pytest.mark.parametrize("keys_first", [True, False])
async def test_api_keys_go_to_no_provider(pattern: dict[str, Any], keys_first: bool) -> None:
    """In whatever order the verifiers stand, and whatever the pattern says; tickets neither."""
    sent: list[str] = []
    key, stolen = new_api_key(), new_api_key()
    keys = APIKeyVerifier([APIKey(hash=key.hash, subject="kiosk-7")])
    opaque = introspecting(ISSUER, sent, "opaque-of-ours-0001", **pattern)
    gate = make_gate(verifier=[keys, opaque] if keys_first else [opaque, keys])
    assert await status(gate, key.key) == 200
    assert await status(gate, "opaque-of-ours-0001") == 200
    for token in (stolen.key, "xgk_mistyped-0001-0001", "xgt_" + "a" * 43):
        assert await status(gate, token) == 401
        assert await status(make_gate(verifier=opaque), token) == 401
    assert set(sent) == {"opaque-of-ours-0001"}


@pytest.mark.parametrize("default_first", [True, False])
async def test_who_takes_all_opaque_tokens_is_asked_last(default_first: bool) -> None:
    """Tokens whose looks another verifier knows go to no provider but their own."""
    ours: list[str] = []
    theirs: list[str] = []
    some = introspecting(OTHER, theirs, "at_of-theirs-0000001", token_pattern="at_.{16}")
    every = introspecting(ISSUER, ours, "opaque-of-ours-0001")
    listed = [every, Tickets(), some] if default_first else [some, Tickets(), every]
    gate = make_gate(verifier=listed)
    for token in ("at_of-theirs-000001", "opaque-of-ours-0001", "own_good", "own_bad-0000000001"):
        await status(gate, token)
    assert (ours, theirs) == (["opaque-of-ours-0001"], ["at_of-theirs-000001"])


@pytest.mark.parametrize("pattern", [{}, {"token_pattern": "at_.*"}])
def test_two_that_take_the_same_tokens(pattern: dict[str, Any]) -> None:
    """The second would never be asked: told when the gate is put together, with the fix."""
    two = [introspecting(issuer, [], "", **pattern) for issuer in (ISSUER, OTHER)]
    with pytest.raises(ConfigurationError, match=f"{ISSUER} and {OTHER}.*token_pattern="):
        make_gate(verifier=two)
    keys = [APIKeyVerifier([APIKey(hash=new_api_key().hash, subject="a")]) for _ in range(2)]
    with pytest.raises(ConfigurationError, match="one APIKeyVerifier all keys"):
        make_gate(verifier=keys)


def test_lists_that_make_no_sense() -> None:
    """Two for one issuer, or one that nobody could pick."""

    class Nameless:
        async def verify(self, credentials: Credentials) -> Identity:
            return Identity(subject="x")

    with pytest.raises(ConfigurationError, match="two verifiers for one issuer"):
        make_gate(verifier=[make_verifier(), make_verifier()])
    with pytest.raises(ConfigurationError, match="recognizes"):
        make_gate(verifier=[make_verifier(), Nameless()])
