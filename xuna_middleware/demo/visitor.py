"""What the page does, without a browser: sign in with code and PKCE, and ask the gate."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
from authlib.integrations.httpx_client import AsyncOAuth2Client

#: Seconds for any one answer; everything is on this machine.
PATIENCE: Final = 10.0


@dataclass(slots=True)
class Form(HTMLParser):
    """Read the one form of the sign-in page: where it goes, and what its fields and buttons say."""

    action: str = ""
    fields: dict[str, str] = field(default_factory=dict, repr=False)
    buttons: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        HTMLParser.__init__(self)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = about["action"]
        elif tag == "input":
            self.fields[about["name"]] = about["value"]
        elif tag == "button":
            self.buttons.append((about["name"], about["value"]))


class Visitor:
    """Walk up to the page's app like a browser: one client with its cookies, no proxies."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.AsyncClient(base_url=url, trust_env=False, timeout=PATIENCE)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get(self, path: str, token: str | None = None, **query: str) -> httpx.Response:
        """Send a GET, with the token as Bearer where there is one."""
        return await self._http.get(path, params=query, headers=_bearer(token))

    async def post(
        self, path: str, body: Any, token: str | None = None, **headers: str
    ) -> httpx.Response:
        """Send a POST of JSON, with the token as Bearer where there is one."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self._http.post(path, json=body, headers={**_bearer(token), **named})

    async def delete(self, path: str, token: str | None = None) -> httpx.Response:
        """Send a DELETE, with the token as Bearer where there is one."""
        return await self._http.delete(path, headers=_bearer(token))

    @property
    def ticket(self) -> str | None:
        """The cookie by which the gate knows a visitor again."""
        return self._http.cookies.get("xuna_visitor")

    async def config(self) -> dict[str, Any]:
        """Return what the page is told about its surroundings."""
        return dict((await self.get("/demo/config")).raise_for_status().json())

    async def sign_in(self, person: str) -> str:
        """Return an access token for this person, got as the page gets it.

        Discovery, the authorization request with PKCE (S256), the button on the sign-in page, the
        way back with `state` (compared by Authlib) and `iss`, and the token endpoint.
        """
        config = await self.config()
        metadata = await self._discover(config["issuer"])
        verifier = secrets.token_urlsafe(48)
        async with AsyncOAuth2Client(
            config["client_id"],
            token_endpoint_auth_method="none",  # noqa: S106 - the method's name, not a secret
            scope=config["scope"],
            redirect_uri=f"{self.url}/",
            code_challenge_method="S256",
            trust_env=False,
            timeout=PATIENCE,
        ) as client:
            address, state = client.create_authorization_url(
                metadata["authorization_endpoint"], code_verifier=verifier
            )
            back = await self._choose(address, person)
            if parse_qs(urlsplit(back).query).get("iss") != [config["issuer"]]:
                raise AssertionError("the answer names no issuer, or another")
            answer = await client.fetch_token(
                metadata["token_endpoint"],
                authorization_response=back,
                state=state,
                code_verifier=verifier,
            )
        return str(answer["access_token"])

    async def events(self, count: int) -> list[dict[str, Any]]:
        """Return the first `count` events of the page's feed; waits until there are so many."""
        seen: list[dict[str, Any]] = []
        async with self._http.stream("GET", "/demo/events") as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    seen.append(json.loads(line.removeprefix("data: ")))
                if len(seen) == count:
                    break
        return seen

    async def _discover(self, issuer: str) -> Mapping[str, Any]:
        found = await self._http.get(f"{issuer}/.well-known/openid-configuration")
        metadata: Mapping[str, Any] = found.raise_for_status().json()
        if metadata["issuer"] != issuer:
            raise AssertionError("the provider's document names another issuer")
        return metadata

    async def _choose(self, address: str, person: str) -> str:
        """Press this person's button on the sign-in page; return where that leads."""
        form = Form()
        form.feed((await self._http.get(address)).raise_for_status().text)
        if ("person", person) not in form.buttons:
            raise AssertionError(f"the sign-in page does not offer {person}")
        sent = await self._http.post(form.action, data={**form.fields, "person": person})
        return str(sent.headers["location"])


def _bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}
