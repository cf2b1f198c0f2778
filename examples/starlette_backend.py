"""A Starlette AuthenticationBackend that is there already, reused: whoever it knows may talk.

uvicorn examples.starlette_backend:app, with XUNA_AI_API_KEY in the environment.
"""

from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection

from xuna_middleware import Agent, Identity, XunaGate, XunaMiddleware, require_scopes

SESSIONS = {"s-anna": ("anna", ["authenticated", "voice"]), "s-ben": ("ben", ["authenticated"])}


class Cookies(AuthenticationBackend):
    """Stand for the backend that your app has: it knows two sessions."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        name, scopes = SESSIONS.get(conn.cookies.get("session", ""), (None, []))
        return None if name is None else (AuthCredentials(scopes), SimpleUser(name))


backend = Cookies()


async def who(connection: HTTPConnection) -> Identity | None:
    """Ask the backend; its user's name is the subject, what it grants are the scopes."""
    known = await backend.authenticate(connection)
    return known and Identity(subject=known[1].display_name, scopes=frozenset(known[0].scopes))


gate = XunaGate(
    authenticator=who,  # ambient, so callers must come from the page itself
    agents=[Agent("support", id="agent_7101k5zvyjhmfg983", allow=require_scopes("voice"))],
)
inner = Starlette(middleware=[Middleware(AuthenticationMiddleware, backend=backend)])
app = XunaMiddleware(inner, gate)
