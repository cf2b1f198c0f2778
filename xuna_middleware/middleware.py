"""Wrap any ASGI app: serve the gate's routes beneath a prefix, and guard paths of the app's own."""

import sys
from collections.abc import Iterable
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from xuna_middleware.errors import ConfigurationError, GateError
from xuna_middleware.gate import XunaGate
from xuna_middleware.identity.credentials import Identity
from xuna_middleware.lifespan import wrap_lifespan
from xuna_middleware.paths import (
    ELSEWHERE,
    LONGEST,
    PROTECTED,
    ProtectedPaths,
    is_plain,
    plain_paths,
    route_path,
)
from xuna_middleware.responses import deny
from xuna_middleware.routes import ISSUING

_IDENTITY: Final = "xuna_middleware.identity"


class XunaMiddleware:
    """Put a gate in front of an ASGI app.

    Args:
        app: any ASGI application.
        gate: the `XunaGate`.
        prefix: beneath which the gate's routes are; everything beneath it is the gate's. With ""
            only the issuing routes are, and the rest stays the app's.
        protect: path prefixes of the app that only verified callers reach; there `request.user` is
            the `Identity` and `request.auth.scopes` its scopes, so that Starlette's `requires()`
            works. Whatever else passes untouched.

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
        self._exactly = frozenset({prefix}) if prefix else frozenset(ISSUING)
        self._beneath = (prefix + "/",) if prefix else ()
        self._protected = ProtectedPaths(protect)
        self._told_root_path = _told_root_path(app)
        self._place = plain_paths(self._exactly, self._protected.prefixes)
        if self._told_root_path:  # no path has one reading then
            self._place = lambda path: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, guard or let pass, by the scope's path."""
        place = None
        if scope["type"] == "http" and not scope.get("root_path"):
            path = scope["path"]
            place = self._place(path) if len(path) <= LONGEST else None
        if place == ELSEWHERE:
            await self.app(scope, receive, send)
        elif place == PROTECTED:
            await self._guard(scope, receive, send)
        elif scope["type"] in ("http", "websocket"):
            await self._by_path(scope, receive, send)
        elif scope["type"] == "lifespan":
            await wrap_lifespan(self.gate, self.app, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _by_path(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, root_path = scope["path"], scope.get("root_path", "")
        relative = route_path(scope)
        if relative.startswith(self._beneath) or relative in self._exactly:
            await self.gate(_beneath(scope, root_path, self._prefix, relative), receive, send)
        elif self._is_protected(path, root_path):
            await self._guard(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _is_protected(self, path: str, root_path: str) -> bool:
        told = self._told_root_path
        return self._protected.match(path, root_path) or (
            bool(told) and self._protected.match(path, told)
        )

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") == "OPTIONS" and _is_preflight(scope):
            await self.app(scope, receive, send)
            return
        try:
            identity = (await self.gate.authenticate(scope)).identity
        except GateError as error:
            await self.gate.with_cors(partial(deny, error))(scope, receive, send)
            return
        known = {**scope, "user": identity, "auth": identity, _IDENTITY: identity}
        await self.app(known, receive, send)


def get_identity(scope: Scope) -> Identity | None:
    """Return whom `XunaMiddleware` verified for this scope; None on paths it doesn't protect."""
    identity: Identity | None = scope.get(_IDENTITY)
    return identity


def _beneath(scope: Scope, root_path: str, prefix: str, relative: str) -> Scope:
    """Return the scope as a mount would: the prefix belongs to root_path, and path holds both."""
    inner_root = root_path.rstrip("/") + prefix
    path = inner_root + relative[len(prefix) :]
    return {**scope, "root_path": inner_root, "path": path}


def _told_root_path(app: ASGIApp) -> str:
    """Return a root path that the app itself was told, whatever the server says."""
    told = getattr(app, "root_path", None)
    if type(app).__module__.startswith("django."):
        told = getattr(sys.modules["django.conf"].settings, "FORCE_SCRIPT_NAME", None)
    return told if isinstance(told, str) else ""


def _is_preflight(scope: Scope) -> bool:
    names = {name for name, _ in scope["headers"]}
    return b"origin" in names and b"access-control-request-method" in names


def _checked_prefix(prefix: str, public_url: str | None) -> str:
    if prefix and (not prefix.startswith("/") or prefix.endswith("/") or not is_plain(prefix)):
        raise ConfigurationError(
            f'prefix: {prefix!r} must start with a slash, end without one and be plain: "/xuna"'
        )
    if public_url is not None and not urlsplit(public_url).path.rstrip("/").endswith(prefix):
        raise ConfigurationError(
            f"public_url is where clients reach the gate, so it must end in the prefix {prefix!r}"
        )
    return prefix
