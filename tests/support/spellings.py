"""Request targets that an attacker might write, made from a seed: bent addresses, and plain ones.

A spelling starts as an address of `routers.py` and is bent from none to five times. Each way of
bending is one function below. What `random` gives for a seed is the same on every Python.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

#: Addresses that a router of `tests/support/routers.py` serves, and others beside them.
PROTECTED: Final = (
    *(b"/api/secret", b"/api/secret", b"/api/users", b"/api/users", b"/api/users/7", b"/api"),
    *(b"/api/users/", b"/api/files/a/b", b"/api/talk", b"/api/admin/"),
)
OPEN: Final = (
    *(b"/", b"/open", b"/open", b"/open/x", b"/about", b"/blog/2026/a-b.html", b"/ap"),
    *(b"/open/caf%C3%A9", b"/a%20b", b"/a;b=c", b"/x%2Fy", b"/%E4%BD%A0", b"/openapi.json"),
)
#: Letters that some fold takes for one of ASCII.
LOOKALIKES: Final = {
    "a": "ａÅÁªᵃ", "e": "ｅÉᵉ", "i": "ıİｉÍⁱ", "k": "\u212aｋ", "p": "ｐᵖ", "r": "ｒʳ", "s": "ſｓˢ",
    "o": "ｏºÓ", "n": "ｎⁿÑ", "u": "ｕÜ", "t": "ｔᵗ", "c": "ｃÇ",
    "/": "\u2215\uff0f\u2044", ".": "．\u2024",
}  # fmt: skip
MARKS: Final = ("\u0307", "\u0301", "\u0327", "\u200d", "\u00ad", "\ufeff", "\u034f", "\ufe0f")
CONTROLS: Final = (*range(0x21), 0x7F, 0x85, 0xA0)
SPACES: Final = ("\u2028", "\u3000", "\u00a0", "\u2003", "\u0085", "\u180e", "\u200b")
HOSTS: Final = (b"x", b"h", b"app.example.com", b"a%2Fb@h", b"h:80", b"", b"[::1]", b"a;b", b"%09")
SCHEMES: Final = (b"http", b"HTTP", b"https", b"x", b"ws", b"h+x", b"javascript")
SUFFIXES: Final = (b".json", b".api", b".html", b".JSON", b".json/", b"/.json", b".j.json", b".")
BROKEN: Final = (
    b"%C0%AF",
    b"%ff",
    b"%E0%80%AF",
    b"%ED%A0%80",
    b"%00",
    b"%",
    b"%2",
    b"%zz",
    b"%u002f",
)
ROOTS: Final = ("", "", "", "", "", "/p", "/p/", "/api", "/open", "/a b", "p", "/")


class Spelling(NamedTuple):
    """Hold a target as it is on the wire, the root path that it meets there, and what it is."""

    target: bytes
    root_path: str
    is_websocket: bool


def _place(chance: random.Random, target: bytes) -> int:
    return chance.choice((0, 0, 1, len(target), chance.randint(0, len(target))))


def _put(chance: random.Random, target: bytes, what: bytes) -> bytes:
    place = _place(chance, target)
    return target[:place] + what + target[place:]


def _segments(chance: random.Random, target: bytes, what: Sequence[bytes]) -> bytes:
    """Put one of several at a slash."""
    parts = target.split(b"/")
    parts.insert(chance.randint(1, len(parts)), chance.choice(what))
    return b"/".join(parts)


def escape(chance: random.Random, target: bytes) -> bytes:
    """Encode a letter or all, once to three times, in either letter case."""
    if not target:
        return target
    form = chance.choice((b"%%%02X", b"%%%02x", b"%%25%02X", b"%%25%02x", b"%%2525%02X"))
    if chance.random() < 0.1:
        return b"".join(form % octet for octet in target)
    place = chance.randrange(len(target))
    return target[:place] + form % target[place] + target[place + 1 :]


def control(chance: random.Random, target: bytes) -> bytes:
    """Put a control character or a space somewhere, most often encoded."""
    octet = chance.choice((9, 10, 13, 32, *CONTROLS))
    form = chance.choice((b"%%%02X", b"%%%02x", b"%%25%02X", b"%c"))
    return _put(chance, target, (form % octet) * chance.choice((1, 1, 1, 2, 5)))


def authority(chance: random.Random, target: bytes) -> bytes:
    """Put an authority in front, with a scheme or without, the slashes encoded or not."""
    scheme = chance.choice((b"", b"", chance.choice(SCHEMES) + b":"))
    slashes = chance.choice((b"//", b"//", b"", b"/", b"///", b"%2F%2F", b"\\\\", b"/%2F"))
    return scheme + slashes + chance.choice(HOSTS) + target


def disguise(chance: random.Random, target: bytes) -> bytes:
    """Put control characters around an authority, where `urlparse` leaves them out, or inside."""
    form = chance.choice((b"%%%02X", b"%%%02x"))
    octets = [form % chance.choice((9, 10, 13, 32, *CONTROLS[:33])) for _ in range(2)]
    place = chance.randrange(len(target) + 1)
    inside = target[:place] + octets[0] + target[place:]
    scheme = chance.choice((b"", chance.choice(SCHEMES) + b":"))
    start, path = chance.choice(
        ((octets[1], target), (scheme, inside), (octets[1] + scheme, inside))
    )
    return start + b"//" + chance.choice((b"x", b"h", b"", b"x%09y")) + path


def odd_start(chance: random.Random, target: bytes) -> bytes:
    """Start with something else than one slash."""
    start = (
        b"",
        b"*",
        b"//",
        b"///",
        b"?",
        b"#",
        b";",
        b"\\",
        b"x",
        b".",
        b"..",
        b"%2F",
        b"./",
        b":",
    )
    return chance.choice(start) + chance.choice((target, target.lstrip(b"/")))


def dots(chance: random.Random, target: bytes) -> bytes:
    """Put segments of dots, empty ones, and ways up that lead back."""
    what = (
        b".",
        b"..",
        b"",
        b"x/..",
        b"%2e%2e",
        b"%2e",
        b"..;",
        b".;a",
        b"open/..",
        b"..%2f",
        b"p",
    )
    return _segments(chance, target, what)


def parameters(chance: random.Random, target: bytes) -> bytes:
    """Put parameters, a query or a fragment, the signs encoded or not."""
    what = (
        b";a=b",
        b";",
        b"?x",
        b"#x",
        b"%3B",
        b"%3Fx",
        b"%23x",
        b"?/api/secret",
        b"?#",
        b";/x",
        b"&x",
    )
    return _put(chance, target, chance.choice(what))


def backslash(chance: random.Random, target: bytes) -> bytes:
    """Write slashes as backslashes, one or all."""
    sign = chance.choice((b"\\", b"%5C", b"%5c", b"%255C"))
    return target.replace(b"/", sign, chance.choice((1, -1)))


def letter_case(chance: random.Random, target: bytes) -> bytes:
    """Change letters' case."""
    swapped = bytes(octet ^ 0x20 if chance.random() < 0.4 else octet for octet in target if octet)
    changed = chance.choice((target.upper(), target.title(), target.swapcase(), swapped))
    return changed if chance.random() < 0.7 else target


def lookalike(chance: random.Random, target: bytes) -> bytes:
    """Write a letter as another that a fold takes for it, encoded as UTF-8 or bare."""
    places = [place for place, octet in enumerate(target) if chr(octet).lower() in LOOKALIKES]
    if not places:
        return target
    for place in sorted(chance.sample(places, chance.choice((1, min(2, len(places))))))[::-1]:
        other = chance.choice(LOOKALIKES[chr(target[place]).lower()])
        encoded = quote(other).encode() if chance.random() < 0.9 else other.encode()
        target = target[:place] + encoded + target[place + 1 :]
    return target


def mark(chance: random.Random, target: bytes) -> bytes:
    """Put a combining mark, an invisible character or a space of Unicode's somewhere."""
    return _put(chance, target, quote(chance.choice((*MARKS, *SPACES))).encode())


def suffix(chance: random.Random, target: bytes) -> bytes:
    """Put a format's suffix at the end of the path or of a segment."""
    what = chance.choice(SUFFIXES)
    if chance.random() < 0.7:
        return target + what
    place = target.find(b"/", 1)
    return target if place < 0 else target[:place] + what + target[place:]


def slashes(chance: random.Random, target: bytes) -> bytes:
    """Double a slash, or put one at the end."""
    if chance.random() < 0.5:
        return target + chance.choice((b"/", b"//", b"%2F", b"/."))
    return target.replace(b"/", chance.choice((b"//", b"%2F", b"///", b"/%2F")), 1)


def broken(chance: random.Random, target: bytes) -> bytes:
    """Put octets that are no UTF-8, an overlong slash or half an escape."""
    return _put(chance, target, chance.choice(BROKEN))


def prefix(chance: random.Random, target: bytes) -> bytes:
    """Put a root path before it, several times or beneath another."""
    before = (
        b"/p",
        b"/p",
        b"/P",
        b"/p/p",
        b"/x/p",
        b"/x",
        b"/open",
        b"/open/p",
        b"/papi/..",
        b"/p%2F",
    )
    return chance.choice((*before, b"/api", b"/p" * 40)) + target


def long(chance: random.Random, target: bytes) -> bytes:
    """Make it long by what somebody may leave out again."""
    filler = chance.choice((b"/.", b"/", b"/x/..", b";x", b"%20", b"%2525", b"/p", b"a"))
    return _put(chance, target, filler * chance.choice((50, 300, 1500)))


def junk(chance: random.Random, target: bytes) -> bytes:
    """Put any octets somewhere, or take some away."""
    if chance.random() < 0.5:
        return _put(chance, target, bytes(chance.choices(range(256), k=chance.randint(1, 3))))
    place = chance.randrange(len(target) + 1)
    return target[:place] + target[place + chance.randint(1, 3) :]


BENT: Final[Sequence[tuple[Callable[[random.Random, bytes], bytes], int]]] = (
    (escape, 8), (control, 10), (authority, 8), (disguise, 6), (odd_start, 6), (dots, 6),
    (parameters, 5), (backslash, 3), (letter_case, 5), (lookalike, 6), (mark, 3), (suffix, 6),
    (slashes, 5), (broken, 3), (prefix, 4), (long, 1), (junk, 3),
)  # fmt: skip


def spellings(seed: int) -> Iterator[Spelling]:
    """Give spellings without end, the same for a seed."""
    chance = random.Random(seed)
    ways, weights = zip(*BENT, strict=True)
    while True:
        target = chance.choice(PROTECTED if chance.random() < 0.8 else OPEN)
        root = chance.choice(ROOTS)
        if root not in ("", "/") and chance.random() < 0.6:
            target = quote(root.rstrip("/")).encode() + target
        for way in chance.choices(ways, weights, k=chance.choice((0, 1, 1, 1, 2, 2, 2, 3, 3, 5))):
            target = way(chance, target)
        if chance.random() < 0.05:
            root = _foreign_root(chance, target)
        yield Spelling(target, root, chance.random() < 0.25)


def _foreign_root(chance: random.Random, target: bytes) -> str:
    """Return a root path as `Daphne-Root-Path` may say it: some part of the target itself."""
    text = target.decode("latin1")
    start = chance.choice((0, 0, chance.randint(0, len(text))))
    return text[start : start + chance.randint(0, 12)]
