"""What strangers and stricter clients cost: made-up key ids, proofs of possession, a dead provider.

Each gate here fetches its keys from a provider that is a function in this process, so that its
way of fetching is part of what is measured, and no socket is.
"""

import asyncio
import base64
import hashlib
import json
import time
from itertools import count
from typing import Any, Final

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from jwt.algorithms import ECAlgorithm
from starlette.types import Scope

from benchmarks.harness import Batch, Contender, each_request, plain, receive, scope, send
from benchmarks.peers import NO_OP, answer
from benchmarks.tokens import AUDIENCE, ISSUER, Mint
from xuna_middleware import Agent, JWTVerifier, XunaGate, XunaMiddleware, XunaPlatform
from xuna_middleware.identity import JWKSRefresh

RAW_EC: Final = "raw ES256 verification"
UNKNOWN: Final = "XunaMiddleware, unknown kid in the cooldown"
PROVED: Final = "XunaMiddleware, cold RS256 token with a DPoP proof"

_PUBLIC: Final = "https://app.example"


class ProofKey:
    """Be a client that proves possession: one ES256 key, a new proof for each request."""

    def __init__(self) -> None:
        self.key = generate_private_key(SECP256R1())
        self.jwk: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(self.key.public_key()))
        needed = {name: self.jwk[name] for name in ("crv", "kty", "x", "y")}
        self.thumbprint = digest(json.dumps(needed, separators=(",", ":")))
        self._number = count()

    def proof(self, token: str) -> str:
        said = {"jti": f"proof-{next(self._number)}", "htm": "GET", "htu": f"{_PUBLIC}/api/me"}
        said |= {"iat": int(time.time()), "ath": digest(token)}
        headers = {"typ": "dpop+jwt", "jwk": self.jwk}
        return jwt.encode(said, self.key, algorithm="ES256", headers=headers)


def digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def strangers_and_proofs(mint: Mint) -> list[Contender]:
    """Return the rows of this page."""
    client = ProofKey()
    return [
        Contender(
            name=RAW_EC,
            contains="cryptography's public_key.verify(), nothing else",
            batch=_raw_ec(client),
        ),
        Contender(
            name=UNKNOWN,
            contains="a protected path, a new made-up kid each call, keys fetched before: the 401",
            batch=each_request(guarded(mint), _with_made_up_kid),
            over=NO_OP,
        ),
        Contender(
            name=PROVED,
            contains="a protected path, a new bound token and a new proof each call, one client",
            batch=each_request(guarded(mint, dpop="required"), _bound_to(client, mint)),
            over=NO_OP,
        ),
    ]


def guarded(mint: Mint, **options: Any) -> XunaMiddleware:
    """Return a wrapped app whose gate fetches its one key in process."""

    def provider(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"keys": [mint.public_jwk()]})

    return wrapped(httpx.MockTransport(provider), **options)


def wrapped(transport: httpx.AsyncBaseTransport, **options: Any) -> XunaMiddleware:
    verifier = JWTVerifier(
        issuer=ISSUER,
        audience=AUDIENCE,
        jwks_uri=f"{ISSUER}/jwks",
        http_transport=transport,
        **options,
    )
    gate = XunaGate(
        verifier=verifier,
        agents=[Agent("support", id="agent_benchmark")],
        platform=XunaPlatform(api_key="benchmark"),
        public_url=f"{_PUBLIC}/xuna",
    )
    return XunaMiddleware(answer, gate, protect=["/api"])


def _with_made_up_kid(token: str) -> Scope:
    """Return a request whose token names a key that nobody published; each names another."""
    _, payload, signature = token.split(".")
    made_up = json.dumps({"alg": "RS256", "typ": "at+jwt", "kid": signature[:20]})
    odd = base64.urlsafe_b64encode(made_up.encode()).rstrip(b"=").decode()
    return scope("/api/me", f"{odd}.{payload}.{signature}")


def _bound_to(client: ProofKey, mint: Mint) -> Any:
    def request(token: str) -> Scope:
        said = jwt.decode(token, options={"verify_signature": False})
        bound = mint.signed({**said, "cnf": {"jkt": client.thumbprint}})
        made = scope("/api/me", bound)
        headers = [pair for pair in made["headers"] if pair[0] != b"authorization"]
        headers += [(b"authorization", b"DPoP " + bound.encode())]
        headers += [(b"dpop", client.proof(bound).encode())]
        return {**made, "headers": headers}

    return request


def _raw_ec(client: ProofKey) -> Batch:
    public, algorithm = client.key.public_key(), ECDSA(SHA256())

    def verify(parts: tuple[bytes, bytes]) -> None:
        signature, signed = parts
        public.verify(signature, signed, algorithm)

    def prepare(token: str) -> tuple[bytes, bytes]:
        signed, _, signature = client.proof(token).rpartition(".")
        raw = jwt.utils.base64url_decode(signature)
        r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
        return encode_dss_signature(r, s), signed.encode()

    return plain(verify, prepare)


class Hanging(httpx.AsyncBaseTransport):
    """Be a provider that answers once and never again."""

    def __init__(self, mint: Mint) -> None:
        self._mint = mint
        self.asked = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.asked > 1:
            await asyncio.Event().wait()
        return httpx.Response(200, json={"keys": [self._mint.public_jwk()]})


async def longest_wait(mint: Mint, *, callers: int) -> tuple[float, int]:
    """Return the longest time, in seconds, that a caller with a known key took meanwhile.

    A fetch for an unknown kid hangs all the while, with 50 callers waiting for it. The second
    figure is how often the provider was asked.
    """
    provider = Hanging(mint)
    app = wrapped(provider, freshness=JWKSRefresh(cooldown=1))
    await app(scope("/api/me", mint.token(-1)), receive, send)
    waiting = [
        asyncio.create_task(app(_with_made_up_kid(mint.token(-n)), receive, send))
        for n in range(2, 52)
    ]
    await asyncio.sleep(0)
    longest = 0.0
    for token in mint.tokens(callers, first=10**6):
        began = time.perf_counter()
        await app(scope("/api/me", token), receive, send)
        longest = max(longest, time.perf_counter() - began)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await app.gate.aclose()
    return longest, provider.asked
