"""Find the root paths configured in apps behind the gate, whatever root path the server reports.

An app with its own root path serves each path under a second name: with
`FastAPI(root_path="/v1")`, `/v1/api` is `/api`. No interface reports it, and wrappers may hold the
app in any way. So the gate asks the app that it wraps directly, and looks for all others in the
process: every FastAPI app in it, and Django's setting.

Django and Channels search a path for a `re_path()` that doesn't begin with `^`: `r"api/"` also
matches in `/open/api/`. This module finds those patterns, too, and the languages of Django's
`i18n_patterns()`: `/de/admin/` is `/admin/`.
"""

import asyncio
import gc
import logging
import re
import sys
import time
import weakref
from collections.abc import Iterable, Iterator
from importlib import import_module
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, NamedTuple

from xuna_middleware._core.text_fold import fold

logger = logging.getLogger("xuna_middleware")

#: Seconds between two attempts to load a URLconf after a failure.
_SECONDS_BETWEEN_SEARCHES: Final = 1.0

#: How many middlewares around an app are inspected.
_MOST_MIDDLEWARES: Final = 20
#: How many objects that an app holds are inspected, if the process's own are frozen.
_MOST_HELD: Final = 200_000
#: Matches in each path, and after the first letter of each public one.
FOUND_ANYWHERE: Final = re.compile(r"\A|(?<=/.)")


def own_root_path(app: object) -> str:
    """Return the root path of the app itself, "" if it has none; `.app` leads to it."""
    for _ in range(_MOST_MIDDLEWARES):
        modules = {str(kind.__module__).partition(".")[0] for kind in type(app).__mro__}
        if "fastapi" in modules:
            return _checked(getattr(app, "root_path", ""))
        if "django" in modules:
            return _script_name()
        try:
            app = getattr(app, "app", None)
        except Exception:  # a proxy object without a target now
            return ""
    return ""


def is_litestar_without_mounts(app: Any) -> bool:
    """Return whether an app is Litestar's own, and calls no other ASGI app by a route. Such an app
    removes only the server's root path, and only once.

    Does not see: an ASGI app that a middleware or a handler of it calls.
    """
    kind = getattr(sys.modules.get("litestar"), "Litestar", None)
    asgi_route = getattr(sys.modules.get("litestar.routes"), "ASGIRoute", None)
    if kind is None or asgi_route is None or type(app) is not kind:
        return False
    return not any(isinstance(route, asgi_route) for route in app.routes)


class URLPatterns(NamedTuple):
    """What the routes of Django and Channels say of paths.

    Attributes:
        searched: patterns that are found anywhere in a path.
        languages: finds a language's prefix in a folded path; None if no route has one.
    """

    searched: tuple[re.Pattern[str], ...] = ()
    languages: re.Pattern[str] | None = None


class AppsInProcess:
    """Find the FastAPI apps and Channels' URL routers of this process, whatever holds them.

    Searches when it is created and at each call: `gc.freeze()` in between, as before a server forks
    its workers, hides existing objects from a search. After a freeze, the objects that the wrapped
    app holds are followed as well: this finds apps, and a gate, made after the first search.
    `gc.unfreeze()` would also work, but listing all objects writes to the memory of each, which
    forked workers share.

    A search takes about 40 ms for a million objects.
    """

    def __init__(self, wrapped: object) -> None:
        self._wrapped = wrapped
        self._seen: list[weakref.ref[Any]] = []
        self._look()
        #: The result of `find_patterns()`; None until it succeeded.
        self.patterns: URLPatterns | None = None
        self._search: asyncio.Future[None] | None = None
        self._searched_at = -_SECONDS_BETWEEN_SEARCHES

    def root_paths(self) -> tuple[str, ...]:
        """Return the root paths of all FastAPI apps, and Django's.

        Does not find: those of other frameworks, and of apps made later.
        """
        apps = self._look()
        found = {_script_name(), *(_checked(app.__dict__.get("root_path", "")) for app in apps)}
        return tuple(sorted(found - {""}))

    async def find_patterns(self) -> None:
        """Look for the app's patterns at a request, since Django loads its URLconf at the first
        one; if that fails, try again at later ones, at most once a second.

        Requests that arrive meanwhile wait for the same search.
        """
        loop = asyncio.get_running_loop()
        if self._search is None or self._search.get_loop() is not loop or self._search.done():
            if time.monotonic() < self._searched_at + _SECONDS_BETWEEN_SEARCHES:
                return
            self._search = asyncio.ensure_future(self._look_for_patterns())
        await asyncio.shield(self._search)

    async def _look_for_patterns(self) -> None:
        # A URLconf may read the database, which Django allows in no thread with an event loop.
        if self._have_urlconf():
            self.patterns = await asyncio.to_thread(self._read_patterns)
        else:
            self.patterns = self._read_patterns()
        self._searched_at = time.monotonic()

    @staticmethod
    def _have_urlconf() -> bool:
        """Return whether Django is loaded and configured, with a URLconf."""
        settings = getattr(sys.modules.get("django.conf"), "settings", None)
        return bool(getattr(settings, "configured", False)) and hasattr(settings, "ROOT_URLCONF")

    def _read_patterns(self) -> URLPatterns | None:
        """Return the patterns of Django's URLconf and of Channels' routers. None if the URLconf
        can't be loaded.

        Does not find: a URLconf that a request's middleware chooses, and another language's form
        of a translated pattern.
        """
        resolvers = sys.modules.get("django.urls.resolvers")
        if resolvers is None:
            return URLPatterns()
        try:
            listed = list(self._url_patterns(resolvers))
            found = tuple(dict.fromkeys(_searched(listed, resolvers)))
            languages = _language_prefixes(listed, resolvers)
        except Exception:
            logger.warning(
                "protect=, public=: Django's ROOT_URLCONF can't be loaded, so it isn't known which "
                "of its patterns match anywhere in a path: all paths count as protected until "
                "it can",
                exc_info=True,
            )
            return None
        for pattern in found:
            logger.warning(
                "re_path(%r) doesn't begin with ^, so Django finds it anywhere in a path: "
                "protect=[…] protects its paths' words wherever they stand, and public=[…] opens "
                "no path in which it is found behind the beginning; begin each of its alternatives "
                "with ^",
                pattern.pattern,
            )
        return URLPatterns(found, languages)

    def _url_patterns(self, resolvers: ModuleType) -> Iterator[Any]:
        if self._have_urlconf():
            yield from resolvers.get_resolver().url_patterns
        if "channels.routing" in sys.modules:
            for router in filter(_is_channels, self._look()):
                yield from router.__dict__.get("routes", ())

    def _look(self) -> list[Any]:
        known = (("fastapi", "FastAPI"), ("channels.routing", "URLRouter"))
        found = [getattr(sys.modules.get(module), name, None) for module, name in known]
        kinds = tuple(kind for kind in found if kind is not None)
        if not kinds:
            return []
        # An object refers to its class. This is a fifth of the time of a loop over all objects.
        referrers = gc.get_referrers(*_with_subclasses(kinds))
        apps = [each for each in referrers if issubclass(type(each), kinds)]
        if gc.get_freeze_count():
            apps += [each for each in _held_by(self._wrapped) if issubclass(type(each), kinds)]
        apps += [app for each in self._seen if (app := each()) is not None]
        apps = list({id(app): app for app in apps}.values())
        self._seen = [weakref.ref(app) for app in apps]
        return apps


def _with_subclasses(kinds: Iterable[type]) -> list[type]:
    found: list[type] = [*kinds]
    for kind in found:
        subclasses: list[type] = type.__subclasses__(kind)
        found += [each for each in subclasses if each not in found]
    return found


def _is_channels(app: object) -> bool:
    return any(kind.__module__ == "channels.routing" for kind in type(app).__mro__)


def _held_by(app: object) -> Iterator[object]:
    """Yield the objects that an app holds, recursively; of a function's globals, those it names."""
    pending, seen = [app], {id(app)}
    while pending and len(seen) < _MOST_HELD:
        each = pending.pop()
        yield each
        if issubclass(type(each), (type, ModuleType)):
            continue
        held = _held_by_function(each) if isinstance(each, FunctionType) else _held_directly(each)
        for one in held:
            if id(one) not in seen:
                seen.add(id(one))
                pending.append(one)
    if pending:
        logger.warning(
            "protect=, public=: the app holds more than %d objects, and gc.freeze() hides others: "
            "FastAPI apps with a root_path of their own may not be seen; name both of their paths",
            _MOST_HELD,
        )


def _held_directly(each: object) -> list[Any]:
    return gc.get_referents(each)


def _held_by_function(function: FunctionType) -> list[Any]:
    held = [*gc.get_referents(function)]
    held = [each for each in held if each is not function.__globals__]
    names = set(_names_in(function.__code__)) & function.__globals__.keys()
    return held + [function.__globals__[name] for name in names]


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names_in(each)


def _searched(patterns: Iterable[Any], resolvers: ModuleType) -> Iterator[re.Pattern[str]]:
    """Yield the regular expressions of URL patterns, nested ones included, that are searched."""
    # Since Django 3.2 a pattern that ends a route and in "$" must match all of the rest.
    matches_whole = "fullmatch" in resolvers.RegexPattern.match.__code__.co_names
    for each in patterns:
        pattern = each.pattern
        if isinstance(pattern, resolvers.RegexPattern):
            is_whole = matches_whole and pattern._is_endpoint and pattern.regex.pattern[-1:] == "$"
            if not is_whole and not _begins_at_start(pattern.regex):
                yield pattern.regex
        yield from _searched(getattr(each, "url_patterns", ()), resolvers)


def _language_prefixes(patterns: Iterable[Any], resolvers: ModuleType) -> re.Pattern[str] | None:
    """Return a pattern for a prefix of `i18n_patterns()`; None if these patterns have none."""
    if not _has_language_prefix(patterns, resolvers):
        return None
    settings = sys.modules["django.conf"].settings
    codes = {settings.LANGUAGE_CODE, *(code for code, _ in settings.LANGUAGES)}
    alternatives = sorted(re.escape(fold(code)) for code in codes)
    return re.compile(f"/(?:{'|'.join(alternatives)})(?=/)")


def _has_language_prefix(patterns: Iterable[Any], resolvers: ModuleType) -> bool:
    return any(
        isinstance(each.pattern, resolvers.LocalePrefixPattern)
        or _has_language_prefix(getattr(each, "url_patterns", ()), resolvers)
        for each in patterns
    )


def _begins_at_start(regex: re.Pattern[str]) -> bool:
    """Return whether a search for a pattern finds it at the beginning of a text or not at all."""
    try:
        parsed = import_module("re._parser").parse(regex.pattern, regex.flags)
    except Exception:  # a Python version that parses patterns differently
        return False
    return not len(parsed) or _is_anchored(parsed) or _is_anything(parsed)


def _is_anchored(parsed: Any) -> bool:
    for operation, of in list(parsed)[:1]:
        if str(operation) == "AT":
            return str(of) in ("AT_BEGINNING", "AT_BEGINNING_STRING")
        if str(operation) == "SUBPATTERN":
            return _is_anchored(of[-1])
        if str(operation) == "BRANCH":
            return all(map(_is_anchored, of[1]))
    return False


def _is_anything(parsed: Any) -> bool:
    """Return whether it is only `.*`, which matches at the beginning of any text."""
    consuming = [(str(operation), of) for operation, of in parsed if str(operation) != "AT"]
    if len(consuming) != 1 or str(parsed[0][0]) == "AT":
        return False
    operation, of = consuming[0]
    if operation == "SUBPATTERN":
        return _is_anything(of[-1])
    is_any = operation == "MAX_REPEAT" and [str(inner) for inner, _ in of[2]] == ["ANY"]
    return is_any and of[0] == 0 and str(of[1]) == "MAXREPEAT"


def _script_name() -> str:
    """Return Django's FORCE_SCRIPT_NAME, if Django is loaded and configured."""
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    if settings is None or not settings.configured:
        return ""
    return _checked(settings.FORCE_SCRIPT_NAME)


def _checked(root_path: object) -> str:
    """Return a valid root path; a request can contain nothing else."""
    return root_path if isinstance(root_path, str) and root_path[:1] == "/" else ""
