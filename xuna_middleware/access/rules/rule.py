"""Rules decide whether a caller is admitted. They are values to combine, or users' functions.

A function that serves as a rule returns True, False or `deny(code, detail)`. Anything else refuses,
and is logged as a mistake: a rule never admits by accident. Rules say no with an
`AccessDeniedError` (403); a rule that could not be evaluated is an `UnavailableError` (503).
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeAlias

from starlette.requests import HTTPConnection

from xuna_middleware.access.rules.step_up import acr_refusal, auth_age_refusal, together
from xuna_middleware.access.values.sources import MISSING, claim_path, lookup, prepared
from xuna_middleware.errors import (
    AccessDeniedError,
    ConfigurationError,
    GateError,
    StepUpRequiredError,
    UnavailableError,
    copied,
)
from xuna_middleware.identity.credentials import Identity

#: The results that a rule may return.
Decision: TypeAlias = bool | AccessDeniedError
RuleFunction: TypeAlias = (
    Callable[[Identity], Decision | Awaitable[Decision]]
    | Callable[[Identity, Any], Decision | Awaitable[Decision]]
)

_CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
#: RFC 6749 section 3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
#: An allowed value within the quotes of a challenge, separated by spaces (RFC 9470 section 3).
_ACR: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_LARGEST_LEEWAY: Final = 300
_DETAIL_LENGTH: Final = 300
_SHOWN_LENGTH: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Rule:
    """Hold one readable decision; its repr is its name. Combine it with `all_of` and `any_of`.

    Attributes:
        name: its name in events and logs; never contains the value of a claim.
        needs_connection: a function in it takes `(identity, connection)`.
        parts: the rules that it is made of, for explanations.
        remake: makes the same rule from other parts; None if it has none.
        refusal: returns the error to answer with, None if the caller is admitted.
    """

    name: str
    needs_connection: bool = False
    parts: "tuple[Rule, ...]" = ()
    remake: "Callable[..., Rule] | None" = None
    refusal: Callable[[Identity, HTTPConnection | None], Awaitable[GateError | None]]

    def __repr__(self) -> str:
        return self.name


#: Accepted wherever a rule is expected.
RuleLike: TypeAlias = Rule | RuleFunction


class MistakenRuleError(AccessDeniedError):
    """Say no because a rule returned something that is not a decision."""


class DenialError(AccessDeniedError):
    """Say no in the author's words; made by `deny()`. Falsy, so `deny(…) and …` stays a no."""

    def __bool__(self) -> bool:
        return False


def deny(code: str, detail: str) -> DenialError:
    """Refuse, from a rule, with a custom text: `return deny("no_plan", "Voice is for Pro.")`.

    Both go to the caller in the 403. `code` is snake_case, `detail` one printable line of at most
    300 characters. The result is falsy, like the False that it replaces.

    Raises:
        ConfigurationError: one of them is not of that form.
    """
    if not _is_code(code):
        raise ConfigurationError('the code given to deny() is snake_case, such as "no_plan"')
    if not _is_line(detail, _DETAIL_LENGTH):
        raise ConfigurationError(
            f"the detail given to deny() is one printable line of 1 to {_DETAIL_LENGTH} characters"
        )
    return DenialError(detail, code=code)


def require_scopes(*scopes: str) -> Rule:
    """Admit callers whose token carries every one of these OAuth scopes.

    Others get the 403 of RFC 6750 section 3.1, whose challenge names the scopes to ask for.

    Raises:
        ConfigurationError: none are given, or one is not a scope-token (RFC 6749 section 3.3).
    """
    wanted = _distinct("require_scopes", scopes, _SCOPE.fullmatch, '"voice:talk", "agents:read"')
    challenge = {"error": "insufficient_scope", "scope": " ".join(wanted)}

    def check(identity: Identity) -> GateError | None:
        if identity.scopes.issuperset(wanted):
            return None
        return AccessDeniedError(
            "The access token lacks a scope that this agent requires.",
            code="insufficient_scope",
            challenge=challenge,
            cause=_lacking("scope", wanted, identity.scopes),
        )

    return requirement(_named("require_scopes", wanted), check)


def require_roles(*roles: str) -> Rule:
    """Admit callers who have every one of these roles, as read by the provider's preset.

    For any one of several: `any_of(require_roles("a"), require_roles("b"))`.

    Raises:
        ConfigurationError: none are given, or one is not a printable string.
    """
    wanted = _distinct("require_roles", roles, lambda role: _is_line(role, 255), '"agent", "admin"')

    def check(identity: Identity) -> GateError | None:
        if identity.roles.issuperset(wanted):
            return None
        return AccessDeniedError(
            "You lack a role that this agent requires.",
            code="insufficient_role",
            cause=_lacking("role", wanted, identity.roles),
        )

    return requirement(_named("require_roles", wanted), check)


def require_claims(
    expected: Mapping[str | tuple[str, ...], Any] | None = None, /, **claims: Any
) -> Rule:
    """Admit callers whose verified claims equal these: `require_claims(plan="pro", staff=True)`.

    Names that are not keywords, and nested claims, go into a mapping, nested ones as a tuple with
    one item per level:
    `require_claims({"https://acme.com/plan": "pro", ("address", "country"): "DE"})`.

    *Checks* equality of type and value: True is not 1, 1 is not 1.0, "pro" is not "Pro".
    *Does not check* membership: a claim that is a list or object equals nothing here, and a text is
    never searched. Write a function for that: `lambda who: "pro" in who.claims["plans"]`.

    Raises:
        ConfigurationError: none are given, one is given twice, or an expected value is not a
            string, number or boolean.
    """
    wanted = _wanted_claims(expected, claims)

    def check(identity: Identity) -> GateError | None:
        for path, value in wanted.items():
            found = lookup(identity.claims, path)
            if type(found) is not type(value) or found != value:
                return _unlike(".".join(path), found)
        return None

    return requirement(_named("require_claims", [".".join(path) for path in wanted]), check)


def require_acr(*acr_values: str) -> Rule:
    """Admit callers whose sign-in method is one of these, by the claim `acr` (RFC 9470).

    Others, and tokens without `acr`, get the 401 `insufficient_user_authentication`, whose
    challenge names the values to request from the provider.

    Raises:
        ConfigurationError: none are given, or one is not valid in the challenge.
    """
    example = '"urn:acme:mfa", "phr"'
    wanted = _distinct("require_acr", acr_values, _ACR.fullmatch, example)
    return requirement(_named("require_acr", wanted), partial(acr_refusal, wanted))


def require_auth_age(
    seconds: int, *, leeway: float = 30, clock: Callable[[], float] = time.time
) -> Rule:
    """Admit callers who signed in at most `seconds` ago, a whole number (`auth_time`, RFC 9470).

    Others get the 401 `insufficient_user_authentication`, whose challenge names the age; so do
    tokens without `auth_time`, or with one further in the future than the leeway.

    Raises:
        ConfigurationError: a value is not a number, is negative, or the leeway is over 300 seconds.
    """
    if type(seconds) is not int or seconds < 0:
        raise ConfigurationError("require_auth_age takes whole seconds: require_auth_age(300)")
    if type(leeway) not in (int, float) or not 0 <= leeway <= _LARGEST_LEEWAY:
        raise ConfigurationError(
            f"require_auth_age: leeway must be from 0 to {_LARGEST_LEEWAY} seconds"
        )
    check = partial(auth_age_refusal, seconds, leeway, clock)
    return requirement(f"require_auth_age({seconds})", check)


def all_of(*rules: RuleLike) -> Rule:
    """Admit callers that every rule admits. Evaluates in order; the first no is the answer.

    A step-up is requested last, when no other rule refuses, and once for all the rules that need
    one: nobody should sign in again in vain, or twice.

    Raises:
        ConfigurationError: none are given, or one is not a rule.
    """
    every = _several("all_of", rules)

    async def refusal(identity: Identity, connection: HTTPConnection | None) -> GateError | None:
        step_ups: list[StepUpRequiredError] = []
        for rule in every:
            refused = await rule.refusal(identity, connection)
            if isinstance(refused, StepUpRequiredError):
                step_ups.append(refused)
            elif refused is not None:
                return refused
        return together(step_ups)

    return combined(all_of, every, refusal)


def any_of(*rules: RuleLike) -> Rule:
    """Admit callers that at least one rule admits. Evaluates in order, until the first yes.

    If all say no, the answer is that of the first rule, so put the rule first whose refusal callers
    should see. A rule that could not be evaluated (503), or returned no decision, doesn't stop a
    caller that another rule admits; if none does, that is the answer, since the no is not certain.

    Raises:
        ConfigurationError: none are given, or one is not a rule.
    """
    some = _several("any_of", rules)

    async def refusal(identity: Identity, connection: HTTPConnection | None) -> GateError | None:
        refusals: list[GateError] = []
        for rule in some:
            refused = await rule.refusal(identity, connection)
            if refused is None:
                return None
            refusals.append(refused)
        answer = next(filter(is_uncertain, refusals), refusals[0])
        return copied(answer, cause="; and ".join(dict.fromkeys(one.cause for one in refusals)))

    return combined(any_of, some, refusal)


def is_uncertain(refused: GateError) -> bool:
    """Return whether a refusal is not the rule's decision: it failed, or returned none."""
    return refused.status_code >= 500 or isinstance(refused, MistakenRuleError)


def as_rule(rule: RuleLike, *, seconds: float | None = None) -> Rule:
    """Return the rule itself, or one that calls this function; `seconds` bounds an async one.

    Raises:
        ConfigurationError: it is neither a rule nor a function with the right parameters.
    """
    if isinstance(rule, Rule):
        return rule if seconds is None else _bounded(rule, seconds)
    call = prepared(rule, "rule")

    async def refusal(identity: Identity, connection: HTTPConnection | None) -> GateError | None:
        try:
            deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
            return _refusal(await call(identity, connection, deadline), call.name)
        except GateError as error:
            # It may be a constant in the author's module, which would keep every traceback.
            return copied(error.with_traceback(None))

    return Rule(name=call.name, needs_connection=call.takes_connection, refusal=refusal)


def _bounded(rule: Rule, seconds: float) -> Rule:
    """Return the same rule with a total time limit; rules in it keep their limits."""

    async def refusal(identity: Identity, connection: HTTPConnection | None) -> GateError | None:
        try:
            async with asyncio.timeout(seconds):
                return await rule.refusal(identity, connection)
        except TimeoutError:
            return UnavailableError(cause=f"rule: {rule.name} took too long")

    return replace(rule, refusal=refusal)


def _refusal(decision: Any, name: str) -> GateError | None:
    if decision is True:
        return None
    if decision is False:
        return AccessDeniedError(cause=f"rule: {name} said no")
    if isinstance(decision, AccessDeniedError):
        return _afresh(decision, name)
    kind = type(decision).__name__
    return MistakenRuleError(
        cause=f"rule: {name} returned a {kind}",
        trace="a rule must return True, False or deny(code, detail)"
        + (" (is an await missing?)" if kind == "coroutine" else ""),
    )


def _afresh(denial: AccessDeniedError, name: str) -> AccessDeniedError:
    # A denial may be a constant in the author's module: if that one object were raised for every
    # caller, its traceback would grow and be shared.
    return AccessDeniedError(
        denial.detail,
        code=denial.code,
        status_code=denial.status_code,
        headers=denial.headers,
        cause=f"rule: {name} said {denial.code}" if denial.cause == denial.code else denial.cause,
    )


def requirement(name: str, check: Callable[[Identity], GateError | None]) -> Rule:
    """Return a rule made from a check without I/O."""

    async def refusal(identity: Identity, _: HTTPConnection | None) -> GateError | None:
        return check(identity)

    return Rule(name=name, refusal=refusal)


#: The rule of an agent without one.
ANY_VERIFIED_CALLER: Final = requirement("any verified caller", lambda _: None)


def combined(
    make: Callable[..., Rule],
    rules: tuple[Rule, ...],
    refusal: Callable[[Identity, HTTPConnection | None], Awaitable[GateError | None]],
) -> Rule:
    """Return a rule that `make` combined from others."""
    return Rule(
        name=f"{make.__name__}({', '.join(rule.name for rule in rules)})",
        needs_connection=any(rule.needs_connection for rule in rules),
        parts=rules,
        remake=make,
        refusal=refusal,
    )


def asked_once(rule: Rule) -> Rule:
    """Return the same rule for one caller; it calls its functions once, however often it runs."""
    if rule.remake is not None:
        return rule.remake(*map(asked_once, rule.parts))
    known: list[GateError | None] = []

    async def refusal(identity: Identity, connection: HTTPConnection | None) -> GateError | None:
        if not known:
            # Stays if an enclosing rule, such as with_timeout(), stops waiting.
            known.append(UnavailableError(cause=f"rule: {rule.name} took too long"))
            known[0] = await rule.refusal(identity, connection)
        return known[0]

    return replace(rule, refusal=refusal)


def _several(word: str, rules: tuple[RuleLike, ...]) -> tuple[Rule, ...]:
    if not rules:
        raise ConfigurationError(f"{word} takes at least one rule: {word}(rule, …)")
    return tuple(as_rule(rule) for rule in rules)


def _distinct(
    word: str, names: tuple[Any, ...], fits: Callable[[str], object], example: str
) -> tuple[str, ...]:
    if not names or not all(isinstance(name, str) and fits(name) for name in names):
        raise ConfigurationError(
            f"{word} takes one or more names, each an argument of its own: {word}({example})"
        )
    return tuple(dict.fromkeys(names))


def _named(word: str, names: Iterable[str]) -> str:
    return f"{word}({', '.join(map(repr, names))})"


def _wanted_claims(expected: Any, claims: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    pairs = [*(expected.items() if isinstance(expected, Mapping) else ()), *claims.items()]
    wanted = {_path(name): value for name, value in pairs}
    right = all(type(value) in (str, int, float, bool) for value in wanted.values())
    if not wanted or not right or len(wanted) != len(pairs):
        raise ConfigurationError(
            "require_claims takes each claim once, with the string, number or boolean that it must "
            'equal: require_claims(plan="pro"); for lists write a function'
        )
    return wanted


def _path(name: Any) -> tuple[str, ...]:
    return claim_path(name if isinstance(name, tuple) else (name,))


def _lacking(kind: str, wanted: tuple[str, ...], held: frozenset[str]) -> str:
    missing = ", ".join(name for name in wanted if name not in held)
    shown = ", ".join(sorted(map(ascii, held)))[:_SHOWN_LENGTH] or "none"
    return f"{kind}: lacks {missing}; the caller has {shown}"


def _unlike(name: str, found: Any) -> AccessDeniedError:
    what = "is missing" if found is MISSING else "is not what the rule requires"
    return AccessDeniedError(
        "Your account does not meet a condition of this agent.",
        code="claim_mismatch",
        cause=f"claim: {name} {what}",
    )


def _is_code(value: Any) -> bool:
    return isinstance(value, str) and _CODE.fullmatch(value) is not None


def _is_line(value: Any, length: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= length and value.isprintable()
