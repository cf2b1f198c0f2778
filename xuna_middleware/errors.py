"""One tree of errors: what is wrong with the set-up, and what is wrong with a request.

A `ConfigurationError` is for whoever builds the gate and carries the fix in its text. A
`GateError` is for whoever calls: it is a Starlette `HTTPException`, so it answers by itself when it
is raised inside a Starlette or FastAPI route, and tells a stranger nothing but its fixed words.
What an operator needs to know rides in `cause`, which no answer, `str()` or `repr()` shows.
"""

import math
import re
import traceback
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar

from starlette.exceptions import HTTPException

_CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
#: What a quoted parameter may hold without an escape (RFC 9110 section 5.6.4).
_QUOTABLE: Final = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]*")
#: In characters; what is shorter would blot out ordinary words.
_SHORTEST_SECRET: Final = 8

#: On every answer that this package gives: no cache may keep it, no address may travel on.
PRIVATE: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


E = TypeVar("E", bound="GateError")


class ConfigurationError(ValueError):
    """Say that the gate was set up wrongly, and how to fix it. Raised while it is being built."""


class GateError(HTTPException):
    """Refuse a request with one documented answer.

    Attributes:
        status_code: the HTTP status, 400 to 599.
        code: a stable snake_case word, the member `code` of the problem body (RFC 9457).
        detail: one sentence that a stranger may read; it repeats nothing the request said.
        headers: what the answer carries beside the body (`WWW-Authenticate`, `Retry-After`, …).
        cause: what the operator may read in the log, `"<cause>: <explanation>"`; never public.
        problem_type: the member `type` of the problem body.
        trace: the traceback of the operator's own code that failed, for the log; never public.
        challenge: the parameters of `WWW-Authenticate` (RFC 9110 section 11.6.1) beside the scheme,
            which the gate knows best; None where the answer challenges nobody.

    Raises:
        ConfigurationError: one of these could not be sent as it is.
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
        # Written out: a flood of refusals is made of these.
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
    """400, or a neighbour (404, 405, 413, 415): the request is not what the route takes."""

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
    """401 invalid_token: the one answer to every bad token, whatever is bad about it (RFC 6750)."""

    default_status = 401
    default_code = "invalid_token"
    default_detail = "The access token is not accepted."

    def __init__(self, *, cause: str = "") -> None:
        super().__init__(cause=cause, challenge={"error": "invalid_token"})


class InvalidSignatureError(GateError):
    """401 invalid_signature: the one answer to every webhook that the platform didn't sign now.

    Its challenge names no scheme by which anybody else could get in (RFC 9110 section 15.5.2 wants
    one).
    """

    default_status = 401
    default_code = "invalid_signature"
    default_detail = "The signature is not accepted."

    def __init__(self, *, cause: str = "") -> None:
        super().__init__(cause=cause, headers={"WWW-Authenticate": "HMAC"})


class DPoPNonceRequiredError(GateError):
    """401 use_dpop_nonce: the proof is good but for its nonce; `nonce` is one (RFC 9449, 9)."""

    default_status = 401
    default_code = "use_dpop_nonce"
    default_detail = "The DPoP proof must carry the nonce of this answer."

    def __init__(self, nonce: str, *, cause: str = "") -> None:
        challenge = {"error": "use_dpop_nonce"}
        headers = {"DPoP-Nonce": nonce, "WWW-Authenticate": challenged("DPoP", challenge)}
        super().__init__(cause=cause, headers=headers, challenge=challenge)


class StepUpRequiredError(GateError):
    """401 insufficient_user_authentication: sign in again, more strongly or anew (RFC 9470).

    `acr_values` are the ways of signing in that would do, `max_age` is how many seconds ago at
    most; the challenge tells both, so that a client can ask its provider for just that.
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
    """403: the caller is known, or needn't be, and may not do this."""

    default_status = 403
    default_code = "access_denied"
    default_detail = "You may not use this agent."


class LimitReachedError(GateError):
    """429 quota_exceeded: a limit has too little left; `headers` say which, and how long to wait.

    `policies` are the limits' names, the member `violated-policies` of the problem body
    (draft-ietf-httpapi-ratelimit-headers). `conversations` are the caller's that were not settled
    yet; never public.
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
    """503 with Retry-After: something that the decision needs cannot be reached right now.

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
    """502 or 504: XUNA AI did not give a credential. Its own words are never passed on."""

    default_status = 502
    default_code = "platform_error"
    default_detail = "The voice platform did not answer as expected."


def over_budget(policy: str, cause: str, seconds: float) -> LimitReachedError:
    """Return the refusal of one who has as many of something as they may have at once."""
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
    """Return the same refusal anew, so that none that somebody keeps is changed or raised by us."""
    # Not through the class of whoever wrote it: that may want arguments.
    copy = Exception.__new__(type(error))
    copy.__dict__.update(error.__dict__, **changes)
    return copy


def trace_of(error: BaseException, secret: str = "") -> str:
    """Return a failure's traceback for the log, a token and its segments blotted out."""
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
