"""Okta: https://developer.okta.com/docs/api/openapi/okta-oauth/guides/overview, access token."""

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

ORG: Final = "https://acme.okta.com"
ISSUER: Final = f"{ORG}/oauth2/default"
API: Final = "api://default"
APP: Final = "0oabskvc6442nkvQO0h7"
DOCUMENTS: Final = published(
    ISSUER, f"{ISSUER}/v1/keys", public(alg="RS256"), public(OTHER_KEY, alg="RS256")
)


def tokens(**options: Any) -> OIDCVerifier:
    return providers.okta("acme.okta.com", audience=API, **reach(DOCUMENTS), **options)


ACCESS: Final = Token(
    preset=tokens,
    header={},
    claims={
        **HOUR,
        "ver": 1,
        "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
        "iss": ISSUER,
        "aud": API,
        "cid": APP,
        "uid": "00ujmkLgagxeRrAg20g3",
        "scp": ["openid", "voice.talk"],
        "auth_time": NOW - 60,
        "sub": "ada@acme.com",
        "groups": ["Everyone", "staff"],
    },
)
MACHINE: Final = ACCESS.but(
    sub=APP, uid=LEFT_OUT, auth_time=LEFT_OUT, groups=LEFT_OUT, scp=["voice.talk"]
)
ID_TOKEN: Final = ACCESS.but(
    jti="ID.Gva8g",
    aud=APP,
    sub="00ujmkLgagxeRrAg20g3",
    cid=LEFT_OUT,
    uid=LEFT_OUT,
    scp=LEFT_OUT,
    amr=["pwd"],
    idp="00ok1u7AsAkrwdZL3z0i",
    at_hash="preview_at_hash",
)

PROVIDER: Final = Provider(
    accepted={
        "person": Accepted(ACCESS, APP, {"openid", "voice.talk"}, {"Everyone", "staff"}),
        "person, with a type": Accepted(
            ACCESS.but(header=JWT), APP, {"openid", "voice.talk"}, {"Everyone", "staff"}
        ),
        "machine": Accepted(MACHINE, APP, {"voice.talk"}),
    },
    refused={
        "ID token": ID_TOKEN,
        "ID token for the API": ID_TOKEN.but(aud=API, at_hash=LEFT_OUT),
        "access token of the org": ACCESS.but(iss=ORG, aud=ORG),
        "type of the org's access token": ACCESS.but(
            header={"typ": "application/okta-internal-at+jwt"}
        ),
        "another authorization server": ACCESS.but(iss=f"{ORG}/oauth2/aus9o8wzjhckw9TLa0h7z"),
        "another audience": ACCESS.but(aud="api://billing"),
    },
    pasted=(
        (lambda: providers.okta("acme.okta.com", audience=API), ISSUER),
        (lambda: providers.okta("https://ACME.okta.com/", audience=API, server="default"), ISSUER),
        (
            lambda: providers.okta("id.acme.com", audience=API, server="aus9o8wzjhckw9TLa0h7z"),
            "https://id.acme.com/oauth2/aus9o8wzjhckw9TLa0h7z",
        ),
    ),
    hints=(
        (lambda: providers.okta("acme", audience=API), "whole domain"),
        (lambda: providers.okta(ISSUER, audience=API), "server="),
        (lambda: providers.okta("acme-admin.okta.com", audience=API), "-admin"),
        (lambda: providers.okta("acme.okta.com", audience=""), "audience"),
        (lambda: providers.okta("acme.okta.com", audience=ORG), "custom authorization server"),
        (
            lambda: providers.okta("acme.okta.com", audience=API, server=""),
            "custom authorization server",
        ),
        (lambda: providers.okta("acme.okta.com", audience=API, server="a/b"), "server"),
        (lambda: providers.okta("acme.okta.com", audience=API, server=None), "server"),  # type: ignore[arg-type]
    ),
)
