"""The tree of errors: statuses, codes, headers; and a cause that nothing public shows."""

import pickle
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from support.signing import CANARY

from xuna_middleware import AccessDeniedError, ConfigurationError, GateError, InvalidTokenError
from xuna_middleware.errors import (
    InvalidRequestError,
    InvalidSignatureError,
    NotAuthenticatedError,
    PlatformError,
    UnavailableError,
)

ERRORS: dict[type[GateError], tuple[int, str]] = {
    InvalidRequestError: (400, "invalid_request"),
    NotAuthenticatedError: (401, "not_authenticated"),
    InvalidTokenError: (401, "invalid_token"),
    InvalidSignatureError: (401, "invalid_signature"),
    AccessDeniedError: (403, "access_denied"),
    UnavailableError: (503, "unavailable"),
    PlatformError: (502, "platform_error"),
}


@pytest.mark.parametrize(("kind", "expected"), ERRORS.items(), ids=lambda each: str(each)[-28:])
def test_error_answers_by_itself(kind: type[GateError], expected: tuple[int, str]) -> None:
    """Each is a Starlette HTTPException with one documented status and code."""
    error = kind()
    assert isinstance(error, HTTPException)
    assert (error.status_code, error.code) == expected
    assert error.detail.endswith(".")
    assert (error.headers or {})["Cache-Control"] == "no-store"
    assert error.cause == error.code


@pytest.mark.parametrize("kind", ERRORS, ids=lambda each: each.__name__)
def test_cause_is_in_no_rendering(kind: type[GateError]) -> None:
    """It is the operator's alone."""
    error = kind(cause=f"why: {CANARY}")
    assert error.cause == f"why: {CANARY}"
    shown = f"{error} {error!r} {error.args} {error.detail} {error.headers}"
    assert CANARY not in shown


def test_challenges() -> None:
    """RFC 6750 section 3: a missing and a bad token differ."""
    assert (NotAuthenticatedError().headers or {})["WWW-Authenticate"] == "Bearer"
    challenge = (InvalidTokenError().headers or {})["WWW-Authenticate"]
    assert challenge == 'Bearer error="invalid_token"'


@pytest.mark.parametrize(
    ("seconds", "header"), [(5, "5"), (0, "1"), (-3, "1"), (0.2, "1"), (29.6, "30"), (3600, "3600")]
)
def test_retry_after_is_whole_seconds(seconds: float, header: str) -> None:
    """At least one."""
    assert (UnavailableError(retry_after=seconds).headers or {})["Retry-After"] == header


@pytest.mark.parametrize("kind", [InvalidTokenError, InvalidSignatureError])
def test_what_is_bad_has_no_words_of_its_own(kind: type[GateError]) -> None:
    """One identical body: neither detail nor code nor headers can be chosen."""
    for option in ("detail", "code", "status_code", "headers"):
        options: dict[str, Any] = {option: "x"}
        with pytest.raises(TypeError):
            kind(**options)


def test_words_and_headers_of_ones_own() -> None:
    """They add to what every answer carries, and don't replace it by accident."""
    error = AccessDeniedError("Closed.", code="closed", headers={"X-Day": "Monday"})
    assert (error.detail, error.code) == ("Closed.", "closed")
    assert set(error.headers or {}) == {"Cache-Control", "Referrer-Policy", "X-Day"}


def test_configuration_error_is_a_value_error() -> None:
    """And no answer to anybody."""
    assert issubclass(ConfigurationError, ValueError)
    assert not issubclass(ConfigurationError, HTTPException)


def test_errors_can_be_raised_through_a_context_manager() -> None:
    """They are ordinary classes: a traceback can be set on them."""
    from contextlib import contextmanager

    @contextmanager
    def passing() -> Any:
        yield

    with pytest.raises(InvalidTokenError), passing():
        raise InvalidTokenError


@pytest.mark.parametrize("kind", ERRORS, ids=lambda each: each.__name__)
def test_errors_survive_a_queue(kind: type[GateError]) -> None:
    """Test runners and workers pickle exceptions; what comes back is the same answer."""
    error = kind(cause="why: this")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.status_code, again.detail) == (error.status_code, error.detail)
