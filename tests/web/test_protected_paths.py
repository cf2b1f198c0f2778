"""Which paths need a verified caller: by tables, and at the face of the middleware.

`tests/web/test_paths.py` and the routers of eight frameworks hold the same rules against those who
really route.
"""

import asyncio
import gc
import re
import string
import sys
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, Final
from urllib.parse import unquote, unquote_to_bytes

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from support.doubles import (
    Answer,
    ask,
    bearer,
    echo_app,
    http_scope,
    in_fast_time,
    knock,
    make_gate,
    one_response,
)
from support.routers import django_configured
from support.signing import RSA

from xuna_middleware import ConfigurationError, Event, Identity, XunaMiddleware
from xuna_middleware._core.text_fold import fold
from xuna_middleware.web.app_root_paths import AppsInProcess, own_root_path
from xuna_middleware.web.protected_paths import (
    MAX_DECODINGS,
    MAX_LENGTH,
    MAX_NOT_ASCII,
    MAX_PERCENT_SIGNS,
    MAX_READ,
    MAX_ROOTS,
    Ground,
    ProtectedPaths,
    PublicPaths,
    Target,
    _unescaped,
)

gate = make_gate()


async def status(
    path: str, *, raw: bytes | None = None, root_path: str = "", **options: Any
) -> int:
    """Return what a stranger's GET is answered; 200 is the app's."""
    options = options or {"protect": ["/api"]}
    guarded = XunaMiddleware(echo_app, gate, **options)
    raw = path.encode("utf-8", "surrogatepass") if raw is None else raw
    answer = await ask(guarded, path, root_path=root_path, raw_path=raw)
    assert (answer.status == 200) == (answer.body == b"the app")
    return answer.status


PROTECTED: Final = (
    *("/api", "/api/", "/api/things", "//api", "/api//things", "///api///", "/api/ x"),
    *("/%61pi", "/%2561pi", "/%252561pi", "/api%2Fthings", "/api%2fthings", "/api%252Fthings"),
    *("/api;a=b", "/api;a=b/things", "/API", "/Api/x", "/api?x", "/api#x", "/api%3Fx", "/api /x"),
    *("/api.json", "/api.", "/api.json/things", "/api.tar.gz", "/ api", "/%20api", "/api;"),
    *("//host/api", "/%2Fhost/api", "//api.example/api/x", "///api", "//user@host:1/api"),
    *("/apı", "/APİ", "/ａｐｉ", "/a\u0301pi", "/a\u00adpi", "/ap\u200bi", "/\u24d0pi", "/api／x"),
    *("/ap%C4%B1", "/ａ%70i", "/％61pi", "/％2561pi"),
)
#: What some routers take for a path beneath /api, and most don't.
ALIKE: Final = (
    *("/apis", "/apix/y", "/api-docs", "/API_x", "/api*", "/api:x", "/api%41", "//h/apis"),
)
AMBIGUOUS: Final = (
    *("api", "", "*", "?/api", "#/api", ";/api", " /x", "x", "x:/x", "http://host/x", "host:443"),
    *("/x/../x", "/./x", "/x/.", "/x/..", "/..", "/.", "/x/..;a=b/x", "/x/.. /x", "/%2e%2e/x"),
    *("/x%2F..%2Fx", "/x/%252e%252e/x", "/x/．．/x", "/x/‥/x", "/x/%EF%BC%8E./x"),
    *("/x\\y", "\\x", "/x%5Cy", "/x%255cy", "/x＼y"),
    *("/x\0", "/x%00", "/x\t", "/x%09y", "/x%0A", "/x%250d", "/x\x7f", "/x%C2%85", "/x\x1b[0m"),
    *("/x\u00a0y", "/x%C2%A0", "/x\u3000y", "/x\u2028", "/x%E2%80%83y"),
    *("/x\ufffd", "/x%FF", "/x%C0%AF", "/x%ED%A0%80", "/x\ud800"),
    *("/%" + "25" * MAX_DECODINGS + "61", "/" + "é" * (MAX_NOT_ASCII + 1)),
    *("/" + "%C3%A9" * (MAX_NOT_ASCII + 1), "/" + "\ufdfa" * 240),
    "/x%20" + "y" * MAX_LENGTH,
    # As many characters as may be, but too dear to read.
    *("/x" + "%" * (MAX_PERCENT_SIGNS + 1), "/x" + "%41" * (MAX_PERCENT_SIGNS + 1)),
    *("/x" + "%4%" * 1_300, "/%2541" + "x" * (MAX_READ // 3)),
)
#: Addresses that apps really have, as they are written and as a server hands them on.
OPEN: Final = (
    *("/", "/x", "/x/api", "/ap", "/ap/i", "/a/pi", "/-api", "/~ada", "/@api", "/x-api", "/xapi"),
    *(
        "/my file.pdf",
        "/caf\u00e9/men\u00fa",
        "/日本語/ページ",
        "/Stra\u00dfe",
        "/مرحبا",
        "/שלום",
        "/😀",
    ),
    *("/a;v=1/b;v=2", "/a%2Fb", "/100%", "/100%25", "/a+b", "/a&b=c", "/a:b", "/@ada", "/a,b"),
    *("/static/app.min.js", "/.well-known/security.txt", "/a.b/c.d", "/v1.2/x", "//x", "/x//y"),
    *("/x/api.json", "/$metadata", "/(group)/x", "/a'b", "/a!b", "/wiki/C#", "/what?", "/[id]"),
    *("/x/" + "%E6%97%A5" * 170, "/x/" + "%" * MAX_PERCENT_SIGNS),
    *("/hal\u0131c\u0131", "/İstanbul", "/e\u0301t\u00e9", "/नमस्ते", "/x" + "y" * 60_000),
)


@pytest.mark.parametrize("path", PROTECTED)
async def test_any_reading_protects(path: str) -> None:
    """One reading is enough, since nobody knows how the app reads: a stranger gets 401."""
    assert await status(path) == 401


@pytest.mark.parametrize("path", AMBIGUOUS)
@pytest.mark.parametrize("options", [{"protect": ["/api"]}, {"public": ["/x", "/é"]}], ids=str)
async def test_an_ambiguous_path_is_refused(path: str, options: dict[str, Any]) -> None:
    """A path with more than one reading counts as protected: 400, and the app never runs."""
    assert await status(path, **options) == 400


@pytest.mark.parametrize("path", ALIKE)
async def test_what_begins_alike_is_protected(path: str) -> None:
    """BlackSheep's `/api/*`, Falcon's sinks and some mounts match by text, not by segments."""
    assert await status(path) == 401
    assert await status(path, protect=["/api"], whole_segments=True) == 200


@pytest.mark.parametrize(
    "path",
    ["/adminusers", "/adminusers/7", "/admin/usersx", "/ADMIN;x/users.json", "/admin.x/users"],
)
async def test_segments_that_a_mount_cuts_apart(path: str) -> None:
    """With a mount at /admin that matches by text, /adminusers is /admin/users."""
    assert await status(path, protect=["/admin/users"]) == 401


@pytest.mark.parametrize(
    ("protected", "path"),
    [
        ("/s/secret", "/secret"),
        ("/s/secret", "/SECRET/x"),
        ("/s/s/secret", "/secret"),
        ("/a/b/a/bc", "/a/bc"),
        ("/x/admin/administrators", "/x/administrators"),
        ("/api/items", "/apitems"),
        ("/api/items", "/apitems/7"),
        ("/x/api/items", "/x/apitems"),
    ],
)
async def test_a_mounts_name_that_the_next_one_begins_with(protected: str, path: str) -> None:
    """A mount at /s takes /secret for its own; BlackSheep's at /api takes a letter too many."""
    assert await status(path, protect=[protected]) == 401
    assert await status(path, protect=[protected], whole_segments=True) == 200


def test_a_path_that_has_too_many_forms() -> None:
    """What building such a path costs has a bound."""
    path = "".join("/" + "a" * length for length in range(1, 7))
    with pytest.raises(ConfigurationError, match="more than 100 forms"):
        XunaMiddleware(echo_app, gate, protect=[path])
    XunaMiddleware(echo_app, gate, protect=[path], whole_segments=True)


async def test_only_whole_paths_begin_alike() -> None:
    """A part of a protected path protects nothing."""
    for path in ("/admin", "/admin/user", "/admins", "/users", "/admin/x/users"):
        assert await status(path, protect=["/admin/users"]) == 200
    for path in ("/adminusers", "/admin/usersx"):
        assert await status(path, protect=["/admin/users"], whole_segments=True) == 200


@pytest.mark.parametrize("path", PROTECTED)
async def test_whole_segments_protect_the_rest(path: str) -> None:
    """`whole_segments=True` opens nothing else."""
    assert await status(path, protect=["/api"], whole_segments=True) == 401


async def test_the_log_names_whole_segments(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever wonders about a 401 at /api-docs is told what would change it."""
    await ask(XunaMiddleware(echo_app, make_gate(), protect=["/api"]), "/api-docs")
    assert "whole_segments=True" in caplog.text


@pytest.mark.parametrize("path", OPEN)
async def test_legitimate_addresses_stay_open(path: str) -> None:
    """What an app really has on unprotected ground is served as without the gate."""
    assert await status(path) == 200


async def test_without_rules_every_path_is_the_apps() -> None:
    """With neither `protect` nor `public`, nothing is looked at but the gate's own routes."""
    for path in (*PROTECTED, *AMBIGUOUS, *OPEN):
        assert await status(path, protect=[]) == 200


async def test_a_verified_caller_may_use_ambiguous_paths() -> None:
    """It counts as protected, no more: whoever is verified gets through to the app."""
    guarded = XunaMiddleware(echo_app, gate, protect=["/api"])
    answer = await ask(guarded, "/x/../y", headers=bearer(RSA.token()))
    assert (answer.status, answer.body) == (200, b"the app")
    assert (await ask(guarded, "/x/../y", headers=bearer("bad"))).status == 401


async def test_the_400_names_the_options_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The answer tells nothing; the log line says why, and one event has the same code."""
    events: list[Event] = []
    noted = make_gate(on_event=[_immediate(events.append)])
    answer = await ask(XunaMiddleware(echo_app, noted, protect=["/api"]), "/x\\y")
    assert (answer.status, answer.json()["code"]) == (400, "invalid_request")
    assert "\\" not in answer.body.decode()
    assert "protect=, public=" in caplog.text
    assert [event.code for event in events] == ["invalid_request"]


def _immediate(hook: Callable[[Event], None]) -> Any:
    from xuna_middleware import Immediate

    return Immediate(hook)


async def test_websockets_are_classified_alike() -> None:
    """A handshake to an ambiguous or protected path is refused before it is accepted."""
    guarded = XunaMiddleware(echo_app, gate, protect=["/api"])
    denial: dict[str, Any] = {"websocket.http.response": {}}
    for path, wanted in (("/API.json", 401), ("/x/%2e%2e/api", 400), ("http://h/api", 400)):
        sent = await knock(guarded, path, extensions=denial)
        assert one_response(sent, "websocket.http.response").status == wanted


@pytest.mark.parametrize(
    ("path", "root_path"),
    [
        *(("/sub/api", "/sub"), ("/sub/api/x", "/sub/"), ("/api", "/sub"), ("/SUB/api", "/sub")),
        *(("/sub//api", "/sub"), ("/my app/api", "/my app"), ("/subapi", "/sub"), ("/api", "/")),
        *(("/sub/%61pi", "/sub"), ("/%73ub/api", "/sub"), ("/api", "/api"), ("/api/api", "/api")),
        *(("/x/sub/api", "/sub"), ("/x/subapi", "/sub"), ("/sub/sub/api", "/sub")),
        *(("/subsub/api", "/sub"), ("/subsub/sub/api", "/sub")),
        *(("/sub//host/api", "/sub"), ("/ſub/api", "/sub"), ("/sub/api.json", "/sub")),
    ],
)
async def test_protected_with_and_without_root_path(path: str, root_path: str) -> None:
    """Servers and frameworks disagree about root_path, so what stands behind it counts, too."""
    assert await status(path, root_path=root_path) == 401


@pytest.mark.parametrize("root_path", ["", "/srv"])
@pytest.mark.parametrize("protect", [["/m/api", "/n/m/api"], ["/api"]])
async def test_gate_in_a_mount_of_starlettes(protect: list[str], root_path: str) -> None:
    """A path may be named with its mounts and without, whatever root path the server has."""
    guarded = Middleware(XunaMiddleware, gate=gate, protect=protect)
    mounted = Mount("/m", app=echo_app, middleware=[guarded])
    app = Starlette(routes=[Mount("/n", routes=[mounted]), mounted])
    for path, wanted in (("/m/api/x", 401), ("/m/open", 200), ("/n/m/api/x", 401)):
        assert (await ask(app, root_path + path, root_path=root_path)).status == wanted
    public = Mount("/m", XunaMiddleware(echo_app, gate, public=["/open", "/m/shut"]))
    for path, wanted in (("/m/open", 200), ("/m/shut", 401)):
        answer = await ask(Starlette(routes=[public]), root_path + path, root_path=root_path)
        assert answer.status == wanted


@pytest.mark.parametrize(
    ("path", "root_path"),
    [
        *(("/one/srv/api/secret", "/srv"), ("/one/xyz/srv/api/secret", "/srv")),
        *(("/srv/one/srv/api", "/srv"), ("/one/srvapi", "/srv")),
        *(("/one/srv/srv/api", "/srv"), ("/one//h/api", "/x"), ("/one/srv//h/api", "/srv")),
    ],
)
async def test_mounts_that_remove_the_root_path_again(path: str, root_path: str) -> None:
    """Litestar's mount at /one hands on what is behind it, and what it holds removes root_path."""
    assert await status(path, root_path=root_path, protect=["/one/api"]) == 401
    assert await status("/one/srv/other", root_path=root_path, protect=["/one/api"]) == 200


@pytest.mark.parametrize(
    "path", ["/one/two/one/api/secret", "/one/x/one/two/api", "/one/two/one/api"]
)
async def test_mounts_of_litestar_that_take_a_mounts_name_for_a_root_path(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mounted at /one, its own mount at /two removes /one once more, without a server's root."""
    monkeypatch.setitem(sys.modules, "litestar", sys)
    assert await status(path, protect=["/one/two/api"]) == 401
    assert await status("/one/two/open", protect=["/one/two/api"]) == 200
    monkeypatch.delitem(sys.modules, "litestar")
    assert await status(path, protect=["/one/two/api"]) == 200


@pytest.mark.parametrize(
    "path", ["/m/a/n/a/secret", "/m/a/n/x/a/secret", "/m/a/n/aa/secret", "/m/a/n/m/a/secret/x"]
)
async def test_mounts_of_litestar_that_cut_at_an_inner_name(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mounted by Litestar at /m, Starlette's mount at /a makes that the root path, without /m."""
    monkeypatch.setitem(sys.modules, "litestar", sys)
    assert await status(path, protect=["/m/a/n/secret"]) == 401
    for other in ("/m/a/n/a/other", "/m/a/n/b/secret"):
        assert await status(other, protect=["/m/a/n/secret"]) == 200


@pytest.mark.parametrize("path", ["/subhttp://h/x", "/subx:y", "/sub" * (MAX_ROOTS + 1)])
async def test_a_root_path_that_makes_a_path_ambiguous(path: str) -> None:
    """A server's own root path before an absolute form, and one over and over."""
    assert await status(path, root_path="/sub") == 400
    assert await status("/sub/x", root_path="/sub") == 200


@pytest.mark.parametrize(
    ("path", "raw", "wanted"),
    [
        ("/x", b"/api/secret", 401),
        ("/x", b"/%61pi", 401),
        ("/x", b"/x?/api", 200),
        ("/x", b"/x?query", 200),
        ("/x", b"http://h/x", 400),
        ("/x", b"*", 400),
        ("/x", b"/x%09", 400),
        ("/x", b"/x\xff", 400),
        ("/x", b"/x/../x", 400),
        ("/é", "/é".encode(), 200),
        ("/é", b"/%C3%A9", 200),
    ],
)
async def test_raw_path_is_read_too(path: str, raw: bytes, wanted: int) -> None:
    """BlackSheep and Sanic route by `raw_path`: what that says counts as much."""
    assert await status(path, raw=raw) == wanted


async def test_an_empty_raw_path_says_nothing() -> None:
    """gunicorn gives b"" where its front server speaks uwsgi."""
    assert await status("/x", raw=b"") == 200
    assert await status("/api", raw=b"") == 401
    assert await status("/open", raw=b"", public=["/open"]) == 200


@pytest.mark.parametrize("options", [{"protect": ["/api"]}, {"public": ["/open"]}], ids=str)
async def test_a_scope_of_another_type_gets_nowhere(options: dict[str, Any]) -> None:
    """The rules know http and websocket; an app may serve what else comes, unguarded."""
    reached: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["type"])

    scope = {**http_scope("/api"), "type": "webtransport"}
    nothing: Any = None
    with pytest.raises(NotImplementedError, match="webtransport"):
        await XunaMiddleware(app, gate, **options)(scope, nothing, nothing)
    assert reached == []
    await XunaMiddleware(app, gate)(scope, nothing, nothing)
    assert reached == ["webtransport"]


async def test_protecting_everything() -> None:
    """`protect=["/"]` leaves nothing open."""
    guarded = XunaMiddleware(echo_app, gate, protect=["/"])
    for path in (*PROTECTED, *AMBIGUOUS, *OPEN):
        raw = path.encode("utf-8", "surrogatepass")
        assert (await ask(guarded, path, raw_path=raw)).status in (400, 401), path


# -- public=[…] -----------------------------------------------------------------------------------

PUBLIC: Final = ["/", "/open", "/static", "/Über uns"]


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/open", "/open/", "/open/x/y", "/open/a b", "/open/café", "/open/a%2Fb"),
        *("/static/app.min.js", "/static//x", "/open/;x", "/open/api.json", "/Über uns/wir"),
    ],
)
async def test_public_paths_are_open(path: str) -> None:
    """What is listed is open with all beneath it."""
    assert await status(path, public=PUBLIC) == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/x", "/opening", "/Open", "/OPEN/x", "/open;x", "/open.json", "//open", "/x/open"),
        *("/%6fpen", "/opened", "/ｏpen", "/static.js", "/über uns", "//"),
        *("/sub/open", "/op%65n", "/open%3Bx"),
    ],
)
async def test_everything_else_is_protected(path: str) -> None:
    """A path is public only if every reading of it is, letter case and all."""
    assert await status(path, public=PUBLIC) == 401


@pytest.mark.parametrize(
    ("path", "root_path", "raw", "wanted"),
    [
        ("/sub/open/x", "/sub", None, 200),
        ("/sub/open/sub.js", "/sub", None, 200),
        ("/open", "/sub", None, 200),
        ("/sub", "/sub", None, 200),
        ("/secret/open", "", None, 401),
        ("/open/sub/secret", "/sub", None, 401),
        ("/sub/sub/open", "/sub", None, 401),
        ("/open/x", "", b"/mounted/open/x", 200),
        ("/open/x/", "", b"/mounted/open/x", 200),
        ("/open/x", "", b"/open/../secret", 400),
        ("/open/x", "", b"/secret", 401),
        ("/open/x", "", b"/secret/y", 401),
    ],
)
async def test_public_with_root_paths_and_mounts(
    path: str,
    root_path: str,
    raw: bytes | None,
    wanted: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A path that was stripped by a mount is public by what is left; another `raw_path` is not."""
    monkeypatch.delitem(sys.modules, "litestar", raising=False)
    assert await status(path, root_path=root_path, raw=raw, public=PUBLIC) == wanted


@pytest.mark.parametrize(
    ("path", "root_path"),
    [
        *(
            ("/x//api", "//"),
            ("/x//api", "/x/"),
            ("/xa/api", "a/"),
            ("/x/api", "x"),
        ),
        *(
            ("/\u0301/api", "\u0301"),
            ("/x/api", "/\u0301"),
            ("/é/api", "/é"),
            ("/E\u0301api", "/é"),
        ),
    ],
)
async def test_a_root_path_that_a_stranger_wrote(path: str, root_path: str) -> None:
    """daphne takes it from a header: whatever some framework cuts off, the rest is looked at."""
    assert await status(path, root_path=root_path) in (400, 401)


@pytest.mark.parametrize(
    "root_path", ["/x\0", "/x\\", "/" + "é" * 300, "/" + "x" * 5_000, "/\ud800"]
)
async def test_a_root_path_that_nobody_reads(root_path: str) -> None:
    """An odd root path makes every path ambiguous."""
    assert await status("/x", root_path=root_path) == 400


class Holder:
    """Hold an app in some way, and hand requests on to another one."""

    def __init__(self, **held: Any) -> None:
        vars(self).update(held)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await echo_app(scope, receive, send)


def enclosed(app: Any) -> Any:
    async def around(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return around


HOLDERS: Final[dict[str, Callable[[Any], Any]]] = {
    "a middleware": lambda app: Holder(app=app),
    "a middleware with another name for it": lambda app: Holder(_inner=app),
    "a route of a router": lambda app: Holder(routes=deque([Holder(app=app)])),
    "a function": lambda app: Holder(handler=enclosed(app)),
}


@pytest.mark.parametrize("name", HOLDERS)
async def test_root_path_of_an_app_within(name: str) -> None:
    """FastAPI's own, wherever it is held, and also where it is set after it was wrapped."""
    inner = FastAPI()
    guarded = XunaMiddleware(HOLDERS[name](inner), gate, protect=["/api"])
    inner.root_path = "/of/its/own"
    assert (await ask(guarded, "/of/its/own/api")).status == 401
    assert (await ask(guarded, "/of/another/api")).status != 401
    closed = XunaMiddleware(HOLDERS[name](inner), gate, public=["/of"])
    assert (await ask(closed, "/of/its/own/secret")).status == 401
    both = XunaMiddleware(HOLDERS[name](inner), gate, public=["/of/its/own/x", "/x"])
    assert (await ask(both, "/of/its/own/x")).status != 401


@pytest.mark.parametrize("name", HOLDERS)
@pytest.mark.parametrize("is_made_first", [True, False], ids=["app first", "gate first"])
async def test_root_path_of_an_app_that_is_frozen(name: str, is_made_first: bool) -> None:
    """gc.freeze(), as before workers are forked, hides objects from the gc module."""
    around, root_path = Holder(), f"/{name.replace(' ', '-')}/{is_made_first}"
    inner = rooted(root_path) if is_made_first else None
    guarded = XunaMiddleware(around, gate, protect=["/api"])
    vars(around)["held"] = HOLDERS[name](inner or rooted(root_path))
    gc.freeze()
    try:
        late = XunaMiddleware(around, gate, protect=["/api"])
        for one in (guarded, late):
            assert (await ask(one, f"{root_path}/api")).status == 401
            assert (await ask(one, "/of/another/api")).status == 200
    finally:
        gc.unfreeze()


async def test_an_app_that_a_function_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler may hold an app by the name of a module's variable alone."""
    monkeypatch.setitem(globals(), "named", rooted("/by/name"))

    async def around(scope: Any, receive: Any, send: Any) -> None:
        async def within() -> None:
            await named(scope, receive, send)  # type: ignore[name-defined]  # noqa: F821

        await within()

    gc.freeze()
    try:
        late = XunaMiddleware(around, gate, protect=["/api"])
        assert (await ask(late, "/by/name/api")).status == 401
    finally:
        gc.unfreeze()


def rooted(root_path: str) -> FastAPI:
    app = FastAPI()
    app.root_path = root_path
    return app


# -- Patterns that are searched for ---------------------------------------------------------------


@pytest.fixture
def django() -> Iterator[Callable[[bool], Any]]:
    """Django with patterns that are searched for, at each level, and some that only look so."""
    from django.conf import settings
    from django.urls import clear_url_caches, get_resolver, include, path, re_path

    def view(request: Any, **_: Any) -> None:
        pass

    searched = [
        re_path(r"api/data", view),
        re_path(r"v1/", include([re_path(r"keys/?$", view)])),
        path("v2/", include([re_path(r"(?i)admin/", view)])),
        re_path(r"^old/|new/", view),
        re_path(r"report", view),
    ]
    anchored = [
        *(re_path(r"^open/", view), re_path(r"(?i)^open2/", view), re_path(r"\Aopen3/", view)),
        *(re_path(r"(?:^a/|^b/)x", view), re_path(r"(?P<rest>.*)$", view), re_path("", view)),
    ]
    with django_configured():
        urls: Any = sys.modules[settings.ROOT_URLCONF]

        def serve(is_searched: bool) -> Any:
            urls.urlpatterns = searched if is_searched else anchored
            clear_url_caches()
            return get_resolver().resolve

        yield serve


@pytest.mark.parametrize("whole_segments", [False, True])
@pytest.mark.parametrize(
    "path",
    [
        *("/open/api/data", "/openapi/data.png", "/x/v1/keys", "/v2/x/admin/", "/v2/x/ADMIN/"),
        *("/open/x%2Fapi/data", "/old/x", "/x/new/", "/x y/api/data", "/x/report"),
    ],
)
async def test_patterns_of_django_that_are_searched_for(
    path: str, whole_segments: bool, django: Any
) -> None:
    """Without ^, re_path() matches anywhere: what is protected stays so wherever it stands."""
    protect = ["/api", "/v1", "/v2/admin", "/old", "/new", "/all/report"]
    assert django(True)(unquote(path)), "Django serves it"
    raw = path.replace(" ", "%20").encode()
    options: dict[str, Any] = {"protect": protect, "whole_segments": whole_segments}
    assert await status(unquote(path), raw=raw, **options) == 401
    for fine in ("/x", "/v3/admin", "/v2/x", "/x/admin.js"):
        assert await status(fine, **options) == 200
    public = ["/open", "/x", "/x y", "/v2/x"]
    assert await status(unquote(path), raw=raw, public=public) == 401


async def test_public_paths_beside_patterns_that_are_searched_for(
    django: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What is public is open where no such pattern is found behind it; a WARNING names each."""
    django(True)
    app = XunaMiddleware(echo_app, gate, public=["/open", "/v1/keys", "/v2/admin", "/report"])
    for path in ("/v1/keys", "/v2/admin/", "/report/x", "/open/x"):
        assert (await ask(app, path)).status == 200
    for path in ("/open/api/data", "/report/v1/keys", "/v2/admin/new/"):
        assert (await ask(app, path)).status == 401
    assert "re_path('api/data') doesn't begin with ^" in caplog.text
    assert caplog.text.count("begin each of") == 5


async def test_patterns_of_django_that_begin_at_the_beginning(
    django: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing more is protected, and nothing is logged, where all patterns are anchored."""
    django(False)
    assert await status("/open/api/data") == 200
    assert "re_path" not in caplog.text


@pytest.fixture
def serves(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], bool]]:
    """Django with a prefix for each language but the default one, also within another path."""
    from django.conf import settings
    from django.conf.urls.i18n import i18n_patterns
    from django.urls import Resolver404, clear_url_caches, get_resolver, path

    def view(request: Any) -> None:
        pass

    def serves(path: str, language: str) -> bool:
        monkeypatch.setattr("django.urls.resolvers.get_language", lambda: language)
        try:
            return bool(get_resolver().resolve(path))
        except Resolver404:
            return False

    with django_configured():
        paths = i18n_patterns(path("admin/", view), prefix_default_language=False)
        urls: Any = sys.modules[settings.ROOT_URLCONF]
        urls.urlpatterns = [path("site/", (paths, None, None)), *paths]
        clear_url_caches()
        yield serves


@pytest.mark.parametrize("whole_segments", [False, True])
@pytest.mark.parametrize("language", ["de", "pt-br", "zh-hans"])
async def test_paths_of_django_in_each_language(
    language: str, whole_segments: bool, serves: Callable[[str, str], bool]
) -> None:
    """i18n_patterns() serve /admin as /de/admin, too: one name protects all of them."""
    options: dict[str, Any] = {"protect": ["/admin"], "whole_segments": whole_segments}
    path = f"/{language}/admin/"
    assert serves(path, language)
    assert serves("/admin/", "en-us")
    for protected in (path, path.upper(), "/admin/"):
        assert await status(protected, **options) == 401
    assert await status("/x", raw=f"/{language}%2Fadmin/".encode(), **options) == 401
    for fine in ("/de/open/", "/de/list:1/", "/x/admin/", "/de/x-admin/", "/deadmin/", "/d/admin/"):
        assert await status(fine, **options) == 200
    assert await status("/de/fr" * 9, **options) == 400, "too many to be compared"
    public = ["/open", "/de/open"]
    for name, wanted in (("/open/", 200), ("/de/open/", 200), ("/fr/open/", 401), (path, 401)):
        assert await status(name, public=public) == wanted


async def test_languages_of_django_within_another_path(serves: Callable[[str, str], bool]) -> None:
    """include() refuses i18n_patterns(), but the URLs of an admin site are included without it."""
    from django.conf import settings

    assert serves("/site/de/admin/", "de")
    urls: Any = sys.modules[settings.ROOT_URLCONF]
    del urls.urlpatterns[1:]
    assert await status("/site/de/admin/", protect=["/site/admin"]) == 401


async def test_patterns_of_django_that_cannot_be_loaded(
    django: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then any path may be any other."""
    from django.conf import settings

    django(True)
    monkeypatch.setattr(settings, "ROOT_URLCONF", "no_such_module_of_urls")
    assert await status("/x") == await status("/") == 401
    assert await status("/open/x", public=["/open"]) == 401
    assert "ROOT_URLCONF can't be loaded" in caplog.text


async def test_patterns_of_django_that_can_be_loaded_later(
    django: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URLconf that needs a database which isn't there yet; it is tried again once a second."""
    from django.conf import settings

    django(True)
    guarded = XunaMiddleware(echo_app, gate, protect=["/api"])
    with monkeypatch.context() as broken:
        broken.setattr(settings, "ROOT_URLCONF", "no_such_module_of_urls")
        assert (await ask(guarded, "/x")).status == 401
    assert (await ask(guarded, "/x")).status == 401, "not again within a second"
    monkeypatch.setattr("xuna_middleware.web.app_root_paths._SECONDS_BETWEEN_SEARCHES", 0.0)
    assert (await ask(guarded, "/x")).status == 200
    assert (await ask(guarded, "/x/api/data")).status == 401


async def test_patterns_of_django_that_are_read_from_a_database(
    django: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django reads a database in no thread that has an event loop."""
    from django.conf import settings
    from django.urls import re_path
    from django.utils.asyncio import async_unsafe

    read = async_unsafe(lambda: [re_path("api/data", lambda request: None)])
    kind = type("Reading", (ModuleType,), {"urlpatterns": property(lambda self: read())})
    monkeypatch.setitem(sys.modules, "urls_of_pages", kind("urls_of_pages"))
    django(True)
    monkeypatch.setattr(settings, "ROOT_URLCONF", "urls_of_pages")
    guarded = XunaMiddleware(echo_app, gate, protect=["/api"])
    answers = await asyncio.gather(*(ask(guarded, path) for path in ("/x", "/x", "/x/api/data")))
    assert [answer.status for answer in answers] == [200, 200, 401]


def test_patterns_are_held_against_protected_paths_once() -> None:
    """Not anew for each path that is asked for; other patterns are looked at anew."""

    class BoundLimit:
        searches = 0

        def search(self, text: str) -> object:
            BoundLimit.searches += 1
            return re.search("data", text)

    searched: Any = (BoundLimit(),)
    rules = ProtectedPaths([f"/{number}/data" for number in range(30)])
    for path in ("/a", "/b", "/c"):
        assert rules.classify(Target(path, searched=searched)) is Ground.OPEN
    assert BoundLimit.searches == 1 + 3
    assert rules.classify(Target("/x/data", searched=searched)) is Ground.PROTECTED
    others = (re.compile("nothing"),)
    assert rules.classify(Target("/x/data", searched=others)) is Ground.OPEN
    assert rules.classify(Target("/x/data", searched=searched)) is Ground.PROTECTED


async def test_patterns_of_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its URLRouter takes Django's patterns, wherever it is held."""
    from django.urls import re_path

    class URLRouter(Holder):
        __module__ = "channels.routing"

    module: Any = ModuleType("channels.routing")
    module.URLRouter = URLRouter
    monkeypatch.setitem(sys.modules, "channels.routing", module)
    app = Holder(inner=URLRouter(routes=[re_path(r"ws/data", lambda request: None)]))
    guarded = XunaMiddleware(app, gate, protect=["/ws"])
    denial: dict[str, Any] = {"websocket.http.response": {}}
    sent = await knock(guarded, "/open/ws/data", extensions=denial)
    assert one_response(sent, "websocket.http.response").status == 401


@pytest.mark.parametrize("root_path", ["", "C:\\app", None, 7])
def test_what_is_no_root_path(root_path: Any) -> None:
    """What no request can hold is not looked for."""
    inner = FastAPI()
    inner.root_path = root_path
    assert own_root_path(inner) == ""
    assert root_path not in AppsInProcess(None).root_paths()


def test_the_folder_of_a_quart_app_is_no_root_path() -> None:
    """Quart and Flask call the folder of their package so."""
    from quart import Quart

    app = Quart("tests")
    assert own_root_path(app) == ""
    assert str(app.root_path) not in AppsInProcess(None).root_paths()


def test_an_app_that_is_a_proxy_for_nothing() -> None:
    """What an object does when it is looked at harms nobody."""

    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    assert own_root_path(Odd()) == ""


@pytest.mark.parametrize("command", ["uvicorn", "gunicorn", "hypercorn", "granian"])
async def test_daphne_that_is_loaded_and_does_not_serve(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django loads it where it is one of INSTALLED_APPS, whichever server was started."""
    monkeypatch.setitem(sys.modules, "daphne.server", sys)
    monkeypatch.delitem(sys.modules, "litestar", raising=False)
    for started in (f"/usr/bin/{command}", f"/site-packages/{command}/__main__.py"):
        monkeypatch.setattr(sys, "argv", [started, "app:app"])
        assert await status("/srv/open", root_path="/srv", public=PUBLIC) == 200
    monkeypatch.setattr(sys, "argv", ["/usr/bin/daphne", "app:app"])
    assert await status("/srv/open", root_path="/srv", public=PUBLIC) == 401


async def test_public_with_a_strangers_root_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server is daphne, no root path makes a path public: Falcon and Sanic ignore it."""
    monkeypatch.delitem(sys.modules, "daphne.server", raising=False)
    assert await status("/secret/open", root_path="/secret", public=PUBLIC) == 200
    monkeypatch.setitem(sys.modules, "daphne.server", sys)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/daphne", "app:app"])
    assert await status("/secret/open", root_path="/secret", public=PUBLIC) == 401
    for root_path in ("/open", "/op", "/open/", "n"):
        assert await status("/open/api/secret", root_path=root_path, public=PUBLIC) == 401
    assert await status("/open/x", root_path="/other", public=PUBLIC) == 200


@pytest.mark.parametrize("root_path", ["/p/", "p", "/p//"])
async def test_public_with_an_unusual_root_path(root_path: str) -> None:
    """Frameworks don't agree on what they remove, so a path is public with it and without."""
    assert await status("/p/open", root_path=root_path, public=PUBLIC) == 401


async def test_public_where_litestar_may_cut_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mounts cut the root path off wherever it stands, so it may stand there once."""
    monkeypatch.delitem(sys.modules, "litestar", raising=False)
    path = "/srv/open/srvsecret"
    assert await status(path, root_path="/srv", public=PUBLIC) == 200
    monkeypatch.setitem(sys.modules, "litestar", sys)
    assert await status(path, root_path="/srv", public=PUBLIC) == 401
    assert await status("/srv/open/x", root_path="/srv", public=PUBLIC) == 200


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/a/m/static/a/secret", None),
        ("/a/m/static/x/m/secret", None),
        ("/a/m/static/x y/a/secret", b"/a/m/static/x%20y/a/secret"),
        ("/a/m/static/%61/secret", b"/a/m/static/%2561/secret"),
        ("/a/m/static/x/secret", b"/a/m/static/x/a/secret"),
        ("/a/m/static/apple", None),
    ],
)
async def test_public_where_a_mounts_name_stands_again(
    path: str, raw: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Litestar removes all up to the name of a mount around it: the rest is beneath /a/m."""
    monkeypatch.setitem(sys.modules, "litestar", sys)
    assert await status(path, raw=raw, public=["/a/m/static"]) == 401
    for fine in ("/a/m/static", "/a/m/static/x/static/y", "/a/m/static/x-a/b"):
        assert await status(fine, public=["/a/m/static"]) == 200
    assert await status("/static/a/static", public=["/static"]) == 200
    monkeypatch.delitem(sys.modules, "litestar")
    assert await status(path, raw=raw, public=["/a/m/static"]) in (200, 401)
    assert await status("/a/m/static/a/x", public=["/a/m/static"]) == 200


@pytest.mark.parametrize("public", ["/files/api/files", "/files/api/filesadmin", "/a/x/a/y"])
async def test_public_paths_that_repeat_a_mounts_name(
    public: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Litestar may remove all up to the second one: nothing there is open, and the log says why."""
    monkeypatch.delitem(sys.modules, "litestar", raising=False)
    assert await status(public + "/admin", public=[public]) == 200
    monkeypatch.setitem(sys.modules, "litestar", sys)
    events: list[Event] = []
    noted = make_gate(on_event=[_immediate(events.append)])
    guarded = XunaMiddleware(echo_app, noted, public=[public])
    for path in (public, public + "/admin", "/x"):
        assert (await ask(guarded, path)).status == 401
    causes = [str(event.cause) for event in events]
    assert ["comes again in it or behind it" in cause for cause in causes] == [True, True, False]


def litestar(*handlers: Any) -> Any:
    """An app of Litestar's that serves anything beneath /app/assets, and other handlers."""
    from litestar import Litestar, get

    @get("/app/assets/{rest:path}")
    async def asset() -> str:
        return "an asset"

    return Litestar([asset, *handlers], openapi_config=None, logging_config=None)


@pytest.mark.parametrize("rest", ["app.js", "js/app.js", "app-3f2a.css", "img/apple.png"])
@pytest.mark.parametrize("root_path", ["", "/srv"])
async def test_public_of_litestar_without_mounts(rest: str, root_path: str) -> None:
    """It removes the server's root path alone: a public path's words may stand behind it."""
    guarded = XunaMiddleware(litestar(), gate, public=["/app/assets"])
    for path, wanted in ((f"/app/assets/{rest}", 200), (f"/app/{rest}", 401)):
        assert (await ask(guarded, root_path + path, root_path=root_path)).status == wanted
    if root_path:
        path = f"/app/assets{root_path}/app/assets/x"
        assert (await ask(guarded, path, root_path=root_path)).status == 200
        path = f"/app/assets{root_path}/app/x"
        assert (await ask(guarded, path, root_path=root_path)).status == 401


async def test_public_of_litestar_with_what_may_cut_again() -> None:
    """A mount, and a handler that is an ASGI app, may hold what removes a root path once more."""
    from litestar import asgi

    @asgi("/m", is_mount=True, copy_scope=True)
    async def mount(scope: Any, receive: Any, send: Any) -> None:
        await echo_app(scope, receive, send)

    @asgi("/m/{rest:path}", copy_scope=True)
    async def handler(scope: Any, receive: Any, send: Any) -> None:
        await echo_app(scope, receive, send)

    for handlers in ((mount,), (handler,)):
        guarded = XunaMiddleware(litestar(*handlers), gate, public=["/app/assets"])
        assert (await ask(guarded, "/app/assets/app.js")).status == 401
        assert (await ask(guarded, "/app/assets/main.js")).status == 200


@pytest.mark.parametrize(
    ("name", "raw", "wanted"),
    [
        *(("/é", b"/%C3%A9/x", 200), ("/é", b"/%c3%a9", 200), ("/é", "/é/x".encode(), 200)),
        *(("/my files", b"/my%20files/x", 200), ("/a+b", b"/a%2Bb", 200), ("/a+b", b"/a+b", 200)),
        *(("/é", b"/%25C3%25A9", 401), ("/éa", b"/%C3%A9%61", 401), ("/é", b"/%C3%89", 401)),
        *(("/é", b"/E%CC%81", 401), ("/é", b"/%C3%A9x", 401), ("/é", b"/%C3%A9%2Fx", 401)),
    ],
)
async def test_public_paths_that_raw_path_has_to_escape(name: str, raw: bytes, wanted: int) -> None:
    """A name outside plain ASCII comes escaped in `raw_path`; what needs no escape has none."""
    path = unquote_to_bytes(raw).decode()
    assert await status(path, raw=raw, public=[name]) == wanted


async def test_an_empty_list_of_public_paths() -> None:
    """`public=[]` protects all but the gate's own routes."""
    for path in ("/", "/x", "/api"):
        assert await status(path, public=[]) == 401


# -- Options --------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["protect", "public"])
@pytest.mark.parametrize(
    "path",
    [
        *("api", "", "/api?x", "/api%20", "//api", "/a/../b", "/;", "/a\\b", "/a/ b", "/a\t"),
        *("/\u0301", "/¨admin", "/／x", "/´x", "/a/˜x", "/a´/x"),
    ],
)
def test_a_configured_path_has_one_reading(option: str, path: str) -> None:
    """Or it is refused when it is configured, in words that name the option."""
    with pytest.raises(ConfigurationError, match=option):
        XunaMiddleware(echo_app, gate, **{option: [path]})  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["protect", "public"])
@pytest.mark.parametrize(
    "path",
    ["/api/*", "/users/{id}", "/users/<id>", "/users/<int:id>/x", "/users/:id", "/api$", "/*"],
)
def test_a_configured_path_is_no_pattern(option: str, path: str) -> None:
    """It would be taken to the letter and cover nothing; the error says what to write."""
    with pytest.raises(ConfigurationError, match=rf'(?s){option}.*no pattern.*"/users"'):
        XunaMiddleware(echo_app, gate, **{option: [path]})  # type: ignore[arg-type]


def test_every_name_that_is_taken_covers_itself(folded: Mapping[str, str]) -> None:
    """For each character that folds to no mere letter, at a segment's beginning and its end."""
    taken = 0
    for character, fold_of_it in folded.items():
        if character == fold_of_it or fold_of_it.isalnum():
            continue
        for path in (f"/{character}x", f"/x{character}/y"):
            try:
                rules = ProtectedPaths([path])
            except ConfigurationError:
                continue
            assert rules.classify(Target(path)) is Ground.PROTECTED, path
            taken += 1
    assert taken > 2_000


@pytest.mark.parametrize("option", ["protect", "public"])
def test_options_are_lists(option: str) -> None:
    """A single text would be read letter by letter."""
    with pytest.raises(ConfigurationError, match="list"):
        XunaMiddleware(echo_app, gate, **{option: "/api"})  # type: ignore[arg-type]


def test_protect_or_public() -> None:
    """Both at once would leave it open which one decides."""
    with pytest.raises(ConfigurationError, match="not both"):
        XunaMiddleware(echo_app, gate, protect=["/api"], public=["/open"])


async def test_configured_paths_outside_ascii() -> None:
    """An app may name its paths in any language, with spaces and dots in it."""
    for name in ("/übersicht", "/my files", "/v1.2", "/日本"):
        for path in (name, name.upper(), name + "/x", name + ".json"):
            assert await status(path, protect=[name]) == 401
        assert await status("/x" + name, protect=[name]) == 200
        assert await status(name + "/x", public=[name]) == 200


# -- The fold -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folded() -> Mapping[str, str]:
    """Every character of Unicode, and what it counts as."""
    codes = (code for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    return {character: fold(character) for character in map(chr, codes)}


@pytest.mark.parametrize(
    "convert",
    [
        *(str.lower, str.upper, str.casefold, str.title, str.swapcase, fold),
        *(
            pytest.param(lambda text, form=form: unicodedata.normalize(form, text), id=form)
            for form in ("NFC", "NFD", "NFKC", "NFKD")
        ),
    ],
)
def test_fold_is_above_every_conversion(
    convert: Callable[[str], str], folded: Mapping[str, str]
) -> None:
    """For each character of Unicode: two spellings that a conversion makes one are one here."""
    converted = {c: other for c in folded if (other := convert(c)) != c}
    assert converted
    assert [c for c, other in converted.items() if fold(other) != folded[c]] == []


def test_fold_is_above_case_insensitive_patterns(folded: Mapping[str, str]) -> None:
    """For each character that `(?i)` takes for a letter of ASCII, as Django's routes may."""
    text = "".join(folded)
    for letter in string.ascii_letters:
        assert {fold(found) for found in re.findall(letter, text, re.IGNORECASE)} == {fold(letter)}
    assert all(fold(digit) in string.digits for digit in re.findall(r"\d", text))


@given(st.text(), st.text())
def test_fold_works_by_parts(left: str, right: str) -> None:
    """So a segment folds alike within every path, but for the order of marks, which are dropped."""
    assert fold(left + right) == fold(left) + fold(right)


# -- Preflights -----------------------------------------------------------------------------------

ORIGIN: Final = "https://www.acme.com"
PREFLIGHT: Final = [
    (b"origin", ORIGIN.encode()),
    (b"access-control-request-method", b"PUT"),
    (b"access-control-request-headers", b"authorization,x-own"),
]


class Spy:
    """An app that does something for whatever method comes, as a bare ASGI app may."""

    def __init__(self, *headers: tuple[bytes, bytes]) -> None:
        self.bodies: list[bytes] = []
        self.headers = headers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.bodies.append((await receive())["body"])
        headers = [(b"content-type", b"text/plain"), (b"Set-Cookie", b"a=b"), *self.headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"secret", "more_body": True})
        await send({"type": "http.response.body", "body": b"data"})


async def preflight(guarded: XunaMiddleware, path: str = "/api/x", **further: Any) -> Answer:
    headers = further.pop("headers", PREFLIGHT)
    return await ask(guarded, path, method="OPTIONS", headers=headers, body=b"evil", **further)


async def test_a_preflight_never_runs_the_app() -> None:
    """Neither from a listed origin nor from another: the gate answers by itself."""
    spy = Spy()
    listed = XunaMiddleware(spy, make_gate(cors_origins=[ORIGIN]), protect=["/api"])
    answer = await preflight(listed)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.header("access-control-allow-origin") == ORIGIN
    assert "PUT" in (answer.header("access-control-allow-methods") or "")
    assert answer.header("access-control-allow-headers") == "authorization,x-own"
    other = [(b"origin", b"https://evil.example"), *PREFLIGHT[1:]]
    refused = await preflight(listed, headers=other)
    assert (refused.status, refused.json()["code"]) == (403, "cross_site")
    assert refused.header("access-control-allow-origin") is None
    unlisted = XunaMiddleware(spy, gate, protect=["/api"])
    assert (await preflight(unlisted)).status == 403
    assert spy.bodies == []


@pytest.mark.parametrize("preflight_by", ["gate", "app"])
async def test_what_only_looks_like_a_preflight(preflight_by: Any) -> None:
    """Without both headers, or with one twice, OPTIONS is a request like others: 401."""
    spy = Spy()
    guarded = XunaMiddleware(spy, gate, protect=["/api"], preflight=preflight_by)
    for headers in ([], PREFLIGHT[:1], PREFLIGHT[1:], [*PREFLIGHT, PREFLIGHT[0]]):
        assert (await preflight(guarded, headers=headers)).status == 401
    assert (await preflight(guarded, "/x/../api")).status == 400
    assert (await ask(guarded, "/api", headers=PREFLIGHT)).status == 401
    assert spy.bodies == []


async def test_the_app_may_answer_preflights_where_the_operator_says_so() -> None:
    """Then nothing comes back but a status and CORS headers, and no body goes in."""
    spy = Spy((b"Access-Control-Allow-Origin", b"*"), (b"Vary", b"Origin"))
    guarded = XunaMiddleware(spy, gate, protect=["/api"], preflight="app")
    answer = await preflight(guarded)
    assert (answer.status, answer.body) == (200, b"")
    assert sorted(name for name, _ in answer.headers) == [
        b"access-control-allow-origin",
        b"content-length",
        b"vary",
    ]
    assert spy.bodies == [b""]


async def test_a_preflight_brings_the_app_nothing_else() -> None:
    """No header that lets a middleware take it for another method, no credentials, no query."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["method"], scope["query_string"], scope["headers"]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    of_proxy = [
        *((b"forwarded", b"proto=https"), (b"x-forwarded-for", b"203.0.113.7")),
        *((b"x-forwarded-host", b"www.acme.com"), (b"x-forwarded-proto", b"https")),
    ]
    asking = [(b"host", b"acme.com"), *of_proxy, *PREFLIGHT]
    others = [
        (b"x-http-method-override", b"DELETE"),
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"authorization", b"Bearer x"),
        (b"cookie", b"session=1"),
        (b"x-forwarded-user", b"boss"),
    ]
    guarded = XunaMiddleware(app, gate, protect=["/api"], preflight="app")
    answer = await preflight(guarded, headers=[*others, *asking], query=b"_method=DELETE")
    assert answer.status == 204
    assert seen == [("OPTIONS", b"", asking)]


async def test_an_app_that_waits_for_the_client_to_leave() -> None:
    """Django and streaming responses do, in a loop: they wait, and hold up nobody else."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
        leaving = asyncio.create_task(receive())
        await asyncio.sleep(0)
        assert not leaving.done()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})
        left.set()
        assert (await leaving)["type"] == "http.disconnect"

    left = asyncio.Event()
    given = iter([{"type": "http.request", "body": b"evil", "more_body": False}])

    async def receive() -> Any:
        for message in given:
            return message
        await left.wait()
        return {"type": "http.disconnect"}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    guarded = XunaMiddleware(app, gate, protect=["/api"], preflight="app")
    scope = http_scope("/api", method="OPTIONS", headers=PREFLIGHT)
    async with asyncio.timeout(5):
        await guarded(scope, receive, send)
    assert one_response(sent).status == 204


@pytest.mark.parametrize("stops", [True, False])
def test_app_that_does_not_answer_a_preflight(
    stops: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Is cancelled after five seconds, and nothing of what it says later is sent."""
    ended: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if stops:
                ended.append("cancelled")
                raise
            await asyncio.sleep(60)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        except OSError:
            ended.append("refused")

    async def story() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        guarded = XunaMiddleware(app, make_gate(), protect=["/api"], preflight="app")
        answer = await preflight(guarded)
        assert (answer.status, answer.json()["status"]) == (503, 503)
        assert loop.time() - began <= 6.1
        await asyncio.sleep(7200)
        assert ended == (["cancelled"] if stops else ["refused"])

    in_fast_time(story())
    assert 'preflight="gate"' in caplog.text


async def test_app_that_fails_at_a_preflight() -> None:
    """Its error is the server's to show, as without the gate."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError("the app's own")

    with pytest.raises(ZeroDivisionError):
        await preflight(XunaMiddleware(app, gate, protect=["/api"], preflight="app"))


async def test_the_log_says_how_to_allow_a_preflight(caplog: pytest.LogCaptureFixture) -> None:
    """Both ways are named: the gate's origins, and the app's own CORS."""
    await preflight(XunaMiddleware(Spy(), make_gate(), protect=["/api"]))
    assert "cors_origins" in caplog.text
    assert 'preflight="app"' in caplog.text


def test_preflight_is_a_word() -> None:
    """Anything else is refused when the middleware is built."""
    with pytest.raises(ConfigurationError, match="preflight"):
        XunaMiddleware(echo_app, gate, preflight="both")  # type: ignore[arg-type]


async def test_a_listed_origin_can_read_protected_answers() -> None:
    """The gate said yes to its preflight; what the app says of CORS by itself stays."""
    listed = make_gate(cors_origins=[ORIGIN])
    headers = [*bearer(RSA.token()), (b"origin", ORIGIN.encode())]
    guarded = XunaMiddleware(Spy(), listed, protect=["/api"])
    answer = await ask(guarded, "/api", headers=headers)
    assert answer.header("access-control-allow-origin") == ORIGIN
    own = XunaMiddleware(Spy((b"Access-Control-Allow-Origin", b"*")), listed, protect=["/api"])
    answer = await ask(own, "/api", headers=headers)
    assert [v for k, v in answer.headers if k.lower() == b"access-control-allow-origin"] == [b"*"]
    other = [*bearer(RSA.token()), (b"origin", b"https://evil.example")]
    answer = await ask(guarded, "/api", headers=other)
    assert answer.header("access-control-allow-origin") is None


async def test_identity_reaches_the_app_on_public_lists() -> None:
    """A verified caller passes with `public`, too, and is known there."""
    seen: list[Identity | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope.get("user"))
        await echo_app(scope, receive, send)

    guarded = XunaMiddleware(app, gate, public=["/open"])
    await ask(guarded, "/private", headers=bearer(RSA.token()))
    await ask(guarded, "/open", headers=bearer(RSA.token()))
    assert [user is not None for user in seen] == [True, False]


# -- Values ---------------------------------------------------------------------------------------


def test_rules_without_a_server() -> None:
    """The rules are values: the same question has the same answer, whoever asks."""
    for rules in (ProtectedPaths(["/api"]), PublicPaths(["/open"])):
        assert rules.classify(Target("/api")) is Ground.PROTECTED
        assert rules.classify(Target("/open")) is Ground.OPEN
        assert rules.classify(Target("/open/../api")) is Ground.AMBIGUOUS


@given(st.text(alphabet="%0aAfFé/xC3E297日\ufffd\x80"))
def test_unescaped_is_what_urllib_does(text: str) -> None:
    """Broken escapes, half characters and all; only quicker."""
    assert _unescaped(text) == unquote(text)


def test_scopes_of_this_file_are_servers() -> None:
    """The control: a scope here has the `raw_path` that a server makes."""
    assert http_scope("/é")["raw_path"] == "/é".encode()
