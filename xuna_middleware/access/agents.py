"""An agent's configuration; everything that can be checked is checked here, once.

The personal data that an agent adds to a conversation comes from literals, claims and functions.
They are sorted into a `Plan` when the agent is built, so that a request evaluates only the
sources that vary.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from starlette.requests import HTTPConnection

from xuna_middleware.access.grants import Scalar, Transport
from xuna_middleware.access.limits.limits import AnyLimit, checked_limits
from xuna_middleware.access.relay_rules import RelayRules
from xuna_middleware.access.rules.rule import ANY_VERIFIED_CALLER, Rule, RuleLike, as_rule
from xuna_middleware.access.values.fields import Check, is_secret, override_check, variable_check
from xuna_middleware.access.values.plan import Plan, make_plan
from xuna_middleware.access.values.sources import Claim
from xuna_middleware.access.values.types import KINDS, Kind
from xuna_middleware.errors import ConfigurationError
from xuna_middleware.identity.credentials import Identity

#: A literal, `claim(…)`, or a function of `(identity)` or `(identity, connection)`, sync or async.
Source: TypeAlias = Scalar | Claim | Callable[[Identity], Any] | Callable[[Identity, Any], Any]
#: One source for each variable, or one function that returns a mapping of values.
Variables: TypeAlias = (
    Mapping[str, Source]
    | Callable[[Identity], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
    | Callable[[Identity, Any], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
)
_AGENT_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LONGEST_CONVERSATION: Final = 86_400
#: Seconds after which the relay ends a conversation of an agent without `max_duration`, whatever
#: the caller's token says and however often it is renewed. Many callers have no `exp` (sessions,
#: API keys), so without this a conversation that is left open would cost money until noticed.
RELAY_MAX_DURATION: Final = 3_600.0
#: Transports in which the caller gets a credential; with the relay the gate keeps it.
_HANDED_OUT: Final = ("websocket", "webrtc")
_TRANSPORTS: Final = (*_HANDED_OUT, "relay")


@dataclass(frozen=True, slots=True, eq=False)
class Agent:
    """Configure one XUNA AI agent: who may talk to it, and with which personal data. Immutable.

    Attributes:
        name: the name that callers use, 1 to 64 of `A-Z a-z 0-9 . _ -`.
        id: the platform's id, `agent_…`; never taken from a client and never shown to one.
        allow: a rule, or a function that serves as one; None admits every verified caller.
        dynamic_variables: a mapping of literals, `claim(…)` and functions, or one function that
            returns a mapping. Values are strings, finite numbers or booleans. Names starting with
            `system__` are reserved for the platform; `secret__` ones reach only tool headers.
        overrides: by platform path, `{"agent.first_message": "Hello"}`, from the same sources.
        variable_types: restricts a variable further than a short string, number or boolean,
            whichever side sets it: `{"user_name": Text(40, required=True), "age": Number(0, 120)}`.
            The platform would end a conversation without a required variable; the gate answers 400
            if the client has to send it.
        client_variables: names that a client may add; stored as a frozenset, as is
        client_overrides: paths that a client may set, or a mapping of paths to allowed values:
            `{"agent.language": OneOf("de", "en"), "tts.speed": Number(0.8, 1.1)}`. If you open
            `agent.prompt.prompt` or `agent.prompt.llm`, every caller can write the agent's
            instructions, or choose the model that you pay for.
        transports: how conversations are opened: `websocket` (signed URL), `webrtc` (token),
            `relay` (through the gate, which `websocket` also allows). With `relay` and without
            `websocket`, the signed URL that a client gets leads to the gate.
        max_duration: the maximum seconds of a conversation, up to a day. The relay ends it, and
            without this after an hour; over a signed URL or a token only the platform can: set
            the same or less there.
        relay: what a client may do in the relay; see `RelayRules`.
        user_id: the `user_id` that the relay sends to the platform, from the same sources as a
            variable; by default nothing. A `user_id` from the client is never passed on.
        anonymous: admits callers without credentials as well, as configured in
            `XunaGate(anonymous=…)`; needs `max_duration`. The rule also applies to them:
            `who.is_anonymous` identifies them.
        limits: `Limit(…)`, `Concurrent(…)` and `TalkTime(…)`, counted for this agent alone; the
            gate's limits are counted over all its agents. Without any, each caller may have any
            number of conversations, and the gate logs a WARNING about it when it starts.
        rule, needs_connection, plan, override_kinds: computed from these, once; for the gate.

    All functions of an agent run one after another, in the order written, variables before
    overrides, so two of them may share one database session. Together the async ones have 2 s.

    *Checks* names, types and sizes of all these values. *Does not check* whether the platform has
    an agent with this id, or whether an override is enabled there.

    Raises:
        ConfigurationError: something is not as described; the text says how to fix it.
    """

    name: str
    _: KW_ONLY
    id: str
    allow: RuleLike | None = field(default=None, repr=False)
    dynamic_variables: Variables = field(default_factory=dict, repr=False)
    overrides: Mapping[str, Source] = field(default_factory=dict, repr=False)
    variable_types: Mapping[str, Kind] = field(default_factory=dict, repr=False)
    client_variables: Collection[str] = ()
    client_overrides: Collection[str] | Mapping[str, Kind] = ()
    transports: Sequence[Transport] | tuple[Transport, ...] = _HANDED_OUT
    max_duration: float | None = None
    relay: RelayRules = field(default_factory=RelayRules)
    user_id: Source | None = field(default=None, repr=False)
    limits: Sequence[AnyLimit] = field(default=(), repr=False)
    anonymous: bool = False
    rule: Rule = field(init=False, repr=False)
    plan: Plan = field(init=False, repr=False)
    override_kinds: Mapping[str, Check] = field(init=False, repr=False)
    needs_connection: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            self._settle(**_checked(self))
            self._settle(rule=ANY_VERIFIED_CALLER if self.allow is None else as_rule(self.allow))
            kinds = {name: kind.check for name, kind in self.variable_types.items()}
            self._settle(
                plan=make_plan(self.dynamic_variables, self.overrides, kinds, self.user_id)
            )
            _check_clashes(self)
            _check_required(self)
            _check_anonymous(self)
        except ConfigurationError as error:
            raise ConfigurationError(f"Agent({self.name!r:.80}): {error}") from None
        needs_connection = self.rule.needs_connection or self.plan.needs_connection
        self._settle(needs_connection=needs_connection, **_frozen(self))

    def _settle(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def variable_names(self) -> frozenset[str]:
        """Names of the server's variables, except those that a mapping function returns."""
        asked = (wanted.name for wanted in self.plan.variables)
        return frozenset((*self.plan.fixed.dynamic_variables, *asked))

    @property
    def is_relayed(self) -> bool:
        """Return whether a client that asks for a signed URL gets one of the gate."""
        return "relay" in self.transports and "websocket" not in self.transports

    @property
    def longest_relayed(self) -> float:
        """Return the seconds after which the relay ends a conversation."""
        return self.max_duration or RELAY_MAX_DURATION

    @property
    def required_variables(self) -> frozenset[str]:
        """Names of variables that every conversation must have."""
        return frozenset(name for name, kind in self.variable_types.items() if kind.required)

    @property
    def override_paths(self) -> frozenset[str]:
        """Paths that the server overrides."""
        return frozenset(self.overrides)

    def check_connection(self, connection: HTTPConnection | None) -> None:
        """Raise ConfigurationError if a function takes a connection and there is none."""
        if connection is None and self.needs_connection:
            raise ConfigurationError(
                f"Agent({self.name!r}) has a function of (identity, connection): pass the request "
                "or WebSocket, as in gate.issue(identity, …, connection=request)"
            )


async def check_rule(agent: Agent, identity: Identity, connection: HTTPConnection | None) -> str:
    """Return the name of the agent's rule, if it admits this caller.

    Raises:
        AccessDeniedError: the rule says no. UnavailableError: it could not be evaluated.
        GateError: a function raised it.
        ConfigurationError: a function takes a connection, and there is none.
    """
    agent.check_connection(connection)
    refusal = await agent.rule.refusal(identity, connection)
    if refusal is not None:
        raise refusal
    return agent.rule.name


def _checked(agent: Agent) -> dict[str, Any]:
    if not _is_agent_name(agent.name):
        raise ConfigurationError("name must be 1 to 64 of A-Z a-z 0-9 . _ -")
    _check_id(agent.id)
    return {
        "client_variables": _client_variables(_tuple("client_variables", agent.client_variables)),
        "variable_types": _kinds("variable_types", agent.variable_types, variable_check),
        "client_overrides": _client_overrides(_paths(agent.client_overrides)),
        "override_kinds": _override_kinds(agent.client_overrides),
        "transports": _transports(_tuple("transports", agent.transports)),
        "max_duration": _duration(agent.max_duration),
        "limits": checked_limits(agent.limits),
        "relay": _relay_rules(agent.relay),
    }


def _is_agent_name(value: Any) -> bool:
    return isinstance(value, str) and _AGENT_NAME.fullmatch(value) is not None


def _client_variables(names: tuple[str, ...]) -> frozenset[str]:
    for name in names:
        variable_check(name)
    if any(is_secret(name) for name in names):
        raise ConfigurationError("client_variables: secret__… variables come from the server only")
    return frozenset(names)


def _client_overrides(paths: tuple[str, ...]) -> frozenset[str]:
    for path in paths:
        override_check(path)
    return frozenset(paths)


def _paths(given: Any) -> tuple[str, ...]:
    return tuple(given) if isinstance(given, Mapping) else _tuple("client_overrides", given)


def _override_kinds(given: Any) -> Mapping[str, Check]:
    kinds = given if isinstance(given, Mapping) else {}
    checked = _kinds("client_overrides", kinds, override_check)
    return MappingProxyType({path: kind.check for path, kind in checked.items()})


def _kinds(option: str, given: Any, check_name: Callable[[Any], Check]) -> Mapping[str, Kind]:
    if not isinstance(given, Mapping) or not all(
        isinstance(kind, KINDS) for kind in given.values()
    ):
        raise ConfigurationError(
            f"{option} takes a mapping of names to Text(…), Number(…), Flag() or OneOf(…)"
        )
    for name in given:
        check_name(name)
    return MappingProxyType(dict(given))


def _check_required(agent: Agent) -> None:
    """Refuse required variables that no side can set."""
    given = agent.variable_names | set(agent.client_variables)
    required = {name for name, kind in agent.variable_types.items() if kind.required}
    if agent.plan.mapping is None and not required <= given:
        missing = ", ".join(sorted(required - given))
        raise ConfigurationError(
            f"{missing}: required, but in neither dynamic_variables nor client_variables"
        )


def _check_id(value: Any) -> None:
    fits = isinstance(value, str) and 0 < len(value) <= 128 and value.isprintable()
    if not fits or " " in value:
        raise ConfigurationError("id must be the platform's id of the agent, such as agent_7101…")


def _tuple(option: str, value: Any) -> tuple[str, ...]:
    is_collection = isinstance(value, tuple | list | set | frozenset)
    if not is_collection or not all(isinstance(member, str) for member in value):
        example = f'{option}=("{value}",)' if isinstance(value, str) else f'{option}=("…", "…")'
        raise ConfigurationError(f"{option} takes a tuple of strings: {example}")
    return tuple(value)


def _transports(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names or not set(names).issubset(_TRANSPORTS):
        raise ConfigurationError("transports takes some of 'websocket', 'webrtc' and 'relay'")
    return tuple(dict.fromkeys(names))


def _relay_rules(rules: Any) -> RelayRules:
    if not isinstance(rules, RelayRules):
        raise ConfigurationError("relay takes RelayRules(…)")
    return rules


def _check_anonymous(agent: Agent) -> None:
    if type(agent.anonymous) is not bool:
        raise ConfigurationError("anonymous is True or False")
    if agent.anonymous and agent.max_duration is None:
        raise ConfigurationError(
            "anonymous=True needs max_duration: what strangers start must have an end, such as "
            "max_duration=180"
        )


def _duration(seconds: Any) -> float | None:
    if seconds is None:
        return None
    if type(seconds) not in (int, float) or not 0 < seconds <= _LONGEST_CONVERSATION:
        raise ConfigurationError("max_duration takes seconds, up to a day: max_duration=600")
    return float(seconds)


def _check_clashes(agent: Agent) -> None:
    both = (agent.variable_names & set(agent.client_variables)) | (
        agent.override_paths & set(agent.client_overrides)
    )
    if both:
        raise ConfigurationError(
            f"{', '.join(sorted(both))}: the server's value always wins, so a client's would "
            "always clash; remove it on one of the two sides"
        )


def _frozen(agent: Agent) -> dict[str, Any]:
    # A copy: the user's code may change the original later.
    frozen: dict[str, Any] = {"overrides": MappingProxyType(dict(agent.overrides))}
    if isinstance(agent.dynamic_variables, Mapping):
        frozen["dynamic_variables"] = MappingProxyType(dict(agent.dynamic_variables))
    return frozen
