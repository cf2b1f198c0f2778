"""Opaque tokens, which their provider is asked about (RFC 7662)."""
