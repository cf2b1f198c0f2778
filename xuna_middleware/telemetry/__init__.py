"""Adapters for a gate's events: an audit log. Outside the core; they stand on its public names."""

from xuna_middleware.telemetry.audit import AuditLog, verify_audit_log
from xuna_middleware.telemetry.chain import Verdict

__all__ = ["AuditLog", "Verdict", "verify_audit_log"]
