"""Access decisions: configured agents, rules, and the personal data of a conversation."""

from xuna_middleware.access.agents import Agent
from xuna_middleware.access.grants import Transport
from xuna_middleware.access.limits.limits import AnyLimit
from xuna_middleware.access.limits.reservations import ensure_not_revoked
from xuna_middleware.access.rules.rule import RuleLike

__all__ = [
    "Agent",
    "AnyLimit",
    "RuleLike",
    "Transport",
    "ensure_not_revoked",
]
