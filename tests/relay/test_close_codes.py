"""Close codes and reasons: which may be sent, which pass through, how long they may be."""

from pathlib import Path

import pytest

from xuna_middleware import AccessDeniedError, GateError, InvalidTokenError, LimitReachedError
from xuna_middleware.errors import InvalidRequestError, PlatformError, UnavailableError
from xuna_middleware.relay import close_codes as endings
from xuna_middleware.relay.close_codes import (
    PLATFORM_ERROR,
    CloseReason,
    ConversationClosedError,
    cause_of,
    closed_by_platform,
    hung_up,
    is_sendable,
    refused,
    short,
    told_to_platform,
)

SENDABLE = (1000, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 3999, 4000, 4411, 4999)
RESERVED = (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)


def test_codes_that_may_stand_in_a_close_frame() -> None:
    """RFC 6455 section 7.4: what is reserved is never sent."""
    assert [code for code in (*SENDABLE, *RESERVED) if is_sendable(code)] == list(SENDABLE)


@pytest.mark.parametrize(
    ("told", "ending"),
    [
        ((1000, "done"), CloseReason(code=1000, reason="done", by="platform")),
        (
            (4321, "a word of its own"),
            CloseReason(code=4321, reason="a word of its own", by="platform"),
        ),
        ((1008, ""), CloseReason(code=1008, reason="", by="platform")),
        ((1005, ""), CloseReason(code=1000, reason="", by="platform")),
        ((1006, ""), PLATFORM_ERROR),
        ((1015, ""), PLATFORM_ERROR),
        ((2500, "reserved"), PLATFORM_ERROR),
        (None, PLATFORM_ERROR),
    ],
)
def test_the_platforms_own_close(told: tuple[int, str] | None, ending: CloseReason) -> None:
    """It passes through where it may be sent; where it said none, it broke off."""
    assert closed_by_platform(told) == ending


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        (hung_up(1000, ""), (1000, "")),
        (hung_up(4000, "my own"), (4000, "my own")),
        (hung_up(1001, "é" * 100), (1001, "é" * 61)),
        (hung_up(1005, ""), (1000, "")),
        (hung_up(1006, "broken off"), (1000, "")),
        (endings.REVOKED, (1000, "")),
        (endings.MAX_DURATION, (1000, "")),
        (CloseReason(code=4321, reason="its own", by="platform"), (1000, "")),
    ],
)
def test_what_the_platform_is_told(ending: CloseReason, told: tuple[int, str]) -> None:
    """A client's goodbye is handed on; what the gate decides is none of the platform's affairs."""
    assert told_to_platform(ending) == told


@pytest.mark.parametrize(
    ("ending", "cause"),
    [
        (endings.REVOKED, "gate: revoked"),
        (hung_up(1000, ""), "client: closed"),
        (hung_up(4000, "é\n\x00"), "client: é??"),
    ],
)
def test_why_it_ended_in_one_line(ending: CloseReason, cause: str) -> None:
    """Either side's word may be anything."""
    assert cause_of(ending) == cause


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (InvalidRequestError(code="variable_not_allowed"), 4400, "variable_not_allowed"),
        (InvalidRequestError(status_code=413, code="content_too_large"), 4400, "content_too_large"),
        (InvalidTokenError(), 4401, "invalid_token"),
        (AccessDeniedError(code="override_not_allowed"), 4403, "override_not_allowed"),
        (LimitReachedError(), 4429, "quota_exceeded"),
        (PlatformError(), 4502, "platform_error"),
        (UnavailableError(), 4503, "unavailable"),
        (PlatformError(status_code=504, code="platform_timeout"), 4504, "platform_timeout"),
    ],
)
def test_refusals_have_a_close_code(error: GateError, code: int, reason: str) -> None:
    """4000 and the status, and the code as the reason."""
    assert refused(error) == CloseReason(code=code, reason=reason, by="gate")


@pytest.mark.parametrize("reason", ["", "a" * 123, "a" * 124, "é" * 62, "a" + "€" * 41, "😀" * 40])
def test_reasons_fit_into_a_close_frame(reason: str) -> None:
    """At most 123 bytes of UTF-8, never half a letter (RFC 6455 section 5.5)."""
    cut = short(reason)
    assert len(cut.encode()) <= 123
    assert reason.startswith(cut)
    assert len(cut.encode()) > 123 - 4 or cut == reason


def test_a_reason_that_is_no_utf8() -> None:
    """A lone surrogate is nothing that can be sent."""
    assert short("a\ud800b") == "a?b"


def test_every_end_of_the_gates_own_may_be_sent() -> None:
    """Each is a row of the table at the top of the module."""
    own = [
        each
        for each in vars(endings).values()
        if isinstance(each, CloseReason) and each.by == "gate"
    ]
    assert len(own) > 15
    for ending in own:
        assert is_sendable(ending.code)
        assert ending.by == "gate"
        assert ending is endings.FAULT or (
            f"`{ending.reason}`" in str(endings.__doc__) and f"| {ending.code} |" in endings.__doc__
        )


def test_the_documented_table_has_each_end() -> None:
    """docs/relay.md tells every code and reason that a client may see."""
    page = (Path(__file__).parents[2] / "docs/relay.md").read_text(encoding="utf-8")
    for ending in (each for each in vars(endings).values() if isinstance(each, CloseReason)):
        rows = [row for row in page.splitlines() if row.startswith(f"| {ending.code} |")]
        assert ending.by == "client" or any(f"`{ending.reason}`" in row for row in rows), ending


def test_an_end_says_its_word() -> None:
    """And nothing else."""
    assert str(ConversationClosedError(endings.INVALID_JSON)) == "invalid_json"
