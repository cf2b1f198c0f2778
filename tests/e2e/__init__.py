"""Tests against real peers: a certified OpenID provider, the real browser client, real servers."""
