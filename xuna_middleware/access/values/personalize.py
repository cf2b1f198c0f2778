"""Personalization: check the client's values, collect the server's, and merge both.

The server's value always wins. A client may add only names that the agent's configuration opens,
and if both sides set one name, the request is refused: nothing is dropped silently. No error text
repeats what a client sent.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from starlette.requests import HTTPConnection

from xuna_middleware.access.agents import Agent
from xuna_middleware.access.grants import Personalization
from xuna_middleware.access.values.fields import (
    OVERRIDES,
    is_reserved,
    is_secret,
    is_variable_name,
    scalar,
    too_much,
)
from xuna_middleware.access.values.plan import Plan, Wanted
from xuna_middleware.access.values.sources import MISSING, Call, Claim, time_limit
from xuna_middleware.errors import AccessDeniedError, InvalidRequestError, UnavailableError
from xuna_middleware.identity.credentials import Identity

_NOTHING: Final = Personalization()


def check_client(
    agent: Agent, dynamic_variables: Any, overrides: Any, *, is_whole: bool = True
) -> Personalization:
    """Return a client's values, checked; both arguments are parsed JSON, None if absent.

    With `is_whole=False`, more values will follow, so required ones may still be missing.

    `dynamic_variables` is an object of strings, finite numbers and booleans. `overrides` is nested
    in the platform's format: `{"agent": {"language": "de"}}`.

    *Checks* that the agent opens each name and path, and types, sizes and count.
    *Does not check* for clashes with the server's values: `personalize()` does.

    Raises:
        InvalidRequestError: 400, not as described (`invalid_variable`, `invalid_override`), a name
            that is not open (`variable_not_allowed`) or never is (`variable_reserved`), a missing
            required one (`variable_missing`).
        AccessDeniedError: 403 `override_not_allowed`, a path that the agent does not open.
    """
    if dynamic_variables is None and overrides is None and not agent.variable_types:
        return _NOTHING
    client = Personalization(
        dynamic_variables=MappingProxyType(_client_variables(agent, dynamic_variables)),
        overrides=MappingProxyType(_client_overrides(agent, overrides)),
    )
    if is_whole and agent.plan.mapping is None:
        _check_required(agent, {*agent.variable_names, *client.dynamic_variables})
    return client


async def personalize(
    agent: Agent,
    identity: Identity,
    connection: HTTPConnection | None,
    client: Personalization,
) -> Personalization:
    """Return the server's values for this caller, merged with the client's.

    `client` is the result of `check_client()` for the same agent. Functions are called one after
    another and share one time limit.

    Raises:
        AccessDeniedError: 403, a claim is missing (`claim_missing`) or has no valid value
            (`invalid_claim`).
        UnavailableError: 503, a function failed, was late, or returned an invalid value.
        InvalidRequestError: 400 `variable_conflict`, both sides set one name or path.
        ConfigurationError: a function takes a connection, and there is none.
    """
    return merge(agent, await ask_server(agent, identity, connection), client)


async def ask_server(
    agent: Agent, identity: Identity, connection: HTTPConnection | None
) -> Personalization:
    """Return only the server's values for this caller, before the client has sent any.

    Raises: as `personalize()`.
    """
    agent.check_connection(connection)
    return await _servers(agent.plan, identity, connection)


async def ask_user_id(
    agent: Agent, identity: Identity, connection: HTTPConnection | None
) -> str | None:
    """Return the `user_id` for the platform; None if it gets none.

    Raises: as `personalize()`.
    """
    if agent.plan.user_id is None:
        return None
    agent.check_connection(connection)
    name: str = await _value(agent.plan.user_id, identity, connection, time_limit())
    return name


def merge(agent: Agent, server: Personalization, client: Personalization) -> Personalization:
    """Return the server's values and the client's together; see `personalize()`."""
    if agent.plan.mapping is not None and agent.variable_types:
        _check_required(agent, {*server.dynamic_variables, *client.dynamic_variables})
    if not client:
        return server
    _check_conflict(server, client)
    variables = {**server.dynamic_variables, **client.dynamic_variables}
    if too_much(variables):
        raise _invalid_variable("too many, or too long, with the server's")
    return Personalization(
        dynamic_variables=MappingProxyType(variables),
        overrides=MappingProxyType({**server.overrides, **client.overrides}),
    )


def _client_variables(agent: Agent, sent: Any) -> dict[str, Any]:
    if sent is None:
        return {}
    if not isinstance(sent, Mapping):
        raise _invalid_variable("dynamic_variables is no object")
    for name, value in sent.items():
        _check_client_variable(agent, name, value)
    if too_much(sent):
        raise _invalid_variable("too many, or too long together")
    return dict(sent)


def _check_client_variable(agent: Agent, name: Any, value: Any) -> None:
    shown = name if is_variable_name(name) else "a name that no variable has"
    if isinstance(name, str) and (is_reserved(name) or is_secret(name)):
        raise InvalidRequestError(
            "Dynamic variables of this kind are not taken from clients.",
            code="variable_reserved",
            cause=f"client variable: {shown} is reserved",
        )
    if name not in agent.client_variables:
        raise InvalidRequestError(
            "A dynamic variable is not one that this agent takes from clients.",
            code="variable_not_allowed",
            cause=f"client variable: {shown} is not in client_variables",
        )
    kind = agent.variable_types.get(name)
    problem = scalar(value) or (kind and kind.check(value))
    if problem:
        raise _invalid_variable(f"{shown} {problem}")


def _invalid_variable(problem: str) -> InvalidRequestError:
    return InvalidRequestError(
        "dynamic_variables must be an object of short strings, finite numbers and booleans.",
        code="invalid_variable",
        cause=f"client variable: {problem}",
    )


def _client_overrides(agent: Agent, sent: Any) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    if sent is not None:
        _flatten(agent, sent, "", flat)
    return flat


def _flatten(agent: Agent, sent: Any, prefix: str, flat: dict[str, Any]) -> None:
    # Recurses only as deep as the known paths, whatever is sent.
    if not isinstance(sent, Mapping):
        raise _invalid_override(f"{prefix.rstrip('.') or 'overrides'} is no object")
    for key, value in sent.items():
        path = f"{prefix}{key}" if isinstance(key, str) and "." not in key else ""
        if path in _GROUPS:
            _flatten(agent, value, f"{path}.", flat)
        else:
            flat[path] = _client_override(agent, path, value)


def _client_override(agent: Agent, path: str, value: Any) -> Any:
    if path not in agent.client_overrides:
        shown = path if path in OVERRIDES else "an unknown path"
        raise AccessDeniedError(
            "An override is not one that this agent takes from clients.",
            code="override_not_allowed",
            cause=f"client override: {shown} is not open",
        )
    narrower = agent.override_kinds.get(path)
    problem = OVERRIDES[path](value) or (narrower and narrower(value))
    if problem:
        raise _invalid_override(f"{path} {problem}")
    return value


def _invalid_override(problem: str) -> InvalidRequestError:
    return InvalidRequestError(
        "overrides must be nested objects of the values that the platform takes there.",
        code="invalid_override",
        cause=f"client override: {problem}",
    )


def _groups(paths: Iterable[str]) -> frozenset[str]:
    steps = [path.split(".") for path in paths]
    return frozenset(".".join(path[:end]) for path in steps for end in range(1, len(path)))


#: The objects in which the platform nests its overrides: `agent`, `agent.prompt`, `tts`, …
_GROUPS: Final = _groups(OVERRIDES)


async def _servers(
    plan: Plan, identity: Identity, connection: HTTPConnection | None
) -> Personalization:
    if plan.is_fixed:
        return plan.fixed
    deadline = time_limit()
    variables = dict(plan.fixed.dynamic_variables)
    if plan.mapping is not None:
        variables.update(
            _variables(plan, plan.mapping, await plan.mapping(identity, connection, deadline))
        )
    for wanted in plan.variables:
        variables[wanted.name] = await _value(wanted, identity, connection, deadline)
    overrides = dict(plan.fixed.overrides)
    for wanted in plan.overrides:
        overrides[wanted.name] = await _value(wanted, identity, connection, deadline)
    return Personalization(
        dynamic_variables=MappingProxyType(variables), overrides=MappingProxyType(overrides)
    )


async def _value(
    wanted: Wanted, identity: Identity, connection: HTTPConnection | None, deadline: float
) -> Any:
    if isinstance(wanted.source, Claim):
        return _claimed(wanted, wanted.source, identity)
    value = await wanted.source(identity, connection, deadline)
    problem = wanted.check(value)
    if problem:
        raise _unusable_result(wanted.source, f"what it returns {problem}")
    return value


def _claimed(wanted: Wanted, source: Claim, identity: Identity) -> Any:
    value = source.of(identity)
    if value is MISSING:
        raise AccessDeniedError(
            "Your account lacks something that this agent needs to know.",
            code="claim_missing",
            cause=f"claim: {source.name} is missing, which {wanted.name} needs; or give a default",
        )
    problem = wanted.check(value)
    if problem:
        raise AccessDeniedError(
            "Your account holds something that this agent can't use.",
            code="invalid_claim",
            cause=f"claim: {source.name}, as {wanted.name}, {problem}",
        )
    return value


def _variables(plan: Plan, mapping: Call, returned: Any) -> Mapping[str, Any]:
    if not isinstance(returned, Mapping):
        kind = type(returned).__name__
        raise _unusable_result(mapping, f"what it returns must be a mapping, not a {kind}")
    for name, value in returned.items():
        if not is_variable_name(name) or is_reserved(name):
            raise _unusable_result(mapping, "a name that it returns is none a variable may have")
        check = plan.kinds.get(name)
        problem = scalar(value) or (check and check(value))
        if problem:
            raise _unusable_result(mapping, f"{name!r} {problem}")
    if too_much(returned):
        raise _unusable_result(mapping, "it returns too many variables, or too much text")
    return returned


def _unusable_result(call: Call, problem: str) -> UnavailableError:
    return UnavailableError(cause=f"function: {call.role}: {problem}", trace=problem)


def _check_required(agent: Agent, given: set[str]) -> None:
    """Refuse a conversation that the platform would end at once because a variable is missing."""
    missing = sorted(agent.required_variables - given)
    if not missing:
        return
    if any(name not in agent.client_variables for name in missing):
        cause = f"variable: dynamic_variables returned no {', '.join(missing)}, which is required"
        raise UnavailableError(cause=cause, trace=cause)
    raise InvalidRequestError(
        "A dynamic variable that this agent needs is missing.",
        code="variable_missing",
        cause=f"client variable: {', '.join(missing)} is required",
    )


def _check_conflict(server: Personalization, client: Personalization) -> None:
    both = (server.dynamic_variables.keys() & client.dynamic_variables.keys()) | (
        server.overrides.keys() & client.overrides.keys()
    )
    if both:
        raise InvalidRequestError(
            "A value that you sent is one that the server sets.",
            code="variable_conflict",
            cause=f"conflict: the server sets {', '.join(sorted(both))} too",
        )
