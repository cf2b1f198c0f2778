"""Examples, one use a file; each says how it is run, and each is run by a test."""
