"""The provider's metadata (OpenID Connect Discovery 1.0, RFC 8414). Pure."""

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from xuna_middleware.sandbox.keys import ALGORITHM
from xuna_middleware.sandbox.people import Person
from xuna_middleware.sandbox.tokens import STANDARD_SCOPES

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def checked_issuer(issuer: str) -> str:
    """Return the issuer if a provider may be called so. Raises ValueError."""
    parts = urlsplit(issuer)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("issuer is an http(s) URL without query and fragment")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError("an issuer without https must be on loopback")
    return issuer


def endpoint(issuer: str, path: str) -> str:
    """Return the address of an endpoint below the issuer."""
    return f"{issuer.rstrip('/')}/{path}"


def metadata(issuer: str, people: Iterable[Person]) -> dict[str, Any]:
    """Return the discovery document. Beside the standard members it says `sandbox`."""
    return {
        "issuer": issuer,
        "authorization_endpoint": endpoint(issuer, "authorize"),
        "token_endpoint": endpoint(issuer, "token"),
        "jwks_uri": endpoint(issuer, "jwks"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
        "subject_types_supported": ["public"],
        "scopes_supported": sorted(STANDARD_SCOPES.union(*(one.scopes for one in people))),
        "authorization_response_iss_parameter_supported": True,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "sandbox": True,
    }
