"""ZITADEL: https://zitadel.com/docs/apis/openidoauth/claims."""

from typing import Any, Final

from documented import (
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

ISSUER: Final = "https://acme-x1y2z3.zitadel.cloud"
PROJECT: Final = "344374183645413380"
ORG: Final = {"344373908297744388": "acme.zitadel.cloud"}
APP: Final = "344374183645413999"
DOCUMENTS: Final = published(
    ISSUER, f"{ISSUER}/oauth/v2/keys", public(alg="RS256"), public(OTHER_KEY, alg="RS256")
)


def roles_of(project: str, **roles: Any) -> dict[str, Any]:
    return {f"urn:zitadel:iam:org:project:{project}:roles": roles}


def tokens(**options: Any) -> OIDCVerifier:
    return providers.zitadel(
        "acme-x1y2z3.zitadel.cloud", audience=PROJECT, **reach(DOCUMENTS), **options
    )


ACCESS: Final = Token(
    preset=tokens,
    header=JWT,
    claims={
        **HOUR,
        "iss": ISSUER,
        "sub": "345377791925026818",
        "aud": [APP, PROJECT],
        "nbf": NOW - 60,
        "client_id": APP,
        "jti": "V2_345377791925026819-at_345377791925092355",
        **roles_of(PROJECT, streaming=ORG, caller=ORG),
        **roles_of("999", admin=ORG),
        "urn:zitadel:iam:org:project:roles": {"owner": ORG},
    },
)
ID_TOKEN: Final = ACCESS.but(
    jti=LEFT_OUT,
    azp=APP,
    amr=["pwd", "mfa"],
    auth_time=NOW - 60,
    at_hash="Yw0hgw8ZZR",
    sid="V1_345",
)

PROVIDER: Final = Provider(
    accepted={
        "roles of this project alone": Accepted(ACCESS, APP, roles={"streaming", "caller"}),
        "no roles": Accepted(ACCESS.but(claims=dict.fromkeys(roles_of(PROJECT), LEFT_OUT)), APP),
        "roles that nobody granted": Accepted(
            ACCESS.but(claims=roles_of(PROJECT, caller=ORG, admin={}, root=False)),
            APP,
            roles={"caller"},
        ),
        "no type": Accepted(ACCESS.but(header={}), APP, roles={"streaming", "caller"}),
        "two projects": Accepted(
            Token(
                preset=lambda **o: providers.zitadel(
                    ISSUER, audience=[PROJECT, "999"], **reach(DOCUMENTS), **o
                ),
                claims=ACCESS.claims,
                header=JWT,
            ),
            APP,
            roles={"streaming", "caller", "admin"},
        ),
    },
    refused={
        "ID token": ID_TOKEN,
        "ID token without a hash": ID_TOKEN.but(at_hash=LEFT_OUT, sid=LEFT_OUT),
        "ID token with nothing but auth_time": ID_TOKEN.but(
            at_hash=LEFT_OUT, sid=LEFT_OUT, amr=LEFT_OUT
        ),
        "ID token with nothing but amr": ACCESS.but(amr=["pwd"]),
        "neither jti nor client_id": ACCESS.but(jti=LEFT_OUT, client_id=LEFT_OUT),
        "another project": ACCESS.but(aud=[APP]),
        "another instance": ACCESS.but(iss="https://evil-x1y2z3.zitadel.cloud"),
    },
    pasted=(
        (lambda: providers.zitadel("acme-x1y2z3.zitadel.cloud", audience=PROJECT), ISSUER),
        (lambda: providers.zitadel(f" {ISSUER}/ ", audience=[PROJECT]), ISSUER),
        (
            lambda: providers.zitadel("http://localhost:8080", audience=PROJECT),
            "http://localhost:8080",
        ),
    ),
    hints=(
        (lambda: providers.zitadel("", audience=PROJECT), "domain"),
        (lambda: providers.zitadel("acme.zitadel.cloud.", audience=PROJECT), "domain"),
        (lambda: providers.zitadel("acme.zitadel.cloud?a", audience=PROJECT), "domain"),
        (lambda: providers.zitadel("a." * 200 + "cloud", audience=PROJECT), "domain"),
        (lambda: providers.zitadel(f"{ISSUER}/oauth/v2", audience=PROJECT), "without a path"),
        (lambda: providers.zitadel("http://id.acme.com", audience=PROJECT), "https"),
        (lambda: providers.zitadel("acme.zitadel.cloud", audience=""), "audience"),
    ),
)
