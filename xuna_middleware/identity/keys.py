"""Where verification keys come from, and how they stay fresh without anybody waiting.

- Nobody whose key is known ever waits: a set is renewed in the background.
- One fetch at a time; whoever needs its result shares it.
- An unknown kid gets one fetch, and starts a cooldown. While it lasts, unknown kids are refused
  and one fetch is scheduled for its end: a key that appears in the middle of a flood of made-up
  kids may be refused for at most one cooldown.
- A failed fetch is tried again after 1, 2, 4 … 30 seconds; the last good set serves until it is
  `max_stale` old. With nothing usable left the answer is 503, and costs no I/O until the next try.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from xuna_middleware.errors import ConfigurationError, InvalidTokenError, UnavailableError
from xuna_middleware.identity._jose import JOSEError, VerificationKey
from xuna_middleware.identity.endpoints import KeySourceError
from xuna_middleware.identity.keysets import KeySet, holds_secrets, read_key_set, read_secrets
from xuna_middleware.identity.options import checked_seconds

logger = logging.getLogger("xuna_middleware")

_LONGEST_BACKOFF: Final = 30.0


class KeySource(Protocol):
    """Find the key that a token's header names."""

    def known(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        """Return the key if it is here; None where one would have to wait for it.

        Raises:
            InvalidTokenError: there is no such key.
        """

    async def find(self, kid: str | None, algorithm: str) -> VerificationKey:
        """Return the key, having waited for it.

        Raises:
            InvalidTokenError: there is no such key.
            UnavailableError: it can't be known now.
        """

    @property
    def ready(self) -> bool:
        """Tell whether tokens can be verified without waiting."""

    def start(self) -> None:
        """Begin to fetch in the background, where there is something to fetch."""

    def stop(self) -> None:
        """End what runs in the background."""


class GivenKeys:
    """Hold keys that the operator wrote down: a JWK Set, public keys or secrets, not both."""

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

    def known(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        return _find(self._keys, kid, algorithm)

    async def find(self, kid: str | None, algorithm: str) -> VerificationKey:
        raise InvalidTokenError(cause="unknown key: no given key has the token's kid")

    def start(self) -> None:
        """Do nothing: the keys are here."""

    def stop(self) -> None:
        """Do nothing: nothing runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """Bound how old keys may be, in seconds.

    Attributes:
        refresh_after: the age at which a set is fetched anew. A withdrawn key is refused within
            this and the time of one fetch, as long as the provider answers.
        max_stale: the age up to which the last good set serves while the provider doesn't answer.
        cooldown: the least time between two fetches for unknown kids.
    """

    refresh_after: float = 300
    max_stale: float = 3600
    cooldown: float = 10

    def __post_init__(self) -> None:
        for option in ("refresh_after", "max_stale", "cooldown"):
            checked_seconds(getattr(self, option), f"Freshness({option}=…)")


class FetchedKeys:
    """Keep a fetched set fresh. Belongs to no event loop: whichever runs may use it."""

    def __init__(
        self,
        issuer: str,
        load: Callable[[], Awaitable[KeySet]],
        on_change: Callable[[], None],
        freshness: Freshness | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._load = load
        self._on_change = on_change
        self._freshness = freshness or Freshness()
        self._now = monotonic
        self._keys: KeySet | None = None
        self._fetched_at = float("-inf")
        self._failures = 0
        self._retry_at = float("-inf")
        self._cooldown_until = float("-inf")
        self._begun = self._applied = 0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_loop: asyncio.AbstractEventLoop | None = None

    @property
    def ready(self) -> bool:
        return self._usable() is not None

    def start(self) -> None:
        if self._usable() is None and self._now() >= self._retry_at:
            self._refresh()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None and not self._task.get_loop().is_closed():
            self._task.cancel()
        self._timer = self._task = None

    def known(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        if self._is_due():
            self._refresh()
        return _find(self._usable(), kid, algorithm)

    async def find(self, kid: str | None, algorithm: str) -> VerificationKey:
        if key := self.known(kid, algorithm):
            return key
        keys = self._usable() or await self._first()
        return _find(keys, kid, algorithm) or await self._find_unknown(kid, algorithm)

    def _usable(self) -> KeySet | None:
        too_old = self._now() - self._fetched_at > self._freshness.max_stale
        return None if too_old else self._keys

    def _is_due(self) -> bool:
        now = self._now()
        age = now - self._fetched_at
        return self._freshness.refresh_after < age < math.inf and now >= self._retry_at

    async def _first(self) -> KeySet:
        if self._now() >= self._retry_at or self._is_fetching():
            await asyncio.wait({self._refresh()})
        keys = self._usable()
        if keys is None:
            raise self._unavailable()
        return keys

    async def _find_unknown(self, kid: str | None, algorithm: str) -> VerificationKey:
        """Fetch once for a kid that the set doesn't have, or refuse within the cooldown.

        A fetch that was under way before this kid was seen may have been answered before the key
        was published, so one that doesn't bring it is followed by another.
        """
        if self._is_fetching():
            await asyncio.wait({self._refresh()})
            if key := _find(self._keys, kid, algorithm):
                return key
        now = self._now()
        if now >= self._cooldown_until:
            self._cooldown_until = now + self._freshness.cooldown
            if now >= self._retry_at:
                await asyncio.wait({self._refresh()})
        else:
            self._schedule(self._cooldown_until - now)
        if key := _find(self._keys, kid, algorithm):
            return key
        if self._failures:
            raise self._unavailable()
        raise InvalidTokenError(cause="unknown key: the provider publishes no key with this kid")

    def _unavailable(self) -> UnavailableError:
        return UnavailableError(
            cause="key source: no usable keys of the identity provider",
            retry_after=max(1.0, self._retry_at - self._now()),
        )

    def _is_fetching(self) -> bool:
        task = self._task
        return task is not None and not task.done() and task.get_loop() is _loop()

    def _refresh(self) -> asyncio.Task[None]:
        """Return the fetch under way in this loop, or begin one."""
        if self._task is None or not self._is_fetching():
            self._task = _loop().create_task(self._fetch())
        return self._task

    async def _fetch(self) -> None:
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

    def _failed(self, reason: str) -> None:
        backoff = min(_LONGEST_BACKOFF, 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)
        self._retry_at = self._now() + backoff
        self._schedule(backoff)
        logger.warning(
            "keys of %s could not be fetched, next try in %.0f s: %s", self._issuer, backoff, reason
        )

    def _succeeded(self, number: int, keys: KeySet, begun_at: float) -> None:
        """Put a fetched set in place, unless one that was begun later already is."""
        self._failures, self._retry_at = 0, float("-inf")
        self._schedule(self._freshness.refresh_after)
        if number < self._applied:
            return
        changed = self._keys is None or keys.keys != self._keys.keys
        self._keys, self._fetched_at, self._applied = keys, begun_at, number
        if changed:
            self._on_change()

    def _schedule(self, delay: float) -> None:
        """Fetch after `delay` seconds, or sooner where that is already planned in this loop."""
        loop = _loop()
        if self._timer is not None and self._timer_loop is loop:
            if self._timer.when() <= loop.time() + delay:
                return
            self._timer.cancel()
        self._timer, self._timer_loop = loop.call_later(delay, self._on_timer), loop

    def _on_timer(self) -> None:
        self._timer = None
        self._refresh()


def _find(keys: KeySet | None, kid: str | None, algorithm: str) -> VerificationKey | None:
    try:
        return None if keys is None else keys.find(kid, algorithm)
    except JOSEError as error:
        raise InvalidTokenError(cause=f"key: {error}") from None


def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()
