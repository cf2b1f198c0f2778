"""Start and close a gate's parts, and check whether they are ready."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeGuard

from xuna_middleware.access.agents import Agent
from xuna_middleware.endpoints.core import Core
from xuna_middleware.errors import ConfigurationError
from xuna_middleware.events import Event, EventName, Events
from xuna_middleware.identity.jwt.verifiers import KeyEventSource, Lifecycle
from xuna_middleware.platform.rest.client import Platform
from xuna_middleware.platform.webhooks import PostCallWebhook
from xuna_middleware.web.servers import unfit_servers_loaded

logger = logging.getLogger("xuna_middleware")


class _Closing(Protocol):
    async def aclose(self) -> None: ...


def check_environment(core: Core) -> None:
    """Check the settings that come from the environment.

    Raises:
        ConfigurationError: the API key or the webhooks' secret is missing.
    """
    core.pipeline.platform.check()
    if core.webhook is not None:
        core.webhook.check()


def start(core: Core) -> None:
    """Start the background tasks, once on each new event loop."""
    if not core.runtime.enter(asyncio.get_running_loop()):
        return
    for service in services_of(core):
        if isinstance(service, KeyEventSource):
            service.listen(_telling(core.events))
        service.start()
    start_store = getattr(core.store, "start", None)
    if start_store is not None:
        start_store()
    if core.admission is not None:
        core.admission.start()
    if not core.runtime.has_warned:
        core.runtime.has_warned = True
        _warn_of_unlimited(core.unlimited)
    if core.has_relay:
        for unfit in unfit_servers_loaded():
            logger.error("the relay refuses conversations on this server: %s", unfit)


async def close(core: Core) -> None:
    """Stop background tasks and close connections. The gate can start again afterwards.

    Raises:
        ExceptionGroup: of the errors of parts that failed to close; all others were closed.
    """
    core.runtime.leave()
    await core.relay_context.sessions.aclose()
    await core.pipeline.finish()
    await core.events.flush()
    failures: list[Exception] = []
    parts: list[_Closing] = [*services_of(core), core.pipeline.platform, core.store]
    if core.admission is not None:
        parts.append(core.admission)
    for part in parts:
        try:
            await part.aclose()
        except Exception as error:
            failures.append(error)
    if failures:
        raise ExceptionGroup("parts of the gate did not close cleanly", failures)


def missing(core: Core) -> list[str]:
    """Return the names of parts that aren't ready; anybody may see them, so no details."""
    found = [] if all(each.ready for each in services_of(core)) else ["identity"]
    checked = {"platform": core.pipeline.platform, "webhook": core.webhook}
    return found + [name for name, part in checked.items() if _lacks_a_setting(part)]


def services_of(core: Core) -> Iterator[Lifecycle]:
    """Yield the verifiers and the authenticator that run in the background."""
    known = (*core.authentication.verifiers, core.authentication.authenticator)
    return filter(_is_service, known)


def _is_service(part: object) -> TypeGuard[Lifecycle]:
    return isinstance(part, Lifecycle)


def _telling(events: Events) -> Callable[[EventName, str, str], None]:
    def tell(name: EventName, issuer: str, cause: str) -> None:
        events.emit(Event(name=name, time=time.time(), issuer=issuer, cause=cause))

    return tell


def _lacks_a_setting(part: Platform | PostCallWebhook | None) -> bool:
    """Return whether a part lacks a setting from the environment."""
    try:
        if part is not None:
            part.check()
    except ConfigurationError:
        return True
    return False


def _warn_of_unlimited(agents: tuple[Agent, ...]) -> None:
    """Log a line for each agent without a limit, with an example to paste."""
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
