"""Provide verification keys, and refresh them without making requests wait.

- A request whose key is known never waits: the set is renewed in the background.
- One fetch at a time in an event loop; all requests that need its result share it.
- An unknown kid causes one fetch, and starts a cooldown. During it, unknown kids are refused and
  one fetch is scheduled for its end: a key that appears in the middle of a flood of made-up kids
  may be refused for at most one cooldown.
- A failed fetch is retried after 1, 2, 4 … 30 seconds, and no fetch starts before that, for any
  reason; the last good set is used until it is `max_stale` old. With no usable set left the answer
  is 503, and costs no I/O until the next try.
- All loops share one due time for the next fetch. Each loop in use wakes for it, and goes back to
  sleep if another has fetched meanwhile.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from xuna_middleware.errors import ConfigurationError, InvalidTokenError, UnavailableError
from xuna_middleware.events import EventName
from xuna_middleware.identity.jwt._jose import JOSEError, VerificationKey
from xuna_middleware.identity.jwt.options import checked_seconds
from xuna_middleware.identity.keys.endpoints import KeySourceError
from xuna_middleware.identity.keys.jwks import KeySet, holds_secrets, read_key_set, read_secrets

logger = logging.getLogger("xuna_middleware")

_LONGEST_BACKOFF: Final = 30.0
_LEAST_SECONDS: Final = {"refresh_after": 10, "max_stale": 10, "cooldown": 1}


#: Receives an event's name, the issuer and the cause.
Listener: TypeAlias = Callable[[EventName, str, str], None]


class KeySource(Protocol):
    """Find the key that a token's header names."""

    def is_blocked(self, kid: str | None) -> bool:
        """Return whether a kid would be refused now whatever else the token says. Does no I/O.

        This refuses a flood of made-up kids before the rest of a token is read.
        """

    def known(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        """Return the key if it is loaded; None if the caller would have to wait for it.

        Does no I/O; a fetch that is due starts in the background.

        Raises:
            InvalidTokenError: there is no such key.
        """

    async def find(self, kid: str | None, algorithm: str) -> VerificationKey:
        """Return the key, having waited for it.

        Raises:
            InvalidTokenError: there is no such key.
            UnavailableError: it can't be looked up now.
        """

    def listen(self, listener: Listener) -> None:
        """Report changed keys, and keys that can't be fetched."""

    @property
    def ready(self) -> bool:
        """Return whether tokens can be verified without waiting."""

    def start(self) -> None:
        """Start fetching in the background, if there is something to fetch."""

    def stop(self) -> None:
        """Stop background work."""


class StaticKeys:
    """Keys that the operator configured: a JWK Set, public keys or secrets, not both."""

    ready = True

    def __init__(self, jwks: Any, algorithms: frozenset[str]) -> None:
        try:
            self._keys = read_secrets(jwks) if holds_secrets(jwks) else read_key_set(jwks)
        except JOSEError as error:
            raise ConfigurationError(
                f"jwks: {error}; HMAC secrets need 32, 48 or 64 octets for HS256, HS384, HS512"
            ) from None
        if all(key.algorithms.isdisjoint(algorithms) for key in self._keys.keys):
            raise ConfigurationError(
                'jwks: no key fits the algorithms; for a secret: algorithms=("HS256",)'
            )

    def listen(self, listener: Listener) -> None:
        """Do nothing: configured keys don't change."""

    def is_blocked(self, kid: str | None) -> bool:
        """Return False: reading more of a token gives a better error."""
        return False

    def known(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        return _find(self._keys, kid, algorithm)

    async def find(self, kid: str | None, algorithm: str) -> VerificationKey:
        """Refuse. Only called when `known` found nothing, and no more keys will come."""
        raise InvalidTokenError(cause="unknown key: no given key has the token's kid")

    def start(self) -> None:
        """Do nothing: the keys are loaded."""

    def stop(self) -> None:
        """Do nothing: nothing runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JWKSRefresh:
    """Bound how old keys may be, in seconds.

    Attributes:
        refresh_after: the age at which a set is fetched again, at least 10. A withdrawn key is
            refused within this plus the time of one fetch, as long as the provider answers.
        max_stale: the age up to which the last good set is used while the provider doesn't answer,
            at least `refresh_after`.
        cooldown: the least time between two fetches for unknown kids, at least 1.

    Raises:
        ConfigurationError: a value is out of its bounds.
    """

    refresh_after: float = 300
    max_stale: float = 3600
    cooldown: float = 10

    def __post_init__(self) -> None:
        for name, least in _LEAST_SECONDS.items():
            option = f"JWKSRefresh({name}=…)"
            if checked_seconds(getattr(self, name), option) < least:
                raise ConfigurationError(f"{option} must be {least} seconds or more")
        if self.refresh_after > self.max_stale:
            raise ConfigurationError(
                "JWKSRefresh(max_stale=…) must be refresh_after or more: a set can't be too old to "
                "serve before it is old enough to be fetched anew"
            )


@dataclass(slots=True, eq=False)
class _Background:
    """The background work of one event loop: at most one fetch and one timer."""

    loop: asyncio.AbstractEventLoop
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    stopped: bool = False

    @property
    def is_fetching(self) -> bool:
        return self.task is not None and not self.task.done()

    def wake(self, delay: float, callback: Callable[[], None]) -> None:
        """Set the timer, outside any request's context. Does nothing once stopped."""
        if self.timer is not None:
            self.timer.cancel()
        if not self.stopped:
            self.timer = self.loop.call_later(delay, callback, context=Context())

    def stop(self) -> None:
        """Stop both, from any loop or thread; in a closed loop nothing is left to stop."""
        self.stopped = True
        if self.loop is _running_loop():
            self._cancel()
            return
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        for running in (self.task, self.timer):
            if running is not None:
                running.cancel()


class RemoteKeys:
    """Keep a fetched set fresh. Belongs to no event loop: any running loop may use it."""

    def __init__(
        self,
        issuer: str,
        load: Callable[[], Awaitable[KeySet]],
        on_change: Callable[[], None],
        freshness: JWKSRefresh | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not isinstance(freshness, JWKSRefresh | None):
            raise ConfigurationError("freshness must be a JWKSRefresh(…), or be left out")
        self._issuer = issuer
        self._load = load
        self._on_change = on_change
        self._freshness = freshness or JWKSRefresh()
        self._now = monotonic
        self._keys: KeySet | None = None
        self._listeners: list[Listener] = []
        self._failures = self._begun = self._applied = 0
        #: When the next fetch is due, until when the set is usable, before when no fetch may start,
        #: and the same for fetches for an unknown kid.
        self._due_at = self._stale_at = self._retry_at = self._cooldown_until = float("-inf")
        #: Task and timer hold their loop, so weak keys would never expire: `_here` drops closed
        #: loops.
        self._loops: dict[asyncio.AbstractEventLoop, _Background] = {}

    @property
    def ready(self) -> bool:
        return self._usable(self._now()) is not None

    def listen(self, listener: Listener) -> None:
        if listener not in self._listeners:
            self._listeners.append(listener)

    def start(self) -> None:
        self._wake(self._here())

    def stop(self) -> None:
        while self._loops:
            self._loops.popitem()[1].stop()

    def is_blocked(self, kid: str | None) -> bool:
        if kid is None or self._keys is None or kid in self._keys.by_kid or self._failures:
            return False
        is_planned = self._due_at <= self._cooldown_until
        return is_planned and self._now() < self._due_at and not self._here().is_fetching

    def known(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        now = self._now()
        if now >= self._due_at:
            self._refresh(self._here())
        return _find(self._usable(now), kid, algorithm)

    async def find(self, kid: str | None, algorithm: str) -> VerificationKey:
        if key := self.known(kid, algorithm):
            return key
        keys = self._usable(self._now()) or await self._first()
        return _find(keys, kid, algorithm) or await self._find_unknown(kid, algorithm)

    def _usable(self, now: float) -> KeySet | None:
        return self._keys if now <= self._stale_at else None

    async def _first(self) -> KeySet:
        if self._now() >= self._retry_at or self._here().is_fetching:
            await self._fetch_once()
        keys = self._usable(self._now())
        if keys is None:
            raise self._unavailable()
        return keys

    async def _find_unknown(self, kid: str | None, algorithm: str) -> VerificationKey:
        """Fetch once for a kid that the set doesn't have, or refuse within the cooldown.

        A fetch already under way when this kid was seen may have been answered before the key was
        published, so if it doesn't bring the key, another fetch follows.
        """
        if self._here().is_fetching:
            await self._fetch_once()
            if key := _find(self._keys, kid, algorithm):
                return key
        await self._fetch_for_unknown()
        if key := _find(self._keys, kid, algorithm):
            return key
        if self._failures:
            raise self._unavailable()
        raise unknown_key()

    async def _fetch_for_unknown(self) -> None:
        """Fetch, or share a fetch for an unknown kid, or schedule one without waiting."""
        here, now = self._here(), self._now()
        allowed_at = max(self._cooldown_until, self._retry_at)
        if now >= allowed_at:
            self._cooldown_until = now + self._freshness.cooldown
            await self._fetch_once()
        elif here.is_fetching:
            await self._fetch_once()
        elif allowed_at < self._due_at:
            self._due_at = allowed_at
            self._wake(here)

    async def _fetch_once(self) -> None:
        """Wait for the fetch under way in this loop, or start one and wait for it."""
        here = self._here()
        task = self._refresh(here)
        await asyncio.wait({task})
        if here.stopped or task.cancelled():
            raise self._unavailable()

    def _unavailable(self) -> UnavailableError:
        return UnavailableError(
            cause="key source: no usable keys of the identity provider",
            retry_after=max(1.0, self._retry_at - self._now()),
        )

    def _here(self) -> _Background:
        """Return this event loop's background work; drop closed loops."""
        loop = asyncio.get_running_loop()
        if here := self._loops.get(loop):
            return here
        for other in list(self._loops):
            if other.is_closed():
                self._loops.pop(other, None)
        return self._loops.setdefault(loop, _Background(loop))

    def _refresh(self, here: _Background) -> asyncio.Task[None]:
        """Return the fetch under way in this loop, or start one, outside any request's context."""
        if here.task is None or here.task.done():
            here.task = here.loop.create_task(self._fetch(here), context=Context())
        return here.task

    def _wake(self, here: _Background) -> None:
        """Set this loop's timer to when the next fetch is due."""
        delay = max(0.0, self._due_at - self._now())
        here.wake(delay, partial(self._on_timer, here, self._due_at))

    def _on_timer(self, here: _Background, due_at: float) -> None:
        if self._due_at <= due_at:
            self._refresh(here)
        else:
            self._wake(here)

    async def _fetch(self, here: _Background) -> None:
        self._begun = number = self._begun + 1
        begun_at = self._now()
        try:
            keys = await self._load()
        except (KeySourceError, JOSEError) as error:
            self._failed(str(error))
        except Exception as error:
            self._failed(f"unexpected {type(error).__name__}")
        else:
            self._succeeded(number, keys, begun_at)
        self._wake(here)

    def _failed(self, reason: str) -> None:
        backoff = min(_LONGEST_BACKOFF, 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)
        self._due_at = self._retry_at = self._now() + backoff
        logger.warning(
            "keys of %s could not be fetched, next try in %.0f s: %s", self._issuer, backoff, reason
        )
        self._tell("provider_down", reason)

    def _succeeded(self, number: int, keys: KeySet, begun_at: float) -> None:
        """Store a fetched set, unless one from a later fetch is already stored."""
        self._failures, self._retry_at = 0, float("-inf")
        if number < self._applied:
            return
        is_first = self._keys is None
        changed = self._keys is None or keys.keys != self._keys.keys
        self._keys, self._applied = keys, number
        self._due_at = begun_at + self._freshness.refresh_after
        self._stale_at = begun_at + self._freshness.max_stale
        if changed:
            self._on_change()
            if not is_first:
                self._tell("keys_rotated", "")

    def _tell(self, name: EventName, cause: str) -> None:
        for listener in self._listeners:
            listener(name, self._issuer, cause)


def unknown_key() -> InvalidTokenError:
    """Return the refusal of a kid that the provider doesn't publish."""
    return InvalidTokenError(cause="unknown key: the provider publishes no key with this kid")


def _find(keys: KeySet | None, kid: str | None, algorithm: str) -> VerificationKey | None:
    try:
        return None if keys is None else keys.find(kid, algorithm)
    except JOSEError as error:
        raise InvalidTokenError(cause=f"key: {error}") from None


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
