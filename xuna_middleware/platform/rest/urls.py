"""Check the URLs that an operator configures, and the signed URL that the platform returns.

Pure functions. Our own pattern parses them, not `urlsplit`: browsers and Python disagree about
backslashes, tabs and missing slashes, and this module refuses any URL on which they disagree.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from xuna_middleware._core.http import is_loopback
from xuna_middleware.errors import ConfigurationError

#: Visible ASCII without a backslash; no userinfo; a host that needs no decoding (RFC 3986 3.2).
_ADDRESS: Final = re.compile(
    r"(?P<scheme>[a-z]+)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?"
    r"(?P<rest>[/?#][!-\[\]-~]*)?",
    re.ASCII | re.IGNORECASE,
)
_HOST: Final = re.compile(r"[a-z0-9._-]+|\[?[0-9a-f]*:[0-9a-f:.]+\]?", re.ASCII | re.IGNORECASE)
#: A signed URL is one line of a few hundred characters.
_LONGEST: Final = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseUrl:
    """The URL of the platform's API, without a slash at its end, and its host."""

    address: str
    host: str

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)


def base_url(value: object, source: str) -> BaseUrl:
    """Read the URL of the platform's API; a path before `/v1` is allowed.

    Raises:
        ConfigurationError: it is not https (http for loopback), or has userinfo, a query or a
            fragment. `source` is where the operator set it: `base_url`, or a variable's name.
    """
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if match is None or "?" in (match["rest"] or "") or "#" in (match["rest"] or ""):
        raise ConfigurationError(
            f"{source}: not an address such as https://api.xuna.ai, which may have a port and a "
            "path, and no user, password, query or fragment"
        )
    host = _name(match["host"])
    _require_encryption(match["scheme"], host, source, secure="https", plain="http")
    return BaseUrl(address=match[0].rstrip("/"), host=host)


def livekit_url(value: object) -> str:
    """Check the URL of the platform's LiveKit server: wss, or ws for loopback."""
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ConfigurationError("livekit_url: not an address such as wss://livekit.example.com")
    _require_encryption(match["scheme"], _name(match["host"]), "livekit_url", "wss", "ws")
    return match[0]


def host_names(values: Iterable[str]) -> frozenset[str]:
    """Check `signed_url_hosts`: names or IP addresses, with no scheme, port or path."""
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise ConfigurationError(
            'signed_url_hosts: takes several names; write signed_url_hosts=("talk.xuna.ai",)'
        )
    return frozenset(_host_name(value) for value in values)


def flaw_in_signed_url(value: object, base: BaseUrl, further_hosts: frozenset[str]) -> str | None:
    """Return the flaw of a signed URL; None if it has none. The part after its host is opaque.

    Checks: wss, or ws if the base URL itself is loopback; no userinfo; a host name that is exactly
    the base URL's or one of `further_hosts`; printable ASCII, at most 8 KB.
    Does not check: the port, the path, the query, or the signature in it.
    """
    if not isinstance(value, str) or len(value) > _LONGEST:
        return "signed_url is missing, or not a text of at most 8 KB"
    match = _ADDRESS.fullmatch(value)
    if match is None:
        return "signed_url is not a plain address with a scheme and a host"
    if match["scheme"].lower() not in (("wss", "ws") if base.is_loopback else ("wss",)):
        return "signed_url is not wss"
    if _name(match["host"]) not in {base.host, *further_hosts}:
        return (
            "signed_url leads to another host than base_url's; if XUNA AI serves conversations "
            "there: XunaPlatform(signed_url_hosts=(…,))"
        )
    return None


def _name(host: str) -> str:
    return host.strip("[]").lower()


def _host_name(value: object) -> str:
    if not isinstance(value, str) or _HOST.fullmatch(value) is None:
        raise ConfigurationError(
            'signed_url_hosts: host names only, such as "talk.xuna.ai", without scheme or port'
        )
    return _name(value)


def _require_encryption(scheme: str, host: str, source: str, secure: str, plain: str) -> None:
    allowed = (secure, plain) if is_loopback(host) else (secure,)
    if scheme.lower() not in allowed:
        raise ConfigurationError(
            f"{source}: write it with {secure}://; {plain}:// is for this machine only "
            "(localhost, 127.0.0.1, [::1])"
        )
