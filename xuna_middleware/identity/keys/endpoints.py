"""Decide from which URLs keys may be fetched. Pure: names are compared, nothing is resolved.

A host that the operator wrote is trusted. A host learned from a document must be one of those, or
in `endpoint_hosts`. https everywhere; http only on loopback and for `insecure_hosts`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from xuna_middleware._core.http import is_loopback
from xuna_middleware.errors import ConfigurationError

#: Characters of an address.
_LONGEST: Final = 2048
_NAME: Final = re.compile(r"[a-z0-9._-]+|[0-9a-f:]+")
_ODD: Final = re.compile(r"[^\x21-\x7e]|\\")


class KeySourceError(Exception):
    """Keys could not be fetched; the text is for the operator's log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPolicy:
    """Decide on addresses by scheme and host name (lower case, no ports)."""

    hosts: frozenset[str]
    insecure_hosts: frozenset[str] = frozenset()

    def check(self, url: object) -> str:
        """Return a learned URL if it may be used, else raise KeySourceError."""
        if not isinstance(url, str) or (host := _host(url)) is None:
            raise KeySourceError("endpoint: is no absolute URL")
        if host not in self.hosts:
            raise KeySourceError(
                f"endpoint: the document names the host {host[:100]!r}, which is not the issuer's; "
                "if it belongs to the provider: endpoint_hosts=(…)"
            )
        if not _is_secure(url, host, self.insecure_hosts):
            raise KeySourceError("endpoint: is not https; see insecure_hosts")
        return url


def configured_host(url: str, option: str, insecure_hosts: Iterable[str] = ()) -> str:
    """Return the host of an address that the operator wrote.

    Raises:
        ConfigurationError: where it is no https URL (http on loopback and `insecure_hosts` is one).
    """
    host = _host(url) if isinstance(url, str) else None
    if host is None:
        raise ConfigurationError(f'{option} must be an absolute URL like "https://id.example.com"')
    if not _is_secure(url, host, frozenset(insecure_hosts)):
        raise ConfigurationError(
            f"{option} must be https; to allow plain http inside your own network: "
            f'insecure_hosts=("{host}",)'
        )
    return host


def host_names(hosts: Iterable[str], option: str) -> frozenset[str]:
    """Return configured host names in lower case; a URL or a single string is refused."""
    if isinstance(hosts, str | Mapping) or not isinstance(hosts, Iterable):
        raise ConfigurationError(
            f'{option} must be a tuple of host names: {option}=("id.example.com",)'
        )
    names = tuple(hosts)
    if not all(isinstance(name, str) and _NAME.fullmatch(name.lower()) for name in names):
        raise ConfigurationError(f"{option} takes host names without scheme, port or path")
    return frozenset(name.lower() for name in names)


def _host(url: str) -> str | None:
    if len(url) > _LONGEST or _ODD.search(url):  # first: `urlsplit` is dear for what isn't ASCII
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("https", "http") or "@" in parts.netloc or parts.fragment:
        return None
    return parts.hostname


def _is_secure(url: str, host: str, insecure_hosts: frozenset[str]) -> bool:
    return url.startswith("https:") or is_loopback(host) or host in insecure_hosts
