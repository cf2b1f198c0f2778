"""Shared machinery that has nothing to do with voice agents."""
