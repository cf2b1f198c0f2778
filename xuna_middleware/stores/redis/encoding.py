"""How the arguments and answers of `scripts.py` are written. Pure: texts from values, and back."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Final, Literal

from xuna_middleware.stores.protocol import (
    Charge,
    Lease,
    LeaseStatus,
    PendingSettlement,
    Quota,
    QuotaStatus,
    ReserveResult,
    RevocationCheck,
    Wanted,
    step_of,
    whole,
)

#: What most names of notes begin with, and what those do that don't where they are listed.
_USUAL: Final = "conv_"
_UNUSUAL: Final = "/"
#: The words on a lease, as `HOLD` writes them.
_WORDS: Final[dict[str, Literal["", "ended", "revoked"]]] = {
    "-": "",
    "e": "ended",
    "r": "revoked",
}
#: What stands in a note before an amount; what is issued stays counted, so rates don't.
_MARKS: Final = {"time": ":", "slot": "/", "rate": ""}
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Keys:
    """Name what is kept in Redis. All names begin alike, with the hash tag in it."""

    prefix: str

    @property
    def leases(self) -> str:
        """The index of leases, by when they end."""
        return f"{self.prefix}leases"

    @property
    def channel(self) -> str:
        """Where is published that somebody ended a conversation or revoked."""
        return f"{self.prefix}woken"

    def principal(self, name: str) -> str:
        """Return the key of what somebody took."""
        return self.prefix + digest(name)

    def note(self, name: str) -> str:
        """Return the key of a reservation that can be settled; scripts derive it, too."""
        return f"{self.prefix}~{listed(name)}"

    def revocation(self, principal: str) -> str:
        """Return the key of up to when somebody is revoked."""
        return f"{self.prefix}revoked:{digest(principal)}"

    def lease(self, name: str) -> str:
        """Return the key of a live conversation."""
        return f"{self.prefix}lease:{name}"

    def to_hold(self, lease: Lease) -> list[str]:
        """Return what `HOLD` wants to know of, in its order."""
        standing = lease.standing
        revoked = [] if standing is None else [self.revocation(standing.principal)]
        return [self.lease(lease.name), *revoked, *self.principals(lease.slots)]

    def principals(self, parts: Sequence[Charge]) -> list[str]:
        """Return the key of each part's principal."""
        return [self.principal(part.principal) for part in parts]


@lru_cache(maxsize=4096)
def digest(name: str) -> str:
    """Return 22 letters that stand for a principal, and tell nobody who that is."""
    octets = name.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(octets, digest_size=16).digest()
    return base64.urlsafe_b64encode(digest)[:22].decode()


def note_text(note: PendingSettlement) -> str:
    """Return a note as it is kept; whose principals, each once, in the order of its parts."""
    principals = dict.fromkeys(part.principal for part in note.parts)
    return "\n".join([note.about, *(_line(who, note.parts) for who in principals)])


def _line(principal: str, parts: Sequence[Charge]) -> str:
    """Return what may come back of one principal, as short as it can be read again."""
    taken = [
        f"{part.field}{mark}{_short(part.mark)}{mark}{_short(part.amount)}"
        for part in parts
        if part.principal == principal and (mark := _MARKS[part.kind])
    ]
    return " ".join([digest(principal), *taken])


def _short(number: int) -> str:
    """Return a whole number, not below 0, in base 36."""
    letters = ""
    while number or not letters:
        number, digit = divmod(number, 36)
        letters = _DIGITS[digit] + letters
    return letters


def listed(name: str) -> str:
    """Return a note's name without what most begin with: each person's hash would repeat it."""
    rest = name.removeprefix(_USUAL)
    return _UNUSUAL + name if rest in ("", name) or rest.startswith(_UNUSUAL) else rest


def unlisted(text: str) -> str:
    """Return a note's name from how it is listed."""
    return text[1:] if text.startswith(_UNUSUAL) else _USUAL + text


def amounts(parts: Sequence[Charge]) -> tuple[str | int, ...]:
    """Return field, mark and amount of each part, one after another."""
    return tuple(chain.from_iterable((part.field, part.mark, part.amount) for part in parts))


def issued(standing: RevocationCheck | None) -> str:
    """Return when a standing's credential was issued, as `RESERVE` and `HOLD` read it."""
    if standing is None:
        return "false"
    return "true" if standing.issued_at is None else repr(standing.issued_at)


def spec(lease: Lease) -> str:
    """Return how a lease is to be held."""
    length = whole(lease.seconds)
    slots = json.dumps([(part.field, part.mark, part.amount) for part in lease.slots])
    name = json.dumps(lease.name)
    return f"[{name},{length},{step_of(length)},{issued(lease.standing)},{slots}]"


def held(lease: Lease, answer: bytes | str) -> LeaseStatus:
    """Read what `HOLD` says of a lease."""
    word, *marks = text_of(answer).split()
    pairs = zip(lease.slots, map(int, marks), strict=True)
    return LeaseStatus(tuple([part._replace(mark=mark) for part, mark in pairs]), _WORDS[word])


def text_of(answer: bytes | str) -> str:
    """Return an answer as text; a client of one's own may decode answers itself."""
    return answer.decode() if isinstance(answer, bytes) else answer


def order(
    places: Sequence[tuple[int, Quota]],
    standing: RevocationCheck | None = None,
    *,
    how: int,
    remembered: int = 0,
) -> str:
    """Return what `RESERVE` is to do, of quotas with the places of their keys."""
    quotas = ",".join([f"[{place},{_written(quota)}]" for place, quota in places])
    return f"[{how},{remembered},{issued(standing)},[{quotas}]]"


def quotas_of(wanted: Sequence[Wanted]) -> str:
    """Return the quotas as `PUT` reads them. All are of slots, which come back one by one."""
    return json.dumps([[q.field, q.most, q.amount, q.length, q.step] for _, q in wanted])


@lru_cache(maxsize=1024)
def _written(quota: Quota) -> str:
    return (
        f'{json.dumps(quota.field)},"{quota.kind}",{quota.most},{quota.amount},{quota.length},'
        f"{quota.step},{quota.held_length},{quota.held_step}"
    )


def reserved(answer: bytes | str) -> ReserveResult:
    """Read what `RESERVE` says."""
    text = text_of(answer)
    if text == "-":
        return ReserveResult(False, (), is_revoked=True)
    told, _, names = text.partition("\n")
    figures = [int(figure) for figure in told.split()]
    stands = zip(figures[1::3], figures[2::3], strict=True)
    levels = tuple([QuotaStatus(left, wait / 1000) for left, wait in stands])
    if figures[0]:
        return ReserveResult(True, levels, tuple(figures[3::3]))
    open_notes = map(unlisted, dict.fromkeys(names.split()))
    return ReserveResult(False, levels, open_notes=tuple(open_notes))
