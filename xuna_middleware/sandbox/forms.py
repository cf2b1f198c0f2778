"""Read an urlencoded form or query in which nothing may come twice. Needs no extra library."""

from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request

MAX_FORM: Final = 16_384
_MAX_FIELDS: Final = 40


class FormError(Exception):
    """Say that the input is no urlencoded form, is too large, or names a field twice."""


async def read_form(request: Request) -> dict[str, str]:
    """Return the body's fields. Raises FormError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise FormError("the body must be application/x-www-form-urlencoded")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            raise FormError("the body is too large")
    return fields(bytes(body))


def fields(encoded: bytes) -> dict[str, str]:
    """Return the fields of urlencoded text (RFC 6749 section 3.1: none twice). Raises FormError."""
    try:
        pairs = parse_qsl(
            encoded.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError:
        raise FormError("the parameters are malformed") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FormError("a parameter is repeated")
    return found
