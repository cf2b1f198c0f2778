"""Presets: verifiers for well-known providers, with the peculiarities of each.

They set the issuer, the token types, the marks of the wanted kind of token, and the claims of
scopes and roles; everything else is the strict default. Each takes the keyword options of
`OIDCVerifier`, which override the preset's own. Each refuses options and tokens that would open the
gate beyond your own API: audiences that are in tokens for anything (Auth0's `/userinfo`, Keycloak's
`account`, Microsoft Graph), issuers that are not one tenant, tokens made for another app of the
same provider, and people who signed in anonymously.

Facts about a provider are from its documentation, not from a live tenant.
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
