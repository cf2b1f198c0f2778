"""JSON Web Tokens: signatures, claims, and the verifiers of access tokens."""
