"""Encode the arguments of `scripts.py` and decode the answers. Pure: values to texts, and back."""

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

#: The prefix of most notes' names, and the prefix that marks all others in lists.
_USUAL: Final = "conv_"
_UNUSUAL: Final = "/"
#: The words on a lease, as `HOLD` writes them.
_WORDS: Final[dict[str, Literal["", "ended", "revoked"]]] = {
    "-": "",
    "e": "ended",
    "r": "revoked",
}
#: The character before an amount in a note. Issued credentials stay counted, so rates have none.
_MARKS: Final = {"time": ":", "slot": "/", "rate": ""}
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Keys:
    """Build the keys in Redis. All have the same prefix, which contains the hash tag."""

    prefix: str

    @property
    def leases(self) -> str:
        """The index of leases, by when they end."""
        return f"{self.prefix}leases"

    @property
    def channel(self) -> str:
        """The pub/sub channel for ended conversations and revocations."""
        return f"{self.prefix}woken"

    def principal(self, name: str) -> str:
        """Return the key of a principal's usage."""
        return self.prefix + digest(name)

    def note(self, name: str) -> str:
        """Return the key of a reservation that can be settled; scripts also derive it."""
        return f"{self.prefix}~{listed(name)}"

    def revocation(self, principal: str) -> str:
        """Return the key of a principal's revocation time."""
        return f"{self.prefix}revoked:{digest(principal)}"

    def lease(self, name: str) -> str:
        """Return the key of a live conversation."""
        return f"{self.prefix}lease:{name}"

    def to_hold(self, lease: Lease) -> list[str]:
        """Return the keys of a lease for `HOLD`, in its order."""
        standing = lease.standing
        revoked = [] if standing is None else [self.revocation(standing.principal)]
        return [self.lease(lease.name), *revoked, *self.principals(lease.slots)]

    def principals(self, parts: Sequence[Charge]) -> list[str]:
        """Return the key of each part's principal."""
        return [self.principal(part.principal) for part in parts]


@lru_cache(maxsize=4096)
def digest(name: str) -> str:
    """Return 22 letters that stand for a principal without revealing who it is."""
    octets = name.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(octets, digest_size=16).digest()
    return base64.urlsafe_b64encode(digest)[:22].decode()


def note_text(note: PendingSettlement) -> str:
    """Return a note as it is stored, with each principal once, in the order of its charges."""
    principals = dict.fromkeys(part.principal for part in note.parts)
    return "\n".join([note.about, *(_line(who, note.parts) for who in principals)])


def _line(principal: str, parts: Sequence[Charge]) -> str:
    """Return one principal's charges of a note, in the shortest form that can be parsed."""
    taken = [
        f"{part.field}{mark}{_short(part.mark)}{mark}{_short(part.amount)}"
        for part in parts
        if part.principal == principal and (mark := _MARKS[part.kind])
    ]
    return " ".join([digest(principal), *taken])


def _short(number: int) -> str:
    """Return a non-negative whole number in base 36."""
    letters = ""
    while number or not letters:
        number, digit = divmod(number, 36)
        letters = _DIGITS[digit] + letters
    return letters


def listed(name: str) -> str:
    """Return a note's name without the usual prefix, which each person's hash would repeat."""
    rest = name.removeprefix(_USUAL)
    return _UNUSUAL + name if rest in ("", name) or rest.startswith(_UNUSUAL) else rest


def unlisted(text: str) -> str:
    """Return a note's name from its listed form."""
    return text[1:] if text.startswith(_UNUSUAL) else _USUAL + text


def amounts(parts: Sequence[Charge]) -> tuple[str | int, ...]:
    """Return field, mark and amount of each charge, one after another."""
    return tuple(chain.from_iterable((part.field, part.mark, part.amount) for part in parts))


def issued(standing: RevocationCheck | None) -> str:
    """Return when a standing's credential was issued, in the form for `RESERVE` and `HOLD`."""
    if standing is None:
        return "false"
    return "true" if standing.issued_at is None else repr(standing.issued_at)


def spec(lease: Lease) -> str:
    """Return the arguments for one lease in `HOLD`."""
    length = whole(lease.seconds)
    slots = json.dumps([(part.field, part.mark, part.amount) for part in lease.slots])
    name = json.dumps(lease.name)
    return f"[{name},{length},{step_of(length)},{issued(lease.standing)},{slots}]"


def held(lease: Lease, answer: bytes | str) -> LeaseStatus:
    """Parse the answer of `HOLD` about a lease."""
    word, *marks = text_of(answer).split()
    pairs = zip(lease.slots, map(int, marks), strict=True)
    return LeaseStatus(tuple([part._replace(mark=mark) for part, mark in pairs]), _WORDS[word])


def text_of(answer: bytes | str) -> str:
    """Return an answer as text; a user's client may already decode answers."""
    return answer.decode() if isinstance(answer, bytes) else answer


def order(
    places: Sequence[tuple[int, Quota]],
    standing: RevocationCheck | None = None,
    *,
    how: int,
    remembered: int = 0,
) -> str:
    """Return the argument of `RESERVE`, for quotas with the indexes of their keys."""
    quotas = ",".join([f"[{place},{_written(quota)}]" for place, quota in places])
    return f"[{how},{remembered},{issued(standing)},[{quotas}]]"


def quotas_of(wanted: Sequence[Wanted]) -> str:
    """Return the quotas in the form for `PUT`. All count slots, which come back one by one."""
    return json.dumps([[q.field, q.most, q.amount, q.length, q.step] for _, q in wanted])


@lru_cache(maxsize=1024)
def _written(quota: Quota) -> str:
    return (
        f'{json.dumps(quota.field)},"{quota.kind}",{quota.most},{quota.amount},{quota.length},'
        f"{quota.step},{quota.held_length},{quota.held_step}"
    )


def reserved(answer: bytes | str) -> ReserveResult:
    """Parse the answer of `RESERVE`."""
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
