"""The gate in front of XUNA AI voice agents: the public names, and nothing else."""

from xuna_middleware.access.agents import Agent
from xuna_middleware.access.grants import Grant, Personalization
from xuna_middleware.access.limits.limits import Concurrent, Limit, TalkTime
from xuna_middleware.access.limits.reservations import Remaining
from xuna_middleware.access.relay_rules import ANY, RelayRules
from xuna_middleware.access.rules.conditions import (
    deny_list,
    none_of,
    require_tenants,
    timed,
    within,
)
from xuna_middleware.access.rules.rule import (
    all_of,
    any_of,
    deny,
    require_acr,
    require_auth_age,
    require_claims,
    require_roles,
    require_scopes,
)
from xuna_middleware.access.values.accept_language import accept_language
from xuna_middleware.access.values.sources import claim
from xuna_middleware.access.values.types import Flag, Number, OneOf, Text
from xuna_middleware.anonymous.captcha import Captcha, hcaptcha, turnstile
from xuna_middleware.anonymous.options import Challenge, Visitors
from xuna_middleware.anonymous.proof_of_work import ProofOfWork
from xuna_middleware.errors import (
    AccessDeniedError,
    ConfigurationError,
    DPoPNonceRequiredError,
    GateError,
    InvalidRequestError,
    InvalidSignatureError,
    InvalidTokenError,
    LimitReachedError,
    NotAuthenticatedError,
    PlatformError,
    StepUpRequiredError,
    UnavailableError,
)
from xuna_middleware.events import Background, Event, Immediate
from xuna_middleware.gate import XunaGate
from xuna_middleware.identity.api_keys import (
    APIKey,
    APIKeyVerifier,
    NewAPIKey,
    hash_api_key,
    new_api_key,
)
from xuna_middleware.identity.bound.dpop import DPoP
from xuna_middleware.identity.credentials import Credentials, Identity
from xuna_middleware.identity.introspection.verifier import IntrospectionVerifier
from xuna_middleware.identity.jwt.verifiers import JWTVerifier, OIDCVerifier, Verifier
from xuna_middleware.identity.keys.sources import Freshness
from xuna_middleware.identity.protocols import VerifierTraits, merge_traits
from xuna_middleware.identity.proxies.authenticators import (
    ProxyAuthenticator,
    aws_alb,
    cloudflare_access,
    google_iap,
)
from xuna_middleware.identity.rechecks import Rechecks
from xuna_middleware.identity.tenants import TenantVerifiers
from xuna_middleware.issuing.explain import Explanation, Step
from xuna_middleware.middleware import XunaMiddleware, get_identity
from xuna_middleware.platform.issued import ConversationToken, SignedUrl
from xuna_middleware.platform.protocol import Line
from xuna_middleware.platform.records import Ended
from xuna_middleware.platform.rest.client import Platform, XunaPlatform
from xuna_middleware.platform.webhooks import PostCallWebhook
from xuna_middleware.providers import (
    auth0,
    clerk,
    cognito,
    entra,
    entra_multitenant,
    firebase,
    google,
    keycloak,
    okta,
    supabase,
    zitadel,
)
from xuna_middleware.relay.live import Session
from xuna_middleware.stores.memory.store import MemoryStore
from xuna_middleware.stores.protocol import (
    Held,
    Lease,
    Level,
    Move,
    Note,
    OverBudgetError,
    Part,
    Quota,
    Region,
    Reserved,
    Standing,
    Store,
    StoreBusyError,
    StoreError,
)
from xuna_middleware.stores.redis.store import RedisStore

__version__ = "0.1.0"

__all__ = [
    "ANY",
    "APIKey",
    "APIKeyVerifier",
    "AccessDeniedError",
    "Agent",
    "Background",
    "Captcha",
    "Challenge",
    "Concurrent",
    "ConfigurationError",
    "ConversationToken",
    "Credentials",
    "DPoP",
    "DPoPNonceRequiredError",
    "Ended",
    "Event",
    "Explanation",
    "Flag",
    "Freshness",
    "GateError",
    "Grant",
    "Held",
    "Identity",
    "Immediate",
    "IntrospectionVerifier",
    "InvalidRequestError",
    "InvalidSignatureError",
    "InvalidTokenError",
    "JWTVerifier",
    "Lease",
    "Level",
    "Limit",
    "LimitReachedError",
    "Line",
    "MemoryStore",
    "Move",
    "NewAPIKey",
    "NotAuthenticatedError",
    "Note",
    "Number",
    "OIDCVerifier",
    "OneOf",
    "OverBudgetError",
    "Part",
    "Personalization",
    "Platform",
    "PlatformError",
    "PostCallWebhook",
    "ProofOfWork",
    "ProxyAuthenticator",
    "Quota",
    "Rechecks",
    "RedisStore",
    "Region",
    "RelayRules",
    "Remaining",
    "Reserved",
    "Session",
    "SignedUrl",
    "Standing",
    "Step",
    "StepUpRequiredError",
    "Store",
    "StoreBusyError",
    "StoreError",
    "TalkTime",
    "TenantVerifiers",
    "Text",
    "UnavailableError",
    "Verifier",
    "VerifierTraits",
    "Visitors",
    "XunaGate",
    "XunaMiddleware",
    "XunaPlatform",
    "accept_language",
    "all_of",
    "any_of",
    "auth0",
    "aws_alb",
    "claim",
    "clerk",
    "cloudflare_access",
    "cognito",
    "deny",
    "deny_list",
    "entra",
    "entra_multitenant",
    "firebase",
    "get_identity",
    "google",
    "google_iap",
    "hash_api_key",
    "hcaptcha",
    "keycloak",
    "merge_traits",
    "new_api_key",
    "none_of",
    "okta",
    "require_acr",
    "require_auth_age",
    "require_claims",
    "require_roles",
    "require_scopes",
    "require_tenants",
    "supabase",
    "timed",
    "turnstile",
    "within",
    "zitadel",
]
