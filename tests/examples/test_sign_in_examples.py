"""The examples whose callers come with a cookie or through a proxy, run as they stand."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fastapi_users.schemas import BaseUserCreate
from starlette.testclient import TestClient
from starlette.types import ASGIApp
from support.proxies import AUD, cloudflare_token, published

from examples import cloudflare, fastapi_users_accounts, fastapi_users_app, session_cookie
from xuna_middleware import XunaGate
from xuna_middleware.testing import Sandbox, sandboxed

PAGE = {"Sec-Fetch-Site": "same-origin"}
ELSEWHERE = {"Sec-Fetch-Site": "cross-site"}
ASK = "/xuna/get-signed-url"


@contextmanager
def served(gate: XunaGate, app: ASGIApp) -> Iterator[tuple[TestClient, Sandbox]]:
    """Run an app over https, since a cookie that is worth something is Secure."""
    with (
        sandboxed(gate) as sandbox,
        TestClient(app, base_url="https://testserver") as client,
    ):
        yield client, sandbox


def statuses(client: TestClient, *pages: dict[str, str], path: str = ASK) -> list[int]:
    return [client.get(path, headers=page).status_code for page in pages]


def test_session_cookie() -> None:
    """Signed in by the app's own route, the app's own page may ask, and no other."""
    with served(session_cookie.gate, session_cookie.app) as (client, sandbox):
        assert statuses(client, PAGE) == [401]
        client.post("/login", json={"user": "ada"})
        assert statuses(client, PAGE, ELSEWHERE, {}) == [200, 403, 403]
        assert [each.subject for each in sandbox.issued] == ["ada"]
        held = client.cookies["session"]
        client.cookies.clear()
        assert statuses(client, PAGE | {"Cookie": f"session=e{held}"}) == [401]


def test_session_cookie_is_not_sent_in_the_clear() -> None:
    """The cookie is Secure, HttpOnly and SameSite."""
    with served(session_cookie.gate, session_cookie.app) as (client, _):
        cookie = client.post("/login", json={"user": "ada"}).headers["set-cookie"].lower()
    assert all(word in cookie for word in ("; secure", "; httponly", "; samesite=lax"))


async def register(email: str, password: str) -> None:
    made = BaseUserCreate(email=email, password=password)
    async for users in fastapi_users_accounts.accounts():
        await users.create(made)


async def lock_out(email: str) -> None:
    async for users in fastapi_users_accounts.accounts():
        user = await users.get_by_email(email)
        await users.user_db.update(user, {"is_active": False})


def test_fastapi_users() -> None:
    """Signed in by the library's own route; locked out in its own table."""
    form = {"username": "ada@acme.com", "password": "of this test"}
    with served(fastapi_users_app.gate, fastapi_users_app.app) as (client, sandbox):
        assert client.portal is not None
        client.portal.call(register, form["username"], form["password"])
        assert statuses(client, PAGE) == [401]
        assert client.post("/login", data=form | {"password": "another"}).status_code == 400
        assert client.post("/login", data=form).status_code == 204
        assert statuses(client, PAGE, ELSEWHERE, {}) == [200, 403, 403]
        client.portal.call(lock_out, form["username"])
        assert statuses(client, PAGE) == [401]
    assert len(sandbox.issued) == 1


def test_cloudflare(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the documented token and the team's keys; the agent is told the caller's address."""
    monkeypatch.setenv("ACCESS_TEAM", "acme")
    monkeypatch.setenv("ACCESS_AUD", AUD)
    gate = cloudflare.make(published().transport)
    token, other = cloudflare_token(), cloudflare_token(aud=["another"])
    with served(gate, gate) as (client, sandbox):
        pages = [{**PAGE, "Cf-Access-Jwt-Assertion": each} for each in (token, other)]
        assert statuses(client, *pages, PAGE, path="/get-signed-url") == [200, 401, 401]
    assert sandbox.issued[0].dynamic_variables == {"user_email": "ada@acme.com"}
