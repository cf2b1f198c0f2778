"""Rules that many need: what they admit, what they refuse, and how they are composed."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from support.doubles import in_fast_time, make_gate

from xuna_middleware import (
    AccessDeniedError,
    Agent,
    ConfigurationError,
    GateError,
    Identity,
    all_of,
    any_of,
    deny,
    deny_list,
    none_of,
    opening_hours,
    require_roles,
    require_scopes,
    require_tenants,
    with_timeout,
)
from xuna_middleware.errors import UnavailableError

ANNA = Identity(subject="anna", issuer="https://one", claims={"tenant": "acme"})


async def refused(rule: Any, who: Identity = ANNA) -> GateError | None:
    """Return what a rule answers, None where it admits."""
    gate = make_gate(agents=[Agent("a", id="agent_1", allow=rule)])
    try:
        await gate.issue(who, transport="websocket")
    except GateError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("claims", "admitted"),
    [
        ({"tenant": "acme"}, True),
        ({"tenant": "globex"}, True),
        ({"tenant": "Acme"}, False),
        ({"tenant": "acm"}, False),
        ({"tenant": ["acme"]}, False),
        ({"tenant": None}, False),
        ({}, False),
    ],
)
async def test_tenants(claims: dict[str, Any], admitted: bool) -> None:
    """By a claim, exactly."""
    error = await refused(require_tenants("acme", "globex"), Identity(subject="u", claims=claims))
    assert (error is None) is admitted
    assert error is None or error.code == "tenant_mismatch"


async def test_tenants_by_another_claim() -> None:
    """A deeper one, too."""
    rule = require_tenants("acme", claim=("org", "name"))
    assert await refused(rule, Identity(subject="u", claims={"org": {"name": "acme"}})) is None


@pytest.mark.parametrize(
    ("hours", "tz", "moment", "admitted"),
    [
        # 2026-11-23 is a Monday
        (("Mon-Fri 09:00-18:00",), "UTC", "2026-11-23 09:00", True),
        (("Mon-Fri 09:00-18:00",), "UTC", "2026-11-23 08:59", False),
        (("Mon-Fri 09:00-18:00",), "UTC", "2026-11-23 17:59", True),
        (("Mon-Fri 09:00-18:00",), "UTC", "2026-11-23 18:00", False),
        (("Mon-Fri 09:00-18:00",), "UTC", "2026-11-28 12:00", False),
        (("Mon-Fri 09:00-18:00", "Sat 10:00-14:00"), "UTC", "2026-11-28 12:00", True),
        (("09:00-18:00",), "UTC", "2026-11-29 12:00", True),
        (("Fri-Mon 09:00-18:00",), "UTC", "2026-11-29 12:00", True),
        (("Fri-Mon 09:00-18:00",), "UTC", "2026-11-25 12:00", False),
        (("Mon,Wed 09:00-18:00",), "UTC", "2026-11-24 12:00", False),
        (("Mon,Wed 09:00-18:00",), "UTC", "2026-11-25 12:00", True),
        (("Sun 22:00-06:00",), "UTC", "2026-11-23 05:59", True),
        (("Sun 22:00-06:00",), "UTC", "2026-11-23 06:00", False),
        (("Mon 22:00-06:00",), "UTC", "2026-11-23 05:59", False),
        (("Sat 00:00-24:00",), "UTC", "2026-11-28 23:59", True),
        (("Sat 00:00-24:00",), "UTC", "2026-11-29 00:00", False),
        (("Mon 09:00-10:00",), "Europe/Berlin", "2026-11-23 08:30", True),
        (("Mon 09:00-10:00",), "Europe/Berlin", "2026-07-20 07:30", True),
        (("Mon 09:00-10:00",), "Europe/Berlin", "2026-07-20 08:30", False),
        (("Tue 00:00-02:00",), "Asia/Tokyo", "2026-11-23 16:00", True),
    ],
)
async def test_hours(hours: tuple[str, ...], tz: str, moment: str, admitted: bool) -> None:
    """In the zone's own time, summer time included."""
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
    error = await refused(opening_hours(*hours, tz=tz, clock=lambda: at))
    assert (error is None) is admitted
    assert error is None or error.code == "outside_hours"


@pytest.mark.parametrize(
    "hours",
    [
        (),
        ("9-18",),
        ("Mo 09:00-18:00",),
        ("09:00-09:00",),
        ("24:00-25:00",),
        ("09:60-10:00",),
        ("Mon-Wed-Fri 09:00-18:00",),
        (None,),
    ],
)
def test_hours_that_are_none(hours: Any) -> None:
    """Refused where they are written."""
    with pytest.raises(ConfigurationError, match="opening_hours"):
        opening_hours(*hours, tz="UTC")


@pytest.mark.parametrize("tz", ["Mars/Olympus", "", "../etc/passwd", None])
def test_zones_that_are_none(tz: Any) -> None:
    """Refused where they are written."""
    with pytest.raises(ConfigurationError, match="time zone"):
        opening_hours("09:00-18:00", tz=tz)


async def test_deny_list_may_change() -> None:
    """Who is put on it is refused from then on; a pair means one issuer's."""
    blocked: set[Any] = set()
    rule = deny_list(blocked)
    assert await refused(rule) is None
    blocked.add("anna")
    assert isinstance(await refused(rule), AccessDeniedError)
    blocked.clear()
    blocked.add(("https://two", "anna"))
    assert await refused(rule) is None
    blocked.add(("https://one", "anna"))
    assert isinstance(await refused(rule), AccessDeniedError)


@pytest.mark.parametrize("blocked", ["anna", b"anna", bytearray(b"anna"), 7, None])
def test_deny_lists_that_are_none(blocked: Any) -> None:
    """One text would refuse whoever is a part of it."""
    with pytest.raises(ConfigurationError, match="deny_list"):
        deny_list(blocked)


async def test_none_of() -> None:
    """Nobody whom one of them admits; a rule that can't be asked is no no."""

    def broken(who: Identity) -> bool:
        raise LookupError

    assert await refused(none_of(require_tenants("evil"), require_scopes("x"))) is None
    error = await refused(none_of(require_tenants("evil"), require_tenants("acme")))
    assert isinstance(error, AccessDeniedError)
    assert "must not" in error.cause
    assert isinstance(await refused(none_of(broken)), UnavailableError)
    with pytest.raises(ConfigurationError, match="none_of"):
        none_of()


async def is_blocked(who: Identity) -> bool:
    return True


#: What a rule returns by mistake, as one that should say yes.
MISTAKES: dict[str, Any] = {
    "nothing": lambda who: None,
    "a text": lambda who: "blocked",
    "a number": lambda who: 1,
    "a list": lambda who: [True],
    "a forgotten await": lambda who: is_blocked(who),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize(
    "around",
    [
        none_of,
        all_of,
        any_of,
        with_timeout,
        lambda rule: with_timeout(rule, on_unavailable="allow"),
        lambda rule: none_of(all_of(rule)),
        lambda rule: none_of(any_of(require_scopes("x"), rule)),
        lambda rule: none_of(with_timeout(rule)),
        lambda rule: none_of(none_of(rule)),
        lambda rule: all_of(none_of(require_scopes("x")), rule),
    ],
)
async def test_what_is_no_decision_admits_nobody(
    mistake: str, around: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Least of all where a no would admit; the log says what is wrong with the rule."""
    error = await refused(around(MISTAKES[mistake]))
    assert isinstance(error, AccessDeniedError)
    assert error.status_code == 403
    assert "a rule must return True, False or deny(code, detail)" in caplog.text


async def test_reasons_of_several() -> None:
    """Where nobody says yes, the log has every reason; the caller has the first rule's answer."""
    error = await refused(any_of(require_scopes("voice:talk"), require_roles("admin")))
    assert error is not None
    assert error.code == "insufficient_scope"
    assert "lacks voice:talk" in error.cause
    assert "lacks admin" in error.cause


class TestTimed:
    """Rules that ask somebody else."""

    def test_late_rule_is_closed(self) -> None:
        """By default, after its own time."""

        async def late(who: Identity) -> bool:
            await asyncio.sleep(1.5)
            return True

        assert isinstance(in_fast_time(refused(with_timeout(late, seconds=1))), UnavailableError)
        assert in_fast_time(refused(with_timeout(late, seconds=1.6))) is None

    def test_longer_than_other_rules(self) -> None:
        """More than the two seconds that every function has."""

        async def slow(who: Identity) -> bool:
            await asyncio.sleep(9)
            return True

        assert isinstance(in_fast_time(refused(slow)), UnavailableError)
        assert in_fast_time(refused(with_timeout(slow, seconds=10))) is None

    def test_whole_of_several(self) -> None:
        """A combination has its time in all."""

        async def slow(who: Identity) -> bool:
            await asyncio.sleep(1.5)
            return True

        both = all_of(slow, slow)
        assert in_fast_time(refused(both)) is None
        assert isinstance(in_fast_time(refused(with_timeout(both, seconds=2))), UnavailableError)

    async def test_open_when_down(self, caplog: pytest.LogCaptureFixture) -> None:
        """By the author's word; the log says so, and a no stays a no."""

        async def down(who: Identity) -> bool:
            raise ConnectionError

        async def says_no(who: Identity) -> Any:
            return deny("no_plan", "Voice is for Pro.")

        with caplog.at_level(logging.WARNING):
            assert await refused(with_timeout(down, on_unavailable="allow")) is None
        assert "is open" in caplog.text
        error = await refused(with_timeout(says_no, on_unavailable="allow"))
        assert error is not None
        assert error.code == "no_plan"

    @pytest.mark.parametrize(
        "options", [{"seconds": 0}, {"seconds": 31}, {"seconds": True}, {"on_unavailable": "ajar"}]
    )
    def test_options_that_make_no_sense(self, options: dict[str, Any]) -> None:
        """Told at once."""
        with pytest.raises(ConfigurationError, match="with_timeout"):
            with_timeout(require_scopes("x"), **options)
