"""Microsoft Entra ID: https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference."""

from typing import Any, Final

from documented import (
    CERTIFICATE,
    HOUR,
    JWT,
    KEY,
    Accepted,
    Provider,
    Token,
    public,
    published,
    reach,
)
from support.signing import LEFT_OUT, NOW

from xuna_middleware import OIDCVerifier, TenantVerifiers, providers

LOGIN: Final = "https://login.microsoftonline.com"
TENANT: Final = "fec4f964-8bc9-4fac-b972-1c1da35adbcd"
SECOND: Final = "00c4f964-8bc9-4fac-b972-1c1da35adbcd"
STRANGER: Final = "99c4f964-8bc9-4fac-b972-1c1da35adbcd"
API: Final = "2c3caa80-93f9-425e-8b85-0745f50c0d24"
APP: Final = "e4590ed6-62b3-4102-beff-bad2292ab01c"


def issuer(tenant: str) -> str:
    return f"{LOGIN}/{tenant}/v2.0"


def issuer_v1(tenant: str) -> str:
    return f"https://sts.windows.net/{tenant}/"


def tenants_documents(tenant: str) -> dict[str, Any]:
    """Keys have no `alg`, and say whose they are; Microsoft's are the same for everybody."""
    key = public(KEY, **CERTIFICATE, issuer=issuer(tenant))
    return {
        **published(issuer(tenant), f"{LOGIN}/{tenant}/discovery/v2.0/keys", key),
        **published(
            issuer_v1(tenant),
            f"{LOGIN}/common/discovery/keys",
            public(KEY, **CERTIFICATE),
            at=f"{LOGIN}/{tenant}/.well-known/openid-configuration",
        ),
    }


DOCUMENTS: Final = {
    address: document
    for tenant in (TENANT, SECOND, STRANGER)
    for address, document in tenants_documents(tenant).items()
}


def tokens(**options: Any) -> OIDCVerifier:
    return providers.entra(TENANT, audience=API, **reach(DOCUMENTS), **options)


def tokens_v1(**options: Any) -> OIDCVerifier:
    audience = [API, f"api://{API}"]
    return providers.entra(TENANT, audience=audience, version=1, **reach(DOCUMENTS), **options)


def tokens_of_two(**options: Any) -> TenantVerifiers:
    reached = reach(DOCUMENTS)
    return providers.entra_multitenant(tenants=[TENANT, SECOND], audience=API, **reached, **options)


def tokens_v1_of_two(**options: Any) -> TenantVerifiers:
    return providers.entra_multitenant(
        tenants=(SECOND.upper(), TENANT),
        audience=f"api://{API}",
        version=1,
        **reach(DOCUMENTS),
        **options,
    )


V2: Final = Token(
    preset=tokens,
    header=JWT,
    claims={
        **HOUR,
        "nbf": NOW - 60,
        "aud": API,
        "iss": issuer(TENANT),
        "aio": "ATQAy/8GAAAA0agfnU4DTJUlEqGLisMtBk5q6z+6DB",
        "azp": APP,
        "azpacr": "0",
        "oid": "6467882c-fdfd-4354-a1ed-4e13f064be25",
        "roles": ["Voice.User"],
        "scp": "access_as_user voice.talk",
        "sub": "XkjgWjdmaZ-_xDmhgN1BMP2vL2YOfeVxfPT_o8GRWaw",
        "tid": TENANT,
        "ver": "2.0",
    },
)
V1: Final = Token(
    preset=tokens_v1,
    header={"typ": "JWT", "x5t": KEY.kid},
    claims={
        **V2.but(azp=LEFT_OUT, azpacr=LEFT_OUT).claims,
        "aud": f"api://{API}",
        "iss": issuer_v1(TENANT),
        "appid": APP,
        "appidacr": "0",
        "ver": "1.0",
    },
)
APP_ONLY: Final = V2.but(scp=LEFT_OUT, azpacr="1", sub="6467882c-fdfd-4354-a1ed-4e13f064be25")
ID_TOKEN: Final = V2.but(
    aud=APP, scp=LEFT_OUT, azp=LEFT_OUT, azpacr=LEFT_OUT, name="Ada", nonce="12345"
)


def shown_to(preset: Any, token: Token) -> Token:
    return Token(preset=preset, claims=token.claims, header=token.header)


def of_second(token: Token) -> Token:
    return token.but(iss=str(token.claims["iss"]).replace(TENANT, SECOND), tid=SECOND)


def of_stranger(token: Token) -> Token:
    return token.but(iss=str(token.claims["iss"]).replace(TENANT, STRANGER), tid=STRANGER)


SCOPES: Final = {"access_as_user", "voice.talk"}
ROLES: Final = {"Voice.User"}
V2_OF_TWO: Final = shown_to(tokens_of_two, V2)
V1_OF_TWO: Final = shown_to(tokens_v1_of_two, V1)

PROVIDER: Final = Provider(
    accepted={
        "version 2": Accepted(V2, APP, SCOPES, ROLES),
        "version 1": Accepted(V1, APP, SCOPES, ROLES),
        "app on its own": Accepted(APP_ONLY.but(idtyp="app"), APP, set(), ROLES),
        "first of two tenants": Accepted(V2_OF_TWO, APP, SCOPES, ROLES),
        "second of two tenants": Accepted(of_second(V2_OF_TWO), APP, SCOPES, ROLES),
        "two tenants, version 1": Accepted(of_second(V1_OF_TWO), APP, SCOPES, ROLES),
    },
    refused={
        "ID token": ID_TOKEN,
        "ID token for the API": ID_TOKEN.but(aud=API, nonce=LEFT_OUT),
        "another tenant": of_second(V2),
        "version 1 at version 2": V2.but(iss=issuer_v1(TENANT)),
        "version 2 at version 1": V1.but(iss=issuer(TENANT)),
        "graph": V2.but(aud="https://graph.microsoft.com"),
        "app on its own, without idtyp": APP_ONLY,
        "user's idtyp without scope": APP_ONLY.but(idtyp="user"),
        "third tenant": of_stranger(V2_OF_TWO),
        "third tenant, version 1": of_stranger(V1_OF_TWO),
        "every tenant": V2_OF_TWO.but(iss=f"{LOGIN}/common/v2.0"),
        "the template": V2_OF_TWO.but(iss=LOGIN + "/{tenantid}/v2.0"),
        "two tenants, another API": V2_OF_TWO.but(aud=APP),
        "two tenants, ID token": shown_to(tokens_of_two, ID_TOKEN.but(aud=API)),
    },
    pasted=(
        (lambda: providers.entra(TENANT, audience=API), issuer(TENANT)),
        (lambda: providers.entra(f" {TENANT.upper()} ", audience=API), issuer(TENANT)),
        (lambda: providers.entra(TENANT, audience=f"api://{API}", version=1), issuer_v1(TENANT)),
    ),
    hints=(
        (lambda: providers.entra("common", audience=API), "entra_multitenant"),
        (lambda: providers.entra("Organizations", audience=API), "entra_multitenant"),
        (lambda: providers.entra("consumers", audience=API), "entra_multitenant"),
        (lambda: providers.entra("acme.onmicrosoft.com", audience=API), "GUID"),
        (lambda: providers.entra("", audience=API), "GUID"),
        (lambda: providers.entra(issuer(TENANT), audience=API), "GUID"),
        (lambda: providers.entra(TENANT, audience=""), "audience"),
        (lambda: providers.entra(TENANT, audience=f"api://{API}"), "version=1"),
        (lambda: providers.entra(TENANT, audience="https://graph.microsoft.com"), "your own API"),
        (lambda: providers.entra(TENANT, audience=API, version=3), "1 or 2"),  # type: ignore[arg-type]
        (lambda: providers.entra_multitenant(tenants=[], audience=API), "tenants must list"),
        (lambda: providers.entra_multitenant(tenants=None, audience=API), "tenants"),  # type: ignore[arg-type]
        (
            lambda: providers.entra_multitenant(tenants=[TENANT, "common"], audience=API),
            "every tenant",
        ),
        (lambda: providers.entra_multitenant(tenants=[TENANT, ""], audience=API), "tenants"),
        (lambda: providers.entra_multitenant(tenants=[TENANT], audience=[]), "audience"),
        (lambda: providers.entra_multitenant(tenants=[TENANT], audience=API, leeway=-1), "leeway"),
    ),
)
