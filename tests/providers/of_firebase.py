"""Firebase: https://firebase.google.com/docs/auth/admin/verify-id-tokens."""

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

PROJECT: Final = "acme-voice"
ISSUER: Final = f"https://securetoken.google.com/{PROJECT}"
DOCUMENTS: Final = published(
    ISSUER,
    "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com",
    public(alg="RS256"),
    public(OTHER_KEY, alg="RS256"),
)

#: Firebase's metadata names no authorization endpoint.
del DOCUMENTS[f"{ISSUER}/.well-known/openid-configuration"]["authorization_endpoint"]


def tokens(**options: Any) -> OIDCVerifier:
    return providers.firebase(PROJECT, **reach(DOCUMENTS), **options)


def tokens_of_anybody(**options: Any) -> OIDCVerifier:
    return providers.firebase(PROJECT, anonymous=True, **reach(DOCUMENTS), **options)


def tokens_of_a_tenant(**options: Any) -> OIDCVerifier:
    return providers.firebase(PROJECT, tenant="acme-x1y2z", **reach(DOCUMENTS), **options)


ID_TOKEN: Final = Token(
    preset=tokens,
    header=JWT,
    claims={
        **HOUR,
        "iss": ISSUER,
        "aud": PROJECT,
        "auth_time": NOW - 3600,
        "user_id": "svFU3kQL1JU2C4uyVHafriapd133",
        "sub": "svFU3kQL1JU2C4uyVHafriapd133",
        "email": "ada@acme.com",
        "email_verified": True,
        "roles": ["staff"],
        "firebase": {
            "identities": {"email": ["ada@acme.com"]},
            "sign_in_provider": "password",
        },
    },
)
ANONYMOUS: Final = ID_TOKEN.but(
    email=LEFT_OUT,
    email_verified=LEFT_OUT,
    roles=LEFT_OUT,
    provider_id="anonymous",
    firebase={"identities": {}, "sign_in_provider": "anonymous"},
)
IN_TENANT: Final = {"sign_in_provider": "oidc.acme", "tenant": "acme-x1y2z", "identities": {}}
OF_TENANT: Final = Token(preset=tokens_of_a_tenant, claims=ID_TOKEN.claims, header=JWT)

PROVIDER: Final = Provider(
    accepted={
        "person": Accepted(ID_TOKEN, roles={"staff"}),
        "anonymous, as configured": Accepted(
            Token(preset=tokens_of_anybody, claims=ANONYMOUS.claims, header=JWT)
        ),
        "of the tenant": Accepted(OF_TENANT.but(firebase=IN_TENANT), roles={"staff"}),
    },
    refused={
        "anonymous": ANONYMOUS,
        "another project": ID_TOKEN.but(iss="https://securetoken.google.com/other", aud="other"),
        "another project's audience": ID_TOKEN.but(aud="other"),
        "session cookie": ID_TOKEN.but(iss=f"https://session.firebase.google.com/{PROJECT}"),
        "no firebase": ID_TOKEN.but(firebase=LEFT_OUT),
        "firebase that says nothing": ID_TOKEN.but(firebase={}),
        "firebase that is no object": ID_TOKEN.but(firebase="password"),
        "no subject": ID_TOKEN.but(sub=""),
        "a tenant's, where none is named": ID_TOKEN.but(firebase=IN_TENANT),
        "no tenant's, where one is named": OF_TENANT,
        "another tenant's": OF_TENANT.but(firebase={**IN_TENANT, "tenant": "evil-x1y2z"}),
        "an access token": ID_TOKEN.but(header={"typ": "at+jwt"}),
    },
    pasted=((lambda: providers.firebase(" acme-voice "), ISSUER),),
    hints=(
        (lambda: providers.firebase(""), "project's id"),
        (lambda: providers.firebase("Acme Voice"), "not its name"),
        (lambda: providers.firebase("123456789012"), "its number"),
        (lambda: providers.firebase(ISSUER), "URL"),
        (lambda: providers.firebase("acme-voice", tenant=""), "tenant"),
        (lambda: providers.firebase("acme-voice", tenant="a/b"), "tenant"),
        (lambda: providers.firebase("acme-voice", anonymous=1), "True or False"),  # type: ignore[arg-type]
        (lambda: providers.firebase("acme-voice", tenant=7), "tenant"),  # type: ignore[arg-type]
    ),
)
