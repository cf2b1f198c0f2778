"""Auth0: https://auth0.com/docs/secure/tokens/access-tokens/access-token-profiles."""

from typing import Any, Final

from documented import (
    AT_JWT,
    CERTIFICATE,
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

ISSUER: Final = "https://acme.eu.auth0.com/"
API: Final = "https://api.acme.com"
APP: Final = "K1AUPhZq8mRi0Q0pjhkfu1D7y6KjDQja"
DOCUMENTS: Final = published(
    ISSUER,
    f"{ISSUER}.well-known/jwks.json",
    public(alg="RS256", **CERTIFICATE),
    public(OTHER_KEY, alg="RS256"),
    at=f"{ISSUER}.well-known/openid-configuration",
)


def tokens(**options: Any) -> OIDCVerifier:
    return providers.auth0("acme.eu.auth0.com", audience=API, **reach(DOCUMENTS), **options)


DEFAULT: Final = Token(
    preset=tokens,
    header=JWT,
    claims={
        "iss": ISSUER,
        "sub": "auth0|6553da60a54af58e29493993",
        "aud": [API, f"{ISSUER}userinfo"],
        "iat": NOW,
        "exp": NOW + 86400,
        "scope": "openid profile voice:talk",
        "azp": APP,
        "permissions": ["voice:talk", "voice:admin"],
    },
)
MACHINE: Final = DEFAULT.but(
    sub="awZfdIir8YFdGZWk@clients", aud=API, gty="client-credentials", azp="awZfdIir8YFdGZWk"
)
RFC9068: Final = DEFAULT.but(header=AT_JWT, azp=LEFT_OUT, client_id=APP, jti="73WakrfVbNJBaAmhQ")
ID_TOKEN: Final = DEFAULT.but(
    aud=APP, scope=LEFT_OUT, azp=LEFT_OUT, permissions=LEFT_OUT, sid="s1", name="Ada"
)
SCOPES: Final = {"openid", "profile", "voice:talk"}
PERMISSIONS: Final = {"voice:talk", "voice:admin"}

PROVIDER: Final = Provider(
    accepted={
        "default": Accepted(DEFAULT, APP, SCOPES, PERMISSIONS),
        "RFC 9068": Accepted(RFC9068, APP, SCOPES, PERMISSIONS),
        "machine": Accepted(
            MACHINE.but(scope="voice:talk", permissions=LEFT_OUT),
            "awZfdIir8YFdGZWk",
            {"voice:talk"},
        ),
        "permissions as scopes": Accepted(
            DEFAULT.but(scope="openid"),
            APP,
            {"openid", *PERMISSIONS},
            PERMISSIONS,
            {"scope_claims": ("scope", "permissions")},
        ),
        "roles from an Action": Accepted(
            DEFAULT.but(claims={"https://acme.com/roles": ["admin"]}),
            APP,
            SCOPES,
            {"admin"},
            {"role_claims": ("https://acme.com/roles",)},
        ),
    },
    refused={
        "ID token": ID_TOKEN,
        "ID token for the API": ID_TOKEN.but(aud=API),
        "nonce": DEFAULT.but(nonce="12345"),
        "issuer without slash": DEFAULT.but(iss=ISSUER.rstrip("/")),
        "another tenant": DEFAULT.but(iss="https://evil.eu.auth0.com/"),
        "only userinfo": DEFAULT.but(aud=[f"{ISSUER}userinfo"]),
        "longer than a day": DEFAULT.but(exp=NOW + 86401),
        "no type": DEFAULT.but(header={}),
    },
    pasted=(
        (lambda: providers.auth0("acme.eu.auth0.com", audience=API), ISSUER),
        (lambda: providers.auth0("https://acme.eu.auth0.com/", audience=API), ISSUER),
        (lambda: providers.auth0(" https://ACME.eu.auth0.com ", audience=API), ISSUER),
        (lambda: providers.auth0("login.acme.com", audience=[API]), "https://login.acme.com/"),
    ),
    hints=(
        (lambda: providers.auth0("http://acme.eu.auth0.com", audience=API), "without http://"),
        (lambda: providers.auth0("acme", audience=API), "whole domain"),
        (lambda: providers.auth0("", audience=API), "whole domain"),
        (lambda: providers.auth0("https://acme.eu.auth0.com/authorize", audience=API), "path"),
        (lambda: providers.auth0("ada@acme.eu.auth0.com", audience=API), "whole domain"),
        (lambda: providers.auth0("acme.eu.auth0.com", audience=""), "audience"),
        (lambda: providers.auth0("acme.eu.auth0.com", audience=[]), "audience"),
        (
            lambda: providers.auth0("acme.eu.auth0.com", audience=f"{ISSUER}userinfo"),
            "API's identifier",
        ),
        (
            lambda: providers.auth0("acme.eu.auth0.com", audience=[API, f"{ISSUER}api/v2/"]),
            "identifier",
        ),
    ),
)
