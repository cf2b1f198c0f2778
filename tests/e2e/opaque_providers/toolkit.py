"""PyPI's `django-oauth-toolkit` as a provider of opaque tokens; SQLite in the working directory.

Its answers have neither `sub` nor `iss`; a person is `username`, and `aud` is there for tokens of a
`resource` only (RFC 8707).
"""

import datetime
import secrets

import django
from django.conf import settings
from django.core.management import call_command
from operated import LIFETIME, listening, serve  # type: ignore[import-not-found]

server = listening()
issuer = f"http://127.0.0.1:{server.server_port}"

settings.configure(
    SECRET_KEY=secrets.token_urlsafe(32),
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "provider.sqlite3"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    # Slow hashes of random secrets would only make the tests slow.
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    USE_TZ=True,
    OAUTH2_PROVIDER={
        "SCOPES": {"talk": "Talk to an agent", "introspection": "Ask about tokens"},
        "ACCESS_TOKEN_EXPIRE_SECONDS": LIFETIME,
        "OIDC_ISS_ENDPOINT": issuer,
    },
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import include, path  # noqa: E402
from django.utils import timezone  # noqa: E402
from oauth2_provider.models import AccessToken, Application  # noqa: E402

urlpatterns = [path("", include("oauth2_provider.urls"))]


def register(name: str, grant: str) -> str:
    """Register a confidential client, and return its secret."""
    secret = secrets.token_urlsafe(32)
    Application.objects.create(
        name=name,
        client_id=name,
        client_secret=secret,
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=grant,
    )
    return secret


def end_token(token: str) -> None:
    """Let a token have expired a second ago."""
    over = timezone.now() - datetime.timedelta(seconds=1)
    changed = AccessToken.objects.filter(token=token).update(expires=over)
    assert changed == 1


call_command("migrate", verbosity=0)
password = secrets.token_urlsafe(16)
User.objects.create_user("ada", password=password)
grants = {
    **dict.fromkeys(("resource", "robot", "stray"), Application.GRANT_CLIENT_CREDENTIALS),
    "web": Application.GRANT_PASSWORD,
}
clients = {name: register(name, grant) for name, grant in grants.items()}
server.set_app(get_wsgi_application())
serve(server, {"issuer": issuer, "clients": clients, "password": password}, end_token)
