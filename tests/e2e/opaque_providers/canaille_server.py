"""PyPI's `canaille` as a provider of opaque tokens, all in memory.

Its answers have `exp` and `iat` as floats, `aud` as a list, and no `sub` for a client on its own.
It answers only a client that the token is for.
"""

import secrets

from canaille import create_app
from canaille.app import models
from canaille.backends import Backend
from operated import LIFETIME, listening, serve  # type: ignore[import-not-found]

server = listening()
issuer = f"http://127.0.0.1:{server.server_port}"

app = create_app(
    {
        "SECRET_KEY": secrets.token_urlsafe(32),
        "SERVER_NAME": f"127.0.0.1:{server.server_port}",
        "PREFERRED_URL_SCHEME": "http",
        "OAUTH2_TOKEN_EXPIRES_IN": {"client_credentials": LIFETIME},
        "CANAILLE": {"DATABASE": "memory", "LOGGING": {"version": 1}},
        "CANAILLE_OIDC": {},
    }
)


def register(name: str, audience: list[models.Client]) -> models.Client:
    """Register a client whose tokens are for these."""
    client = models.Client(
        client_id=name,
        client_name=name,
        client_secret=secrets.token_urlsafe(32),
        grant_types=["client_credentials"],
        token_endpoint_auth_method="client_secret_basic",
        scope=["talk"],
    )
    client.audience = audience
    Backend.instance.save(client)
    return client


def end_token(token: str) -> None:
    """Let a token have expired: it was to live for no time."""
    with app.app_context(), Backend.instance.session():
        known = Backend.instance.get(models.Token, access_token=token)
        known.lifetime = -1
        Backend.instance.save(known)


with app.app_context(), Backend.instance.session():
    resource = register("resource", [])
    registered = [resource, register("robot", [resource]), register("stray", [])]
    clients = {client.client_id: client.client_secret for client in registered}
server.set_app(app)
serve(server, {"issuer": issuer, "clients": clients}, end_token)
