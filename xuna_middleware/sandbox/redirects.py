"""Redirect addresses: exact, save for the port on loopback (RFC 8252 section 7.3). Pure."""

import re
from collections.abc import Iterable
from typing import Final

_LOOPBACK: Final = re.compile(
    r"http://(?P<host>127\.0\.0\.1|\[::1\]|localhost)(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?][!-~]*)?"
)
_TEXT: Final = re.compile(r"https?://[!-~]+")

#: Registered from the start: the root and `/callback` of anything on this machine.
LOOPBACK_REDIRECTS: Final = tuple(
    f"http://{host}{path}"
    for host in ("127.0.0.1", "[::1]", "localhost")
    for path in ("/", "/callback")
)


def check_registered(uri: str) -> str:
    """Return the address if it may be registered. Raises ValueError."""
    if not _TEXT.fullmatch(uri) or "#" in uri or "\\" in uri:
        raise ValueError("a redirect address is an http(s) URL without a fragment")
    if uri.startswith("http://") and not on_loopback(uri):
        raise ValueError("a redirect address without https must be on loopback")
    return uri


def on_loopback(uri: str) -> bool:
    """Say whether an address without https is on this machine."""
    return _LOOPBACK.fullmatch(uri) is not None


def is_registered(uri: str, registered: Iterable[str]) -> bool:
    """Say whether this address, byte by byte, is one of them; on loopback any port will do."""
    return any(uri == known or _same_but_port(uri, known) for known in registered)


def _same_but_port(uri: str, known: str) -> bool:
    asked, listed = _LOOPBACK.fullmatch(uri), _LOOPBACK.fullmatch(known)
    if asked is None or listed is None or "\\" in uri or "#" in uri:
        return False
    port = int(asked["port"] or 80)
    same = (asked["host"], asked["rest"]) == (listed["host"], listed["rest"])
    return same and 0 < port < 65_536
