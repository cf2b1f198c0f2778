"""Proxies in front of the app: which are trusted, and callers whom they signed in."""
