"""The presets, on tokens and documents of the shape that each provider documents."""

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from xuna_middleware import (
    ConfigurationError,
    Credentials,
    Identity,
    InvalidTokenError,
    OIDCVerifier,
    auth0,
    entra,
    keycloak,
)

NOW = 1_780_000_000
KEY = RSAKey.generate_key(2048, {"kid": "key-1"})
OTHER_KEY = RSAKey.generate_key(2048, {"kid": "key-2"})

AUTH0 = "https://acme.eu.auth0.com/"
API = "https://api.acme.com"
KEYCLOAK = "https://sso.acme.com/realms/acme"
TENANT = "fec4f964-8bc9-4fac-b972-1c1da35adbcd"
OTHER_TENANT = "00c4f964-8bc9-4fac-b972-1c1da35adbcd"
API_ID = "2c3caa80-93f9-425e-8b85-0745f50c0d24"
APP_ID = "e4590ed6-62b3-4102-beff-bad2292ab01c"
ENTRA = f"https://login.microsoftonline.com/{TENANT}/v2.0"
ENTRA_V1 = f"https://sts.windows.net/{TENANT}/"

Claims = dict[str, Any]


def public(key: RSAKey, **members: Any) -> dict[str, Any]:
    return {**key.as_dict(private=False), "use": "sig", **members}


CERTIFICATE = {"x5c": ["MIIC+DCCAeCgAwIBAgIJ"], "x5t": "NjVBRjY5MDlCMUIwNzU4RTA2QzZF"}

#: What each provider serves: address → document.
DOCUMENTS: dict[str, Any] = {
    f"{AUTH0}.well-known/openid-configuration": {
        "issuer": AUTH0,
        "authorization_endpoint": f"{AUTH0}authorize",
        "jwks_uri": f"{AUTH0}.well-known/jwks.json",
        "id_token_signing_alg_values_supported": ["HS256", "RS256", "PS256"],
    },
    f"{AUTH0}.well-known/jwks.json": {
        "keys": [public(KEY, alg="RS256", **CERTIFICATE), public(OTHER_KEY, alg="RS256")]
    },
    f"{KEYCLOAK}/.well-known/openid-configuration": {
        "issuer": KEYCLOAK,
        "authorization_endpoint": f"{KEYCLOAK}/protocol/openid-connect/auth",
        "jwks_uri": f"{KEYCLOAK}/protocol/openid-connect/certs",
    },
    f"{KEYCLOAK}/protocol/openid-connect/certs": {
        "keys": [
            public(OTHER_KEY, use="enc", alg="RSA-OAEP", **CERTIFICATE),
            public(KEY, alg="RS256", **CERTIFICATE, **{"x5t#S256": "qLnRdP0gvnGGHAs9pmTmvqxhH5eb"}),
        ]
    },
    f"{ENTRA}/.well-known/openid-configuration": {
        "issuer": ENTRA,
        "authorization_endpoint": f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/authorize",
        "jwks_uri": f"https://login.microsoftonline.com/{TENANT}/discovery/v2.0/keys",
        "cloud_instance_name": "microsoftonline.com",
    },
    f"https://login.microsoftonline.com/{TENANT}/discovery/v2.0/keys": {
        "keys": [public(KEY, **CERTIFICATE, issuer=ENTRA)]
    },
    f"https://login.microsoftonline.com/{TENANT}/.well-known/openid-configuration": {
        "issuer": ENTRA_V1,
        "authorization_endpoint": f"https://login.microsoftonline.com/{TENANT}/oauth2/authorize",
        "jwks_uri": "https://login.microsoftonline.com/common/discovery/keys",
    },
    "https://login.microsoftonline.com/common/discovery/keys": {
        "keys": [public(KEY, **CERTIFICATE)]
    },
}


def serve(request: httpx.Request) -> httpx.Response:
    document = DOCUMENTS.get(str(request.url))
    return httpx.Response(404) if document is None else httpx.Response(200, json=document)


REACH: dict[str, Any] = {"transport": httpx.MockTransport(serve), "clock": lambda: NOW}


def tokens_of_auth0(**options: Any) -> OIDCVerifier:
    return auth0("acme.eu.auth0.com", audience=API, **REACH, **options)


def tokens_of_keycloak(**options: Any) -> OIDCVerifier:
    return keycloak("https://sso.acme.com", "acme", audience="voice", **REACH, **options)


def tokens_of_entra(**options: Any) -> OIDCVerifier:
    return entra(TENANT, audience=API_ID, **REACH, **options)


def tokens_of_entra_v1(**options: Any) -> OIDCVerifier:
    audience = [API_ID, f"api://{API_ID}"]
    return entra(TENANT, audience=audience, version=1, **REACH, **options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Hold a token before it is signed, and the preset that it is shown to."""

    preset: Callable[..., OIDCVerifier]
    claims: Claims
    header: Claims

    def signed(self, key: RSAKey = KEY) -> str:
        header = {"alg": "RS256", "kid": key.kid, **self.header}
        return jwt.encode(header, dict(self.claims), key)

    def but(self, header: Claims | None = None, **claims: Any) -> "Token":
        changed = {name: value for name, value in (self.claims | claims).items() if value != ...}
        return Token(preset=self.preset, claims=changed, header=header or self.header)


JWT, AT_JWT = {"typ": "JWT"}, {"typ": "at+jwt"}
HOUR: Claims = {"iat": NOW - 60, "exp": NOW + 3540}

AUTH0_DEFAULT = Token(
    preset=tokens_of_auth0,
    header=JWT,
    claims={
        "iss": AUTH0,
        "sub": "auth0|6553da60a54af58e29493993",
        "aud": [API, f"{AUTH0}userinfo"],
        "iat": NOW,
        "exp": NOW + 86400,
        "scope": "openid profile voice:talk",
        "azp": "K1AUPhZq8mRi0Q0pjhkfu1D7y6KjDQja",
        "permissions": ["voice:talk", "voice:admin"],
    },
)
AUTH0_MACHINE = AUTH0_DEFAULT.but(
    sub="awZfdIir8YFdGZWk@clients", aud=API, gty="client-credentials", azp="awZfdIir8YFdGZWk"
)
AUTH0_RFC9068 = AUTH0_DEFAULT.but(
    header=AT_JWT, azp=..., client_id="K1AUPhZq8mRi0Q0pjhkfu1D7y6KjDQja", jti="73WakrfVbNJBaAmhQ"
)
KEYCLOAK_DEFAULT = Token(
    preset=tokens_of_keycloak,
    header=JWT,
    claims={
        **HOUR,
        "auth_time": NOW - 60,
        "jti": "onrtac:1b0c4ddd-0fb0-49f8-9be4-bf80501473e1",
        "iss": KEYCLOAK,
        "aud": ["voice", "account"],
        "sub": "f1c4f64e-2c0c-4cda-8c9f-9f3f8f3a2b0e",
        "typ": "Bearer",
        "azp": "web",
        "sid": "4c0a3a8a-3a47-4f2f-8e89-9e5f9b0a0a0a",
        "acr": "1",
        "allowed-origins": ["https://acme.com"],
        "realm_access": {"roles": ["default-roles-acme", "staff"]},
        "resource_access": {
            "voice": {"roles": ["caller"]},
            "account": {"roles": ["manage-account"]},
        },
        "scope": "openid voice:talk email",
        "preferred_username": "ada",
    },
)
ENTRA_V2 = Token(
    preset=tokens_of_entra,
    header=JWT,
    claims={
        **HOUR,
        "nbf": NOW - 60,
        "aud": API_ID,
        "iss": ENTRA,
        "aio": "ATQAy/8GAAAA0agfnU4DTJUlEqGLisMtBk5q6z+6DB",
        "azp": APP_ID,
        "azpacr": "0",
        "oid": "6467882c-fdfd-4354-a1ed-4e13f064be25",
        "roles": ["Voice.User"],
        "scp": "access_as_user voice.talk",
        "sub": "XkjgWjdmaZ-_xDmhgN1BMP2vL2YOfeVxfPT_o8GRWaw",
        "tid": TENANT,
        "ver": "2.0",
    },
)
ENTRA_V1_TOKEN = Token(
    preset=tokens_of_entra_v1,
    header={"typ": "JWT", "x5t": KEY.kid},
    claims={
        **ENTRA_V2.but(azp=..., azpacr=...).claims,
        "aud": f"api://{API_ID}",
        "iss": ENTRA_V1,
        "appid": APP_ID,
        "appidacr": "0",
        "ver": "1.0",
    },
)


async def verified(token: Token, key: RSAKey = KEY, **options: Any) -> Identity:
    async with aclosing(token.preset(**options)) as verifier:
        return await verifier.verify(Credentials(scheme="bearer", token=token.signed(key)))


@pytest.mark.parametrize(
    ("token", "client_id", "scopes", "roles"),
    [
        pytest.param(
            AUTH0_DEFAULT,
            "K1AUPhZq8mRi0Q0pjhkfu1D7y6KjDQja",
            {"openid", "profile", "voice:talk"},
            {"voice:talk", "voice:admin"},
            id="auth0",
        ),
        pytest.param(
            AUTH0_RFC9068,
            "K1AUPhZq8mRi0Q0pjhkfu1D7y6KjDQja",
            {"openid", "profile", "voice:talk"},
            {"voice:talk", "voice:admin"},
            id="auth0 rfc9068",
        ),
        pytest.param(
            AUTH0_MACHINE.but(scope="voice:talk", permissions=...),
            "awZfdIir8YFdGZWk",
            {"voice:talk"},
            set(),
            id="auth0 machine",
        ),
        pytest.param(
            KEYCLOAK_DEFAULT,
            "web",
            {"openid", "voice:talk", "email"},
            {"default-roles-acme", "staff", "caller"},
            id="keycloak",
        ),
        pytest.param(
            KEYCLOAK_DEFAULT.but(header=AT_JWT, aud="voice", resource_access=...),
            "web",
            {"openid", "voice:talk", "email"},
            {"default-roles-acme", "staff"},
            id="keycloak at+jwt",
        ),
        pytest.param(
            ENTRA_V2, APP_ID, {"access_as_user", "voice.talk"}, {"Voice.User"}, id="entra"
        ),
        pytest.param(
            ENTRA_V1_TOKEN, None, {"access_as_user", "voice.talk"}, {"Voice.User"}, id="entra v1"
        ),
    ],
)
async def test_an_access_token_as_documented_is_accepted(
    token: Token, client_id: str | None, scopes: set[str], roles: set[str]
) -> None:
    """Subject, issuer, client, scopes and roles are found where the provider puts them."""
    identity = await verified(token)

    assert (identity.issuer, identity.subject) == (token.claims["iss"], token.claims["sub"])
    assert identity.client_id == client_id
    assert identity.scopes == scopes
    assert identity.roles == roles


AUTH0_ID_TOKEN = AUTH0_DEFAULT.but(
    aud="K1AUPhZq8mRi0Q0pjhkfu1D7y6KjDQja",
    scope=...,
    azp=...,
    permissions=...,
    sid="s1",
    name="Ada",
)
KEYCLOAK_ID_TOKEN = KEYCLOAK_DEFAULT.but(
    typ="ID", aud="web", scope=..., realm_access=..., resource_access=..., at_hash="Yw0hgw8ZZR"
)
ENTRA_ID_TOKEN = ENTRA_V2.but(aud=APP_ID, scp=..., azp=..., azpacr=..., name="Ada", nonce="12345")


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(AUTH0_ID_TOKEN, id="auth0 ID token"),
        pytest.param(AUTH0_ID_TOKEN.but(aud=API), id="auth0 ID token for the API"),
        pytest.param(AUTH0_DEFAULT.but(nonce="12345"), id="auth0 nonce"),
        pytest.param(AUTH0_DEFAULT.but(iss=AUTH0.rstrip("/")), id="auth0 issuer without slash"),
        pytest.param(AUTH0_DEFAULT.but(iss="https://evil.eu.auth0.com/"), id="auth0 other tenant"),
        pytest.param(AUTH0_DEFAULT.but(aud=[f"{AUTH0}userinfo"]), id="auth0 only userinfo"),
        pytest.param(AUTH0_DEFAULT.but(exp=NOW + 86401), id="auth0 longer than a day"),
        pytest.param(KEYCLOAK_ID_TOKEN, id="keycloak ID token"),
        pytest.param(KEYCLOAK_ID_TOKEN.but(aud="voice"), id="keycloak ID token for the API"),
        pytest.param(KEYCLOAK_ID_TOKEN.but(aud="voice", scope="a"), id="keycloak ID with scope"),
        pytest.param(KEYCLOAK_DEFAULT.but(aud="account"), id="keycloak without audience mapper"),
        pytest.param(
            KEYCLOAK_DEFAULT.but(iss="https://sso.acme.com/realms/other"), id="keycloak other realm"
        ),
        pytest.param(KEYCLOAK_DEFAULT.but(sub=...), id="keycloak lightweight, without sub"),
        pytest.param(ENTRA_ID_TOKEN, id="entra ID token"),
        pytest.param(ENTRA_ID_TOKEN.but(aud=API_ID, nonce=...), id="entra ID token for the API"),
        pytest.param(ENTRA_V2.but(iss=ENTRA.replace(TENANT, OTHER_TENANT)), id="entra tenant"),
        pytest.param(ENTRA_V2.but(iss=ENTRA_V1), id="entra version 1 at version 2"),
        pytest.param(ENTRA_V1_TOKEN.but(iss=ENTRA), id="entra version 2 at version 1"),
        pytest.param(ENTRA_V2.but(aud="https://graph.microsoft.com"), id="entra graph"),
        pytest.param(ENTRA_V2.but(scp=...), id="entra app on its own"),
    ],
)
async def test_anything_else_of_the_same_provider_is_refused(token: Token) -> None:
    """The key is right in each; Entra really signs for all tenants with the same ones."""
    with pytest.raises(InvalidTokenError):
        await verified(token)


FROM_AN_ACTION: Claims = {"https://acme.com/roles": ["admin"]}


async def test_a_key_for_encryption_verifies_nothing() -> None:
    """Keycloak publishes an encryption key beside the signing key."""
    with pytest.raises(InvalidTokenError):
        await verified(KEYCLOAK_DEFAULT, key=OTHER_KEY)
    identity = await verified(AUTH0_DEFAULT, key=OTHER_KEY)
    assert identity.issuer == AUTH0


@pytest.mark.parametrize(
    ("token", "options", "scopes", "roles"),
    [
        (
            AUTH0_DEFAULT.but(scope="openid"),
            {"scope_claims": ("scope", "permissions")},
            {"openid", "voice:talk", "voice:admin"},
            {"voice:talk", "voice:admin"},
        ),
        (
            AUTH0_DEFAULT.but(**FROM_AN_ACTION, scope="openid"),
            {"role_claims": ("https://acme.com/roles",)},
            {"openid"},
            {"admin"},
        ),
    ],
)
async def test_an_option_wins_over_the_preset(
    token: Token, options: dict[str, Any], scopes: set[str], roles: set[str]
) -> None:
    """Where a tenant differs from the preset, its own places for scopes and roles are read."""
    identity = await verified(token, **options)

    assert identity.scopes == scopes
    assert identity.roles == roles


async def test_keycloak_is_reached_inside_the_cluster() -> None:
    """The metadata may come from another address than the issuer, over http where allowed."""
    inside = "http://keycloak:8080/realms/acme"
    addresses = {
        f"{inside}/.well-known/openid-configuration": {
            "issuer": KEYCLOAK,
            "jwks_uri": f"{inside}/protocol/openid-connect/certs",
        },
        f"{inside}/protocol/openid-connect/certs": {"keys": [public(KEY)]},
    }
    verifier = keycloak(
        "https://sso.acme.com",
        "acme",
        audience="voice",
        metadata_url=f"{inside}/.well-known/openid-configuration",
        insecure_hosts=("keycloak",),
        transport=httpx.MockTransport(
            lambda request: httpx.Response(200, json=addresses[str(request.url)])
        ),
        clock=lambda: NOW,
    )
    async with aclosing(verifier):
        credentials = Credentials(scheme="bearer", token=KEYCLOAK_DEFAULT.signed())
        assert (await verifier.verify(credentials)).issuer == KEYCLOAK


@pytest.mark.parametrize(
    ("build", "issuer"),
    [
        (lambda: auth0("acme.eu.auth0.com", audience=API), AUTH0),
        (lambda: auth0("https://acme.eu.auth0.com/", audience=API), AUTH0),
        (lambda: auth0(" https://ACME.eu.auth0.com ", audience=API), AUTH0),
        (lambda: auth0("login.acme.com", audience=[API]), "https://login.acme.com/"),
        (lambda: keycloak("https://sso.acme.com/", "acme", audience="voice"), KEYCLOAK),
        (
            lambda: keycloak("https://sso.acme.com/auth/", "acme", audience="voice"),
            "https://sso.acme.com/auth/realms/acme",
        ),
        (
            lambda: keycloak("http://localhost:8080", "my realm", audience="voice"),
            "http://localhost:8080/realms/my%20realm",
        ),
        (lambda: entra(TENANT, audience=API_ID), ENTRA),
        (lambda: entra(f" {TENANT.upper()} ", audience=API_ID), ENTRA),
        (lambda: entra(TENANT, audience=f"api://{API_ID}", version=1), ENTRA_V1),
    ],
)
def test_what_people_paste_is_understood(build: Callable[[], OIDCVerifier], issuer: str) -> None:
    """Spaces, slashes, case and a pasted URL are harmless; the issuer comes out to the letter."""
    assert build().issuer == issuer


@pytest.mark.parametrize(
    ("build", "mend"),
    [
        (lambda: auth0("http://acme.eu.auth0.com", audience=API), "without http://"),
        (lambda: auth0("acme", audience=API), "whole domain"),
        (lambda: auth0("", audience=API), "whole domain"),
        (lambda: auth0("https://acme.eu.auth0.com/authorize", audience=API), "path"),
        (lambda: auth0("ada@acme.eu.auth0.com", audience=API), "whole domain"),
        (lambda: auth0("acme.eu.auth0.com", audience=""), "audience"),
        (lambda: auth0("acme.eu.auth0.com", audience=[]), "audience"),
        (lambda: auth0("acme.eu.auth0.com", audience=f"{AUTH0}userinfo"), "API's identifier"),
        (lambda: auth0("acme.eu.auth0.com", audience=[API, f"{AUTH0}api/v2/"]), "identifier"),
        (lambda: keycloak("sso.acme.com", "acme", audience="voice"), "https://sso.acme.com"),
        (lambda: keycloak("http://sso.acme.com", "acme", audience="voice"), "insecure_hosts"),
        (lambda: keycloak("https://sso.acme.com?a=b", "acme", audience="voice"), "base_url"),
        (lambda: keycloak(KEYCLOAK, "acme", audience="voice"), "second argument"),
        (lambda: keycloak("https://sso.acme.com", "", audience="voice"), "realm"),
        (lambda: keycloak("https://sso.acme.com", "a/b", audience="voice"), "realm"),
        (lambda: keycloak("https://sso.acme.com", "acme", audience=""), "audience"),
        (lambda: keycloak("https://sso.acme.com", "acme", audience="account"), "Audience mapper"),
        (lambda: entra("common", audience=API_ID), "list"),
        (lambda: entra("Organizations", audience=API_ID), "list"),
        (lambda: entra("consumers", audience=API_ID), "list"),
        (lambda: entra("acme.onmicrosoft.com", audience=API_ID), "GUID"),
        (lambda: entra("", audience=API_ID), "GUID"),
        (lambda: entra(ENTRA, audience=API_ID), "GUID"),
        (lambda: entra(TENANT, audience=""), "audience"),
        (lambda: entra(TENANT, audience=f"api://{API_ID}"), "version=1"),
        (lambda: entra(TENANT, audience="https://graph.microsoft.com"), "your own API"),
        (lambda: entra(TENANT, audience=API_ID, version=3), "1 or 2"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_meant_is_an_error_with_its_mend(
    build: Callable[[], OIDCVerifier], mend: str
) -> None:
    """A preset refuses when it is built, and says what to write instead."""
    with pytest.raises(ConfigurationError, match=mend):
        build()
