"""Conversations that the gate itself carries."""
