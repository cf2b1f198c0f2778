"""Presets: a verifier as well-known providers need it, with what is odd about each.

They set the issuer, the token types, what marks the kind of token that is wanted, and where scopes
and roles are found; everything else is the strict default. Each takes the keyword options of
`OIDCVerifier`, which win over the preset's own. Each refuses what would open the gate to more than
one's own API: audiences that stand in tokens for anything (Auth0's `/userinfo`, Keycloak's
`account`, Microsoft Graph), issuers that are not one tenant, tokens that were made for another app
of the same provider, and people who signed in as nobody.

What is said of a provider is from its documentation, not from a live tenant.
"""

from xuna_middleware.identity.proxies.authenticators import (
    aws_alb,
    cloudflare_access,
    google_iap,
)
from xuna_middleware.providers.auth0 import auth0
from xuna_middleware.providers.clerk import clerk
from xuna_middleware.providers.cognito import cognito
from xuna_middleware.providers.entra import entra, entra_multitenant
from xuna_middleware.providers.firebase import firebase
from xuna_middleware.providers.google import google
from xuna_middleware.providers.keycloak import keycloak
from xuna_middleware.providers.okta import okta
from xuna_middleware.providers.supabase import supabase
from xuna_middleware.providers.zitadel import zitadel

__all__ = [
    "auth0",
    "aws_alb",
    "clerk",
    "cloudflare_access",
    "cognito",
    "entra",
    "entra_multitenant",
    "firebase",
    "google",
    "google_iap",
    "keycloak",
    "okta",
    "supabase",
    "zitadel",
]
