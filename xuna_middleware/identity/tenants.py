"""Verify issuers that are known only at a request: the operator's function finds the verifier.

The unverified `iss` is untrusted input, so it is only a look-up key: the function must answer from
the operator's own data (a table of tenants), never build a URL from it.

- It is called only for an `iss` that could be an issuer: an https URL of at most 255 characters.
- A verifier that it returns must be exactly that issuer's. It is kept for `cache_seconds`, then the
  function is called again: a tenant that left is refused within that time.
- The option `traits` declares for all tenants the values that the gate needs before the first one
  arrives (DPoP, certificates, token lifetimes). A verifier that accepts more is a 503, and the log
  names the trait: otherwise its callers would get no challenge, or outlast their revocation.
- A verifier that is replaced, or evicted because there are too many, is closed once no request uses
  it. So return a new verifier then, or one that can restart (those of this package can).
- A result of None is remembered for 10 seconds, a failure for one; at most `max_concurrent` issuers
  are looked up at once, requests for the same issuer share a look-up, and any more get a 503.
- A tenant counts as used when a token is verified, not when a request names it. A verified tenant
  has look-ups separate from strangers', and is never evicted for an unverified one. Unverified
  tenants are newcomers: each keeps its place for at least 10 seconds, and if no place is free, the
  next newcomer gets a 503. So forged tokens can neither evict live tenants nor cause unbounded key
  fetches.
"""

import asyncio
import inspect
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeAlias

from xuna_middleware._core.callables import is_async
from xuna_middleware._core.single_flight import ExpiringSet, SingleFlight
from xuna_middleware.errors import (
    ConfigurationError,
    InvalidTokenError,
    UnavailableError,
    trace_of,
)
from xuna_middleware.identity.credentials import Credentials, Identity
from xuna_middleware.identity.jwt.options import checked_seconds
from xuna_middleware.identity.jwt.verifiers import KeyEventSource, Lifecycle, Verifier
from xuna_middleware.identity.keys.endpoints import configured_host
from xuna_middleware.identity.keys.sources import Listener
from xuna_middleware.identity.protocols import VerifierTraits, traits_of
from xuna_middleware.identity.rechecks import recheck_by, recheck_interval_of
from xuna_middleware.identity.router import unverified_issuer

logger = logging.getLogger("xuna_middleware")

RESOLVE_SECONDS: Final = 2.0

_LONGEST_ISSUER: Final = 255
_UNKNOWN_SECONDS: Final = 10.0
_FAILED_SECONDS: Final = 1.0
#: For how many seconds a newcomer keeps its place, regardless of others.
NEWCOMER_SECONDS: Final = 10.0
#: How many look-ups may wait: for known tenants, and separately for all others.
LOOK_UPS_WAITING: Final = 64

#: Returns the verifier of exactly this issuer, or None; it may be async.
Resolve: TypeAlias = Callable[[str], Verifier | Awaitable[Verifier | None] | None]


class TenantVerifiers:
    """Verify tokens of issuers that a function looks up.

    Args:
        resolve: `(issuer) -> Verifier | None`, sync or async; an async one has 2 seconds.
        max_entries: how many tenants are kept at once; the least recently used is evicted first.
            Set more than there are tenants to avoid evictions. A tenth more, at least
            `max_concurrent`, are kept for tenants whose first token is not verified yet.
        cache_seconds: for how many seconds a verifier is kept, at least 1.
        max_concurrent: how many issuers are looked up at once, and as many of the known ones; 64 of
            each may wait.
        traits: the most that the verifiers of all tenants accept: by default Bearer tokens that
            live for a day. `VerifierTraits(dpop_algorithms=("ES256",),
            max_token_seconds=7 * 86_430)` admits tenants that accept DPoP, or whose tokens live for
            a week; with `issuers` no other issuer is looked up. `merge_traits()` merges the traits
            of several verifiers.
        monotonic: the clock, in seconds.

    Checks: that the verifier is the issuer's own, accepts nothing beyond `traits`, and returns only
    identities of that issuer. The verifier checks everything else.

    Raises:
        ConfigurationError: an option makes no sense.
    """

    def __init__(
        self,
        resolve: Resolve,
        *,
        max_entries: int = 1000,
        cache_seconds: float = 300,
        max_concurrent: int = 8,
        traits: VerifierTraits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not callable(resolve):
            raise ConfigurationError("TenantVerifiers takes a function (issuer) -> Verifier | None")
        if checked_seconds(cache_seconds, "cache_seconds") < 1:
            raise ConfigurationError("cache_seconds must be 1 second or more")
        for name, number in (("max_entries", max_entries), ("max_concurrent", max_concurrent)):
            if type(number) is not int or number < 1:
                raise ConfigurationError(f"{name} must be a whole number, 1 or more")
        if not isinstance(traits, VerifierTraits | None):
            raise ConfigurationError("TenantVerifiers(traits=…) takes VerifierTraits(…)")
        #: Read by the gate and by a list of verifiers.
        self.traits = replace(traits or VerifierTraits(), resolves_issuers=True, needs_request=True)
        self._resolve = resolve
        self._most = max_entries
        self._keep = cache_seconds
        self._now = monotonic
        #: Tenants with a verified token, the least recently used first; and newcomers.
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()
        self._newcomers: OrderedDict[str, _Tenant] = OrderedDict()
        self._few = max(max_concurrent, max_entries // 10)
        self._unknown = ExpiringSet[str](_UNKNOWN_SECONDS)
        self._failed = ExpiringSet[str](_FAILED_SECONDS)
        self._look_ups = SingleFlight[str, _Tenant | None](
            "tenant look-ups", max_concurrent=max_concurrent, max_queued=LOOK_UPS_WAITING
        )
        self._known_look_ups = SingleFlight[str, _Tenant | None](
            "look-ups of known tenants", max_concurrent=max_concurrent, max_queued=LOOK_UPS_WAITING
        )
        #: Verifiers that are being closed, and evicted tenants that still have requests.
        self._closing: dict[asyncio.Task[None], Verifier] = {}
        self._leaving: set[_Tenant] = set()
        self._listeners: list[Listener] = []

    def __repr__(self) -> str:
        kept = len(self._tenants) + len(self._newcomers)
        return f"TenantVerifiers({kept} of at most {self._most})"

    def listen(self, listener: Listener) -> None:
        """Report key events of every issuer that is found from now on."""
        if listener not in self._listeners:
            self._listeners.append(listener)

    def start(self) -> None:
        """Do nothing: no tenant is known yet."""

    @property
    def ready(self) -> bool:
        """Return True: tenants are looked up when they are needed."""
        return True

    async def aclose(self) -> None:
        """Close every verifier that was found, and stop the look-ups of this event loop."""
        self._look_ups.stop()
        self._known_look_ups.stop()
        tenants = [*self._tenants.values(), *self._newcomers.values()]
        self._tenants.clear()
        self._newcomers.clear()
        for tenant in tenants:
            self._let_go(tenant)
        loop = asyncio.get_running_loop()
        await asyncio.gather(*[task for task in self._closing if task.get_loop() is loop])

    async def verify(self, credentials: Credentials) -> Identity:
        """Return the identity from the issuer's verifier; see `Verifier.verify`."""
        async with self._tenant_of(credentials.token) as tenant:
            tenant.traits.check_scheme(credentials.scheme)
            identity = await tenant.verifier.verify(credentials)
            tenant.traits.check_issuer(identity)
            self._count_as_used(tenant)
            return identity

    async def recheck_interval(self, token: str) -> float | None:
        """Return the issuer's verifier's recheck interval in seconds; see `Rechecks`."""
        async with self._tenant_of(token) as tenant:
            return await recheck_interval_of(tenant.verifier, token)

    async def recheck(self, token: str) -> Identity:
        """Recheck the token with its issuer's verifier; see `Rechecks.recheck`."""
        async with self._tenant_of(token) as tenant:
            identity = await recheck_by(tenant.verifier, token)
            tenant.traits.check_issuer(identity)
            self._count_as_used(tenant)
            return identity

    @asynccontextmanager
    async def _tenant_of(self, token: str) -> AsyncIterator["_Tenant"]:
        """Find the tenant of a token, and keep its verifier open until the block ends."""
        tenant = await self._tenant(unverified_issuer(token))
        if tenant.has_left:
            raise UnavailableError(cause="tenant: let go at once; see max_entries=", retry_after=1)
        tenant.users += 1
        try:
            yield tenant
        finally:
            tenant.users -= 1
            if tenant.has_left:
                self._let_go(tenant)

    async def resolves(self, issuer: str) -> bool:
        """Return whether an issuer belongs to a tenant; see `Resolving`."""
        try:
            await self._tenant(issuer)
        except InvalidTokenError:
            return False
        return True

    async def _tenant(self, issuer: str) -> "_Tenant":
        now = self._now()
        known = self._tenants.get(issuer)
        kept = known or self._newcomers.get(issuer)
        if kept is not None and now < kept.until:
            return kept
        if not self.traits.may_verify(issuer) or not _could_be_an_issuer(issuer):
            raise _nobodys()
        if self._unknown.has(issuer, now):
            raise _nobodys()
        if self._failed.has(issuer, now):
            raise UnavailableError(cause="tenant: the look-up failed a moment ago", retry_after=1)
        if kept is None:
            self._check_room(now)
        look_ups = self._look_ups if known is None else self._known_look_ups
        found = await look_ups.ask(issuer, partial(self._look_up, issuer))
        if found is None:
            raise _nobodys()
        return found

    async def _look_up(self, issuer: str) -> "_Tenant | None":
        if issuer not in self._tenants and issuer not in self._newcomers:
            self._check_room(self._now())  # others may have arrived during the wait
        try:
            verifier = await self._ask(issuer)
        except UnavailableError:
            self._failed.put(issuer, self._now())
            raise
        if verifier is None:
            self._unknown.put(issuer, self._now())
        return self._replace(issuer, verifier)

    async def _ask(self, issuer: str) -> Verifier | None:
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                answer = self._resolve(issuer)
                verifier = await answer if inspect.isawaitable(answer) else answer
            if verifier is not None:
                _check(verifier, issuer, self.traits)
                await self._wait_until_closed(verifier)
                _begin(verifier, self._listeners)
            return verifier
        except UnavailableError:
            raise
        except Exception as error:
            raise UnavailableError(
                cause="tenant: the function that finds verifiers failed or took too long",
                trace=trace_of(error),
            ) from None

    def _replace(self, issuer: str, verifier: Verifier | None) -> "_Tenant | None":
        """Store the verifier found; the one it replaces closes after its last request."""
        now = self._now()
        place = self._tenants if issuer in self._tenants else self._newcomers
        before = place.get(issuer)
        if before is not None and before.verifier is verifier:
            before.until = now + self._keep
            return before
        if before is not None:
            self._let_go(before)
        if verifier is None:
            place.pop(issuer, None)
            return None
        since = now if before is None else before.since
        found = _Tenant(issuer, verifier, traits_of(verifier), since, now + self._keep)
        place[issuer] = found
        self._make_room(found, now)
        return found

    def _count_as_used(self, tenant: "_Tenant") -> None:
        """Record that a token of this tenant was verified just now."""
        if tenant.has_left:
            return
        if tenant.issuer in self._tenants:
            self._tenants.move_to_end(tenant.issuer)
            return
        self._newcomers.pop(tenant.issuer, None)
        self._tenants[tenant.issuer] = tenant
        while len(self._tenants) > self._most:
            self._let_go(self._tenants.popitem(last=False)[1])

    def _check_room(self, now: float) -> None:
        """Refuse one more newcomer, without I/O, if none can be evicted.

        Raises:
            UnavailableError: all arrived within the last 10 seconds, or are in use.
        """
        if self._has_room(1) or self._idle(now) is not None:
            return
        raise UnavailableError(
            cause="tenant: too many whose tokens are not verified yet; "
            "TenantVerifiers(max_entries=…) is to be above the number of your tenants",
            retry_after=1,
        )

    def _make_room(self, newest: "_Tenant", now: float) -> None:
        """Evict newcomers that no request uses, or the newest itself if no other can go."""
        while not self._has_room(0):
            leaving = self._idle(now) or newest
            if self._newcomers.pop(leaving.issuer, None) is None:
                return
            self._let_go(leaving)

    def _has_room(self, more: int) -> bool:
        room = max(self._few, self._most - len(self._tenants))
        return len(self._newcomers) + more <= room

    def _idle(self, now: float) -> "_Tenant | None":
        """Return the newcomer to evict first, if there is one."""
        for tenant in self._newcomers.values():
            if now < tenant.since + NEWCOMER_SECONDS:
                return None
            if not tenant.users:
                return tenant
        return None

    def _let_go(self, tenant: "_Tenant") -> None:
        """Close a tenant's verifier once it is unused: the function may have returned it again
        meanwhile.
        """
        tenant.has_left = True
        if tenant.users:
            self._leaving.add(tenant)
            return
        self._leaving.discard(tenant)
        verifier = tenant.verifier
        if not isinstance(verifier, Lifecycle) or self._is_in_use(tenant):
            return
        closing = asyncio.get_running_loop().create_task(_close(verifier), context=Context())
        self._closing[closing] = verifier
        closing.add_done_callback(self._closing.pop)

    def _is_in_use(self, gone: "_Tenant") -> bool:
        """Return whether another tenant uses the evicted tenant's verifier."""
        kept = self._tenants.get(gone.issuer) or self._newcomers.get(gone.issuer)
        others = [kept, *self._leaving]
        return any(
            each is not None and each is not gone and each.verifier is gone.verifier
            for each in others
        )

    async def _wait_until_closed(self, verifier: Verifier) -> None:
        """Wait while a verifier that was found is being closed, so that it can restart."""
        loop = asyncio.get_running_loop()
        while closing := {
            task
            for task, each in self._closing.items()
            if each is verifier and task.get_loop() is loop
        }:
            await asyncio.wait(closing)


@dataclass(slots=True, eq=False)
class _Tenant:
    """One issuer's verifier, and how many requests use it."""

    issuer: str
    verifier: Verifier
    traits: VerifierTraits
    since: float
    until: float
    users: int = 0
    has_left: bool = False


def _check(verifier: object, issuer: str, declared: VerifierTraits) -> None:
    """Refuse the function's result unless it is a verifier for this issuer only, and accepts
    nothing beyond the declared traits.
    """
    try:
        traits = traits_of(verifier)
    except ConfigurationError as error:
        raise UnavailableError(cause=f"configuration: {error}") from None
    if traits.issuers != frozenset({issuer}):
        raise UnavailableError(
            cause="configuration: the function that finds verifiers returned one of another "
            "issuer; its `issuer`, or `traits.issuers`, must be the one it was asked for, to the "
            "letter"
        )
    if not isinstance(verifier, Verifier) or not is_async(verifier.verify):
        raise UnavailableError(
            cause="configuration: the function that finds verifiers returned something without "
            "`async def verify(self, credentials)`"
        )
    if beyond := traits.beyond(declared):
        raise UnavailableError(
            cause="configuration: the verifier that was found accepts more than "
            f"TenantVerifiers(traits=VerifierTraits(…)) declares: {', '.join(beyond)}; declare it, "
            "or let the function return a stricter verifier"
        )


def _begin(verifier: Verifier, listeners: Iterable[Listener]) -> None:
    """Start a verifier's background work."""
    if isinstance(verifier, KeyEventSource):
        for listener in listeners:
            verifier.listen(listener)
    if isinstance(verifier, Lifecycle):
        verifier.start()


async def _close(verifier: Lifecycle) -> None:
    """Close a verifier. Nothing awaits the result, so errors go to the log."""
    try:
        await verifier.aclose()
    except Exception as error:
        logger.error("tenant: a verifier could not be closed\n%s", trace_of(error))


def _could_be_an_issuer(issuer: str) -> bool:
    if len(issuer) > _LONGEST_ISSUER:
        return False
    try:
        configured_host(issuer, "iss")
    except ConfigurationError:
        return False
    return True


def _nobodys() -> InvalidTokenError:
    return InvalidTokenError(cause="issuer: no tenant's")
