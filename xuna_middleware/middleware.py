"""Wrap any ASGI app: serve the gate's routes under a prefix, and protect paths of the app."""

import sys
from collections.abc import Iterable
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from starlette.authentication import AuthCredentials
from starlette.types import ASGIApp, Receive, Scope, Send

from xuna_middleware._core.paths import is_plain, route_path
from xuna_middleware.endpoints.callers import identify
from xuna_middleware.endpoints.metadata import metadata_path
from xuna_middleware.endpoints.routes import ISSUING, RELAYED
from xuna_middleware.endpoints.webhook import WEBHOOK
from xuna_middleware.errors import (
    ConfigurationError,
    GateError,
    InvalidRequestError,
    NotAuthenticatedError,
)
from xuna_middleware.gate import XunaGate, core_of
from xuna_middleware.identity.authorization_header import without_tokens
from xuna_middleware.identity.credentials import Identity
from xuna_middleware.web.app_root_paths import (
    FOUND_ANYWHERE,
    AppsInProcess,
    URLPatterns,
    is_litestar_without_mounts,
    own_root_path,
)
from xuna_middleware.web.cors import is_preflight, pass_preflight_on
from xuna_middleware.web.lifespan import wrap_lifespan
from xuna_middleware.web.protected_paths import Ground, Target, Unprotected, path_rules
from xuna_middleware.web.refusals import Attempt
from xuna_middleware.web.responses import deny

#: In characters; longer paths are not cached.
_LONGEST_KEPT: Final = 200
_IDENTITY: Final = "xuna_middleware.identity"


#: Commands of other servers: if one of these was started, daphne isn't serving.
_OTHER_SERVERS: Final = ("uvicorn", "gunicorn", "hypercorn", "granian")
#: Who answers a preflight on a protected path.
Preflight: TypeAlias = Literal["gate", "app"]

#: The owner of a path: the gate, its metadata, or the app, whose path is protected or not.
_Place: TypeAlias = Literal["gate", "metadata"] | Ground


class XunaMiddleware:
    """Put a gate in front of an ASGI app.

    Args:
        app: any ASGI application.
        gate: the `XunaGate`.
        prefix: the path prefix of the gate's routes; every path under it belongs to the gate. With
            "" the gate has only the issuing and webhook routes (and `/conversation` and `/ticket`,
            if an agent lists the transport `relay`); all other paths belong to the app.
        protect: paths of the app that only verified callers reach, with all paths that begin like
            them ("/api" covers "/api/x", and also "/apis", as in some routers; "/s/secret" covers
            "/secret", which a mount at "/s" may treat as its own). On these paths `request.user`
            is the `Identity` and `request.auth.scopes` its scopes, so that Starlette's `requires()`
            works. Other paths pass unchanged, except for the gate's metadata (RFC 9728), which is
            served at the host's root if there is a `public_url`.
        public: the opposite, and the safer choice: these paths of the app and all paths under them
            are open to everybody ("/" is the start page alone), all others are protected. Give at
            most one of the two; with neither, only the gate's own routes are guarded. Paths are
            written without a root path. For a gate inside a mount, write them without the mount;
            inside a Starlette or FastAPI mount, `protect` also takes the path with all mounts.
            An app that doesn't remove the root path (Falcon, Sanic) should have none.
        whole_segments: whether `protect=["/api"]` leaves "/apis" open. Set it if everything behind
            the gate routes by whole segments, as Starlette, FastAPI, Django, Quart and Sanic do;
            BlackSheep's "/api/*" and mounts, Falcon's sinks, mounts of Litestar and hypercorn's
            DispatcherMiddleware don't.
        preflight: who answers CORS preflights on protected paths: the gate, by its `cors_origins`,
            or the app. The app then runs for OPTIONS requests of unknown callers. It gets only the
            path, `Host`, `Forwarded`, `X-Forwarded-For`, `-Host` and `-Proto`, `Origin` and
            `Access-Control-Request-*`, and has 5 seconds at most (then 503); only the status and
            the CORS headers of its answer are passed on.

    A path that can be read in more than one way counts as protected: see `web/protected_paths.py`.
    Without credentials the answer is 400.

    An app with its own root path serves each path under a second name. The middleware detects
    FastAPI's `root_path` and Django's FORCE_SCRIPT_NAME if the app exists at the first request (see
    SECURITY.md for `gc.freeze()`); for any other, list both names in `protect`. In `public`, list a
    path under such a root path both with it and without.

    Django's `i18n_patterns()` serve each path under a name for each language: `protect=["/admin"]`
    also covers `/de/admin`, for each of `settings.LANGUAGES`; in `public`, list both. Translated
    routes (`path(_("admin/"), …)`) must be listed in each language.

    Django finds a `re_path()` that doesn't begin with `^` anywhere in a path. With one, `protect`
    covers the words of its paths wherever they occur, `public` opens no path in which the pattern
    matches after the beginning, and a WARNING at the first request names it.

    Does not check, on protected paths: rules, limits, cross-site requests, parameters in a path
    (`protect=["/users/2"]` doesn't cover `/users/02`), nor headers by which an app may treat a
    request as another one (X-HTTP-Method-Override, X-Original-URL).

    Raises:
        ConfigurationError: prefix, protect or public is not a valid path, or preflight is unknown.
    """

    def __init__(
        self,
        app: ASGIApp,
        gate: XunaGate,
        *,
        prefix: str = "/xuna",
        protect: Iterable[str] = (),
        public: Iterable[str] | None = None,
        whole_segments: bool = False,
        preflight: Preflight = "gate",
    ) -> None:
        self.app = app
        self.gate = gate
        self._prefix = _checked_prefix(prefix, gate.public_url)
        self._public_base = (gate.public_url or "").removesuffix(prefix) or None
        if not prefix and core_of(gate).operators is not None:
            raise ConfigurationError(
                'operators=… opens /sessions, which no gate at the root has: prefix="/xuna"'
            )
        self._exactly = frozenset({prefix}) if prefix else _at_the_root(gate)
        self._beneath = (prefix + "/",) if prefix else ()
        self._metadata_path = gate.resource_metadata and metadata_path(str(gate.public_url))
        self._rules = path_rules(protect, public, whole_segments=whole_segments)
        self._reads_raw_paths = not isinstance(self._rules, Unprotected)
        if preflight not in get_args(Preflight):
            raise ConfigurationError('preflight must be "gate" or "app"')
        self._preflight = preflight
        self._apps = None if isinstance(self._rules, Unprotected) else AppsInProcess(app)
        self._remembered = lru_cache(maxsize=1024)(self._look)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, guard or pass on a request, by its path."""
        if scope["type"] not in ("http", "websocket"):
            await self._other(scope, receive, send)
            return
        if self._apps is not None and self._apps.patterns is None:
            await self._apps.find_patterns()
        place = self._place(scope)
        if place is Ground.OPEN:
            await self.app(scope, receive, send)
        elif isinstance(place, Ground):
            await self._guard(place, scope, receive, send)
        elif place == "metadata" and self.gate.resource_metadata is not None:
            await self.gate.resource_metadata(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await wrap_lifespan(self.gate, self.app, scope, receive, send)
        elif isinstance(self._rules, Unprotected):
            await self.app(scope, receive, send)
        else:
            raise NotImplementedError(
                f"scope type {scope['type']!r}: protect= and public= guard http and websocket, so "
                "nothing else gets to the app"
            )

    def _place(self, scope: Scope) -> _Place:
        """Return the owner of a path; answers for the last 1024 short paths are cached."""
        path, raw = scope["path"], None
        if self._reads_raw_paths:
            raw = scope.get("raw_path") or None  # gunicorn gives b"" where it has none
        root_path, app_root_path = scope.get("root_path", ""), scope.get("app_root_path", "")
        is_long = len(path) > _LONGEST_KEPT or len(root_path) > _LONGEST_KEPT
        if is_long or self._patterns is None:
            return self._look(path, raw, root_path, app_root_path)
        return self._remembered(path, raw, root_path, app_root_path)

    @cached_property
    def _app_roots(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The root path of the app itself, and those of other apps in this process, any of which
        may be inside it. They are searched for at the first request, when all apps exist.
        """
        if self._apps is None:
            return (), ()
        own = own_root_path(self.app)
        return _roots(own), _roots(*(each for each in self._apps.root_paths() if each != own))

    @cached_property
    def _is_litestar_alone(self) -> bool:
        """Whether the app is a Litestar app without any mount, as of the first request."""
        return is_litestar_without_mounts(self.app)

    @property
    def _patterns(self) -> URLPatterns | None:
        """The app's patterns that match anywhere in a path; None until they are known."""
        return URLPatterns() if self._apps is None else self._apps.patterns

    def _look(self, path: str, raw: bytes | None, root_path: str, app_root_path: str) -> _Place:
        relative = route_path(path, root_path, app_root_path)
        if relative.startswith(self._beneath) or relative in self._exactly:
            return "gate"
        if relative == self._metadata_path:
            return "metadata"
        roots = _roots(root_path, root_path.removeprefix(app_root_path))
        own, within = self._app_roots
        if own:
            target = Target(path, raw, own, (*roots, *within))
        elif _root_path_is_a_strangers():
            target = Target(path, raw, (), (*roots, *within))
        else:
            target = Target(path, raw, roots, within)
        cuts_again = "litestar" in sys.modules and not self._is_litestar_alone
        known = self._patterns
        patterns = URLPatterns((FOUND_ANYWHERE,)) if known is None else known
        target = target._replace(
            outer_roots=_roots(app_root_path),
            cuts_again=cuts_again,
            searched=patterns.searched,
            languages=patterns.languages,
        )
        return self._rules.classify(target)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the gate as a mount would, with the prefix added to root_path."""
        root_path = scope.get("root_path", "")
        relative = route_path(scope["path"], root_path, scope.get("app_root_path", ""))
        root_path = root_path.rstrip("/") + self._prefix
        path = root_path + relative[len(self._prefix) :]
        await self.gate({**scope, "root_path": root_path, "path": path}, receive, send)

    async def _guard(self, ground: Ground, scope: Scope, receive: Receive, send: Send) -> None:
        core = core_of(self.gate)
        try:
            if ground is not Ground.AMBIGUOUS and is_preflight(scope):
                await self._answer_preflight(scope, receive, send)
                return
            nobody = _refusal_at(ground)
            caller = await identify(core, scope, base=self._public_base, nobody=nobody)
        except GateError as error:
            await core.cors.wrap(partial(deny, error))(scope, receive, send)
            return
        identity = caller.identity
        known = {**scope, "user": identity, "auth": _granted(identity.scopes), _IDENTITY: identity}
        if "subprotocols" in known:
            known["subprotocols"] = without_tokens(known["subprotocols"])
        await self.app(known, receive, core.app_cors.readable(scope, send))

    async def _answer_preflight(self, scope: Scope, receive: Receive, send: Send) -> None:
        core = core_of(self.gate)
        try:
            with core.refusals.reporting(Attempt(), GateError):
                if self._preflight == "app":
                    await pass_preflight_on(self.app, scope, receive, send)
                    return
                answer = core.app_cors.preflight(scope)
        except GateError as error:
            await deny(error, scope, receive, send)
        else:
            await answer(scope, receive, send)


def _refusal_at(ground: Ground) -> GateError | None:
    """Return the refusal of a caller without credentials, if the path is a reason for it, too."""
    if ground is Ground.BEGINS_ALIKE:
        return NotAuthenticatedError(
            cause="no credentials: the path begins like one of protect=; whole_segments=True "
            "leaves it open"
        )
    if ground is Ground.REPEATS_A_NAME:
        return NotAuthenticatedError(
            cause="no credentials: a name that leads to the path in public= comes again in it or "
            "behind it, and a mount of Litestar's may remove all up to there; name the path "
            "without such a name"
        )
    if ground is Ground.AMBIGUOUS:
        return InvalidRequestError(
            cause="path: it can be read in more than one way, so it counts as protected "
            "(protect=, public=); a client should send it in origin-form, without dot segments, "
            "control characters and backslashes"
        )
    return None


def _root_path_is_a_strangers() -> bool:
    """Return whether daphne may be serving, which takes root_path from a request's header.

    Django loads it if it is one of INSTALLED_APPS, whichever server was started.
    """
    started = Path(sys.argv[0]) if sys.argv else Path()
    names = {started.stem, started.parent.name}
    return "daphne.server" in sys.modules and names.isdisjoint(_OTHER_SERVERS)


def _roots(*root_paths: str) -> tuple[str, ...]:
    """Return the root paths, each once, with and without a trailing slash; may be empty."""
    roots = dict.fromkeys(root for each in root_paths for root in (each.rstrip("/"), each))
    return tuple(root for root in roots if root not in ("", "/"))


def _at_the_root(gate: XunaGate) -> frozenset[str]:
    """Return the paths that a gate without a prefix claims."""
    relayed = RELAYED if core_of(gate).has_relay else ()
    webhooks = () if gate.webhook is None else (WEBHOOK,)
    return frozenset((*ISSUING, *relayed, *webhooks))


def get_identity(scope: Scope) -> Identity | None:
    """Return the identity that `XunaMiddleware` verified; None on paths it doesn't protect."""
    identity: Identity | None = scope.get(_IDENTITY)
    return identity


@lru_cache(maxsize=256)
def _granted(scopes: frozenset[str]) -> AuthCredentials:
    """Return the scopes, plus "authenticated", as Starlette's `requires()` reads them."""
    granted = AuthCredentials()
    granted.scopes = ("authenticated", *sorted(scopes))  # type: ignore[assignment]
    return granted


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
