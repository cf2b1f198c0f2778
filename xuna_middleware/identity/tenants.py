"""Issuers that are known only when somebody comes: a function of the operator's finds the verifier.

The unverified `iss` is a stranger's word, so it is a key to look up and nothing else: the function
must answer from what the operator wrote down (a table of tenants), never build an address of it.

- It is asked only for an `iss` that could be an issuer: an https URL of at most 255 characters.
- A verifier that it returns must be that issuer's, to the letter. It serves for `keep` seconds,
  then the function is asked again: a tenant that left is refused within that time.
- What the gate must know before the first tenant comes (DPoP, certificates, how long tokens live),
  the option `traits` declares for all of them. A verifier that accepts more is a 503, and the log
  names the trait: else its callers would get no challenge, or outlive their revocation.
- What is replaced, or goes because there are too many, is closed when nobody is with it any more.
  So return a new verifier then, or one that can begin again (those of this package can).
- None is remembered for 10 seconds, a failure for one; at most `max_concurrent` issuers are looked
  up at once, all who wait for one share it, and whoever comes beyond that gets a 503.
- A tenant counts as used when a token was verified, not when somebody names it. One that has been
  verified is looked up again apart from strangers' look-ups, and makes room for no tenant that has
  not. Those that have not been are newcomers: each keeps its place for 10 seconds at least, and
  where no place is free, the next newcomer is a 503. So forged tokens neither drop live tenants nor
  have keys fetched without a bound.
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
#: For how long a newcomer keeps its place, whoever else comes.
NEWCOMER_SECONDS: Final = 10.0
#: How many look-ups wait for their turn: of known tenants, and apart from these of all others.
LOOK_UPS_WAITING: Final = 64

#: Returns the verifier of exactly this issuer, or None; it may be async.
Resolve: TypeAlias = Callable[[str], Verifier | Awaitable[Verifier | None] | None]


class TenantVerifiers:
    """Verify tokens of issuers that a function knows.

    Args:
        resolve: `(issuer) -> Verifier | None`, sync or async; an async one has 2 seconds.
        max_entries: how many tenants are kept at once; the one unused for longest goes first. Say
            more than there are tenants: then none has to make room. A tenth more, `max_concurrent`
            at least, are kept of those whose first token is not verified yet.
        cache_seconds: for how many seconds, at least 1.
        max_concurrent: how many issuers are looked up at once, and as many of the known ones; 64 of
            each wait for their turn.
        traits: what the verifiers of all tenants accept at most: by default Bearer tokens that live
            for a day. `VerifierTraits(dpop_algorithms=("ES256",), max_token_seconds=7 * 86_430)`
            admits tenants that take DPoP, or whose tokens live for a week; with `issuers` no other
            issuer is looked up. `merge_traits()` makes one of the traits of several verifiers.
        monotonic: the clock, in seconds.

    Checks: that the verifier is the issuer's own, accepts nothing beyond `traits`, and returns
    identities of that issuer only. All else the verifier checks.

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
        if checked_seconds(cache_seconds, "keep") < 1:
            raise ConfigurationError("keep must be 1 second or more")
        for name, number in (("max_entries", max_entries), ("max_concurrent", max_concurrent)):
            if type(number) is not int or number < 1:
                raise ConfigurationError(f"{name} must be a whole number, 1 or more")
        if not isinstance(traits, VerifierTraits | None):
            raise ConfigurationError("TenantVerifiers(traits=…) takes VerifierTraits(…)")
        #: What the gate and a list of verifiers read.
        self.traits = replace(traits or VerifierTraits(), resolves_issuers=True, needs_request=True)
        self._resolve = resolve
        self._most = max_entries
        self._keep = cache_seconds
        self._now = monotonic
        #: Those of whom a token was verified, the one unused for longest first; and newcomers.
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
        #: Verifiers that are being closed, and tenants that were let go while they have users.
        self._closing: dict[asyncio.Task[None], Verifier] = {}
        self._leaving: set[_Tenant] = set()
        self._listeners: list[Listener] = []

    def __repr__(self) -> str:
        kept = len(self._tenants) + len(self._newcomers)
        return f"TenantVerifiers({kept} of at most {self._most})"

    def listen(self, listener: Listener) -> None:
        """Tell of the keys of every issuer that is found from now on."""
        if listener not in self._listeners:
            self._listeners.append(listener)

    def start(self) -> None:
        """Do nothing: nobody is known yet."""

    @property
    def ready(self) -> bool:
        """Be ready: whoever comes is looked up then."""
        return True

    async def aclose(self) -> None:
        """Close every verifier that was found, and end the look-ups of this event loop."""
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
        """Return whom the token proves to its issuer's verifier; see `Verifier.verify`."""
        async with self._tenant_of(credentials.token) as tenant:
            tenant.traits.check_scheme(credentials.scheme)
            identity = await tenant.verifier.verify(credentials)
            tenant.traits.check_issuer(identity)
            self._count_as_used(tenant)
            return identity

    async def recheck_interval(self, token: str) -> float | None:
        """Return after how many seconds to ask the issuer's verifier again; see `Rechecks`."""
        async with self._tenant_of(token) as tenant:
            return await recheck_interval_of(tenant.verifier, token)

    async def recheck(self, token: str) -> Identity:
        """Return whom the token proves now to its issuer's verifier; see `Rechecks.recheck`."""
        async with self._tenant_of(token) as tenant:
            identity = await recheck_by(tenant.verifier, token)
            tenant.traits.check_issuer(identity)
            self._count_as_used(tenant)
            return identity

    @asynccontextmanager
    async def _tenant_of(self, token: str) -> AsyncIterator["_Tenant"]:
        """Find the tenant of a token, whose verifier is not closed before the block ends."""
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
        """Return whether an issuer is a tenant's; see `Resolving`."""
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
            self._check_room(self._now())  # others may have come while this one waited
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
        """Put what was found in place; what it replaces ends when its last request has."""
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
        """Note that a token of this tenant's was verified just now."""
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
        """Refuse one more newcomer, without I/O, where none could make room.

        Raises:
            UnavailableError: all came within the last 10 seconds, or are in use.
        """
        if self._has_room(1) or self._idle(now) is not None:
            return
        raise UnavailableError(
            cause="tenant: too many whose tokens are not verified yet; "
            "TenantVerifiers(max_entries=…) is to be above the number of your tenants",
            retry_after=1,
        )

    def _make_room(self, newest: "_Tenant", now: float) -> None:
        """Let newcomers go that nobody uses, the newest itself where no other can."""
        while not self._has_room(0):
            leaving = self._idle(now) or newest
            if self._newcomers.pop(leaving.issuer, None) is None:
                return
            self._let_go(leaving)

    def _has_room(self, more: int) -> bool:
        room = max(self._few, self._most - len(self._tenants))
        return len(self._newcomers) + more <= room

    def _idle(self, now: float) -> "_Tenant | None":
        """Return the newcomer that may go first, if one may."""
        for tenant in self._newcomers.values():
            if now < tenant.since + NEWCOMER_SECONDS:
                return None
            if not tenant.users:
                return tenant
        return None

    def _let_go(self, tenant: "_Tenant") -> None:
        """Close a tenant's verifier when nobody is with it: the function may have returned it again
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
        """Return whether another than the tenant that is gone has its verifier."""
        kept = self._tenants.get(gone.issuer) or self._newcomers.get(gone.issuer)
        others = [kept, *self._leaving]
        return any(
            each is not None and each is not gone and each.verifier is gone.verifier
            for each in others
        )

    async def _wait_until_closed(self, verifier: Verifier) -> None:
        """Wait while a verifier that was found is being closed, so that it can begin again."""
        loop = asyncio.get_running_loop()
        while closing := {
            task
            for task, each in self._closing.items()
            if each is verifier and task.get_loop() is loop
        }:
            await asyncio.wait(closing)


@dataclass(slots=True, eq=False)
class _Tenant:
    """Hold one issuer's verifier, and how many requests are with it."""

    issuer: str
    verifier: Verifier
    traits: VerifierTraits
    since: float
    until: float
    users: int = 0
    has_left: bool = False


def _check(verifier: object, issuer: str, declared: VerifierTraits) -> None:
    """Refuse what the function found unless it is a verifier, of this issuer alone, that accepts
    nothing beyond what was declared.
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
    """Let a verifier begin what it does beside requests."""
    if isinstance(verifier, KeyEventSource):
        for listener in listeners:
            verifier.listen(listener)
    if isinstance(verifier, Lifecycle):
        verifier.start()


async def _close(verifier: Lifecycle) -> None:
    """Close a verifier. Nobody waits for it, so what goes wrong is for the log."""
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
