"""What others cost: each set up the way its own documentation does, keys preloaded, no I/O."""

from typing import Annotated, Any

import jwt
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import AccessToken
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    AuthenticationError,
    BaseUser,
    SimpleUser,
)
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.harness import Contender, each_token, plain, same_token
from benchmarks.tokens import AUDIENCE, ISSUER, Mint

RAW = "raw RSA-2048 verification"
NO_OP = "no-op wrapper"
CONSTANT = "Starlette AuthenticationMiddleware, constant backend"
STARLETTE_PYJWT = "Starlette AuthenticationMiddleware + PyJWT"
FASTAPI = "FastAPI, route without a dependency"


def peers(mint: Mint) -> list[Contender]:
    """Return the yardstick, the no-op wrapper and the peers."""
    key = jwt.PyJWK(mint.public_jwk())
    token = mint.token(0)
    return [_raw(mint), _no_op(token), _constant(token), *_verifying(key), _fastapi_alone(token)]


def _raw(mint: Mint) -> Contender:
    public, padding, digest = mint.key.public_key(), PKCS1v15(), SHA256()

    def verify(parts: tuple[bytes, bytes]) -> None:
        signed, signature = parts
        public.verify(signature, signed, padding, digest)

    return Contender(
        name=RAW,
        contains="cryptography's public_key.verify(), nothing else: the unit",
        batch=plain(verify, _parts),
    )


def _parts(token: str) -> tuple[bytes, bytes]:
    signed, _, signature = token.rpartition(".")
    return signed.encode(), jwt.utils.base64url_decode(signature)


def _no_op(token: str) -> Contender:
    return Contender(
        name=NO_OP,
        contains="a class whose __call__ awaits the app, and the app that answers 200",
        batch=same_token(NoOp(answer), "/products/42", token),
    )


def _constant(token: str) -> Contender:
    return Contender(
        name=CONSTANT,
        contains="a backend that returns one made-up user",
        batch=same_token(
            AuthenticationMiddleware(answer, backend=Constant()), "/products/42", token
        ),
        over=NO_OP,
    )


def _verifying(key: jwt.PyJWK) -> list[Contender]:
    starlette = AuthenticationMiddleware(answer, backend=Verified(key))
    guarded = RequireAuthMiddleware(answer, required_scopes=[])
    mcp = AuthenticationMiddleware(guarded, backend=BearerAuthBackend(McpVerifier(key)))
    fastapi = with_route([Depends(verified_by_pyjwt(key))])
    return [
        _cold(STARLETTE_PYJWT, "a backend that calls jwt.decode", starlette, NO_OP),
        _cold("MCP SDK bearer middleware + PyJWT", "its two middlewares", mcp, NO_OP),
        _cold("FastAPI dependency + PyJWT", "HTTPBearer and jwt.decode", fastapi, FASTAPI),
    ]


def _cold(name: str, contains: str, app: ASGIApp, over: str) -> Contender:
    what = f"{contains}; a new token each call"
    return Contender(name=name, contains=what, batch=each_token(app, "/api/me"), over=over, app=app)


def _fastapi_alone(token: str) -> Contender:
    return Contender(
        name=FASTAPI,
        contains="a whole FastAPI app, its routing included",
        batch=same_token(with_route([]), "/api/me", token),
        over=NO_OP,
    )


def with_route(dependencies: list[Any]) -> FastAPI:
    """Return a FastAPI app with the one route `/api/me`."""
    app = FastAPI(openapi_url=None)

    @app.get("/api/me", dependencies=dependencies)
    async def me() -> Response:
        return Response(b"ok")

    return app


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Be the wrapped app: 200 and two bytes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


class NoOp:
    """Be a middleware that does nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Constant(AuthenticationBackend):
    """Know everybody, and always as the same."""

    def __init__(self) -> None:
        self.known = AuthCredentials(["authenticated"]), SimpleUser("somebody")

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser]:
        return self.known


class Verified(AuthenticationBackend):
    """Verify a bearer token with PyJWT, as Starlette's documentation outlines it."""

    def __init__(self, key: jwt.PyJWK) -> None:
        self.key = key

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser]:
        scheme, _, token = conn.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise AuthenticationError("no bearer token")
        try:
            claims = decoded(token, self.key)
        except jwt.InvalidTokenError as error:
            raise AuthenticationError("bad token") from error
        return AuthCredentials(claims["scope"].split()), SimpleUser(claims["sub"])


class McpVerifier:
    """Be the MCP SDK's TokenVerifier, on PyJWT."""

    def __init__(self, key: jwt.PyJWK) -> None:
        self.key = key

    async def verify_token(self, token: str) -> AccessToken | None:
        try:
            claims = decoded(token, self.key)
        except jwt.InvalidTokenError:
            return None
        return AccessToken(
            token=token,
            client_id=claims["client_id"],
            scopes=claims["scope"].split(),
            expires_at=claims["exp"],
            subject=claims["sub"],
        )


def verified_by_pyjwt(key: jwt.PyJWK) -> Any:
    """Return a FastAPI dependency that verifies a bearer token with PyJWT."""
    bearer = HTTPBearer()

    async def verified(
        credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)],
    ) -> dict[str, Any]:
        try:
            return decoded(credentials.credentials, key)
        except jwt.InvalidTokenError as error:
            raise HTTPException(401) from error

    return verified


def decoded(token: str, key: jwt.PyJWK) -> dict[str, Any]:
    """Verify with PyJWT: signature, exp, iss and aud, and that the five claims are there."""
    return jwt.decode(
        token,
        key,
        algorithms=["RS256"],
        audience=AUDIENCE,
        issuer=ISSUER,
        options={"require": ["iss", "sub", "aud", "exp", "iat"]},
    )
