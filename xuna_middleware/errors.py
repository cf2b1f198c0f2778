"""All errors of the gate: errors in its configuration, and refusals of requests.

A `ConfigurationError` is for the developer who builds the gate; its text names the fix. A
`GateError` is for the caller: it is a Starlette `HTTPException`, so Starlette and FastAPI turn it
into a response when a route raises it, and the response contains nothing but its fixed words.
The details for an operator are in `cause`, which no answer, `str()` or `repr()` shows.
"""

import math
import re
import traceback
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar

from starlette.exceptions import HTTPException

_CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
#: The characters of a quoted parameter that need no escape (RFC 9110 section 5.6.4).
_QUOTABLE: Final = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]*")
#: In characters; removing shorter ones would remove ordinary words.
_SHORTEST_SECRET: Final = 8

#: On every answer of this package: no cache may keep it, and no `Referer` is sent on from it.
PRIVATE: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


E = TypeVar("E", bound="GateError")


class ConfigurationError(ValueError):
    """Report that the gate is configured wrongly, and the fix. Raised while it is being built."""


class GateError(HTTPException):
    """Refuse a request with one documented answer.

    Attributes:
        status_code: the HTTP status, 400 to 599.
        code: a stable snake_case word, the member `code` of the problem body (RFC 9457).
        detail: one sentence that anybody may read; it repeats nothing from the request.
        headers: the answer's headers (`WWW-Authenticate`, `Retry-After`, …).
        cause: the reason for the operator's log, `"<cause>: <explanation>"`; never public.
        problem_type: the member `type` of the problem body.
        trace: the traceback of a failure in the operator's own code, for the log; never public.
        challenge: the parameters of `WWW-Authenticate` (RFC 9110 section 11.6.1) without the
            scheme, which the gate adds; None if the answer has no challenge.

    Raises:
        ConfigurationError: one of these can't be sent as it is.
    """

    default_status: int = 500
    default_code: str = "gate_error"
    default_detail: str = "The request could not be served."
    problem_type: str = "about:blank"
    challenge: Mapping[str, str] | None = None

    def __init__(
        self,
        detail: str | None = None,
        *,
        cause: str = "",
        code: str | None = None,
        status_code: int | None = None,
        headers: Mapping[str, str] | None = None,
        trace: str = "",
        challenge: Mapping[str, str] | None = None,
    ) -> None:
        # Written out for speed: a flood of requests creates many of these.
        self.status_code = self.default_status if status_code is None else status_code
        self.detail = self.default_detail if detail is None else detail
        self.headers = dict(PRIVATE)
        if challenge is not None:
            self.headers["WWW-Authenticate"] = challenged("Bearer", challenge)
        if headers is not None:
            self.headers.update(headers)
            _check_headers(headers)
        self.challenge = challenge
        self.code = self.default_code if code is None else code
        self.cause = cause or self.code
        self.trace = trace
        _check_sendable(self)


class InvalidRequestError(GateError):
    """400, or 404, 405, 413, 415 or 431: the request is not one that the route accepts."""

    default_status = 400
    default_code = "invalid_request"
    default_detail = "The request is malformed."


class NotAuthenticatedError(GateError):
    """401 without an error code: no credentials were presented (RFC 6750 section 3)."""

    default_status = 401
    default_code = "not_authenticated"
    default_detail = "Credentials are required."

    def __init__(self, detail: str | None = None, *, cause: str = "") -> None:
        super().__init__(detail, cause=cause, challenge={})


class InvalidTokenError(GateError):
    """401 invalid_token: the same answer to every bad token, whatever the reason (RFC 6750)."""

    default_status = 401
    default_code = "invalid_token"
    default_detail = "The access token is not accepted."

    def __init__(self, *, cause: str = "") -> None:
        super().__init__(cause=cause, challenge={"error": "invalid_token"})


class InvalidSignatureError(GateError):
    """401 invalid_signature: the same answer to every webhook without a current, valid signature.

    RFC 9110 section 15.5.2 requires a challenge; the scheme in this one lets nobody else in.
    """

    default_status = 401
    default_code = "invalid_signature"
    default_detail = "The signature is not accepted."

    def __init__(self, *, cause: str = "") -> None:
        super().__init__(cause=cause, headers={"WWW-Authenticate": "HMAC"})


class DPoPNonceRequiredError(GateError):
    """401 use_dpop_nonce: only the proof's nonce is wrong; `nonce` is a good one (RFC 9449, 9)."""

    default_status = 401
    default_code = "use_dpop_nonce"
    default_detail = "The DPoP proof must carry the nonce of this answer."

    def __init__(self, nonce: str, *, cause: str = "") -> None:
        challenge = {"error": "use_dpop_nonce"}
        headers = {"DPoP-Nonce": nonce, "WWW-Authenticate": challenged("DPoP", challenge)}
        super().__init__(cause=cause, headers=headers, challenge=challenge)


class StepUpRequiredError(GateError):
    """401 insufficient_user_authentication: a stronger or newer sign-in is needed (RFC 9470).

    `acr_values` are the sufficient ways to sign in, `max_age` is the greatest age of the sign-in
    in seconds; the challenge contains both, so that a client can ask its provider for exactly that.
    """

    default_status = 401
    default_code = "insufficient_user_authentication"
    default_detail = "A stronger or more recent sign-in is required."

    def __init__(
        self, *, acr_values: Sequence[str] = (), max_age: int | None = None, cause: str = ""
    ) -> None:
        self.acr_values, self.max_age = tuple(acr_values), max_age
        challenge = {"error": "insufficient_user_authentication"}
        if self.acr_values:
            challenge["acr_values"] = " ".join(self.acr_values)
        if max_age is not None:
            challenge["max_age"] = str(max_age)
        super().__init__(cause=cause, challenge=challenge)


class AccessDeniedError(GateError):
    """403: the caller is known, or needn't be, and isn't allowed to do this."""

    default_status = 403
    default_code = "access_denied"
    default_detail = "You may not use this agent."


class LimitReachedError(GateError):
    """429 quota_exceeded: a limit has too little left; `headers` name it and the time to wait.

    `policies` are the limits' names, the member `violated-policies` of the problem body
    (draft-ietf-httpapi-ratelimit-headers). `conversations` are those of the caller that are not
    settled yet; never public.
    """

    default_status = 429
    default_code = "quota_exceeded"
    default_detail = "A limit is reached."
    problem_type = "https://iana.org/assignments/http-problem-types#quota-exceeded"

    def __init__(
        self,
        detail: str | None = None,
        *,
        policies: Sequence[str] = (),
        conversations: Sequence[str] = (),
        cause: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail, cause=cause, headers=headers)
        self.policies, self.conversations = tuple(policies), tuple(conversations)


class UnavailableError(GateError):
    """503 with Retry-After: the decision needs something that is unavailable right now.

    `retry_after` is in whole seconds, at least 1.
    """

    default_status = 503
    default_code = "unavailable"
    default_detail = "The service is temporarily unavailable."

    def __init__(
        self,
        detail: str | None = None,
        *,
        cause: str = "",
        retry_after: float = 5,
        trace: str = "",
    ) -> None:
        self.retry_after: Final = max(1, round(retry_after))
        headers = {"Retry-After": str(self.retry_after)}
        super().__init__(detail, cause=cause, headers=headers, trace=trace)


class PlatformError(GateError):
    """502 or 504: XUNA AI issued no credential. The text of its answer is never passed on."""

    default_status = 502
    default_code = "platform_error"
    default_detail = "The voice platform did not answer as expected."


def over_budget(policy: str, cause: str, seconds: float) -> LimitReachedError:
    """Return the refusal of a caller who already has as many of something as allowed at once."""
    headers = {"Retry-After": str(max(1, math.ceil(seconds)))}
    return LimitReachedError(policies=(policy,), cause=cause, headers=headers)


def challenged(scheme: str, parameters: Mapping[str, str]) -> str:
    """Return one challenge: the scheme and its quoted parameters (RFC 9110 section 11.3)."""
    return _challenge(scheme, tuple(parameters.items()))


@lru_cache(maxsize=256)
def _challenge(scheme: str, parameters: tuple[tuple[str, str], ...]) -> str:
    if not all(_QUOTABLE.fullmatch(value) for _, value in parameters):
        raise ConfigurationError(
            "a challenge's parameters are visible ASCII and spaces, without quotes and backslashes"
        )
    listed = ", ".join([f'{name}="{value}"' for name, value in parameters])
    return f"{scheme} {listed}".rstrip()


def copied(error: E, **changes: Any) -> E:
    """Return a copy of a refusal, so that we never change or raise one that others keep."""
    # Not by calling the class: a subclass may require arguments.
    copy = Exception.__new__(type(error))
    copy.__dict__.update(error.__dict__, **changes)
    return copy


def trace_of(error: BaseException, secret: str = "") -> str:
    """Return a failure's traceback for the log, without a token or its segments."""
    text = "".join(traceback.format_exception(error))
    for part in (secret, *secret.split(".")):
        if len(part) > _SHORTEST_SECRET:
            text = text.replace(part, "…")
    return text


def _check_sendable(error: GateError) -> None:
    if type(error.status_code) is not int or not 400 <= error.status_code <= 599:
        raise ConfigurationError("a GateError's status_code must be from 400 to 599")
    if not isinstance(error.code, str) or not _CODE.fullmatch(error.code):
        raise ConfigurationError("a GateError's code must be a snake_case word, at most 64 long")
    if not isinstance(error.detail, str) or not error.detail.isprintable():
        raise ConfigurationError("a GateError's detail must be one printable line")


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not _is_header_text(name) or not _is_header_text(value):
            raise ConfigurationError("a GateError's headers must be printable ASCII strings")


def _is_header_text(text: object) -> bool:
    return isinstance(text, str) and text.isascii() and text.isprintable()
