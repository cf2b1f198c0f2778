"""What this package costs: one gate a row, so that none profits from what another remembers."""

from fastapi import Depends

from benchmarks.harness import Contender, each_token, same_token
from benchmarks.peers import FASTAPI, NO_OP, answer, with_route
from benchmarks.tokens import AUDIENCE, ISSUER, Mint
from xuna_middleware import Agent, JWTVerifier, XunaGate, XunaMiddleware, XunaPlatform

PASS_THROUGH = "XunaMiddleware, unprotected path"
REMEMBERED = "XunaMiddleware, remembered token"
COLD = "XunaMiddleware, cold RS256 token"


def ours(mint: Mint) -> list[Contender]:
    """Return this package's rows."""
    token = mint.token(0)
    passing, remembering, verifying = (wrapped(mint) for _ in range(3))
    fastapi = with_route([Depends(gate(mint).identity)])
    return [
        Contender(
            name=PASS_THROUGH,
            contains="prefix and protected paths are looked at, neither matches",
            batch=same_token(passing, "/products/42", token),
            over=NO_OP,
        ),
        Contender(
            name=REMEMBERED,
            contains="a protected path, one token again and again",
            batch=same_token(remembering, "/api/me", token),
            over=NO_OP,
            app=remembering,
        ),
        Contender(
            name=COLD,
            contains="a protected path, a new token each call",
            batch=each_token(verifying, "/api/me"),
            over=NO_OP,
            app=verifying,
        ),
        Contender(
            name="FastAPI dependency gate.identity, cold token",
            contains="Depends(gate.identity); a new token each call",
            batch=each_token(fastapi, "/api/me"),
            over=FASTAPI,
            app=fastapi,
        ),
    ]


def wrapped(mint: Mint) -> XunaMiddleware:
    """Return the wrapped app as the README sets it up."""
    return XunaMiddleware(answer, gate(mint), prefix="/xuna", protect=["/api"])


def gate(mint: Mint) -> XunaGate:
    """Return a gate that knows its one key: nothing here reaches the network."""
    return XunaGate(
        verifier=JWTVerifier(issuer=ISSUER, audience=AUDIENCE, jwks={"keys": [mint.public_jwk()]}),
        agents=[Agent("support", id="agent_benchmark")],
        platform=XunaPlatform(api_key="benchmark"),
    )
