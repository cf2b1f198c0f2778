"""Proofs that a request presents in addition to its token, read only if a verifier needs them.

A proof of possession is made for one request, for its method and URL, by the holder of a key or a
client certificate. The URL is the one that the operator configured (`public_url`); nothing is
guessed from `Host` or `X-Forwarded-*`, which any client can set.
"""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from starlette.types import Scope

from xuna_middleware._core.paths import route_path
from xuna_middleware.errors import InvalidRequestError
from xuna_middleware.identity.bound.mtls import (
    CertificateError,
    thumbprint_from_header,
    thumbprint_from_tls,
)
from xuna_middleware.identity.client_address import client_address
from xuna_middleware.identity.proxies.trusted import TrustedProxies
from xuna_middleware.stores.namespace import namespace_of
from xuna_middleware.stores.protocol import Store

#: In characters.
_LONGEST_PATH: Final = 2048
#: Characters allowed unescaped in a path (RFC 3986 section 3.3).
_IN_PATH: Final = "/:@!$&'()*+,;=-._~"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The environment of a gate, as its operator configured it.

    Attributes:
        origin: scheme and authority of `public_url`; None if there is none.
        store: shared with the other processes of the gate, if there are others.
        trusted_proxies: proxies whose headers are trusted.
        certificate_header: header with the client's certificate from a trusted proxy, lower case.
    """

    origin: str | None
    store: Store
    trusted_proxies: TrustedProxies
    certificate_header: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofContext:
    """Read the proofs of possession from one request. No rendering shows them.

    `base` is the public URL of the app that serves the request, followed by the part of the path
    after `root_path`; None appends the whole path to the origin.
    """

    scope: Scope = field(repr=False)
    surroundings: Deployment = field(repr=False)
    base: str | None = field(default=None, repr=False)

    @property
    def method(self) -> str:
        """The HTTP method; a WebSocket is opened with GET (RFC 6455 section 4.1)."""
        return str(self.scope.get("method", "GET"))

    @property
    def target(self) -> str | None:
        """The request's public URL, percent-encoded, without query and fragment.

        None if its path has more than 2,048 characters.
        """
        if len(self.scope["path"]) > _LONGEST_PATH:
            return None
        if self.base is None:
            return f"{self.surroundings.origin}{quote(_whole_path(self.scope), safe=_IN_PATH)}"
        return self.base + quote(_path_behind_root(self.scope), safe=_IN_PATH)

    @property
    def address(self) -> str | None:
        """The client's address; None if the server reports none."""
        return client_address(self.scope, self.surroundings.trusted_proxies)

    @property
    def proofs(self) -> tuple[bytes, ...]:
        """The values of all `DPoP` headers."""
        return self._values(b"dpop")

    @property
    def certificate(self) -> str | None:
        """The SHA-256 thumbprint of the client's certificate (`x5t#S256`), None without one.

        Raises:
            InvalidRequestError: a trusted proxy's header can't be read.
        """
        try:
            return self._from_proxy() or thumbprint_from_tls(self.scope)
        except CertificateError as error:
            raise InvalidRequestError(cause=f"client certificate: {error}") from None

    @property
    def gate(self) -> str:
        """A value that distinguishes this gate from others that have the same secrets."""
        near = self.surroundings
        return f"{namespace_of(near.store)} {near.origin}"

    @property
    def store(self) -> Store:
        """The store for proofs that may be used only once."""
        return self.surroundings.store

    def _from_proxy(self) -> str | None:
        name, near = self.surroundings.certificate_header, self.surroundings
        if name is None or not near.trusted_proxies.contains(self.scope.get("client")):
            return None
        values = self._values(name)
        return thumbprint_from_header(values) if values else None

    def _values(self, wanted: bytes) -> tuple[bytes, ...]:
        return tuple(value for name, value in self.scope["headers"] if name == wanted)


def _path_behind_root(scope: Scope) -> str:
    return route_path(scope["path"], scope.get("root_path", ""), scope.get("app_root_path", ""))


def _whole_path(scope: Scope) -> str:
    """Return the path, prefixed with `root_path` if the server left it out (ASGI allows that)."""
    path, root_path = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path if path.startswith(root_path + "/") or path == root_path else root_path + path
