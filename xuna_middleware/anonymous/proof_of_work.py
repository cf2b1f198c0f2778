"""A captcha without an external service: the page has to find a number, which takes some time.

A puzzle is random, signed and dated, so nothing is stored until it is solved. It is solved if the
SHA-256 of `<puzzle>.<number>` begins with the required zero bits; each is accepted once. It doesn't
stop an attacker who is willing to pay: a thousand conversations cost a thousand times the work of
one.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Final

from starlette.requests import HTTPConnection

from xuna_middleware.anonymous.captcha import HEADER
from xuna_middleware.errors import ConfigurationError, UnavailableError, over_budget
from xuna_middleware.stores.memory.store import MemoryStore
from xuna_middleware.stores.namespace import namespace_of
from xuna_middleware.stores.protocol import (
    OverBudgetError,
    Quota,
    Region,
    Store,
    StoreError,
    named,
)

_LONGEST: Final = 256
_MOST_BITS: Final = 32
#: Seconds by which the clocks of workers may differ.
_LEEWAY: Final = 30


class ProofOfWork:
    """Challenge visitors with a hash puzzle; the refusal carries it in `Xuna-Challenge`.

    `Xuna-Challenge: work;bits=16;puzzle=<puzzle>` comes with the 403; the page tries again with
    `Xuna-Challenge: <puzzle>.<number>`.

    Args:
        bits: required zero bits; each doubles the work. 16 takes a phone about a second.
        seconds: the time in which a puzzle must be solved.
        secret: signs puzzles, the same in every worker.
        per_address: how many puzzles one address may solve in the time for which a solved one is
            remembered (`seconds` and a minute); beyond that, 429. All clients behind one proxy that
            the gate's `trusted_proxies` doesn't list are one address.
        store: remembers the solved puzzles, shared by all workers.
        clock: seconds since the epoch.

    As a gate's captcha it uses the gate's secret and store unless it has its own; used alone it
    generates a secret, and remembers solved puzzles in this process.

    Raises:
        ConfigurationError: one of these is invalid.
    """

    def __init__(
        self,
        bits: int = 16,
        *,
        seconds: int = 120,
        per_address: int = 100,
        secret: str | None = None,
        store: Store | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if type(bits) is not int or not 1 <= bits <= _MOST_BITS:
            raise ConfigurationError(f"ProofOfWork takes a number of bits from 1 to {_MOST_BITS}")
        if type(seconds) is not int or not 1 <= seconds <= 3600:
            raise ConfigurationError("ProofOfWork(seconds=…) takes whole seconds, up to an hour")
        if secret is not None and (not isinstance(secret, str) or len(secret) < 32):
            raise ConfigurationError("ProofOfWork(secret=…) is a random text of 32 characters")
        if type(per_address) is not int or per_address < 1:
            raise ConfigurationError("ProofOfWork(per_address=…) is a whole number, 1 or more")
        self._bits, self._seconds, self._clock = bits, seconds, clock
        self._address: Callable[[HTTPConnection], str | None] = _peer
        self._budget = Quota(
            field="solved",
            most=per_address,
            amount=1,
            seconds=seconds + 2 * _LEEWAY,
            kind="slot",
        )
        self._has_secret, self._has_store = secret is not None, store is not None
        self._secrets: tuple[str, ...] = (secret or secrets.token_urlsafe(32),)
        self._store = store or MemoryStore()
        self._derive_keys()

    def __repr__(self) -> str:
        return f"ProofOfWork({self._bits})"

    def sharing(
        self,
        newest_first: Sequence[str],
        store: Store,
        address: Callable[[HTTPConnection], str | None],
    ) -> "ProofOfWork":
        """Return the same captcha, with these secrets and this store where it has none.

        `address` returns the client address of a request.
        """
        shared = copy(self)
        shared._address = address
        if not self._has_secret:
            shared._secrets = tuple(newest_first)
        if not self._has_store:
            shared._store = store
        shared._derive_keys()
        return shared

    def _derive_keys(self) -> None:
        """Derive keys for puzzles of one gate only, the one whose store remembers the solved ones:
        otherwise one solution would be accepted by two gates.
        """
        namespace = namespace_of(self._store)
        #: The first one signs, all verify.
        self._keys = tuple(_derived(secret, namespace) for secret in self._secrets)

    def headers(self) -> Mapping[str, str]:
        """Return a header with a new puzzle."""
        unsigned = f"{int(self._clock())}-{secrets.token_hex(8)}"
        puzzle = f"{unsigned}-{_signature(self._keys[0], unsigned)}"
        return {HEADER: f"work;bits={self._bits};puzzle={puzzle}"}

    async def verify(self, connection: HTTPConnection) -> bool:
        """Return whether the request solves one of our puzzles for the first time.

        Raises:
            UnavailableError: the store can't say whether it is the first time.
            LimitReachedError: this address has solved too many.
        """
        answers = connection.headers.getlist(HEADER)
        if len(answers) != 1 or len(answers[0]) > _LONGEST or not answers[0].isascii():
            return False
        puzzle, _, number = answers[0].partition(".")
        if not number.isdecimal() or not self._is_open(puzzle) or not self._is_solved(answers[0]):
            return False
        budget = named(Region.PUZZLES, f"address:{self._address(connection)}"), self._budget
        try:
            return await self._store.put(
                f"work:{puzzle}", b"", self._budget.seconds, Region.PUZZLES, [budget]
            )
        except OverBudgetError as over:
            raise over_budget(
                "solved puzzles",
                "budget: one address solved as many puzzles as ProofOfWork(per_address="
                f"{self._budget.most}) lets it; behind a proxy, list it: trusted_proxies=…",
                over.seconds,
            ) from None
        except StoreError as error:
            raise UnavailableError(cause=f"store: {error}") from None

    def _is_open(self, puzzle: str) -> bool:
        """Return whether it is one of our puzzles, and not expired."""
        unsigned, _, signature = puzzle.rpartition("-")
        signatures = [_signature(key, unsigned) for key in self._keys]
        if not any(hmac.compare_digest(signature, each) for each in signatures):
            return False
        age = self._clock() - int(unsigned.partition("-")[0])
        return -_LEEWAY <= age < self._seconds

    def _is_solved(self, answer: str) -> bool:
        digest = hashlib.sha256(answer.encode()).digest()
        return int.from_bytes(digest) >> (8 * len(digest) - self._bits) == 0


def _peer(connection: HTTPConnection) -> str | None:
    return None if connection.client is None else connection.client.host


def _derived(secret: str, namespace: str) -> bytes:
    """Return a key that is valid only for puzzles of one gate."""
    purpose = f"xuna_middleware.work:{namespace}"
    return hmac.new(secret.encode(), purpose.encode(), "sha256").digest()


def _signature(key: bytes, unsigned: str) -> str:
    return hmac.new(key, unsigned.encode(), "sha256").hexdigest()[:32]
