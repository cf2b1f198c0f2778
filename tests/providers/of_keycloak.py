"""Keycloak: https://www.keycloak.org/docs/latest/server_admin, protocol mappers."""

from typing import Any, Final

from documented import (
    AT_JWT,
    CERTIFICATE,
    HOUR,
    JWT,
    OTHER_KEY,
    Accepted,
    Provider,
    Token,
    public,
    published,
    reach,
)
from support.signing import LEFT_OUT, NOW

from xuna_middleware import OIDCVerifier, providers

ISSUER: Final = "https://sso.acme.com/realms/acme"
INSIDE: Final = "http://keycloak:8080/realms/acme"
#: It publishes a key for encryption beside the signing key.
KEYS: Final = (
    public(OTHER_KEY, use="enc", alg="RSA-OAEP", **CERTIFICATE),
    {**public(alg="RS256", **CERTIFICATE), "x5t#S256": "qLnRdP0gvnGGHAs9pmTmvqxhH5eb"},
)
DOCUMENTS: Final = {
    **published(ISSUER, f"{ISSUER}/protocol/openid-connect/certs", *KEYS),
    **published(
        ISSUER,
        f"{INSIDE}/protocol/openid-connect/certs",
        *KEYS,
        at=f"{INSIDE}/.well-known/openid-configuration",
    ),
}


def tokens(**options: Any) -> OIDCVerifier:
    return providers.keycloak(
        "https://sso.acme.com", "acme", audience="voice", **reach(DOCUMENTS), **options
    )


DEFAULT: Final = Token(
    preset=tokens,
    header=JWT,
    claims={
        **HOUR,
        "auth_time": NOW - 60,
        "jti": "onrtac:1b0c4ddd-0fb0-49f8-9be4-bf80501473e1",
        "iss": ISSUER,
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
ID_TOKEN: Final = DEFAULT.but(
    typ="ID",
    aud="web",
    scope=LEFT_OUT,
    realm_access=LEFT_OUT,
    resource_access=LEFT_OUT,
    at_hash="Yw0hgw8ZZR",
)
SCOPES: Final = {"openid", "voice:talk", "email"}
REALM_ROLES: Final = {"default-roles-acme", "staff"}

PROVIDER: Final = Provider(
    accepted={
        "default": Accepted(DEFAULT, "web", SCOPES, {*REALM_ROLES, "caller"}),
        "at+jwt": Accepted(
            DEFAULT.but(header=AT_JWT, aud="voice", resource_access=LEFT_OUT),
            "web",
            SCOPES,
            REALM_ROLES,
        ),
        "metadata and keys inside the cluster": Accepted(
            DEFAULT,
            "web",
            SCOPES,
            {*REALM_ROLES, "caller"},
            {
                "metadata_url": f"{INSIDE}/.well-known/openid-configuration",
                "insecure_hosts": ("keycloak",),
            },
        ),
    },
    refused={
        "ID token": ID_TOKEN,
        "ID token for the API": ID_TOKEN.but(aud="voice"),
        "ID token with scope": ID_TOKEN.but(aud="voice", scope="a"),
        "without audience mapper": DEFAULT.but(aud="account"),
        "another realm": DEFAULT.but(iss="https://sso.acme.com/realms/other"),
        "lightweight, without sub": DEFAULT.but(sub=LEFT_OUT),
    },
    pasted=(
        (lambda: providers.keycloak("https://sso.acme.com/", "acme", audience="voice"), ISSUER),
        (
            lambda: providers.keycloak("https://sso.acme.com/auth/", "acme", audience="voice"),
            "https://sso.acme.com/auth/realms/acme",
        ),
        (
            lambda: providers.keycloak("http://localhost:8080", "my realm", audience="voice"),
            "http://localhost:8080/realms/my%20realm",
        ),
    ),
    hints=(
        (
            lambda: providers.keycloak("sso.acme.com", "acme", audience="voice"),
            "https://sso.acme.com",
        ),
        (
            lambda: providers.keycloak("http://sso.acme.com", "acme", audience="voice"),
            "insecure_hosts",
        ),
        (
            lambda: providers.keycloak("https://sso.acme.com?a=b", "acme", audience="voice"),
            "base_url",
        ),
        (lambda: providers.keycloak(ISSUER, "acme", audience="voice"), "second argument"),
        (lambda: providers.keycloak("https://sso.acme.com", "", audience="voice"), "realm"),
        (lambda: providers.keycloak("https://sso.acme.com", "a/b", audience="voice"), "realm"),
        (lambda: providers.keycloak("https://sso.acme.com", "acme", audience=""), "audience"),
        (
            lambda: providers.keycloak("https://sso.acme.com", "acme", audience="account"),
            "Audience mapper",
        ),
    ),
)
