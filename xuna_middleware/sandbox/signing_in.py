"""Sign in at the sandbox provider without a browser: the whole code flow with PKCE, by HTTP."""

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import parse_qs, urlsplit

import httpx

from xuna_middleware.sandbox.people import VOICE_SCOPE

_REDIRECT: Final = "http://127.0.0.1/callback"
_TRANSACTION: Final = re.compile(r'name="transaction" value="([A-Za-z0-9_-]+)"')


class SignInError(Exception):
    """Say at which step the provider said no."""


async def sign_in(
    person: str,
    *,
    issuer: str,
    scopes: Iterable[str] = ("openid", "profile", "email", VOICE_SCOPE),
    client_id: str = "sandbox",
    transport: httpx.AsyncBaseTransport | None = None,
) -> str:
    """Return an access token for this person, got the way a browser would get it.

    Works with a `SandboxProvider` only: it presses the button on its page. Raises SignInError.
    """
    verifier = secrets.token_urlsafe(48)
    asked = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": _REDIRECT,
        "scope": " ".join(scopes),
        "state": secrets.token_urlsafe(16),
        "code_challenge": _challenge(verifier),
        "code_challenge_method": "S256",
    }
    async with httpx.AsyncClient(
        base_url=issuer.rstrip("/"), transport=transport, trust_env=False
    ) as browser:
        code = await _code(browser, asked, person, issuer)
        return await _redeem(browser, asked, code, verifier)


async def _code(
    browser: httpx.AsyncClient, asked: Mapping[str, str], person: str, issuer: str
) -> str:
    page = await browser.get("/authorize", params=asked)
    found = _TRANSACTION.search(page.text)
    if found is None:
        raise SignInError("the provider showed no sign-in page")
    form = {"transaction": found.group(1), "person": person}
    answer = await browser.post("/authorize", data=form)
    back = parse_qs(urlsplit(answer.headers.get("location", "")).query)
    if back.get("state") != [asked["state"]] or back.get("iss") != [issuer]:
        raise SignInError("the provider did not send back what was sent")
    if "code" not in back:
        raise SignInError(f"nobody called {person!r} can sign in here")
    return str(back["code"][0])


async def _redeem(
    browser: httpx.AsyncClient, asked: Mapping[str, str], code: str, verifier: str
) -> str:
    form = {name: asked[name] for name in ("client_id", "redirect_uri")}
    form |= {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
    answer = await browser.post("/token", data=form)
    if answer.status_code != httpx.codes.OK:
        raise SignInError(f"the token endpoint answered {answer.status_code}")
    return str(answer.json()["access_token"])


def _challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
