"""The parts of a gate: one value, which `assembly.py` builds and endpoints read."""

import asyncio
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from xuna_middleware.access.agents import Agent
from xuna_middleware.access.limits.reservations import Stores
from xuna_middleware.access.rules.rule import Rule
from xuna_middleware.anonymous.admission import Admission
from xuna_middleware.endpoints.metadata import ResourceMetadata
from xuna_middleware.events import Events
from xuna_middleware.identity.authentication import Authentication
from xuna_middleware.identity.bound.request import Deployment
from xuna_middleware.identity.credentials import AnonymousVisitor
from xuna_middleware.issuing.pipeline import Pipeline
from xuna_middleware.platform.webhooks import PostCallWebhook
from xuna_middleware.relay.conversation import RelayContext
from xuna_middleware.stores.protocol import Store
from xuna_middleware.web.cors import AppCORS, GateCORS
from xuna_middleware.web.cross_site import Origins
from xuna_middleware.web.refusals import Refusals


@dataclass(slots=True)
class Runtime:
    """Record the event loop on which a gate last started, and whether it logged its warnings."""

    started_on: Callable[[], asyncio.AbstractEventLoop | None] = lambda: None
    has_warned: bool = False

    def enter(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Record that the gate runs on a loop; return whether the loop is new."""
        if self.started_on() is loop:
            return False
        self.started_on = weakref.ref(loop)
        return True

    def leave(self) -> None:
        self.started_on = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """Combine the parts of a gate. A gate has one `Core`; to replace a part, replace the `Core`.

    `operators` is the rule that admits operators. `operators` is None if nobody may see live
    conversations, `webhook` if the gate takes none, `public_url` if it wasn't given, `metadata` if
    there is nothing to describe.
    """

    authentication: Authentication
    pipeline: Pipeline
    relay_context: RelayContext
    deployment: Deployment
    origins: Origins
    cors: GateCORS
    app_cors: AppCORS
    operators: Rule | None
    webhook: PostCallWebhook | None
    public_url: str | None
    metadata: ResourceMetadata | None
    #: Agents for each of which a line is logged at the first start.
    unlimited: tuple[Agent, ...]
    runtime: Runtime = field(default_factory=Runtime)

    @property
    def refusals(self) -> Refusals:
        return self.relay_context.refusals

    @property
    def admission(self) -> Admission | None:
        return self.pipeline.admission

    @property
    def events(self) -> Events:
        return self.pipeline.events

    @property
    def stores(self) -> Stores:
        return self.pipeline.stores

    @property
    def store(self) -> Store:
        return self.pipeline.stores.shared

    def visit_of(self, connection: HTTPConnection | None) -> AnonymousVisitor | None:
        """Return the visitor that a connection's anonymous token names; None without one."""
        if self.admission is None or connection is None:
            return None
        return self.admission.known(connection.scope)

    @property
    def has_relay(self) -> bool:
        """Return whether an agent lists the transport `relay`."""
        return any("relay" in agent.transports for agent in self.pipeline.agents.values())
