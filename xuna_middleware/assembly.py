"""A gate's configuration, checked as it is put together: each mistake is told with its mend."""

import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import FunctionType, MappingProxyType
from typing import Final

from xuna_middleware.access.agents import Agent
from xuna_middleware.access.limits.budgets import Budget, held_for, make_budget
from xuna_middleware.access.limits.limits import AnyLimit
from xuna_middleware.anonymous.options import Visitors, check_visitors_limits
from xuna_middleware.errors import ConfigurationError
from xuna_middleware.issuing.pipeline import Terms
from xuna_middleware.platform.rest.client import Platform, XunaPlatform
from xuna_middleware.platform.webhooks import PostCallWebhook
from xuna_middleware.relay.live import LEASE
from xuna_middleware.stores.memory.store import MemoryStore
from xuna_middleware.stores.protocol import Store

logger = logging.getLogger("xuna_middleware")

_RELAY_VERBS: Final = ("connect", "check_relay")
_PLATFORM_VERBS: Final = ("issue", "check", "client_carries", "ended", "aclose")
_HEADER_NAME: Final = re.compile(r"[a-z0-9-]+")


def agents_by_name(agents: Iterable[Agent]) -> Mapping[str, Agent]:
    """Return the agents by their names, which must differ."""
    by_name: dict[str, Agent] = {}
    for agent in agents if isinstance(agents, Iterable) else (None,):
        if not isinstance(agent, Agent):
            raise ConfigurationError('agents takes a list: agents=[Agent("support", id="agent_…")]')
        if agent.name in by_name:
            raise ConfigurationError(f"two agents are named {agent.name!r}; names must differ")
        by_name[agent.name] = agent
    if not by_name:
        raise ConfigurationError('agents is empty: agents=[Agent("support", id="agent_…")]')
    return MappingProxyType(by_name)


def unlimited_agents(
    agents: Iterable[Agent], gate_limits: Collection[AnyLimit], *, anonymous_only: bool
) -> tuple[Agent, ...]:
    """Return the agents of which a caller may have any number of conversations.

    `anonymous_only` says that nobody else is admitted; those have a budget for all together.
    """
    if gate_limits:
        return ()
    return tuple(
        agent for agent in agents if not (agent.limits or (agent.anonymous and anonymous_only))
    )


def warn_of_unlimited(agents: Iterable[Agent]) -> None:
    """Log a line for each such agent, with an example to paste."""
    for agent in agents:
        ends = "" if agent.max_duration is not None else "max_duration=600, "
        logger.warning(
            "Agent(%r) has no limit: each caller may have any number of conversations%s. Set one, "
            'such as Agent(%r, …, %slimits=[Limit("20/hour"), Concurrent(2)]), or one for all '
            "agents: XunaGate(limits=…)",
            agent.name,
            ", each as long as the platform or the relay lets it last" if ends else "",
            agent.name,
            ends,
        )


def checked_platform(platform: Platform | None) -> Platform:
    """Return the platform, by default the one that the environment names."""
    if platform is None:
        return XunaPlatform()
    if not all(hasattr(platform, name) for name in _PLATFORM_VERBS):
        raise ConfigurationError("platform must be an XunaPlatform(…), or do what Platform says")
    return platform


def checked_webhook(webhook: PostCallWebhook | None) -> PostCallWebhook | None:
    """Return the webhook, if it is one."""
    if webhook is None or isinstance(webhook, PostCallWebhook):
        return webhook
    raise ConfigurationError("webhook takes PostCallWebhook(…)")


def checked_store(store: Store | None) -> Store:
    """Return the store, by default one in memory."""
    if store is None:
        return MemoryStore()
    missing = [name for name in _verbs_of(Store) if not _has_verb(store, name)]
    if missing:
        raise ConfigurationError(
            "store must be a MemoryStore(…), a RedisStore(…) or do what Store says; this one lacks "
            + ", ".join(f"`async def {name}`" for name in missing)
        )
    return store


def _verbs_of(protocol: type) -> tuple[str, ...]:
    """Return the methods that a protocol declares, in their order."""
    return tuple(name for name, member in vars(protocol).items() if _is_verb(name, member))


def _is_verb(name: str, member: object) -> bool:
    return not name.startswith("_") and isinstance(member, FunctionType)


def _has_verb(store: object, name: str) -> bool:
    """Tell whether a store has a verb of its own. A class that derives from `Store` inherits those
    that it leaves out, and they do nothing: `revoke()` would revoke nobody.
    """
    verb = getattr(store, name, None)
    return callable(verb) and getattr(verb, "__func__", None) is not vars(Store)[name]


def checked_header(name: str | None, trusted_proxies: Iterable[str]) -> bytes | None:
    """Return the header in which trusted proxies hand certificates on, as ASGI spells it."""
    if name is None:
        return None
    if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name.lower()):
        raise ConfigurationError('client_cert_header must be a header\'s name, like "Client-Cert"')
    if not trusted_proxies:
        raise ConfigurationError(
            "client_cert_header is believed of trusted_proxies only, and there are none: "
            'trusted_proxies=("10.0.0.0/8",)'
        )
    return name.lower().encode()


def check_relay(agents: Iterable[Agent], platform: Platform, public_url: str | None) -> None:
    """Refuse a relay that could not work, where an agent lists it.

    Raises:
        ConfigurationError: nobody said where clients reach it, or something is missing.
    """
    if not any("relay" in agent.transports for agent in agents):
        return
    if public_url is None:
        raise ConfigurationError(
            'transports=("relay",) leads clients to the gate itself, so it must be told where '
            'that is: public_url="https://acme.com/xuna"'
        )
    if not all(hasattr(platform, name) for name in _RELAY_VERBS):
        raise ConfigurationError(
            "the relay needs a platform that connects: XunaPlatform(…), or what Platform says"
        )
    platform.check_relay()


def budgets_of(
    agents: Collection[Agent],
    everywhere: Sequence[AnyLimit],
    visitors: Visitors | None,
    start_within: float,
) -> Mapping[Terms, Budget]:
    """Return what limits conversations with each agent: of whom, and how it is held.

    Raises:
        ConfigurationError: a limit makes no sense for an agent, or for visitors, or what they may
            spend together has no end.
    """
    theirs = () if visitors is None else visitors.limits
    for agent in agents:
        if agent.anonymous:
            check_visitors_limits(agent.name, (*everywhere, *agent.limits, *theirs))
    longest = max(held_for(agent, start_within) for agent in agents)
    return {
        Terms(agent.name, for_visitors, leased): make_budget(
            agent,
            everywhere,
            start_within,
            theirs if for_visitors else None,
            lease=LEASE if leased else None,
            longest=longest,
        )
        for agent in agents
        for for_visitors in ((False, True) if agent.anonymous else (False,))
        for leased in (False, True)
    }
