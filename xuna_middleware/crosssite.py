"""Keep other sites from spending a visitor's or a cookie's rights (Fetch Metadata, RFC 6454).

A browser sends cookies along by itself, so a page elsewhere could make it ask for a pass. On the
gate's routes such callers must come from the gate's own origin or from one that is listed, by a
fetch and not by a navigation. A Bearer header needs none of this: no browser adds it.
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


class Origins:
    """Decide whether a request with ambient credentials comes from where it may."""

    __slots__ = ("_allowed",)

    def __init__(self, cors_origins: Iterable[str], public_url: str | None) -> None:
        own = () if public_url is None else (_own_origin(public_url),)
        self._allowed = frozenset([*own, *cors_origins])

    def check(self, headers: Headers) -> None:
        """Refuse with 403 what another site, a navigation or a prefetch may have caused."""
        if not self._is_allowed(headers):
            raise AccessDeniedError(
                "This request must come from the page itself.",
                code="cross_site",
                cause="cross-site: neither Sec-Fetch-Site: same-origin nor an Origin that is "
                f"public_url's or listed; {_MEND}",
            )

    def check_websocket(self, headers: Headers) -> None:
        """Refuse a WebSocket that another site's page opened, cookies and all.

        Browsers ask nobody before they open one, and always send its Origin; a client that sends
        none is no browser, so no other page made it come.
        """
        if "origin" in headers:
            self.check(headers)

    def check_ticket(self, headers: Headers, made_at: str | None) -> None:
        """Refuse a WebSocket whose page is neither the one that asked for the ticket nor ours.

        As in `check_websocket`, one without Origin is no page's.
        """
        origins = headers.getlist("origin")
        if origins and (len(origins) > 1 or origins[0] not in {*self._allowed, made_at}):
            raise AccessDeniedError(
                "This ticket belongs to another page.",
                code="cross_site",
                cause="cross-site: the WebSocket's Origin is not that of the ticket's request, "
                f"public_url's or listed; {_MEND}",
            )

    def _is_allowed(self, headers: Headers) -> bool:
        site, origin = headers.getlist("sec-fetch-site"), headers.getlist("origin")
        if headers.get("sec-fetch-mode") == "navigate" or _is_prefetch(headers):
            return False
        if len(site) > 1 or len(origin) > 1:
            return False
        return site == ["same-origin"] or bool(origin and origin[0] in self._allowed)


def checked_origins(origins: Iterable[str]) -> tuple[str, ...]:
    """Return configured origins; anything that is not exactly one is refused with the mend."""
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
    purposes = (headers.get("sec-purpose", ""), headers.get("purpose", ""))
    return any("prefetch" in purpose for purpose in purposes)
