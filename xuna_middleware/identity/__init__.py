"""Authentication: from a request's credentials to a verified identity.

Public: the names that your own verifier may use.
"""

from xuna_middleware.identity.api_keys import NewAPIKey
from xuna_middleware.identity.authentication import Authenticator
from xuna_middleware.identity.credentials import Identity
from xuna_middleware.identity.jwt.claims import TokenKind
from xuna_middleware.identity.jwt.verifiers import Verifier
from xuna_middleware.identity.keys.sources import JWKSRefresh
from xuna_middleware.identity.protocols import VerifierTraits, merge_traits
from xuna_middleware.identity.rechecks import Rechecks

__all__ = [
    "Authenticator",
    "Identity",
    "JWKSRefresh",
    "NewAPIKey",
    "Rechecks",
    "TokenKind",
    "Verifier",
    "VerifierTraits",
    "merge_traits",
]
