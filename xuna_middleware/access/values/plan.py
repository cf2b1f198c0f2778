"""An agent's personal data, sorted once into fixed values and those evaluated per caller."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from xuna_middleware.access.grants import Personalization
from xuna_middleware.access.values.fields import (
    MAX_ALL_TEXT,
    MAX_VARIABLES,
    Check,
    both,
    override_check,
    text,
    too_much,
    variable_check,
)
from xuna_middleware.access.values.sources import MISSING, Call, Claim, prepared
from xuna_middleware.errors import ConfigurationError

#: In characters, the same maximum as for a `sub`.
_LONGEST_USER_ID: Final = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Name a variable or override whose value depends on the caller."""

    name: str
    source: Claim | Call
    check: Check


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Hold an agent's personal data, sorted into fixed values and those evaluated per caller.

    Attributes:
        fixed: the literals, ready for use as they are.
        variables, overrides: the single values from claims and functions.
        mapping: the one function that returns all variables, if configured.
        user_id: the source of the `user_id` for the platform; None if it gets none.
    """

    fixed: Personalization
    variables: tuple[Wanted, ...]
    overrides: tuple[Wanted, ...]
    mapping: Call | None
    #: The additional checks of declared variables, beyond being scalars.
    kinds: Mapping[str, Check]
    user_id: Wanted | None = None

    @property
    def is_fixed(self) -> bool:
        return not (self.variables or self.overrides or self.mapping)

    @property
    def needs_connection(self) -> bool:
        named = () if self.user_id is None else (self.user_id,)
        sources = (wanted.source for wanted in (*self.variables, *self.overrides, *named))
        calls = (one for one in (self.mapping, *sources) if isinstance(one, Call))
        return any(call.takes_connection for call in calls)


def make_plan(
    variables: Any, overrides: Any, kinds: Mapping[str, Check], user_id: Any = None
) -> Plan:
    """Check and sort an agent's variables and overrides, or raise ConfigurationError.

    `kinds` are checks of declared variables, in addition to the one that all must pass.
    """
    mapping = None
    if callable(variables):
        mapping, variables = prepared(variables, "dynamic_variables function"), {}

    def check_of(name: Any) -> Check:
        check = variable_check(name)
        return both(check, kinds[name]) if name in kinds else check

    fixed, wanted = _sorted_out("dynamic_variables", variables, check_of)
    if too_much(fixed) or len(variables) > MAX_VARIABLES:
        raise ConfigurationError(
            f"dynamic_variables holds at most {MAX_VARIABLES} variables and {MAX_ALL_TEXT} "
            "characters in all"
        )
    fixed_overrides, wanted_overrides = _sorted_out("overrides", overrides, override_check)
    return Plan(
        fixed=Personalization(
            dynamic_variables=MappingProxyType(fixed), overrides=MappingProxyType(fixed_overrides)
        ),
        variables=wanted,
        overrides=wanted_overrides,
        mapping=mapping,
        kinds=kinds,
        user_id=None if user_id is None else _user_id(user_id),
    )


def _user_id(source: Any) -> Wanted:
    """Parse the source of the `user_id`; a literal is refused, since all users would share it."""
    if not isinstance(source, Claim) and not callable(source):
        raise ConfigurationError(
            'user_id takes claim(…) or a function, such as user_id=claim("sub")'
        )
    return _wanted("user_id", "user_id", source, text(_LONGEST_USER_ID))


def _sorted_out(
    option: str, sources: Any, check_of: Callable[[Any], Check]
) -> tuple[dict[str, Any], tuple[Wanted, ...]]:
    if not isinstance(sources, Mapping):
        raise ConfigurationError(f"{option} takes a mapping of names to values")
    fixed: dict[str, Any] = {}
    wanted: list[Wanted] = []
    for name, source in sources.items():
        check = check_of(name)
        if isinstance(source, Claim) or callable(source):
            wanted.append(_wanted(option, name, source, check))
        else:
            _check_literal(option, name, source, check)
            fixed[name] = source
    return fixed, tuple(wanted)


def _wanted(option: str, name: str, source: Any, check: Check) -> Wanted:
    if not isinstance(source, Claim):
        source = prepared(source, f"{option} {name!r}:")
    elif source.default is not MISSING:
        _check_literal(option, name, source.default, check)
    return Wanted(name=name, source=source, check=check)


def _check_literal(option: str, name: str, literal: Any, check: Check) -> None:
    problem = check(literal)
    if problem:
        raise ConfigurationError(f"{option} {name!r} {problem}; or give it claim(…) or a function")
