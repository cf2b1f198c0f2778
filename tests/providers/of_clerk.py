"""Clerk: https://clerk.com/docs/guides/sessions/session-tokens."""

from typing import Any, Final

from documented import JWT, Accepted, Provider, Token, published, reach
from support.signing import LEFT_OUT, NOW

from xuna_middleware import OIDCVerifier, providers

ISSUER: Final = "https://clerk.acme.com"
APP: Final = "https://app.acme.com"
DOCUMENTS: Final = published(ISSUER, f"{ISSUER}/.well-known/jwks.json")


def tokens(**options: Any) -> OIDCVerifier:
    return providers.clerk("clerk.acme.com", authorized_parties=APP, **reach(DOCUMENTS), **options)


SESSION: Final = Token(
    preset=tokens,
    header={**JWT, "cat": "cl_B7d4PD111AAA"},
    claims={
        "azp": APP,
        "exp": NOW + 50,
        "fva": [7, -1],
        "iat": NOW - 10,
        "iss": ISSUER,
        "jti": "d1f4a2b9a9a54b7c8f52",
        "nbf": NOW - 20,
        "o": {"id": "org_2b6fcd92", "rol": "admin", "slg": "acme", "per": "read,manage"},
        "pla": "o:pro",
        "sid": "sess_2ok5gT7gT1c9",
        "sts": "active",
        "sub": "user_2b6fcd92dvf96q05x8",
        "v": 2,
    },
)
VERSION_1: Final = SESSION.but(
    v=LEFT_OUT,
    o=LEFT_OUT,
    pla=LEFT_OUT,
    sts=LEFT_OUT,
    org_id="org_2b6fcd92",
    org_role="org:admin",
    org_slug="acme",
)

PROVIDER: Final = Provider(
    accepted={
        "session": Accepted(SESSION, roles={"admin"}),
        "no organization": Accepted(SESSION.but(o=LEFT_OUT)),
        "version 1": Accepted(VERSION_1, roles={"org:admin"}),
    },
    refused={
        "no azp": SESSION.but(azp=LEFT_OUT),
        "page of another origin": SESSION.but(azp="https://blog.acme.com"),
        "origin with a slash": SESSION.but(azp=APP + "/"),
        "app in aud alone": SESSION.but(azp=LEFT_OUT, aud=APP),
        "JWT template": SESSION.but(sid=LEFT_OUT, sts=LEFT_OUT, aud="hasura"),
        "pending": SESSION.but(sts="pending"),
        "OAuth access token": SESSION.but(header={"typ": "at+jwt"}, client_id="c1", scope="email"),
        "ID token": SESSION.but(nonce="n", at_hash="Yw0hgw8ZZR"),
        "another instance": SESSION.but(iss="https://clerk.evil.com"),
        "a minute ago": SESSION.but(iat=NOW - 120, nbf=NOW - 130, exp=NOW - 60),
    },
    pasted=(
        (lambda: providers.clerk("clerk.acme.com", authorized_parties=APP), ISSUER),
        (lambda: providers.clerk(f" {ISSUER}/ ", authorized_parties=[APP]), ISSUER),
        (
            lambda: providers.clerk(
                "your-site.clerk.accounts.dev", authorized_parties="http://localhost:3000"
            ),
            "https://your-site.clerk.accounts.dev",
        ),
    ),
    hints=(
        (
            lambda: providers.clerk("pk_test_Y2xlcmsuYWNtZS5jb20k", authorized_parties=APP),
            "publishable",
        ),
        (lambda: providers.clerk("", authorized_parties=APP), "Frontend API"),
        (lambda: providers.clerk("clerk.acme.com", authorized_parties=""), "authorized_parties"),
        (lambda: providers.clerk("clerk.acme.com", authorized_parties=[]), "authorized_parties"),
        (
            lambda: providers.clerk("clerk.acme.com", authorized_parties=f"{APP}/x"),
            "without a path",
        ),
        (
            lambda: providers.clerk("clerk.acme.com", authorized_parties="http://app.acme.com"),
            "https",
        ),
    ),
)
