"""Cognito: docs.aws.amazon.com/cognito, "Understanding the access token"."""

from typing import Any, Final

from documented import (
    HOUR,
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

POOL: Final = "eu-central-1_AbCdEfGhI"
ISSUER: Final = f"https://cognito-idp.eu-central-1.amazonaws.com/{POOL}"
CLIENT: Final = "4fmvhv22tjrgd7d3k3tghttct7"
DOCUMENTS: Final = published(
    ISSUER,
    f"{ISSUER}/.well-known/jwks.json",
    public(alg="RS256"),
    public(OTHER_KEY, alg="RS256"),
)


def tokens(**options: Any) -> OIDCVerifier:
    return providers.cognito(POOL, client_id=CLIENT, **reach(DOCUMENTS), **options)


def tokens_of_two_apps(**options: Any) -> OIDCVerifier:
    return providers.cognito(POOL, client_id=[CLIENT, "another"], **reach(DOCUMENTS), **options)


ACCESS: Final = Token(
    preset=tokens,
    header={},
    claims={
        **HOUR,
        "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        "cognito:groups": ["staff", "testers"],
        "iss": ISSUER,
        "version": 2,
        "client_id": CLIENT,
        "origin_jti": "aaaaaaaa-bbbb-cccc-dddd-ffffffffffff",
        "event_id": "e0ad7a45-49b5-4ed4-b7fc-7d2a4a3f9a0f",
        "token_use": "access",
        "scope": "openid voice/talk",
        "auth_time": NOW - 60,
        "jti": "aaaaaaaa-bbbb-cccc-dddd-111111111111",
        "username": "ada",
    },
)
MACHINE: Final = ACCESS.but(
    sub=CLIENT, username=LEFT_OUT, scope="voice/talk", claims={"cognito:groups": LEFT_OUT}
)
ID_TOKEN: Final = ACCESS.but(
    token_use="id",
    client_id=LEFT_OUT,
    aud=CLIENT,
    scope=LEFT_OUT,
    at_hash="Yw0hgw8ZZR",
    username=LEFT_OUT,
    claims={"cognito:username": "ada"},
)

PROVIDER: Final = Provider(
    accepted={
        "person": Accepted(ACCESS, CLIENT, {"openid", "voice/talk"}, {"staff", "testers"}),
        "machine": Accepted(MACHINE, CLIENT, {"voice/talk"}),
        "bound to a resource": Accepted(
            ACCESS.but(aud="https://api.acme.com"),
            CLIENT,
            {"openid", "voice/talk"},
            {"staff", "testers"},
        ),
        "second app": Accepted(
            Token(
                preset=tokens_of_two_apps, claims=MACHINE.but(client_id="another").claims, header={}
            ),
            "another",
            {"voice/talk"},
        ),
    },
    refused={
        "ID token": ID_TOKEN,
        "ID token with client_id": ID_TOKEN.but(client_id=CLIENT, at_hash=LEFT_OUT),
        "ID token of a faithful at+jwt": ID_TOKEN.but(header={"typ": "at+jwt"}, client_id=CLIENT),
        "no token_use": ACCESS.but(token_use=LEFT_OUT),
        "another app": ACCESS.but(client_id="another"),
        "app in aud alone": ACCESS.but(client_id=LEFT_OUT, aud=CLIENT),
        "another pool": ACCESS.but(iss=ISSUER + "X"),
        "another region": ACCESS.but(iss=ISSUER.replace("eu-central-1.", "us-east-1.")),
    },
    pasted=(
        (lambda: providers.cognito(POOL, client_id=CLIENT), ISSUER),
        (lambda: providers.cognito(f" {POOL} ", client_id=[CLIENT]), ISSUER),
        (
            lambda: providers.cognito("us-gov-west-1_Ab1", client_id=CLIENT),
            "https://cognito-idp.us-gov-west-1.amazonaws.com/us-gov-west-1_Ab1",
        ),
    ),
    hints=(
        (lambda: providers.cognito("", client_id=CLIENT), "pool's id"),
        (lambda: providers.cognito("acme", client_id=CLIENT), "not its name"),
        (lambda: providers.cognito(ISSUER, client_id=CLIENT), "pool's id"),
        (lambda: providers.cognito("eu-central-1_Ab/..", client_id=CLIENT), "pool's id"),
        (lambda: providers.cognito("cn-north-1_AbCdEf", client_id=CLIENT), "pool's id"),
        (lambda: providers.cognito(None, client_id=CLIENT), "pool's id"),  # type: ignore[arg-type]
        (lambda: providers.cognito(POOL, client_id=""), "client_id"),
        (lambda: providers.cognito(POOL, client_id=[]), "client_id"),
        (lambda: providers.cognito(POOL, client_id=7), "client_id"),  # type: ignore[arg-type]
    ),
)
