"""Adapters for a gate's events: an audit log. Outside the core; they stand on its public names."""

from xuna_middleware.telemetry.audit import AuditLog, Verdict, verify_audit_log

__all__ = ["AuditLog", "Verdict", "verify_audit_log"]
