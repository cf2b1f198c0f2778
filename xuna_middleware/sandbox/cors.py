"""CORS for the provider's machine-read routes: pages elsewhere on loopback may read them."""

import re
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

_LOOPBACK_ORIGIN: Final = re.compile(
    r"http://(127\.0\.0\.1|\[::1\]|localhost)(:[0-9]{1,5})?", re.ASCII
)


def cors_headers(request: Request) -> dict[str, str]:
    """Return the headers of an answer; they allow only an origin on loopback, without cookies."""
    origin = request.headers.get("origin", "")
    if not _LOOPBACK_ORIGIN.fullmatch(origin):
        return {"Vary": "Origin"}
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


def preflight(request: Request) -> Response:
    """Answer OPTIONS. An origin elsewhere is told nothing, so its browser refuses."""
    allowed = {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": "content-type",
        "Access-Control-Max-Age": "600",
    }
    headers = cors_headers(request)
    told = headers | allowed if "Access-Control-Allow-Origin" in headers else headers
    return Response(status_code=204, headers=told)
