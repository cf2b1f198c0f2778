"""From a caller to a credential."""

from xuna_middleware.issuing.explain import Explanation, explain, not_verified
from xuna_middleware.issuing.pipeline import IssueRequest

__all__ = [
    "Explanation",
    "IssueRequest",
    "explain",
    "not_verified",
]
