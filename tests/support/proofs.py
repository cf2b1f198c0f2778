"""Make DPoP proofs that are good now, as a client of a real server needs them (RFC 9449, 4.2)."""

import hashlib
import secrets
import time

from support.signing import LEFT_OUT, Signer, b64, bare, changed, compact


def make_proof(
    key: Signer, method: str, url: str, token: str | None = None, nonce: str | None = None
) -> str:
    """Return a proof for one request: `token` is what it goes with, `nonce` the server's."""
    header = {"typ": "dpop+jwt", "alg": key.algorithm, "jwk": bare(key.jwk)}
    claims = {"jti": secrets.token_urlsafe(16), "htm": method, "htu": url, "iat": int(time.time())}
    further = {
        "ath": LEFT_OUT if token is None else b64(hashlib.sha256(token.encode()).digest()),
        "nonce": LEFT_OUT if nonce is None else nonce,
    }
    return compact(header, changed(claims, further), key.sign)
