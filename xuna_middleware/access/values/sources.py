"""Sources that are evaluated per request: a claim of the caller, or a user's function.

Rules, dynamic variables and overrides share one function signature: `(identity)` or
`(identity, connection)`, sync or async. Its arity is read once, when the agent is built. A sync one
runs on the event loop and must not block; an async one has `TIME_LIMIT` seconds. Its exceptions are
logged with their traceback and become a 503, since a server error says nothing about the caller;
a `GateError` that it raises on purpose passes through unchanged.
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from starlette.requests import HTTPConnection

from xuna_middleware._core.callables import is_async
from xuna_middleware.errors import ConfigurationError, GateError, UnavailableError, trace_of
from xuna_middleware.identity.credentials import Identity

#: Seconds that a user's async function may take.
TIME_LIMIT: Final = 2.0
#: Means "no such claim", and "no default": None would be a value.
MISSING: Final[Any] = object()

_SHAPE: Final = "write a function of (identity) or (identity, connection), sync or async"
_CONNECTION_NAMES: Final = frozenset({"connection", "conn", "request", "websocket"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Name a verified claim as the source of a value; made by `claim()`."""

    path: tuple[str, ...]
    default: Any = field(default=MISSING, repr=False)

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def of(self, identity: Identity) -> Any:
        """Return the caller's value, otherwise the default, otherwise `MISSING`."""
        value = lookup(identity.claims, self.path)
        return self.default if value is MISSING else value


def claim(*path: str, default: Any = MISSING) -> Claim:
    """Take the value of a dynamic variable or override from the caller's verified claims.

    Each argument is one step into nested claims and is taken literally, dots and slashes included:
    `claim("email")`, `claim("address", "country")`, `claim("https://acme.com/plan")`.

    Without `default`, a caller whose token lacks the claim (or has null) is refused with 403
    `claim_missing`. A value that the variable or override can't hold is a 403 `invalid_claim`;
    this includes lists and objects: write a function that turns them into a text, such as
    `lambda who: ", ".join(who.claims["groups"])`.

    Raises:
        ConfigurationError: the path is empty, or a step is not a text.
    """
    return Claim(path=claim_path(path), default=default)


def claim_path(path: tuple[Any, ...]) -> tuple[str, ...]:
    """Return the path, or raise ConfigurationError if it can't name a claim."""
    if not path or not all(isinstance(step, str) and step for step in path):
        raise ConfigurationError(
            "a claim is named by one or more non-empty strings, one for each step: "
            'claim("realm_access", "roles")'
        )
    return path


def lookup(claims: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Return the claim at the path, `MISSING` if there is none or it is null."""
    value: Any = claims
    for step in path:
        # All mappings of an identity have this type; the general check takes ten times as long.
        if type(value) is not MappingProxyType and not isinstance(value, Mapping):
            return MISSING
        value = value.get(step)
    return MISSING if value is None else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Hold a user's function, ready to be called; made by `prepared()`.

    `name` is the function's name; `role` describes its purpose in logs and causes.
    """

    function: Callable[..., Any]
    name: str
    role: str
    takes_connection: bool
    is_async: bool

    async def __call__(
        self,
        identity: Identity,
        connection: HTTPConnection | None,
        deadline: float | None = None,
    ) -> Any:
        """Return the function's result for this caller, unchecked.

        `deadline` is in the event loop's time; without one the function has `TIME_LIMIT` seconds.

        Raises:
            UnavailableError: it raised, or was late.
            GateError: it raised it.
        """
        arguments = (identity, connection) if self.takes_connection else (identity,)
        try:
            if self.is_async:
                limit = time_limit() if deadline is None else deadline
                return await _in_time(self.function, arguments, limit)
            return _settled(self.function(*arguments))
        except GateError:
            raise
        except Exception as error:
            raise UnavailableError(
                cause=f"function: {self.role} raised {type(error).__name__}", trace=trace_of(error)
            ) from None


def prepared(function: Any, purpose: str) -> Call:
    """Inspect a user's function once. `purpose` goes before its name: "rule", "variable 'plan'".

    Parameters with a default are not passed, so `lambda who, plan=plan: …` is a function of
    `(identity)`.

    Raises:
        ConfigurationError: it is not a function, or not one of `(identity)` or
            `(identity, connection)`.
    """
    name = _name(function)
    role = f"{purpose} {name}"
    if isinstance(function, type) or not callable(function):
        raise ConfigurationError(f"{role} is no function: {_SHAPE}")
    return Call(
        function=function,
        name=name,
        role=role,
        takes_connection=_takes_connection(function, role),
        is_async=is_async(function),
    )


def time_limit() -> float:
    """Return the deadline of an async function that starts now, in the event loop's time."""
    return asyncio.get_running_loop().time() + TIME_LIMIT


async def _in_time(
    function: Callable[..., Any], arguments: tuple[Any, ...], deadline: float
) -> Any:
    async with asyncio.timeout_at(deadline) as limit:
        result = await function(*arguments)
    return _on_time(result, limit)


def _on_time(result: Any, limit: asyncio.Timeout) -> Any:
    # Late, and yet a result: the function suppressed its cancellation and returned this.
    if limit.expired():
        raise TimeoutError
    return result


def _settled(result: Any) -> Any:
    # A coroutine from a sync function is a forgotten await. The code that reads the result refuses
    # it; closing it here prevents Python's warning, on our caller's line, that it never ran.
    if inspect.iscoroutine(result):
        result.close()
    return result


def _takes_connection(function: Callable[..., Any], role: str) -> bool:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise ConfigurationError(f"{role}: its parameters can't be read; {_SHAPE}") from None
    required = [one for one in parameters if _is_required(one)]
    if len(required) not in (1, 2) or any(one.kind is one.KEYWORD_ONLY for one in required):
        raise ConfigurationError(
            f"{role} requires ({', '.join(one.name for one in required)}); {_SHAPE}"
        )
    if len(required) == 1:
        _check_defaults(parameters, role)
    return len(required) == 2


def _is_required(one: inspect.Parameter) -> bool:
    return one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)


def _check_defaults(parameters: list[inspect.Parameter], role: str) -> None:
    # `def rule(who, connection=None)` would never get the connection, and a check that is skipped
    # without one would admit everybody.
    for one in parameters:
        has_default = one.default is not one.empty and one.kind is not one.KEYWORD_ONLY
        if has_default and one.name in _CONNECTION_NAMES:
            raise ConfigurationError(
                f"{role}: parameters with a default are never passed, so {one.name!r} must have "
                "none to receive the connection; or give it another name"
            )


def _name(function: Any) -> str:
    inner = _unbound(function)
    return str(getattr(inner, "__qualname__", None) or type(inner).__qualname__)


def _unbound(function: Any) -> Any:
    while isinstance(function, partial):
        function = function.func
    return function
