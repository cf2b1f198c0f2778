"""The platform's error bodies: `{"detail": …}` in the three shapes that are known."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse


class RefusalError(Exception):
    """Answer a REST call with an error body."""

    def __init__(
        self, status: int, detail: Any, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


def refusal(
    status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
) -> RefusalError:
    """Return `{"detail": {"status": code, "message": …}}`, the shape of everything with a code."""
    return RefusalError(status, {"status": code, "message": message}, headers=headers)


def invalid(*loc: str, msg: str, kind: str = "value_error") -> RefusalError:
    """Return the 422 that lists what is wrong with the input and where."""
    return RefusalError(422, [{"loc": list(loc), "msg": msg, "type": kind}])


async def answer_refusal(_: Request, error: Exception) -> JSONResponse:
    """Turn a `RefusalError` into its answer (a Starlette exception handler)."""
    assert isinstance(error, RefusalError)  # noqa: S101 - registered for this class only
    return JSONResponse({"detail": error.detail}, error.status, headers=error.headers)


async def answer_http(_: Request, error: Exception) -> JSONResponse:
    """Give Starlette's own refusals (404, 405) the plain shape, `{"detail": "…"}`."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)
