"""Assemble a gate: check its options once and return one `Core`. Errors name the fix."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import FunctionType, MappingProxyType
from typing import Final

from xuna_middleware.access.agents import Agent
from xuna_middleware.access.limits.budgets import START_WITHIN, Budget, held_for, make_budget
from xuna_middleware.access.limits.limits import AnyLimit, checked_limits
from xuna_middleware.access.limits.reservations import Stores
from xuna_middleware.access.rules.rule import RuleLike, as_rule
from xuna_middleware.anonymous.admission import Admission
from xuna_middleware.anonymous.captcha import HEADER as CHALLENGE_HEADER
from xuna_middleware.anonymous.cookie import HEADER as VISITOR_HEADER
from xuna_middleware.anonymous.options import AnonymousAccess, check_visitors_limits
from xuna_middleware.endpoints.core import Core
from xuna_middleware.endpoints.metadata import ResourceMetadata, metadata_document, metadata_url
from xuna_middleware.errors import ConfigurationError
from xuna_middleware.events import Events, Hook
from xuna_middleware.identity.authentication import Authentication, Authenticator
from xuna_middleware.identity.bound.request import Deployment
from xuna_middleware.identity.jwt.verifiers import Verifier
from xuna_middleware.identity.protocols import merge_traits
from xuna_middleware.identity.proxies.trusted import TrustedProxies
from xuna_middleware.issuing.pipeline import BudgetKey, Pipeline, check_personalization
from xuna_middleware.issuing.settlement import Settlement
from xuna_middleware.platform.rest.client import Platform, XunaPlatform
from xuna_middleware.platform.webhooks import PostCallWebhook
from xuna_middleware.relay.conversation import RelayContext, relay_url
from xuna_middleware.relay.live import LEASE, Sessions
from xuna_middleware.stores.memory.store import MemoryStore
from xuna_middleware.stores.protocol import Store
from xuna_middleware.web.cors import AppCORS, GateCORS
from xuna_middleware.web.cross_site import Origins, checked_origins, origin_of
from xuna_middleware.web.refusals import REFERENCE_HEADER, Refusals
from xuna_middleware.web.www_authenticate import Challenges, challenges_of

_RELAY_VERBS: Final = ("connect", "check_relay")
_PLATFORM_VERBS: Final = ("issue", "check", "client_carries", "get_conversation", "aclose")
_EXPOSED_HEADERS: Final = (
    REFERENCE_HEADER,
    "Retry-After",
    "RateLimit",
    "RateLimit-Policy",
    "WWW-Authenticate",
    "DPoP-Nonce",
    VISITOR_HEADER,
    CHALLENGE_HEADER,
)
_ALLOWED_HEADERS: Final = (
    *("Authorization", "Content-Type", "DPoP"),
    *(VISITOR_HEADER, CHALLENGE_HEADER),
)
_HEADER_NAME: Final = re.compile(r"[a-z0-9-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a gate; see `XunaGate`."""

    verifier: Verifier | Sequence[Verifier] | None
    authenticator: Authenticator | None
    agents: Iterable[Agent]
    platform: Platform | None
    webhook: PostCallWebhook | None
    store: Store | None
    limits: Sequence[AnyLimit]
    anonymous: AnonymousAccess | None
    cors_origins: Iterable[str]
    public_url: str | None
    operators: RuleLike | None
    trusted_proxies: Iterable[str]
    client_cert_header: str | None
    on_event: Iterable[Hook]


def assemble(options: Options) -> Core:
    """Return the parts of a gate.

    Raises:
        ConfigurationError: an option makes no sense; the text names the fix.
    """
    events = Events(options.on_event)
    origins = checked_origins(options.cors_origins)
    has_cookies = options.authenticator is not None
    page_origins = Origins(origins, options.public_url)
    agents = agents_by_name(options.agents)
    limits = checked_limits(options.limits)
    deployment = _deployment(options)
    admission = _admission(agents, options.anonymous, deployment)
    unlimited = unlimited_agents(
        agents.values(),
        limits,
        anonymous_only=options.verifier is None and options.authenticator is None,
    )
    authentication = _authentication(
        options.verifier, options.authenticator, deployment, agents, admission
    )
    platform = checked_platform(options.platform)
    pipeline = _pipeline(agents, platform, limits, admission, deployment, events)
    webhook = checked_webhook(options.webhook)
    check_personalization(pipeline)
    check_relay(agents.values(), platform, options.public_url)
    public_url = None if options.public_url is None else options.public_url.rstrip("/")
    relaying = RelayContext(
        sessions=Sessions(*pipeline.stores.all),
        refusals=Refusals(events, _challenges(authentication, public_url)),
        authentication=authentication,
        url=None if public_url is None else relay_url(public_url),
    )
    return Core(
        authentication=authentication,
        pipeline=pipeline,
        relay_context=relaying,
        deployment=deployment,
        origins=page_origins,
        cors=GateCORS(
            origins,
            credentials=has_cookies,
            allowed_headers=_ALLOWED_HEADERS,
            exposed_headers=_EXPOSED_HEADERS,
        ),
        app_cors=AppCORS(origins, credentials=has_cookies),
        operators=None if options.operators is None else as_rule(options.operators),
        webhook=webhook,
        public_url=public_url,
        metadata=_metadata(authentication, public_url),
        unlimited=unlimited,
    )


def override(
    core: Core,
    *,
    verifier: Verifier | None = None,
    platform: Platform | None = None,
    webhook: PostCallWebhook | None = None,
) -> Core:
    """Return the same gate with some parts replaced and the same `Runtime`.

    A gate without a webhook stays without one.
    """
    authentication, pipeline = core.authentication, core.pipeline
    if verifier is not None:
        authentication = _authentication(
            verifier, authentication.authenticator, core.deployment, pipeline.agents, core.admission
        )
    if platform is not None:
        pipeline = replace(pipeline, platform=platform)
    return replace(
        core,
        authentication=authentication,
        pipeline=pipeline,
        relay_context=replace(core.relay_context, authentication=authentication),
        webhook=core.webhook and (webhook or core.webhook),
    )


def _deployment(options: Options) -> Deployment:
    url = options.public_url
    return Deployment(
        origin=None if url is None else origin_of(url, "public_url"),
        store=checked_store(options.store),
        trusted_proxies=TrustedProxies(options.trusted_proxies),
        certificate_header=checked_header(options.client_cert_header, options.trusted_proxies),
    )


def _admission(
    agents: Mapping[str, Agent], visitors: AnonymousAccess | None, deployment: Deployment
) -> Admission | None:
    if visitors is not None and not isinstance(visitors, AnonymousAccess):
        raise ConfigurationError("anonymous takes AnonymousAccess(…)")
    if not any(agent.anonymous for agent in agents.values()):
        if visitors is not None:
            raise ConfigurationError(
                "anonymous=… says on which terms, but no agent admits any: Agent(…, anonymous=True)"
            )
        return None
    is_secure = (deployment.origin or "").startswith("https:")
    return Admission(
        visitors or AnonymousAccess(),
        deployment.store,
        is_secure=is_secure,
        proxies=deployment.trusted_proxies,
    )


def _authentication(
    verifier: Verifier | Sequence[Verifier] | None,
    authenticator: Authenticator | None,
    deployment: Deployment,
    agents: Mapping[str, Agent],
    admission: Admission | None,
) -> Authentication:
    return Authentication(
        verifier,
        authenticator,
        deployment,
        agents=frozenset(agents),
        visitors=None if admission is None else admission.terms,
        visitors_only=all(agent.anonymous for agent in agents.values()),
    )


def _pipeline(
    agents: Mapping[str, Agent],
    platform: Platform,
    limits: Sequence[AnyLimit],
    admission: Admission | None,
    deployment: Deployment,
    events: Events,
) -> Pipeline:
    start_within = getattr(platform, "start_within", None) or START_WITHIN
    visitors = None if admission is None else admission.options
    return Pipeline(
        agents=agents,
        platform=platform,
        events=events,
        budgets=budgets_of(agents.values(), limits, visitors, start_within),
        admission=admission,
        stores=Stores(shared=deployment.store, fallback=MemoryStore()),
        settlement=Settlement(deployment.store, events),
        proxies=deployment.trusted_proxies,
    )


def _challenges(authentication: Authentication, public_url: str | None) -> Challenges:
    """Return the challenges of refusals (`WWW-Authenticate`).

    Raises:
        ConfigurationError: DPoP proofs name an address, and `public_url` is missing.
    """
    described = authentication.traits
    has_metadata = public_url is not None and bool(described)
    challenges = challenges_of(
        merge_traits(described), metadata_url(str(public_url)) if has_metadata else None
    )
    if challenges.dpop_algorithms and public_url is None:
        raise ConfigurationError(
            "dpop=, or dpop_algorithms of a verifier's traits, needs public_url: a proof names "
            "the address that the client asked for, "
            'which no header may tell; public_url="https://acme.com/xuna"'
        )
    return challenges


def _metadata(authentication: Authentication, public_url: str | None) -> ResourceMetadata | None:
    described = authentication.traits
    if public_url is None or not described:
        return None
    return ResourceMetadata(public_url, metadata_document(public_url, described))


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
    """Return the agents with which a caller may have any number of conversations.

    `anonymous_only` says that visitors are the only callers; they share one budget.
    """
    if gate_limits:
        return ()
    return tuple(
        agent for agent in agents if not (agent.limits or (agent.anonymous and anonymous_only))
    )


def checked_platform(platform: Platform | None) -> Platform:
    """Return the platform; by default an `XunaPlatform` configured by the environment."""
    if platform is None:
        return XunaPlatform()
    if not all(hasattr(platform, name) for name in _PLATFORM_VERBS):
        raise ConfigurationError("platform must be an XunaPlatform(…), or do what Platform says")
    return platform


def checked_webhook(webhook: PostCallWebhook | None) -> PostCallWebhook | None:
    """Return the webhook, checked."""
    if webhook is None or isinstance(webhook, PostCallWebhook):
        return webhook
    raise ConfigurationError("webhook takes PostCallWebhook(…)")


def checked_store(store: Store | None) -> Store:
    """Return the store; by default a `MemoryStore`."""
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
    """Return the methods that a protocol declares, in order."""
    return tuple(name for name, member in vars(protocol).items() if _is_verb(name, member))


def _is_verb(name: str, member: object) -> bool:
    return not name.startswith("_") and isinstance(member, FunctionType)


def _has_verb(store: object, name: str) -> bool:
    """Return whether a store defines a method itself. A class that derives from `Store` inherits
    the methods that it leaves out, and those do nothing: `revoke()` would revoke nobody.
    """
    verb = getattr(store, name, None)
    return callable(verb) and getattr(verb, "__func__", None) is not vars(Store)[name]


def checked_header(name: str | None, trusted_proxies: Iterable[str]) -> bytes | None:
    """Return the header in which trusted proxies forward certificates, in ASGI's spelling."""
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
    """Check that the relay can work, if an agent lists it.

    Raises:
        ConfigurationError: `public_url` or an installed part is missing.
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
    visitors: AnonymousAccess | None,
    start_within: float,
) -> Mapping[BudgetKey, Budget]:
    """Return all agents' budgets: for callers and visitors, with and without leases.

    Raises:
        ConfigurationError: a limit makes no sense for an agent or for visitors, or visitors' common
            budget is missing.
    """
    theirs = () if visitors is None else visitors.limits
    for agent in agents:
        if agent.anonymous:
            check_visitors_limits(agent.name, (*everywhere, *agent.limits, *theirs))
    longest = max(held_for(agent, start_within) for agent in agents)
    return {
        BudgetKey(agent.name, for_visitors, leased): make_budget(
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
