"""A local OpenID provider: code and PKCE, discovery, keys that rotate, and people to sign in as."""

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from xuna_middleware.sandbox import pages
from xuna_middleware.sandbox.authorization import Grant
from xuna_middleware.sandbox.code_flow import CodeFlow
from xuna_middleware.sandbox.cors import cors_headers, preflight
from xuna_middleware.sandbox.discovery import checked_issuer, metadata
from xuna_middleware.sandbox.forms import FormError, read_form
from xuna_middleware.sandbox.keys import SigningKeys
from xuna_middleware.sandbox.marking import Marked
from xuna_middleware.sandbox.people import PEOPLE, Person
from xuna_middleware.sandbox.redirects import LOOPBACK_REDIRECTS
from xuna_middleware.sandbox.tokens import access_claims, granted, id_claims

TOKEN_LIFE: Final = 600


class SandboxProvider:
    """Serve a rehearsal of an OpenID provider as an ordinary ASGI app.

    Checks: client and redirect address (exact, any port on loopback), state, PKCE S256, scopes, the
    code (once, 60 seconds, same client and address). Issues RFC 9068 access tokens (`at+jwt`,
    RS256, 10 minutes), and an ID token where `openid` is asked for.
    Does not: know passwords, keep anyone signed in, refresh, revoke, or introspect.

    Args:
        issuer: `iss`, the address it is served at; http only on loopback. Its path, if it has
            one, is where you mount it.
        people: who can sign in, in the order of the page.
        audience: of the access tokens; of several, the first is the default and `resource`
            (RFC 8707) picks another.
        client_id: of the one client, which is public (no secret).
        redirect_uris: where it may send people back to.
        clock: seconds since the epoch; tests move it.
    """

    def __init__(
        self,
        *,
        issuer: str,
        people: Iterable[Person] = PEOPLE,
        audience: str | Collection[str] = "voice",
        client_id: str = "sandbox",
        redirect_uris: Iterable[str] = LOOPBACK_REDIRECTS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.issuer = checked_issuer(issuer)
        self.audiences = (audience,) if isinstance(audience, str) else tuple(audience)
        if not self.audiences or not all(self.audiences):
            raise ValueError("audience names at least one API, none of them empty")
        self.client_id = client_id
        self._people = {person.subject: person for person in people}
        self._clock = clock
        self._keys = SigningKeys()
        self._flow = CodeFlow(
            issuer=issuer,
            people=self._people,
            audiences=self.audiences,
            client_id=client_id,
            redirect_uris=redirect_uris,
            clock=clock,
        )
        self._app = Marked(self._routed())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def __repr__(self) -> str:
        return f"<SandboxProvider, a rehearsal, {self.issuer}>"

    @property
    def people(self) -> tuple[Person, ...]:
        """Return who can sign in."""
        return tuple(self._people.values())

    def rotate(self) -> str:
        """Sign with a new key from now on and return its kid; older ones stay published."""
        return self._keys.rotate()

    def retire(self) -> None:
        """Withdraw every key but the one that signs."""
        self._keys.retire()

    def token(
        self,
        subject: str,
        *,
        audience: str | None = None,
        scopes: Iterable[str] | None = None,
        claims: Mapping[str, Any] | None = None,
        expires_in: float = TOKEN_LIFE,
        client_id: str | None = None,
    ) -> str:
        """Mint an access token in process, for tests. The subject needn't be one of the people.

        `scopes=None` and `claims` start from what the person of that subject has, if there is one.
        `expires_in` is in seconds; below zero the token is born expired. Raises ValueError for
        claims that the provider alone writes.
        """
        person = self._people.get(subject)
        if scopes is None:
            scopes = sorted(person.scopes) if person else ()
        return self._access_token(
            subject,
            audience=self.audiences[0] if audience is None else audience,
            client_id=self.client_id if client_id is None else client_id,
            scopes=scopes,
            claims={**_shown(person), **(claims or {})},
            expires_in=expires_in,
        )

    def _routed(self) -> Starlette:
        app = Starlette(
            routes=[
                Route("/", self._root, methods=["GET"]),
                Route("/authorize", self._flow.ask, methods=["GET"]),
                Route("/authorize", self._flow.choose, methods=["POST"]),
                self._open("/.well-known/openid-configuration", self._discovery, "GET"),
                self._open("/jwks", self._jwks, "GET"),
                self._open("/token", self._token, "POST"),
            ]
        )
        app.router.redirect_slashes = False
        return app

    def _open(
        self, path: str, call: Callable[[Request], Awaitable[Response]], method: str
    ) -> Route:
        """Return a route that pages elsewhere on loopback may read."""

        async def shared(request: Request) -> Response:
            if request.method == "OPTIONS":
                return preflight(request)
            response = await call(request)
            response.headers.update({**cors_headers(request), "Cache-Control": "no-store"})
            return response

        return Route(path, shared, methods=[method, "OPTIONS"])

    async def _root(self, _: Request) -> Response:
        return HTMLResponse(pages.provider(self.issuer, self.people), headers=pages.HEADERS)

    async def _discovery(self, _: Request) -> Response:
        return JSONResponse(metadata(self.issuer, self.people))

    async def _jwks(self, _: Request) -> Response:
        return JSONResponse(self._keys.jwks())

    async def _token(self, request: Request) -> Response:
        """Answer the token endpoint (RFC 6749 section 4.1.3)."""
        try:
            form = await read_form(request)
        except FormError as bad:
            return _token_error("invalid_request", f"{bad}")
        if form.get("client_id") != self.client_id or "authorization" in request.headers:
            return _token_error("invalid_client", "the client is public: client_id, no secret", 401)
        if form.get("grant_type") != "authorization_code":
            return _token_error("unsupported_grant_type", "only authorization_code")
        grant = self._flow.redeem(form)
        if grant is None:
            return _token_error("invalid_grant", "code, redirect_uri or code_verifier is wrong")
        return JSONResponse(self._issued(grant))

    def _issued(self, grant: Grant) -> dict[str, Any]:
        person, asked = grant.person, grant.request
        scopes = granted(asked.scopes, person)
        answer = {
            "access_token": self._access_token(
                person.subject,
                audience=asked.audience,
                client_id=asked.client_id,
                scopes=scopes,
                claims=_shown(person),
                expires_in=TOKEN_LIFE,
            ),
            "token_type": "Bearer",
            "expires_in": TOKEN_LIFE,
            "scope": " ".join(scopes),
        }
        return answer | ({"id_token": self._id_token(grant)} if "openid" in scopes else {})

    def _access_token(self, subject: str, **told: Any) -> str:
        claims = access_claims(issuer=self.issuer, subject=subject, now=self._clock(), **told)
        return self._keys.sign(claims, typ="at+jwt")

    def _id_token(self, grant: Grant) -> str:
        claims = id_claims(
            grant.person,
            issuer=self.issuer,
            client_id=grant.request.client_id,
            scopes=grant.request.scopes,
            nonce=grant.request.nonce,
            signed_in_at=grant.at,
            now=self._clock(),
            expires_in=TOKEN_LIFE,
        )
        return self._keys.sign(claims, typ="JWT")


def _shown(person: Person | None) -> dict[str, Any]:
    return {} if person is None else {"name": person.name, **person.claims}


def _token_error(code: str, description: str, status: int = 400) -> Response:
    return JSONResponse({"error": code, "error_description": f"Sandbox: {description}"}, status)
