"""The presets, on tokens and documents of the shape that each provider documents."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import of_auth0
import of_clerk
import of_cognito
import of_entra
import of_firebase
import of_google
import of_keycloak
import of_okta
import of_supabase
import of_zitadel
import pytest
from documented import AT_JWT, KEY, OTHER_KEY, Accepted, Provider, Token, verified
from support.doubles import CHALLENGE, CountedPlatform, ask, bearer, make_gate
from support.signing import EC, proof, rsa_signer, thumbprint

from xuna_middleware import ConfigurationError, InvalidTokenError

STRANGER: Final = rsa_signer("stranger")
PROVIDERS: Final[dict[str, Provider]] = {
    module.__name__.removeprefix("of_"): module.PROVIDER
    for module in (
        *(of_auth0, of_clerk, of_cognito, of_entra, of_firebase),
        *(of_google, of_keycloak, of_okta, of_supabase, of_zitadel),
    )
}


def each(which: str) -> list[Any]:
    """List what stands under a name, or in a row, at each provider."""
    return [
        param
        for name, provider in PROVIDERS.items()
        for param in _params(name, getattr(provider, which))
    ]


def _params(name: str, cases: Any) -> Iterator[Any]:
    if isinstance(cases, dict):
        return (pytest.param(case, id=f"{name}: {why}") for why, case in cases.items())
    return (pytest.param(*case, id=f"{name}: {number}") for number, case in enumerate(cases))


@pytest.mark.parametrize("case", each("accepted"))
async def test_a_token_as_documented_is_accepted(case: Accepted) -> None:
    """Subject, issuer, client, scopes and roles are found where the provider puts them."""
    claims = case.token.claims
    identity = await verified(case.token, **case.options)

    assert (identity.issuer, identity.subject) == (claims["iss"], claims["sub"])
    assert identity.client_id == case.client_id
    assert identity.scopes == case.scopes
    assert identity.roles == case.roles


@pytest.mark.parametrize("token", each("refused"))
async def test_anything_else_of_the_same_provider_is_refused(token: Token) -> None:
    """The key is right in each; Microsoft and Google really sign for everybody with the same."""
    with pytest.raises(InvalidTokenError):
        await verified(token)


@pytest.mark.parametrize(("build", "issuer"), each("pasted"))
def test_what_people_paste_is_understood(build: Callable[[], Any], issuer: str) -> None:
    """Spaces, slashes, case and a pasted URL are harmless; the issuer comes out to the letter."""
    assert build().issuer == issuer


@pytest.mark.parametrize(("build", "hint"), each("hints"))
def test_what_cannot_be_meant_is_an_error_with_its_mend(
    build: Callable[[], Any], hint: str
) -> None:
    """A preset refuses when it is built, and says what to write instead."""
    with pytest.raises(ConfigurationError, match=hint):
        build()


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_stranger_s_key_verifies_nothing(name: str) -> None:
    """The first good token of each, signed by somebody who took the name of the key."""
    token = next(iter(PROVIDERS[name].accepted.values())).token
    with pytest.raises(InvalidTokenError) as refused:
        await verified(token, key=replace(STRANGER, kid=KEY.kid))
    assert refused.value.cause.startswith("signature")


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (of_clerk.SESSION.but(AT_JWT, sts="pending"), "sts"),
        (of_cognito.ID_TOKEN.but(AT_JWT, client_id=of_cognito.CLIENT), "ID token"),
        (of_firebase.ANONYMOUS.but(AT_JWT), "anonymous"),
        (of_google.SERVICE_ACCOUNT.but(AT_JWT), "azp"),
        (of_okta.ID_TOKEN.but(AT_JWT, aud=of_okta.API), "ID token"),
        (of_supabase.OAUTH_APP.but(AT_JWT), "client_id"),
        (of_zitadel.ID_TOKEN.but(AT_JWT), "ID token"),
    ],
)
async def test_a_wider_choice_of_types_opens_nothing_else(token: Token, why: str) -> None:
    """What a preset knows of its provider's tokens holds for a type of the operator's, too."""
    with pytest.raises(InvalidTokenError) as refused:
        await verified(token, token_types=("at+jwt", "JWT"))
    assert refused.value.cause.startswith(why)


PUBLIC: Final = "https://acme.com/xuna"


async def test_a_preset_takes_bound_tokens_where_it_is_told() -> None:
    """`dpop` and `mtls` are the verifier's: a proof opens, and nothing else does."""
    bound = of_okta.ACCESS.but(cnf={"jkt": thumbprint(EC.jwk)})
    gate = make_gate(verifier=bound.preset(dpop="required"), public_url=PUBLIC)
    off = make_gate(verifier=bound.preset(), public_url=PUBLIC)
    token = bound.signed()
    made = proof(EC, token, f"{PUBLIC}/get-signed-url")
    headers = [(b"authorization", b"DPoP " + token.encode()), (b"dpop", made)]
    assert (await ask(gate, headers=bearer(token))).status == 401
    assert (await ask(gate, headers=bearer(of_okta.ACCESS.signed()))).status == 401
    assert (await ask(off, headers=bearer(token))).status == 401
    assert (await ask(off, headers=headers)).status == 401
    assert (await ask(gate, headers=headers)).status == 200
    certified = of_okta.ACCESS.but(cnf={"x5t#S256": "x" * 43})
    mtls = make_gate(verifier=certified.preset(mtls="accepted"), public_url=PUBLIC)
    assert (await ask(mtls, headers=bearer(of_okta.ACCESS.signed()))).status == 200
    assert (await ask(mtls, headers=bearer(certified.signed()))).status == 401
    for each in (gate, off, mtls):
        await each.aclose()


ID_TOKENS: Final = {
    "auth0": (of_auth0.ID_TOKEN.but(aud=of_auth0.API), 401),
    "clerk": (of_clerk.SESSION.but(nonce="12345"), 401),
    "cognito": (of_cognito.ID_TOKEN, 401),
    "entra": (of_entra.ID_TOKEN.but(aud=of_entra.API), 401),
    "firebase": (of_firebase.ID_TOKEN, 200),
    "google": (of_google.ID_TOKEN, 200),
    "keycloak": (of_keycloak.ID_TOKEN.but(aud="voice"), 401),
    "okta": (of_okta.ID_TOKEN.but(aud=of_okta.API), 401),
    "supabase": (of_supabase.ACCESS.but(nonce="12345"), 401),
    "zitadel": (of_zitadel.ID_TOKEN, 401),
}


@pytest.mark.parametrize("name", PROVIDERS)
async def test_an_id_token_is_a_credential_only_where_there_is_no_other(name: str) -> None:
    """Google's access tokens are for Google alone, and Firebase has none; all others have one."""
    token, status = ID_TOKENS[name]
    platform = CountedPlatform()
    gate = make_gate(platform, verifier=token.preset())
    answer = await ask(gate, headers=bearer(token.signed()))
    assert answer.status == status
    assert len(platform.requests) == (status == 200)
    if status == 401:
        assert answer.header("www-authenticate") == CHALLENGE
        assert answer.json()["code"] == "invalid_token"
    await gate.aclose()


async def test_a_key_for_encryption_verifies_nothing() -> None:
    """Keycloak publishes an encryption key beside the signing key; others, two signing keys."""
    with pytest.raises(InvalidTokenError):
        await verified(of_keycloak.DEFAULT, key=OTHER_KEY)
    identity = await verified(of_auth0.DEFAULT, key=OTHER_KEY)
    assert identity.issuer == of_auth0.ISSUER
