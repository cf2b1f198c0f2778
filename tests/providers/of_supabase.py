"""Supabase: https://supabase.com/docs/guides/auth/jwt-fields."""

from typing import Any, Final

from documented import HOUR, JWT, Accepted, Provider, Token, published, reach
from support.signing import LEFT_OUT, NOW

from xuna_middleware import OIDCVerifier, providers

REF: Final = "abcdefghijklmnopqrst"
ISSUER: Final = f"https://{REF}.supabase.co/auth/v1"
DOCUMENTS: Final = published(ISSUER, f"{ISSUER}/.well-known/jwks.json")
CLIENT: Final = "9a8b7c6d-5e4f-3a2b-1c0d-9e8f7a6b5c4d"


def tokens(**options: Any) -> OIDCVerifier:
    return providers.supabase(REF, **reach(DOCUMENTS), **options)


def tokens_of_anybody(**options: Any) -> OIDCVerifier:
    return providers.supabase(REF, anonymous=True, **reach(DOCUMENTS), **options)


def tokens_of_an_app(**options: Any) -> OIDCVerifier:
    return providers.supabase(REF, oauth_clients=CLIENT, **reach(DOCUMENTS), **options)


ACCESS: Final = Token(
    preset=tokens,
    header=JWT,
    claims={
        **HOUR,
        "iss": ISSUER,
        "aud": "authenticated",
        "sub": "123e4567-e89b-12d3-a456-426614174000",
        "role": "authenticated",
        "aal": "aal1",
        "session_id": "7d3ad2d8-6f9e-4d52-a1bd-0f7d1c0b2c3e",
        "email": "ada@acme.com",
        "phone": "",
        "is_anonymous": False,
        "app_metadata": {"provider": "email", "providers": ["email"], "roles": ["staff"]},
        "user_metadata": {"name": "Ada", "roles": ["admin"]},
        "amr": [{"method": "password", "timestamp": NOW - 60}],
    },
)
ANONYMOUS: Final = ACCESS.but(is_anonymous=True, email="", app_metadata={}, user_metadata={})
OAUTH_APP: Final = ACCESS.but(client_id=CLIENT)

PROVIDER: Final = Provider(
    accepted={
        "person; what they wrote themselves counts nothing": Accepted(ACCESS, roles={"staff"}),
        "an older server's, that knows no anonymous people": Accepted(
            ACCESS.but(is_anonymous=LEFT_OUT), roles={"staff"}
        ),
        "anonymous, as configured": Accepted(
            Token(preset=tokens_of_anybody, claims=ANONYMOUS.claims, header=JWT)
        ),
        "OAuth app that is named": Accepted(
            Token(preset=tokens_of_an_app, claims=OAUTH_APP.claims, header=JWT),
            CLIENT,
            roles={"staff"},
        ),
    },
    refused={
        "anonymous": ANONYMOUS,
        "anonymous, said oddly": ACCESS.but(is_anonymous="true"),
        "OAuth app": OAUTH_APP,
        "anon key": ACCESS.but(role="anon", aud="anon", session_id=LEFT_OUT, sub=LEFT_OUT),
        "anon role": ACCESS.but(role="anon"),
        "service role": ACCESS.but(role="service_role"),
        "no role": ACCESS.but(role=LEFT_OUT),
        "no session": ACCESS.but(session_id=LEFT_OUT),
        "nonce": ACCESS.but(nonce="n"),
        "hash of an access token": ACCESS.but(at_hash="Yw0hgw8ZZR"),
        "ID token": ACCESS.but(nonce="n", aud=CLIENT),
        "another project": ACCESS.but(iss=ISSUER.replace("abc", "xyz")),
        "the API keys' issuer": ACCESS.but(iss="supabase"),
    },
    pasted=(
        (lambda: providers.supabase(REF), ISSUER),
        (lambda: providers.supabase(f"https://{REF}.supabase.co"), ISSUER),
        (lambda: providers.supabase(f" https://{REF}.supabase.co/ "), ISSUER),
        (lambda: providers.supabase(ISSUER), ISSUER),
        (
            lambda: providers.supabase("https://api.acme.com/auth/v1/"),
            "https://api.acme.com/auth/v1",
        ),
        (lambda: providers.supabase("http://127.0.0.1:54321"), "http://127.0.0.1:54321/auth/v1"),
    ),
    hints=(
        (lambda: providers.supabase(""), "project"),
        (lambda: providers.supabase("http://api.acme.com"), "https"),
        (lambda: providers.supabase("https://"), "reference id"),
        (lambda: providers.supabase("https://api..acme.com"), "reference id"),
        (lambda: providers.supabase("https://a:b@api.acme.com"), "reference id"),
        (lambda: providers.supabase("https://api.acme.com:99999"), "absolute URL"),
        (lambda: providers.supabase(REF, anonymous="no"), "True or False"),  # type: ignore[arg-type]
        (lambda: providers.supabase(f"https://{REF}.supabase.co/rest/v1"), "reference id"),
        (lambda: providers.supabase(REF, oauth_clients=[""]), "oauth_clients"),
        (lambda: providers.supabase(REF, oauth_clients=7), "oauth_clients"),  # type: ignore[arg-type]
    ),
)
