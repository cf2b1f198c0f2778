"""The gate in front of XUNA AI voice agents: the names that every user needs, and nothing else.

More for those who write parts of their own: `xuna_middleware.identity`, `.stores`, `.platform`,
`.anonymous`, `.errors` and `.events`. Identity providers' presets are in `.providers`.
"""

from xuna_middleware import providers
from xuna_middleware.access.agents import Agent
from xuna_middleware.access.grants import Transport
from xuna_middleware.access.limits.limits import Concurrent, Limit, TalkTime
from xuna_middleware.access.relay_rules import ANY, RelayRules
from xuna_middleware.access.rules.conditions import (
    deny_list,
    none_of,
    opening_hours,
    require_tenants,
    with_timeout,
)
from xuna_middleware.access.rules.rule import (
    Rule,
    RuleLike,
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
from xuna_middleware.anonymous.captcha import hcaptcha, turnstile
from xuna_middleware.anonymous.options import AnonymousAccess
from xuna_middleware.anonymous.proof_of_work import ProofOfWork
from xuna_middleware.errors import (
    AccessDeniedError,
    ConfigurationError,
    GateError,
    InvalidTokenError,
    LimitReachedError,
)
from xuna_middleware.events import Event, EventName, Hook, Immediate
from xuna_middleware.gate import XunaGate
from xuna_middleware.identity.api_keys import APIKey, APIKeyVerifier, hash_api_key, new_api_key
from xuna_middleware.identity.bound.dpop import DPoP
from xuna_middleware.identity.credentials import Credentials, Identity
from xuna_middleware.identity.introspection.verifier import IntrospectionVerifier
from xuna_middleware.identity.jwt.verifiers import JWTVerifier, OIDCVerifier, Verifier
from xuna_middleware.identity.proxies.authenticators import ProxyAuthenticator
from xuna_middleware.identity.tenants import TenantVerifiers
from xuna_middleware.issuing.explain import Explanation
from xuna_middleware.middleware import XunaMiddleware, get_identity
from xuna_middleware.platform.issued import ConversationToken, SignedUrl
from xuna_middleware.platform.rest.client import Platform, XunaPlatform
from xuna_middleware.platform.webhooks import PostCallWebhook
from xuna_middleware.relay.live import LiveSession
from xuna_middleware.stores.memory.store import MemoryStore
from xuna_middleware.stores.redis.store import RedisStore

__version__ = "0.1.0"

__all__ = [
    "ANY",
    "APIKey",
    "APIKeyVerifier",
    "AccessDeniedError",
    "Agent",
    "AnonymousAccess",
    "Concurrent",
    "ConfigurationError",
    "ConversationToken",
    "Credentials",
    "DPoP",
    "Event",
    "EventName",
    "Explanation",
    "Flag",
    "GateError",
    "Hook",
    "Identity",
    "Immediate",
    "IntrospectionVerifier",
    "InvalidTokenError",
    "JWTVerifier",
    "Limit",
    "LimitReachedError",
    "LiveSession",
    "MemoryStore",
    "Number",
    "OIDCVerifier",
    "OneOf",
    "Platform",
    "PostCallWebhook",
    "ProofOfWork",
    "ProxyAuthenticator",
    "RedisStore",
    "RelayRules",
    "Rule",
    "RuleLike",
    "SignedUrl",
    "TalkTime",
    "TenantVerifiers",
    "Text",
    "Transport",
    "Verifier",
    "XunaGate",
    "XunaMiddleware",
    "XunaPlatform",
    "accept_language",
    "all_of",
    "any_of",
    "claim",
    "deny",
    "deny_list",
    "get_identity",
    "hash_api_key",
    "hcaptcha",
    "new_api_key",
    "none_of",
    "opening_hours",
    "providers",
    "require_acr",
    "require_auth_age",
    "require_claims",
    "require_roles",
    "require_scopes",
    "require_tenants",
    "turnstile",
    "with_timeout",
]
