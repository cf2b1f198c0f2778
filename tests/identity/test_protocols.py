"""What verifiers say of themselves, and what the gate makes of it: one typed value, merged by lists
and declared for tenants.
"""

import logging
from collections.abc import Callable
from typing import Any, Final

import pytest
from support.doubles import (
    Answer,
    ask,
    bearer,
    echo_app,
    make_gate,
    make_verifier,
)
from support.signing import EC, ISSUER, NOW, RSA, good_claims, proof, thumbprint

from xuna_middleware import (
    Agent,
    AnonymousAccess,
    APIKey,
    APIKeyVerifier,
    ConfigurationError,
    Credentials,
    Identity,
    IntrospectionVerifier,
    Limit,
    MemoryStore,
    OIDCVerifier,
    TenantVerifiers,
    Verifier,
    XunaGate,
    XunaMiddleware,
    new_api_key,
    providers,
)
from xuna_middleware.endpoints.operators import revoked_for
from xuna_middleware.errors import UnavailableError
from xuna_middleware.gate import core_of
from xuna_middleware.identity import VerifierTraits, merge_traits
from xuna_middleware.identity.protocols import MAX_TOKEN_SECONDS, traits_of
from xuna_middleware.identity.rechecks import HeldToken

PUBLIC: Final = "https://acme.com/xuna"
OTHER: Final = "https://other.example.com"
METADATA: Final = "/.well-known/oauth-protected-resource/xuna"
DAY: Final = 86_400.0
SUBJECT: Final = good_claims()["sub"]
DPOP: Final = VerifierTraits(dpop_algorithms=("ES256", "EdDSA"), accepts_bearer=False)


class Bare:
    """A verifier of a user's that has the one method, and no more."""

    async def verify(self, credentials: Credentials) -> Identity:
        return Identity(subject="anna", issuer="own", claims={"iat": NOW})


class Own(Bare):
    """One that says what it accepts."""

    def __init__(self, traits: VerifierTraits) -> None:
        self.traits = traits


class Moved:
    """A store's clock and a verifier's, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = float(NOW)
        monkeypatch.setattr("time.time", lambda: self.now)
        self.store = MemoryStore(monotonic=lambda: self.now)

    def verifier(self, **options: Any) -> Any:
        return make_verifier(clock=lambda: self.now, **options)


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Moved:
    return Moved(monkeypatch)


def week_long(issuer: str = ISSUER) -> str:
    return RSA.token(good_claims(iss=issuer, iat=NOW - 1, exp=NOW - 1 + 7 * DAY))


async def status(gate: XunaGate, token: str) -> int:
    return (await ask(gate, headers=bearer(token))).status


def alone(moved: Moved) -> Any:
    return moved.verifier(max_lifetime=7 * DAY)


def listed(moved: Moved) -> Any:
    return [moved.verifier(issuer=OTHER), moved.verifier(max_lifetime=7 * DAY)]


def of_a_tenant(moved: Moved) -> Any:
    found = moved.verifier(max_lifetime=7 * DAY)
    return TenantVerifiers(lambda _: found, traits=VerifierTraits(max_token_seconds=7 * DAY + 30))


@pytest.mark.parametrize("make", [alone, listed, of_a_tenant])
async def test_revocation_lasts_as_long_as_the_longest_token(
    make: Callable[[Moved], Any], moved: Moved
) -> None:
    """`max_lifetime` of a week: two days after `revoke()`, and on the last day, the old token gets
    nothing; a later sign-in does.
    """
    gate, token = make_gate(verifier=make(moved), store=moved.store), week_long()
    assert await status(gate, token) == 200
    await gate.revoke(ISSUER, SUBJECT)
    for day in (0.0, 2.0, 6.99):
        moved.now = NOW + day * DAY
        assert await status(gate, token) == 401
    later = good_claims(iat=moved.now, exp=moved.now + 60)
    assert await status(gate, RSA.token(later)) == 200


async def test_revocation_covers_the_leeway(moved: Moved) -> None:
    """A token is good for the leeway after its `exp`, and revoked that long."""
    verifier = moved.verifier(max_lifetime=7 * DAY, leeway=300)
    gate, token = make_gate(verifier=verifier, store=moved.store), week_long()
    moved.now = NOW - 1
    await gate.revoke(ISSUER, SUBJECT)
    moved.now += 7 * DAY + 299
    assert await status(gate, token) == 401


async def test_revocation_of_api_keys_without_end(moved: Moved) -> None:
    """They have no `iat`: the mark lasts as long as they do."""
    key = new_api_key()
    verifier = APIKeyVerifier([APIKey(hash=key.hash, subject="kiosk")], clock=lambda: moved.now)
    gate = make_gate(verifier=verifier, store=moved.store)
    assert await status(gate, key.key) == 200
    await gate.revoke("api-key", "kiosk")
    for year in (0, 1, 50):
        moved.now = NOW + year * 366 * DAY
        assert await status(gate, key.key) == 401


async def test_newer_api_key_of_a_revoked_subject(moved: Moved) -> None:
    """A key that says when it was made is told from the one before."""
    old, new = new_api_key(), new_api_key()
    dated = APIKey(hash=new.hash, subject="kiosk", claims={"iat": NOW + 60})
    verifier = APIKeyVerifier([APIKey(hash=old.hash, subject="kiosk"), dated])
    gate = make_gate(verifier=verifier, store=moved.store)
    await gate.revoke("api-key", "kiosk")
    assert [await status(gate, old.key), await status(gate, new.key)] == [401, 200]


def test_revocation_of_what_says_how_long_it_lives() -> None:
    """Opaque tokens, a proxy's tokens, visitors' tickets; each issuer its own verifiers' time."""

    async def nobody(connection: object) -> Identity | None:
        return None

    opaque = IntrospectionVerifier(
        ISSUER, client_id="gate", client_secret="s", audience="voice", undated_lifetime=90 * DAY
    )
    assert revoked_for(core_of(make_gate(verifier=opaque)), ISSUER) == 90 * DAY
    assert (
        revoked_for(core_of(make_gate(verifier=[opaque, make_verifier(issuer=OTHER)])), OTHER)
        < 2 * DAY
    )
    proxy = providers.cloudflare_access("acme", audience="aud", max_lifetime=30 * DAY)
    gate = make_gate(authenticator=proxy)
    assert revoked_for(core_of(gate), "anything") == 30 * DAY + 30
    assert revoked_for(core_of(make_gate(authenticator=nobody)), "local") == DAY + 30
    budget = [Limit("9/day", per="all")]
    open_agent = Agent("open", id="agent_1", anonymous=True, limits=budget, max_duration=60)
    gate = make_gate(agents=[open_agent], anonymous=AnonymousAccess(token_seconds=60 * 86_400))
    assert revoked_for(core_of(gate), "urn:xuna-gate:visitors") == 60 * DAY


async def test_revocation_at_a_gate_that_lacks_the_verifier(
    moved: Moved, caplog: pytest.LogCaptureFixture
) -> None:
    """Two gates of one name, one of which takes tokens of a week: the other can't know how long."""
    taking = make_gate(verifier=alone(moved), store=moved.store)
    revoking = make_gate(verifier=moved.verifier(issuer=OTHER), store=moved.store)
    await revoking.revoke(ISSUER, SUBJECT)
    assert f"the issuer {ISSUER!r}" in caplog.text
    assert "seconds=" in caplog.text
    for day in (0.0, 2.0, 6.99):
        moved.now = NOW + day * DAY
        assert await status(taking, week_long()) == 401


def test_revocation_of_an_issuer_that_nothing_here_knows(caplog: pytest.LogCaptureFixture) -> None:
    """100 years, or what the operator says; visitors are nobody's where none are admitted."""
    gate = make_gate()
    for issuer in (OTHER, "urn:xuna-gate:visitors"):
        assert revoked_for(core_of(gate), issuer, 3 * DAY) == 3 * DAY
        assert "no verifier=" not in caplog.text
        assert revoked_for(core_of(gate), issuer) == MAX_TOKEN_SECONDS
        assert "no verifier=" in caplog.text
        caplog.clear()


async def test_revocation_for_longer(moved: Moved) -> None:
    """An operator who knows of longer sessions says so; shorter is never taken."""

    async def session(connection: object) -> Identity | None:
        return Identity(subject="anna")

    gate = make_gate(authenticator=session, store=moved.store, verifier=None)
    await gate.revoke("local", "anna", seconds=30 * DAY)
    await gate.revoke("local", "anna", seconds=1)
    moved.now = NOW + 29 * DAY
    page = [(b"sec-fetch-site", b"same-origin"), (b"sec-fetch-dest", b"empty")]
    assert (await ask(gate, headers=page)).status == 401
    moved.now += 2 * DAY
    assert (await ask(gate, headers=page)).status == 200
    for seconds in (-1, float("nan"), float("inf"), "1", True, MAX_TOKEN_SECONDS * 2):
        with pytest.raises(ConfigurationError, match="seconds"):
            await gate.revoke("local", "anna", seconds=seconds)  # type: ignore[arg-type]


async def test_opaque_token_that_is_older_than_its_bound() -> None:
    """With an `iat` the verifier holds `max_lifetime`, so that a revocation can."""
    from xuna_middleware.errors import InvalidTokenError
    from xuna_middleware.identity.introspection.policy import IntrospectionPolicy

    policy = IntrospectionPolicy(
        issuer=ISSUER,
        audience=frozenset({"voice"}),
        client_ids=frozenset(),
        subject_claims=("sub",),
        scope_claims=(),
        role_claims=(),
        leeway=30,
        max_lifetime=DAY,
        accepts_bound=False,
    )
    said = {"active": True, "sub": "anna", "aud": "voice"}
    assert policy.check({**said, "iat": NOW - DAY - 30}, NOW).subject == "anna"
    for exp in ({}, {"exp": NOW + 60}):
        with pytest.raises(InvalidTokenError) as refused:
            policy.check({**said, "iat": NOW - DAY - 31, **exp}, NOW)
        assert (refused.value.cause or "").startswith("lifetime: issued")


def tenants(traits: VerifierTraits | None, **options: Any) -> TenantVerifiers:
    return TenantVerifiers(lambda issuer: make_verifier(issuer=issuer, **options), traits=traits)


async def test_challenges_and_metadata_behind_tenants() -> None:
    """What was declared is announced, though no tenant has come yet."""
    traits = VerifierTraits(
        issuers=frozenset({OTHER, ISSUER}),
        dpop_algorithms=("ES256",),
        accepts_bearer=False,
        accepts_certificates=True,
    )
    app = XunaMiddleware(echo_app, make_gate(verifier=tenants(traits), public_url=PUBLIC))
    said = (await ask(app, METADATA)).json()
    assert said["authorization_servers"] == sorted([OTHER, ISSUER])
    assert said["dpop_signing_alg_values_supported"] == ["ES256"]
    assert said["dpop_bound_access_tokens_required"] is True
    assert said["tls_client_certificate_bound_access_tokens"] is True
    challenge = (await ask(app, "/xuna/get-signed-url")).header("www-authenticate") or ""
    assert challenge.startswith("DPoP ")
    assert 'algs="ES256"' in challenge
    assert "Bearer" not in challenge


async def test_challenges_behind_tenants_in_a_list() -> None:
    """A list merges what its members say."""
    members = [make_verifier(), tenants(DPOP)]
    gate = make_gate(verifier=members, public_url=PUBLIC)
    challenge = (await ask(gate)).header("www-authenticate") or ""
    assert challenge.startswith("Bearer ")
    assert 'algs="ES256 EdDSA"' in challenge


def test_dpop_behind_tenants_needs_public_url() -> None:
    """As a verifier's own `dpop=` does."""
    for verifier in (tenants(DPOP), [make_verifier(), tenants(DPOP)], Own(DPOP)):
        with pytest.raises(ConfigurationError, match="public_url"):
            make_gate(verifier=verifier)


async def test_dpop_behind_tenants() -> None:
    """A proof of a declared algorithm is taken."""
    gate = make_gate(
        verifier=tenants(
            VerifierTraits(dpop_algorithms=make_verifier(dpop="required").traits.dpop_algorithms),
            dpop="required",
        ),
        public_url=PUBLIC,
    )
    token = RSA.token(good_claims(cnf={"jkt": thumbprint(EC.jwk)}))
    made = proof(EC, token, f"{PUBLIC}/get-signed-url")
    headers = [(b"authorization", b"DPoP " + token.encode()), (b"dpop", made)]
    assert (await ask(gate, headers=headers)).status == 200


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"dpop": "accepted"}, "dpop_algorithms"),
        ({"mtls": "accepted"}, "accepts_certificates"),
        ({"max_lifetime": 7 * DAY}, "max_token_seconds"),
        ({"leeway": 300}, "max_token_seconds"),
    ],
)
async def test_tenant_beyond_what_was_declared(
    options: dict[str, Any], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    """503, and the log names the trait that would admit it."""
    gate = make_gate(verifier=tenants(None, **options), public_url=PUBLIC)
    with caplog.at_level(logging.WARNING):
        assert await status(gate, RSA.token()) == 503
    assert "TenantVerifiers(traits=VerifierTraits(" in caplog.text
    assert named in caplog.text


async def test_tenant_that_takes_bearer_where_none_was_declared() -> None:
    """Metadata said that tokens must be bound; a laxer verifier is no tenant's."""
    gate = make_gate(verifier=tenants(DPOP), public_url=PUBLIC)
    assert await status(gate, RSA.token()) == 503


async def test_declared_issuers_are_the_only_ones() -> None:
    """Another is refused without a look-up."""
    asked: list[str] = []

    def resolve(issuer: str) -> Verifier:
        asked.append(issuer)
        return make_verifier(issuer=issuer)

    declared = VerifierTraits(issuers=frozenset({ISSUER}))
    gate = make_gate(verifier=TenantVerifiers(resolve, traits=declared))
    assert await status(gate, RSA.token(good_claims(iss=OTHER))) == 401
    assert await status(gate, RSA.token()) == 200
    assert asked == [ISSUER]


def test_entra_tenants_say_it_by_themselves() -> None:
    """They are known from the start, and so is all about them."""
    tenant = "11111111-2222-3333-4444-555555555555"
    verifier = providers.entra_multitenant(
        tenants=[tenant], audience="11111111-2222-3333-4444-666666666666", max_lifetime=2 * DAY
    )
    issuer = f"https://login.microsoftonline.com/{tenant}/v2.0"
    assert verifier.traits.issuers == frozenset({issuer})
    assert verifier.traits.max_token_seconds == 2 * DAY + 30


async def test_verifier_with_verify_alone_goes_on_working() -> None:
    """Bearer, a day, any issuer; no token with the scheme DPoP."""
    gate = make_gate(verifier=Bare(), public_url=PUBLIC)
    assert await status(gate, "anything") == 200
    headers = [(b"authorization", b"DPoP anything"), (b"dpop", b"x")]
    answer: Answer = await ask(gate, headers=headers)
    assert (answer.status, revoked_for(core_of(gate), "own")) == (401, DAY + 30)
    assert traits_of(Bare()) == VerifierTraits()


async def test_own_verifier_says_what_it_accepts() -> None:
    """Its traits are read as ours are, in a list as well."""
    own = Own(VerifierTraits(issuers=frozenset({"own"}), max_token_seconds=9 * DAY))
    gate = make_gate(verifier=[make_verifier(), own])
    assert revoked_for(core_of(gate), "own") == 9 * DAY
    assert revoked_for(core_of(gate), ISSUER) == DAY + 30

    class Wrong(Bare):
        traits = "none"

    with pytest.raises(ConfigurationError, match="VerifierTraits"):
        make_gate(verifier=Wrong())


class Saying:
    """A verifier of one's own that declares one issuer, and returns another."""

    def __init__(self, declares: str, says: str) -> None:
        self.traits = VerifierTraits(issuers=frozenset({declares}))
        self.says = says

    async def verify(self, credentials: Credentials) -> Identity:
        return Identity(issuer=self.says, subject=SUBJECT)

    async def recheck_interval(self, token: str) -> float | None:
        return 60

    async def recheck(self, token: str) -> Identity:
        return Identity(issuer=self.says, subject=SUBJECT)


async def is_refused(gate: XunaGate, caplog: pytest.LogCaptureFixture) -> bool:
    """Tell whether a token of ISSUER is a 503 whose log line names the trait."""
    answer = await ask(gate, headers=bearer(RSA.token()))
    return answer.status == 503 and "VerifierTraits(issuers=…)" in caplog.text


async def test_identity_of_an_issuer_that_was_not_declared(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A verifier that is alone: what it declares is what it may return."""
    assert await is_refused(make_gate(verifier=Saying(ISSUER, OTHER)), caplog)
    assert await status(make_gate(verifier=Saying(ISSUER, ISSUER)), RSA.token()) == 200


async def test_identity_of_another_verifiers_issuer(caplog: pytest.LogCaptureFixture) -> None:
    """In a list, what another verifier declares counts for that one only."""
    gate = make_gate(verifier=[Saying(ISSUER, OTHER), make_verifier(issuer=OTHER)])
    assert await is_refused(gate, caplog)


async def test_identity_of_another_tenant(caplog: pytest.LogCaptureFixture) -> None:
    """A tenant's verifier speaks for no other tenant."""
    gate = make_gate(verifier=TenantVerifiers(lambda issuer: Saying(issuer, OTHER)))
    assert await is_refused(gate, caplog)


async def test_session_of_an_issuer_that_was_not_declared(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An authenticator that declares issuers is held to them as well."""

    class LiveSession:
        traits = VerifierTraits(issuers=frozenset({ISSUER}))

        async def __call__(self, connection: object) -> Identity | None:
            return Identity(issuer=OTHER, subject=SUBJECT)

    gate = make_gate(verifier=None, authenticator=LiveSession())
    answer = await ask(gate, headers=[(b"sec-fetch-site", b"same-origin")])
    assert answer.status == 503
    assert "VerifierTraits(issuers=…)" in caplog.text


@pytest.mark.parametrize(
    "verifier",
    [
        Saying(ISSUER, OTHER),
        [Saying(ISSUER, OTHER), make_verifier(issuer=OTHER)],
        TenantVerifiers(lambda issuer: Saying(issuer, OTHER)),
    ],
    ids=["alone", "in a list", "a tenant's"],
)
async def test_recheck_that_names_another_issuer(verifier: Any) -> None:
    """Whoever is asked again while a conversation runs is held to the same."""
    authentication = core_of(make_gate(verifier=verifier)).authentication
    with pytest.raises(UnavailableError) as refused:
        await authentication.recheck(HeldToken(RSA.token(), ISSUER))
    assert "VerifierTraits(issuers=…)" in (refused.value.cause or "")


def test_traits_of_an_oidc_verifier() -> None:
    """All that a gate reads, in one value."""
    verifier = OIDCVerifier(ISSUER, audience="voice", dpop="required", mtls="accepted", leeway=60)
    said = verifier.traits
    assert (said.issuers, said.max_token_seconds) == (frozenset({ISSUER}), DAY + 60)
    assert (said.accepts_bearer, said.accepts_certificates, said.needs_request) == (
        False,
        True,
        True,
    )
    assert said.dpop_algorithms[0] == "RS256"


def test_merged() -> None:
    """The most that any member accepts; issuers only where all say them."""
    one = VerifierTraits(issuers=frozenset({"a"}), accepts_bearer=False, dpop_algorithms=("ES256",))
    two = VerifierTraits(
        issuers=frozenset({"b"}), max_token_seconds=9, dpop_algorithms=("EdDSA", "ES256")
    )
    both = merge_traits([one, two])
    assert both.issuers == frozenset({"a", "b"})
    assert (both.accepts_bearer, both.max_token_seconds) == (True, DAY + 30)
    assert both.dpop_algorithms == ("ES256", "EdDSA")
    assert merge_traits([one, VerifierTraits()]).issuers is None
    assert merge_traits([]) == VerifierTraits()


@pytest.mark.parametrize(
    "options",
    [
        {"issuers": "https://one.example.com"},
        {"issuers": {""}},
        {"issuers": {1}},
        {"dpop_algorithms": "ES256"},
        {"max_token_seconds": 0},
        {"max_token_seconds": float("nan")},
        {"max_token_seconds": float("inf")},
        {"max_token_seconds": True},
        {"accepts_bearer": 1},
        {"needs_request": None},
    ],
)
def test_traits_that_make_no_sense(options: dict[str, Any]) -> None:
    """Refused when they are written down."""
    with pytest.raises(ConfigurationError, match="VerifierTraits"):
        VerifierTraits(**options)


def test_lifetime_that_no_revocation_could_cover() -> None:
    """The option has an end, and a mark may last longer than that."""
    with pytest.raises(ConfigurationError, match="max_lifetime"):
        make_verifier(max_lifetime=MAX_TOKEN_SECONDS)
    longest = make_verifier(max_lifetime=MAX_TOKEN_SECONDS / 2, leeway=300)
    assert longest.traits.max_token_seconds == MAX_TOKEN_SECONDS / 2 + 300


@pytest.mark.parametrize("end", [float("nan"), float("inf"), float("-inf")])
def test_ends_that_are_no_numbers(end: float) -> None:
    """A key, or an identity, that ends at NaN would never end, and outlive its revocation."""
    with pytest.raises(ConfigurationError, match="expires_at"):
        APIKey(hash=new_api_key().hash, subject="kiosk", expires_at=end)
    with pytest.raises(ConfigurationError, match="expires_at"):
        Identity(subject="anna", expires_at=float("nan"))
