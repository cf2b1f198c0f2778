"""What the provider's tokens say: access tokens (RFC 9068) and ID tokens. Pure."""

import math
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final

from xuna_middleware.sandbox.people import Person

#: Scopes that anyone may be granted.
STANDARD_SCOPES: Final = frozenset({"openid", "profile", "email"})
#: Claims that the provider alone writes.
RESERVED: Final = frozenset(
    {"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "scope", "cnf"}
)


def access_claims(
    *,
    issuer: str,
    subject: str,
    audience: str,
    client_id: str,
    scopes: Iterable[str],
    claims: Mapping[str, Any],
    now: float,
    expires_in: float,
) -> dict[str, Any]:
    """Return the claims of an access token; each has a `jti` of its own."""
    if reserved := RESERVED & claims.keys():
        raise ValueError(f"the provider alone writes {', '.join(sorted(reserved))}")
    return {
        **claims,
        "iss": issuer,
        "sub": subject,
        "aud": audience,
        "iat": math.floor(now),
        "exp": math.floor(now + expires_in),
        "jti": secrets.token_urlsafe(16),
        "client_id": client_id,
        "scope": " ".join(scopes),
    }


def id_claims(
    person: Person,
    *,
    issuer: str,
    client_id: str,
    scopes: Iterable[str],
    nonce: str | None,
    signed_in_at: float,
    now: float,
    expires_in: float,
) -> dict[str, Any]:
    """Return the claims of an ID token: its audience is the client, never the API."""
    shown = {"name": person.name} if "profile" in scopes else {}
    if "email" in scopes and "email" in person.claims:
        shown["email"] = person.claims["email"]
    return {
        **shown,
        "iss": issuer,
        "sub": person.subject,
        "aud": client_id,
        "iat": math.floor(now),
        "exp": math.floor(now + expires_in),
        "auth_time": math.floor(signed_in_at),
        **({} if nonce is None else {"nonce": nonce}),
    }


def granted(asked: Iterable[str], person: Person) -> tuple[str, ...]:
    """Return the scopes that were asked for and may be had, in the order asked."""
    return tuple(scope for scope in asked if scope in STANDARD_SCOPES | person.scopes)
