"""One-time tickets for clients that can't set a header."""
