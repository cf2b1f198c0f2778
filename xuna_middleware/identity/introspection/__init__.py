"""Opaque tokens, verified by asking their provider (RFC 7662)."""
