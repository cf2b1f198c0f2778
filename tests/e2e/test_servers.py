"""Real servers: what a client sees on the wire, and how the gate lives and dies with them."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from .servers import PATIENCE, SERVERS, TOKEN, Running, ServerDiedError, running

BEARER: Final = {"Authorization": f"Bearer {TOKEN}"}
#: One of each, where the WebSocket implementation makes no difference.
EACH: Final = ("uvicorn", "hypercorn", "granian")
WITHOUT_LIFESPAN: Final = ("uvicorn", "granian")


@pytest.fixture(scope="module", params=list(SERVERS))
def server(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Running]:
    with running(request.param, tmp_path_factory.mktemp("server")) as server:
        yield server


def get(server: Running, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.get(server.url + path, headers=headers, trust_env=False, timeout=20)


async def denial(server: Running, path: str, headers: dict[str, str] | None = None) -> Any:
    """Return the HTTP response that a WebSocket handshake got instead of an upgrade."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(ws(server, path), additional_headers=headers, proxy=None):
            pass
    return refused.value.response


def ws(server: Running, path: str) -> str:
    return f"ws://127.0.0.1:{server.port}{path}"


# -- On the wire ----------------------------------------------------------------------------------


def test_http(server: Running) -> None:
    """A pass for who is known, one whole 401 for who is not."""
    admitted = get(server, "/xuna/get-signed-url", BEARER)
    assert admitted.status_code == 200
    assert admitted.json()["signed_url"].startswith("wss://sandbox.invalid/")
    refused = get(server, "/xuna/get-signed-url")
    assert (refused.status_code, refused.json()["code"]) == (401, "not_authenticated")
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["xuna-gate-ref"]
    assert get(server, "/api/me", BEARER).text == "ada"
    assert get(server, "/api/me").status_code == 401


async def test_websocket(server: Running) -> None:
    """Who is known gets through to the app."""
    async with connect(ws(server, "/api/hello"), additional_headers=BEARER, proxy=None) as socket:
        assert await socket.recv() == "ada"


@pytest.mark.parametrize(
    ("path", "token", "status", "code", "challenge"),
    [
        ("/api/hello", None, 401, "not_authenticated", "Bearer"),
        ("/api/hello", "wrong", 401, "invalid_token", 'Bearer error="invalid_token"'),
        ("/api/nowhere", None, 401, "not_authenticated", "Bearer"),
        ("/xuna/get-signed-url", None, 404, "not_found", None),
        ("/xuna", TOKEN, 404, "not_found", None),
    ],
)
async def test_websocket_denial(
    server: Running, path: str, token: str | None, status: int, code: str, challenge: str | None
) -> None:
    """The client reads why: the status, its headers and the problem, before any upgrade."""
    headers = {"Authorization": f"Bearer {token}"} if token else None
    answer = await denial(server, path, headers)
    assert answer.status_code == status
    assert answer.headers.get("www-authenticate") == challenge
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert len(answer.headers["xuna-gate-ref"]) == 12
    assert f'"code":"{code}"'.encode() in answer.body


@pytest.mark.parametrize("name", EACH)
async def test_without_the_extension_it_is_a_403(name: str, tmp_path: Path) -> None:
    """A server that can't send a response to a handshake closes it, before any accept."""
    with running(name, tmp_path, app="without_denial") as server:
        answers = [await denial(server, path) for path in ("/api/hello", "/xuna/get-signed-url")]
        assert [answer.status_code for answer in answers] == [403, 403]
        assert get(server, "/xuna/get-signed-url").status_code == 401


# -- Life and death -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EACH)
def test_it_starts_and_ends_with_the_server(name: str, tmp_path: Path) -> None:
    """Started before anybody asks, ended once at a graceful stop, and no process is left."""
    with running(name, tmp_path) as server:
        assert get(server, "/elsewhere").status_code == 404
        assert server.noted() == ["started"]
        assert get(server, "/xuna/get-signed-url", BEARER).status_code == 200
    assert server.noted() == ["started", "ended"]
    assert server.is_gone()


@pytest.mark.parametrize("name", WITHOUT_LIFESPAN)
@pytest.mark.parametrize("app", ["app", "mounted"])
def test_lifespan_off(name: str, app: str, tmp_path: Path) -> None:
    """The first request starts it."""
    with running(name, tmp_path, app=app, lifespan=False) as server:
        assert server.noted() == []
        statuses = [get(server, "/xuna/get-signed-url", each).status_code for each in (BEARER, {})]
        assert statuses == [200, 401]
        assert server.noted() == ["started"]
    assert server.is_gone()


@pytest.mark.parametrize("name", EACH)
def test_mounted_with_lifespan_on(name: str, tmp_path: Path) -> None:
    """The server's lifespan ends at the outer app; the gate starts at its first request."""
    with running(name, tmp_path, app="mounted") as server:
        assert get(server, "/xuna/get-signed-url", BEARER).status_code == 200
        assert server.noted() == ["started"]
    assert server.is_gone()


@pytest.mark.parametrize("name", EACH)
def test_without_an_api_key_the_server_ends(name: str, tmp_path: Path) -> None:
    """It doesn't listen, and its log names the variable."""
    assert "XUNA_AI_API_KEY" in last_words(name, tmp_path)


def last_words(name: str, directory: Path) -> str:
    """Return what a server wrote that ends by itself, be it before it listens or after."""
    try:
        with running(name, directory, app="without_key") as server:
            server.process.wait(PATIENCE)
            return server.log.read_text(encoding="utf-8")
    except ServerDiedError as died:
        return str(died)


def test_no_log_holds_a_token(server: Running) -> None:
    """Neither the server's access log nor the gate's own lines."""
    assert get(server, "/xuna/get-signed-url", BEARER).status_code == 200
    assert TOKEN not in server.log.read_text(encoding="utf-8")


# -- Which path is meant --------------------------------------------------------------------------

#: Beneath which path a client reaches the app, by what each server does with its own option:
#: uvicorn puts the root before the path, hypercorn and granian leave the path as it came.
ROOTS: Final = [
    ("uvicorn", "app", ""),
    ("hypercorn", "app", "/p"),
    ("hypercorn", "app", ""),
    ("granian", "app", "/p"),
    ("granian", "app", ""),
    ("uvicorn", "mounted", ""),
    ("hypercorn", "mounted", "/p"),
    ("hypercorn", "mounted", ""),
    ("granian", "mounted", "/p"),
    ("granian", "mounted", ""),
]


@pytest.mark.parametrize(("name", "app", "beneath"), ROOTS)
def test_a_servers_own_root_path(name: str, app: str, beneath: str, tmp_path: Path) -> None:
    """The same answers beneath a proxy, whether it strips its prefix or not."""
    with running(name, tmp_path, app=app, root_path="/p") as server:
        address = f"{beneath}/xuna/get-signed-url"
        assert [get(server, address, each).status_code for each in (BEARER, {})] == [200, 401]
        if app == "app":
            guarded = [get(server, f"{beneath}/api/me", each) for each in (BEARER, {})]
            assert [answer.status_code for answer in guarded] == [200, 401]


#: Request targets as written on the request line (RFC 9112 section 3.2).
TARGETS: Final = (
    *("/api/me", "//api/me", "/api//me", "/%61pi/me", "/x/../api/me", "/api%2Fme", "/./api/me"),
    *("http://127.0.0.1/api/me", "http://x/api/me", "api/me", "%20/api/me", "x:/api/me"),
    *("*/api/me", "/papi/me", "/p/api/me", "/api;x/me", "/api/me%00", "%2Fapi/me"),
)


def ask_raw(server: Running, target: str) -> int:
    """Send a request line to the letter and return the status; 0 where there was no answer."""
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(request.encode("ascii"))
        line = connection.makefile("rb").readline().split()
    return int(line[1]) if len(line) > 1 else 0


@pytest.mark.parametrize("root_path", ["", "/p"])
@pytest.mark.parametrize("name", EACH)
def test_no_request_target_gets_around_the_gate(name: str, root_path: str, tmp_path: Path) -> None:
    """Quart reads absolute and odd targets generously; a stranger reaches nothing by them."""
    with running(name, tmp_path, app="quart", root_path=root_path) as server:
        through = [target for target in TARGETS if ask_raw(server, target) == 200]
        beneath = "/p" if root_path and name != "uvicorn" else ""
        assert get(server, f"{beneath}/api/me", BEARER).text == "reached"
    assert through == []
