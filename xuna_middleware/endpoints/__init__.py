"""The implementation of the gate's routes and of `XunaGate`'s methods."""

from xuna_middleware.endpoints.callers import identify
from xuna_middleware.endpoints.core import Core
from xuna_middleware.endpoints.credentials import issue_to_app
from xuna_middleware.endpoints.lifecycle import check_environment, close, start
from xuna_middleware.endpoints.operators import admission_of, end_session, list_sessions, revoke
from xuna_middleware.endpoints.routes import ISSUING, Routes

__all__ = [
    "ISSUING",
    "Core",
    "Routes",
    "admission_of",
    "check_environment",
    "close",
    "end_session",
    "identify",
    "issue_to_app",
    "list_sessions",
    "revoke",
    "start",
]
