"""Refuse requests that another site, or markup without a script, made a browser send.

A browser adds cookies automatically, so another site's page could make it request a credential, and
so could an `<img>` on a page of the same origin. On the gate's routes, requests without an
Authorization header must come from the gate's own origin or from a listed one (RFC 6454), and from
a script's `fetch()`: if the browser sends Fetch Metadata, `Sec-Fetch-Dest` must be `empty` and
`Sec-Fetch-Mode` `cors`. A Bearer header needs none of this, because no browser adds one
automatically.

| sent by | `Sec-Fetch-Dest` | `Sec-Fetch-Mode` | |
|---|---|---|---|
| `fetch()`, XMLHttpRequest, EventSource | empty | cors | admitted |
| `fetch()` with `mode: "same-origin"`, `document()` in XSLT | empty | same-origin | no |
| `<img>`, CSS `url()`, `<video>`, `<script>`, `<link>`, fonts | image, style, … | any | no |
| workers, service workers, `import` | worker, script, json, … | any | no |
| links, forms, `<iframe>`, `<object>`, downloads | document, iframe, … | navigate | no |
| `<a ping>`, `sendBeacon()`, `<link rel=preload as=fetch>` | empty | no-cors | no |
| prefetch and prerender, speculation rules | empty, document | any, `Sec-Purpose` | no |
| `<link rel=preload as=fetch crossorigin>` | empty | cors | no, if it sends `Origin` |

The last one differs from `fetch()` by its Origin: Chromium sends one there, but `fetch()` sends
none with a GET to its own origin. SECURITY.md describes the remaining cases.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from xuna_middleware.errors import AccessDeniedError, ConfigurationError

_HOST: Final = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
_PORTS: Final = {"http": 80, "https": 443}
_MEND: Final = 'cors_origins=("https://app.example.com",)'
#: `Sec-Fetch-Mode` of `fetch()` and XMLHttpRequest.
_FETCH_MODE: Final = "cors"
#: Content types that forms send (HTML, "form submission"); scripts send application/json.
_FORM_TYPES: Final = frozenset(
    {"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"}
)
#: Headers that browsers have sent with a prefetch; Sec-Purpose is the current one.
_PURPOSES: Final = ("sec-purpose", "purpose", "x-purpose", "x-moz")


class Origins:
    """Decide whether a request with ambient credentials comes from an allowed origin."""

    __slots__ = ("_allowed",)

    def __init__(self, cors_origins: Iterable[str], public_url: str | None) -> None:
        own = () if public_url is None else (_own_origin(public_url),)
        self._allowed = frozenset([*own, *cors_origins])

    def check(self, headers: Headers, method: str = "GET") -> None:
        """Refuse (403) a request that another site, or markup without a script, may have caused."""
        self._check_origin(headers)
        why = _not_a_fetch(headers, method)
        if why is not None:
            raise _cross_site(why)

    def check_reading(self, headers: Headers) -> None:
        """Refuse the same for a read, but only if the browser says where the request comes from.

        Reads spend nothing, and without Fetch Metadata and Origin, no page can read the answer.
        """
        if any(name == "origin" or name.startswith("sec-fetch-") for name in headers):
            self.check(headers)

    def check_websocket(self, headers: Headers, *, required: bool = False) -> None:
        """Refuse a WebSocket that another site's page opened with the browser's cookies.

        No markup opens a WebSocket, so its Fetch Metadata need not be that of a `fetch()`. Browsers
        send no preflight before it, but always an Origin; a client without Origin is no browser,
        and only `required` refuses it.
        """
        if required or "origin" in headers:
            self._check_origin(headers)

    def check_ticket(self, headers: Headers, made_at: str | None) -> None:
        """Refuse a WebSocket from a page that neither requested the ticket nor is the gate's own.

        As in `check_websocket`, a WebSocket without Origin comes from no page.
        """
        origins = headers.getlist("origin")
        if origins and (len(origins) > 1 or origins[0] not in {*self._allowed, made_at}):
            raise AccessDeniedError(
                "This ticket belongs to another page.",
                code="cross_site",
                cause="cross-site: the WebSocket's Origin is not that of the ticket's request, "
                f"public_url's or listed; {_MEND}",
            )

    def _check_origin(self, headers: Headers) -> None:
        if headers.get("sec-fetch-mode") == "navigate":
            raise _cross_site("Sec-Fetch-Mode is navigate: a link, a form or a frame sent it")
        if _is_prefetch(headers):
            raise _cross_site("the browser says that it is a prefetch")
        if not self._is_allowed(headers):
            raise _cross_site(
                "neither Sec-Fetch-Site: same-origin nor an Origin that is public_url's or "
                f"listed; {_MEND}"
            )

    def _is_allowed(self, headers: Headers) -> bool:
        site, origin = headers.getlist("sec-fetch-site"), headers.getlist("origin")
        if len(site) > 1 or len(origin) > 1:
            return False
        return site == ["same-origin"] or bool(origin and origin[0] in self._allowed)


def checked_origins(origins: Iterable[str]) -> tuple[str, ...]:
    """Return configured origins; refuse anything else with an error that names the fix."""
    if isinstance(origins, str) or not isinstance(origins, Iterable):
        raise ConfigurationError(f"cors_origins must be a tuple: {_MEND}")
    origins = tuple(origins)
    for origin in origins:
        if origin != origin_of(origin, "cors_origins"):
            raise ConfigurationError(
                f"cors_origins: {origin!r} is not an exact origin (scheme, host, port if unusual; "
                f"no path, no wildcard): {_MEND}"
            )
    return origins


def origin_of(url: str, option: str) -> str:
    """Return the origin of a configured URL as browsers spell it (RFC 6454 section 6.1)."""
    origin = _origin(url) if isinstance(url, str) else None
    if origin is None:
        raise ConfigurationError(f'{option}: {url!r} must be like "https://app.example.com"')
    return origin


def _own_origin(public_url: str) -> str:
    origin = origin_of(public_url, "public_url")
    if "?" in public_url or "#" in public_url:
        raise ConfigurationError("public_url is the gate's address, without query and fragment")
    return origin


def _origin(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    if not _HOST.fullmatch(host) or parts.scheme not in _PORTS or "@" in parts.netloc:
        return None
    shown = f"[{host}]" if ":" in host else host
    usual = port in (None, _PORTS[parts.scheme])
    return f"{parts.scheme}://{shown}" + ("" if usual else f":{port}")


def _is_prefetch(headers: Headers) -> bool:
    return any(
        "prefetch" in value or "preview" in value
        for name in _PURPOSES
        for value in headers.getlist(name)
    )


def _not_a_fetch(headers: Headers, method: str) -> str | None:
    """Return why a request can't come from a script's `fetch()`; None if it may."""
    destination, mode = headers.getlist("sec-fetch-dest"), headers.getlist("sec-fetch-mode")
    if destination not in ([], ["empty"]):
        return (
            "Sec-Fetch-Dest is not exactly empty: markup such as <img> or <script> sent it, not a "
            "script's fetch(); no option admits that"
        )
    if mode not in ([], [_FETCH_MODE]):
        return (
            "Sec-Fetch-Mode is not exactly cors: a ping, a beacon, a preload or a stylesheet sent "
            "it; use fetch() without mode"
        )
    if method == "GET" and headers.get("sec-fetch-site") == "same-origin" and "origin" in headers:
        return (
            "a GET of the same origin with an Origin: <link rel=preload crossorigin> sent it; "
            "fetch() sends none"
        )
    if not mode and _media_type(headers) in _FORM_TYPES:
        return "the Content-Type is a form's; send application/json"
    return None


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _cross_site(why: str) -> AccessDeniedError:
    return AccessDeniedError(
        "This request must come from the page itself.",
        code="cross_site",
        cause=f"cross-site: {why}",
    )
