"""What a request shows beside its token, read only when a verifier asks for it.

A proof of possession is made for one request: for its method and its address, by whoever holds a
key or a client certificate. The address is what the operator said it is (`public_url`); nothing is
guessed from `Host` or `X-Forwarded-*`, which strangers write.
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
#: What may stand in a path as it is (RFC 3986 section 3.3).
_IN_PATH: Final = "/:@!$&'()*+,;=-._~"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Hold where a gate stands, as its operator said.

    Attributes:
        origin: scheme and authority of `public_url`; None where there is none.
        store: shared with the other processes of the gate, where there are others.
        trusted_proxies: whose headers are believed.
        certificate_header: in which a trusted proxy hands on the client's certificate, lower case.
    """

    origin: str | None
    store: Store
    trusted_proxies: TrustedProxies
    certificate_header: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofContext:
    """Read from one request what proves possession of a key. No rendering shows it.

    `base` is the public address of whatever serves the request, which then stands before the part
    of the path behind `root_path`; None puts the whole path behind the origin.
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
        """The request's address in public, percent-encoded, without query and fragment.

        None where its path has more than 2,048 characters.
        """
        if len(self.scope["path"]) > _LONGEST_PATH:
            return None
        if self.base is None:
            return f"{self.surroundings.origin}{quote(_whole_path(self.scope), safe=_IN_PATH)}"
        return self.base + quote(_path_behind_root(self.scope), safe=_IN_PATH)

    @property
    def address(self) -> str | None:
        """From where the request comes; None where the server tells no address."""
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
        """What tells this gate from others that have the same secrets."""
        near = self.surroundings
        return f"{namespace_of(near.store)} {near.origin}"

    @property
    def store(self) -> Store:
        """Where it is kept what may be used once."""
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
    """Return the path with `root_path` before it, where a server left that out (ASGI: it may)."""
    path, root_path = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path if path.startswith(root_path + "/") or path == root_path else root_path + path
