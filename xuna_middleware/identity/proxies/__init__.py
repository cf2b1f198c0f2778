"""Proxies in front of the app: which are trusted, and the callers that they signed in."""
