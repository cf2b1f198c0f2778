"""Common rules: tenants, opening hours, deny lists, and a time limit for rules that do I/O."""

import logging
import re
import time
from collections.abc import Callable, Container
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import Any, Final, Literal

from starlette.requests import HTTPConnection

from xuna_middleware._core.log_rate import Paced
from xuna_middleware.access.rules.rule import (
    Rule,
    RuleLike,
    as_rule,
    combined,
    deny,
    is_uncertain,
    requirement,
)
from xuna_middleware.access.values.sources import MISSING, claim_path, lookup
from xuna_middleware.errors import (
    AccessDeniedError,
    ConfigurationError,
    GateError,
    UnavailableError,
)
from xuna_middleware.identity.credentials import Identity

logger = logging.getLogger("xuna_middleware")

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY: Final = f"(?:{'|'.join(_DAYS)})"
_HOURS: Final = re.compile(
    rf"(?:({_DAY}(?:[-,]{_DAY})*) +)?([0-2][0-9]):([0-5][0-9])-([0-2][0-9]):([0-5][0-9])"
)
_DAY_MINUTES: Final = 24 * 60
_LONGEST: Final = 30.0


def require_tenants(*tenants: str, claim: str | tuple[str, ...] = "tenant") -> Rule:
    """Admit callers of these tenants, which a claim of their token names.

    Raises:
        ConfigurationError: none are given, or one is not a text.
    """
    path = claim_path(claim if isinstance(claim, tuple) else (claim,))
    if not tenants or not all(isinstance(one, str) and one for one in tenants):
        raise ConfigurationError(
            'require_tenants takes names, each an argument of its own: require_tenants("acme")'
        )
    name = ".".join(path)

    def check(identity: Identity) -> GateError | None:
        found = lookup(identity.claims, path)
        if isinstance(found, str) and found in tenants:
            return None
        what = "is missing" if found is MISSING else "names another tenant"
        return AccessDeniedError(
            "This agent is not your organization's.",
            code="tenant_mismatch",
            cause=f"tenant: the claim {name} {what}",
        )

    return requirement(f"require_tenants({', '.join(map(repr, tenants))})", check)


def opening_hours(*hours: str, tz: str, clock: Callable[[], float] = time.time) -> Rule:
    """Admit callers in these hours: `opening_hours("Mon-Fri 09:00-18:00", "Sat 10:00-14:00",
    tz="UTC")`.

    Days are in English and may be left out; "22:00-06:00" continues after midnight; "00:00-24:00"
    is all day. The end is exclusive. `tz` is a name of the tz database, with its summer time.

    Raises:
        ConfigurationError: one of these is invalid.
    """
    spans = [span for text in hours for span in _spans(text)]
    if not spans:
        raise ConfigurationError(
            'opening_hours takes hours: opening_hours("Mon-Fri 09:00-18:00", tz="UTC")'
        )
    zone = _zone(tz)

    def check(_: Identity) -> GateError | None:
        now = datetime.fromtimestamp(clock(), UTC).astimezone(zone)
        minute = now.weekday() * _DAY_MINUTES + now.hour * 60 + now.minute
        if any((minute - begin) % (7 * _DAY_MINUTES) < minutes for begin, minutes in spans):
            return None
        return deny("outside_hours", "This agent is available only during its opening hours.")

    return requirement(f"opening_hours({', '.join(map(repr, hours))}, tz={tz!r})", check)


def deny_list(blocked: Container[Any]) -> Rule:
    """Refuse listed callers, by subject or by a pair of issuer and subject.

    `blocked` is checked with `in` for each caller, so a set may change while the gate runs. An item
    is a subject, which matches under every issuer, or a pair `(issuer, subject)`.

    Raises:
        ConfigurationError: it doesn't support `in`, or is one text or bytes.
    """
    if isinstance(blocked, str | bytes | bytearray) or not hasattr(blocked, "__contains__"):
        raise ConfigurationError(
            'deny_list takes a set: deny_list({"user-1", ("https://issuer", "user-2")})'
        )

    def check(identity: Identity) -> GateError | None:
        who = identity.subject, (identity.issuer, identity.subject)
        if any(each in blocked for each in who):
            return AccessDeniedError(cause="deny list: the caller is listed")
        return None

    return requirement("deny_list(…)", check)


def none_of(*rules: RuleLike) -> Rule:
    """Admit callers that no rule admits.

    Only an actual no counts: if a rule could not be evaluated (503), or returned anything but a
    decision, that is the answer.

    Raises:
        ConfigurationError: none are given, or one is not a rule.
    """
    if not rules:
        raise ConfigurationError("none_of takes at least one rule: none_of(rule, …)")
    several = tuple(as_rule(rule) for rule in rules)

    async def refusal(identity: Identity, connection: HTTPConnection | None) -> GateError | None:
        for rule in several:
            refused = await rule.refusal(identity, connection)
            if refused is None:
                return AccessDeniedError(cause=f"rule: {rule.name} said yes, and must not")
            if is_uncertain(refused):
                return refused
        return None

    return combined(none_of, several, refusal)


def with_timeout(
    rule: RuleLike, *, seconds: float = 2.0, on_unavailable: Literal["deny", "allow"] = "deny"
) -> Rule:
    """Set the time limit of a rule that does I/O, and the result if it fails.

    Args:
        rule: a rule or a function.
        seconds: how long it may take, up to 30.
        on_unavailable: a rule that raises or is late refuses with 503 when "deny"; when "allow" it
            admits, and the log says so. A no stays a no.

    Raises:
        ConfigurationError: one of these is invalid.
    """
    if type(seconds) not in (int, float) or not 0 < seconds <= _LONGEST:
        raise ConfigurationError(f"with_timeout(seconds=…) takes seconds, up to {_LONGEST:g}")
    if on_unavailable not in ("deny", "allow"):
        raise ConfigurationError('with_timeout(on_unavailable=…) is "deny" or "allow"')
    asked = as_rule(rule, seconds=seconds)
    lines = Paced()

    async def refusal(identity: Identity, connection: HTTPConnection | None) -> GateError | None:
        refused = await asked.refusal(identity, connection)
        if isinstance(refused, UnavailableError) and on_unavailable == "allow":
            left_out = lines.admit(asked.name)
            if left_out is not None:
                logger.warning(
                    "%s could not be asked, and is open: %s%s", asked.name, refused.cause, left_out
                )
            return None
        return refused

    return Rule(
        name=f"with_timeout({asked.name}, {seconds:g} s, {on_unavailable})",
        needs_connection=asked.needs_connection,
        parts=(asked,),
        remake=partial(with_timeout, seconds=seconds, on_unavailable=on_unavailable),
        refusal=refusal,
    )


def _spans(text: Any) -> list[tuple[int, int]]:
    """Return the start of each span, in minutes of the week, and its length in minutes."""
    match = _HOURS.fullmatch(text) if isinstance(text, str) else None
    begin = int(match[2]) * 60 + int(match[3]) if match else 0
    end = int(match[4]) * 60 + int(match[5]) if match else 0
    if match is None or begin >= _DAY_MINUTES or end > _DAY_MINUTES or begin == end:
        raise ConfigurationError(
            f"opening_hours: {text!r:.80} are no hours; "
            'write "Mon-Fri 09:00-18:00" or "22:00-06:00"'
        )
    lasting = (end - begin) % _DAY_MINUTES or _DAY_MINUTES
    return [(day * _DAY_MINUTES + begin, lasting) for day in _days(match[1])]


def _days(text: str | None) -> list[int]:
    if text is None:
        return list(range(7))
    days: list[int] = []
    for part in text.split(","):
        first, *last = (_DAYS.index(day) for day in part.split("-"))
        if len(last) > 1:
            raise ConfigurationError(
                f"opening_hours: {text!r} are no days; write Mon-Fri or Mon,Wed"
            )
        days += [(first + n) % 7 for n in range(((last or [first])[0] - first) % 7 + 1)]
    return days


def _zone(name: Any) -> tzinfo:
    from zoneinfo import ZoneInfo  # few gates need it

    try:
        return ZoneInfo(name)
    except (ValueError, TypeError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise ConfigurationError(
            f'opening_hours: {name!r} is no time zone here; write "Europe/Berlin" or "UTC" '
            "(Windows needs the package tzdata)"
        ) from None
