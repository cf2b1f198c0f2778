"""Check whether the caller's sign-in was strong and recent enough (RFC 9470). Pure.

`acr` says how the caller signed in, `auth_time` when (OpenID Connect Core 1.0 section 2; RFC 9068
section 2.2.1 for access tokens). A provider includes them on request; without them, nothing is
known about the sign-in.
"""

from collections.abc import Callable, Iterable
from typing import Any

from xuna_middleware.errors import StepUpRequiredError
from xuna_middleware.identity.credentials import Identity


def acr_refusal(wanted: tuple[str, ...], identity: Identity) -> StepUpRequiredError | None:
    """Return the refusal if the claim `acr` is none of the wanted values."""
    acr = identity.claims.get("acr")
    if isinstance(acr, str) and acr in wanted:
        return None
    how = "is another one" if isinstance(acr, str) else "is missing, or no text"
    return StepUpRequiredError(acr_values=wanted, cause=f"step-up: acr {how}")


def auth_age_refusal(
    seconds: int, leeway: float, clock: Callable[[], float], identity: Identity
) -> StepUpRequiredError | None:
    """Return the refusal if the claim `auth_time` is longer ago."""
    auth_time: Any = identity.claims.get("auth_time")
    if _is_time(auth_time) and -leeway <= clock() - auth_time <= seconds + leeway:
        return None
    how = "is too long ago, or ahead" if _is_time(auth_time) else "is missing, or no number"
    return StepUpRequiredError(max_age=seconds, cause=f"step-up: auth_time {how}")


def together(refusals: Iterable[StepUpRequiredError]) -> StepUpRequiredError | None:
    """Return one refusal that combines the requirements of all of these; None if there are none.

    Of several lists of `acr_values`, the common values are requested; if there is no common value,
    the first list is requested first.
    """
    every = list(refusals)
    if not every:
        return None
    lists = [one.acr_values for one in every if one.acr_values]
    ages = [one.max_age for one in every if one.max_age is not None]
    return StepUpRequiredError(
        acr_values=_common(lists),
        max_age=min(ages, default=None),
        cause=every[0].cause if len(every) == 1 else "step-up: acr and auth_time do not suffice",
    )


def _common(lists: list[tuple[str, ...]]) -> tuple[str, ...]:
    if not lists:
        return ()
    return tuple(value for value in lists[0] if all(value in each for each in lists)) or lists[0]


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 2**53
