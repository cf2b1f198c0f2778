"""Serve the gate's public metadata: where clients get tokens for this gate (RFC 9728).

The document's address is `public_url` with the well-known path between its host and its path
(section 3.1); no request can change the address or the content. The document contains no secret and
is for everybody, so every page may read it and caches may keep it for a while.
"""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.types import Receive, Scope, Send

from xuna_middleware._core.paths import route_path
from xuna_middleware.errors import InvalidRequestError
from xuna_middleware.identity.protocols import VerifierTraits, merge_traits
from xuna_middleware.web.responses import answer, deny, method_not_allowed, not_found

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"

_METHODS: Final = ("GET", "HEAD")
_SECONDS_KEPT: Final = 300
_PUBLIC: Final = {
    "Cache-Control": f"public, max-age={_SECONDS_KEPT}",
    "Access-Control-Allow-Origin": "*",
}


def metadata_url(public_url: str) -> str:
    """Return the address of a resource's metadata (RFC 9728 section 3.1)."""
    parts = urlsplit(public_url)
    return f"{parts.scheme}://{parts.netloc}{metadata_path(public_url)}"


def metadata_path(public_url: str) -> str:
    """Return the path of that address."""
    return WELL_KNOWN + urlsplit(public_url).path.rstrip("/")


def metadata_document(public_url: str, described: Sequence[VerifierTraits]) -> dict[str, Any]:
    """Return the metadata (RFC 9728 section 2), from the verifiers' traits, in their order. Issuers
    that are known only when a token comes are not in it.

    Leaves out what a gate doesn't know: scopes, which differ by agent, and documentation.
    """
    merged = merge_traits(described)
    issuers = [issuer for each in described for issuer in sorted(each.issuers or ())]
    document: dict[str, Any] = {
        "resource": public_url,
        "authorization_servers": list(filter(_is_address, issuers)),
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": list(merged.dpop_algorithms),
        "dpop_bound_access_tokens_required": not merged.accepts_bearer,
        "tls_client_certificate_bound_access_tokens": merged.accepts_certificates,
    }
    return {name: value for name, value in document.items() if value}


class ResourceMetadata:
    """Serve one document at its path; an ASGI app to be mounted at the host's root.

    Mount it at `/.well-known/oauth-protected-resource`, or pass it whole paths.
    """

    def __init__(self, public_url: str, document: dict[str, Any]) -> None:
        whole = metadata_path(public_url)
        self._paths = (whole, whole.removeprefix(WELL_KNOWN) or "/")
        self._document = document

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer GET and HEAD at the one path; otherwise 404 or 405."""
        if scope["type"] not in ("http", "websocket"):
            raise RuntimeError(f"metadata is not served to the scope type {scope['type']!r}")
        path = route_path(scope["path"], scope.get("root_path", ""), scope.get("app_root_path", ""))
        refusal = self._refusal(path, scope)
        if refusal is not None:
            await deny(refusal, scope, receive, send)
            return
        response = answer(self._document)
        response.headers.update(_PUBLIC)
        if scope["method"] == "HEAD":
            response.body = b""
        await response(scope, receive, send)

    def _refusal(self, path: str, scope: Scope) -> InvalidRequestError | None:
        if scope["type"] == "websocket" or path not in self._paths:
            return not_found()
        return None if scope["method"] in _METHODS else method_not_allowed(_METHODS)


def _is_address(issuer: str) -> bool:
    return issuer.startswith(("https://", "http://"))
