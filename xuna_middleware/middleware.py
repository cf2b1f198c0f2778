"""Wrap any ASGI app: serve the gate's routes beneath a prefix, and guard paths of the app's own."""

import sys
from collections.abc import Iterable
from enum import Enum, auto
from functools import lru_cache, partial
from typing import Final
from urllib.parse import urlsplit

from starlette.authentication import AuthCredentials
from starlette.types import ASGIApp, Receive, Scope, Send

from xuna_middleware.deliveries import WEBHOOK
from xuna_middleware.errors import ConfigurationError, GateError
from xuna_middleware.gate import XunaGate
from xuna_middleware.identity.credentials import Identity
from xuna_middleware.identity.extraction import without_tokens
from xuna_middleware.lifespan import wrap_lifespan
from xuna_middleware.paths import ProtectedPaths, is_plain, route_path
from xuna_middleware.resource_metadata import metadata_path
from xuna_middleware.responses import deny
from xuna_middleware.routes import ISSUING, RELAYED

#: In characters; what is longer is looked at each time.
_LONGEST_KEPT: Final = 200
_IDENTITY: Final = "xuna_middleware.identity"


class _Place(Enum):
    """Say whose a path is."""

    ELSEWHERE = auto()
    GATE = auto()
    PROTECTED = auto()
    METADATA = auto()


class XunaMiddleware:
    """Put a gate in front of an ASGI app.

    Args:
        app: any ASGI application.
        gate: the `XunaGate`.
        prefix: beneath which the gate's routes are; everything beneath it is the gate's. With ""
            only the issuing routes and the webhook's are (and `/conversation` and `/ticket`, where
            an agent lists the transport `relay`), and the rest stays the app's.
        protect: path prefixes of the app that only verified callers reach; there `request.user` is
            the `Identity` and `request.auth.scopes` its scopes, so that Starlette's `requires()`
            works. Whatever else passes untouched, but for the gate's metadata (RFC 9728), which is
            served at the host's root where `public_url` is told.

    An app that is told a root path of its own serves each path under a second name. FastAPI's
    `root_path` and Django's FORCE_SCRIPT_NAME are seen where that app is wrapped directly; of any
    other, name both in `protect`.

    Does not check, on protected paths: rules, limits, cross-site requests. A true CORS preflight
    (OPTIONS with Origin and Access-Control-Request-Method) goes to the app.

    Raises:
        ConfigurationError: prefix or protect is no plain path.
    """

    def __init__(
        self, app: ASGIApp, gate: XunaGate, *, prefix: str = "/xuna", protect: Iterable[str] = ()
    ) -> None:
        self.app = app
        self.gate = gate
        self._prefix = _checked_prefix(prefix, gate.public_url)
        self._public_base = (gate.public_url or "").removesuffix(prefix) or None
        if not prefix and gate.has_operators:
            raise ConfigurationError(
                'operators=… opens /sessions, which no gate at the root has: prefix="/xuna"'
            )
        self._exactly = frozenset({prefix}) if prefix else _at_the_root(gate)
        self._beneath = (prefix + "/",) if prefix else ()
        self._metadata_path = gate.resource_metadata and metadata_path(str(gate.public_url))
        self._protected = ProtectedPaths(protect)
        self._told_root_path = _told_root_path(app)
        self._place = lru_cache(maxsize=1024)(self._look)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, guard or let pass, by the scope's path."""
        if scope["type"] not in ("http", "websocket"):
            await self._other(scope, receive, send)
            return
        path, root_path = scope["path"], scope.get("root_path")
        if root_path or len(path) > _LONGEST_KEPT:
            place = self._look(path, root_path or "", scope.get("app_root_path", ""))
        else:
            place = self._place(path)
        if place is _Place.ELSEWHERE:
            await self.app(scope, receive, send)
        elif place is _Place.PROTECTED:
            await self._guard(scope, receive, send)
        elif place is _Place.METADATA and self.gate.resource_metadata is not None:
            await self.gate.resource_metadata(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await wrap_lifespan(self.gate, self.app, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _look(self, path: str, root_path: str = "", app_root_path: str = "") -> "_Place":
        """Say what a path is; the answers for the last thousand usual ones are kept."""
        relative = route_path(path, root_path, app_root_path)
        if relative.startswith(self._beneath) or relative in self._exactly:
            return _Place.GATE
        if relative == self._metadata_path:
            return _Place.METADATA
        told = self._told_root_path
        is_protected = self._protected.match(path, root_path) or (
            bool(told) and self._protected.match(path, told)
        )
        return _Place.PROTECTED if is_protected else _Place.ELSEWHERE

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request to the gate as a mount would: the prefix belongs to root_path then."""
        root_path = scope.get("root_path", "")
        relative = route_path(scope["path"], root_path, scope.get("app_root_path", ""))
        root_path = root_path.rstrip("/") + self._prefix
        path = root_path + relative[len(self._prefix) :]
        await self.gate({**scope, "root_path": root_path, "path": path}, receive, send)

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") == "OPTIONS" and _is_preflight(scope):
            await self.app(scope, receive, send)
            return
        try:
            identity = (await self.gate.authenticate(scope, base=self._public_base)).identity
        except GateError as error:
            await self.gate.with_cors(partial(deny, error))(scope, receive, send)
            return
        known = {**scope, "user": identity, "auth": _granted(identity.scopes), _IDENTITY: identity}
        if "subprotocols" in known:
            known["subprotocols"] = without_tokens(known["subprotocols"])
        await self.app(known, receive, send)


def _at_the_root(gate: XunaGate) -> frozenset[str]:
    """Return the paths that a gate without a prefix claims."""
    relayed = RELAYED if gate.has_relay else ()
    webhooks = () if gate.webhook is None else (WEBHOOK,)
    return frozenset((*ISSUING, *relayed, *webhooks))


def get_identity(scope: Scope) -> Identity | None:
    """Return whom `XunaMiddleware` verified for this scope; None on paths it doesn't protect."""
    identity: Identity | None = scope.get(_IDENTITY)
    return identity


def _told_root_path(app: ASGIApp) -> str:
    """Return a root path that the app itself was told, whatever the server says."""
    told = getattr(app, "root_path", None)
    if type(app).__module__.startswith("django."):
        told = getattr(sys.modules["django.conf"].settings, "FORCE_SCRIPT_NAME", None)
    return told if isinstance(told, str) else ""


@lru_cache(maxsize=256)
def _granted(scopes: frozenset[str]) -> AuthCredentials:
    """Return the scopes as Starlette's `requires()` reads them, "authenticated" among them."""
    granted = AuthCredentials()
    granted.scopes = ("authenticated", *sorted(scopes))  # type: ignore[assignment]
    return granted


def _is_preflight(scope: Scope) -> bool:
    names = {name for name, _ in scope["headers"]}
    return b"origin" in names and b"access-control-request-method" in names


def _checked_prefix(prefix: str, public_url: str | None) -> str:
    if not isinstance(prefix, str) or (
        prefix and (not prefix.startswith("/") or prefix.endswith("/") or not is_plain(prefix))
    ):
        raise ConfigurationError(
            f'prefix: {prefix!r} must start with a slash, end without one and be plain: "/xuna"'
        )
    if public_url is not None and not urlsplit(public_url).path.rstrip("/").endswith(prefix):
        raise ConfigurationError(
            f"public_url is where clients reach the gate, so it must end in the prefix {prefix!r}"
        )
    return prefix
