"""Callers without credentials: which agents they may talk to, and on which terms."""
