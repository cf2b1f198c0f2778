r"""Decide which paths of the app need a verified caller. Pure.

The router decides what a path means, and each router reads it differently: Quart uses
`urlparse(path).path` for some targets, BlackSheep and Sanic read `raw_path`, Django matches `(?i)`
patterns in which `ı` is an `i`, Django REST framework also serves `/users` as `/users.json`. So a
path is open only if it has one reading:

- It is AMBIGUOUS, which counts as protected, if it is not in origin-form (RFC 9112 section 3.2.1),
  or if, in any percent-decoding, it has a `.` or `..` segment or contains a control character, a
  backslash, white space other than U+0020 or an octet that is not UTF-8; also if escapes remain
  after four decodings, if it contains the root path more than eight times, more than 512 `%`, more
  than 256 characters outside ASCII or more than 4,096 in all, or all its readings more than 10,000.
- With `protect`, every other path is compared by `fold()`: after each decoding, with doubled
  slashes as one, without spaces around its segments, without parameters or suffixes (`;v=1`,
  `.json`) after them, without any text up to each occurrence of the root path, before or between
  its segments, and without an authority (`//host/path`). The path is protected if it begins like a
  protected one, as text: BlackSheep's `/api/*`, Falcon's sinks, Litestar's mounts and hypercorn's
  dispatcher also match `/apis`, and with a mount at `/admin`, `/adminusers` is `/admin/users`. A
  mount at `/s` that matches this way also matches `/secret` and may pass it on unchanged, so
  `protect=["/s/secret"]` covers `/secret`; and with BlackSheep's mount at `/api`, which gives Quart
  and Litestar the root path `/ap`, `/apitems` is `/api/items`.
- With `public`, a path is open if it is exactly beneath a public one after each decoding.

An unnecessary reading costs a 401 instead of a 404; a missing reading is a security hole.
"""

import re
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol
from urllib.parse import quote

from xuna_middleware._core.paths import is_plain, relative_path
from xuna_middleware._core.text_fold import fold
from xuna_middleware.errors import ConfigurationError

#: In characters. A longer path is ambiguous, unless it is plain.
MAX_LENGTH: Final = 4096
#: How many of its characters may be outside ASCII.
MAX_NOT_ASCII: Final = 256
#: How many `%` it may contain, whether they are escapes or not.
MAX_PERCENT_SIGNS: Final = 512
#: How many characters all its readings may have together; the same again for their folded forms.
MAX_READ: Final = 10_000
#: How often a path is decoded beyond the server's own decoding, before it is ambiguous.
MAX_DECODINGS: Final = 4
#: How often a path may contain the root path, before it is ambiguous.
MAX_ROOTS: Final = 8

#: In how many forms a protected path may be read if mounts match by text.
MAX_FORMS: Final = 100

#: Controls, the backslash, replacements for octets that are not UTF-8, white space except U+0020.
_UNREADABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ufffd\ud800-\udfff]|[^\S ]")
#: `.` or `..`, with spaces or parameters after it.
_DOTS: Final = re.compile(r"(?:\A|/) *+\.\.?+ *+(?:[;?#][^/]*+)?(?:/|\Z)")
_ESCAPES: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
#: A view that is beneath no path.
_NOWHERE: Final = "?"
#: Placeholders of routers and patterns for any text, which no real path of an app contains.
_PLACEHOLDER: Final = re.compile(r"[*{}<>]|/:|\$(?:/|\Z)")
#: Text that neither a configured path nor its fold contains.
_SEPARATED: Final = re.compile(r"[;?#%]|//| /|/ | \Z")
_AUTHORITY: Final = re.compile(r"//[^/]*")
#: The end of a segment, with any text before it that some router ignores.
_END_OF_SEGMENT: Final = r" *+(?:[.;?#][^/]*+)?(?:/|\Z)"
_END: Final = re.compile(_END_OF_SEGMENT)
_SLASHES: Final = "[/ ]*+"
#: The text between two segments if a mount removes its own by letters; it may be empty.
_ANY_END: Final = rf"(?:{_END_OF_SEGMENT})?+{_SLASHES}"


class Ground(Enum):
    """Classify a path: open to everybody, protected, protected because it begins like a protected
    one (`/apis` like `/api`), or because a name in it that leads to a public path occurs twice, or
    readable in more than one way.
    """

    OPEN = auto()
    PROTECTED = auto()
    BEGINS_ALIKE = auto()
    REPEATS_A_NAME = auto()
    AMBIGUOUS = auto()


class Target(NamedTuple):
    """The requested path, as the server reports it.

    Attributes:
        path: ASGI's `path`, with or without the root path.
        raw: ASGI's `raw_path`; None if the server gives none, or nothing reads it.
        roots: root paths that the app removes from the path.
        other_roots: root paths that it might remove instead.
        outer_roots: root paths of the apps in whose mounts the gate is, which `roots` begin with.
            They count for protected paths, which may be named with the mounts.
        cuts_again: whether an inner mount may remove a root path anywhere in the path.
        searched: patterns of routes that the app finds anywhere in a path.
        languages: finds prefixes in a folded path that the app may remove for a language. They
            count for protected paths; a public path must be named with its prefix.
    """

    path: str
    raw: bytes | None = None
    roots: tuple[str, ...] = ()
    other_roots: tuple[str, ...] = ()
    outer_roots: tuple[str, ...] = ()
    cuts_again: bool = False
    searched: tuple[re.Pattern[str], ...] = ()
    languages: re.Pattern[str] | None = None

    @property
    def is_plain(self) -> bool:
        """Return whether the path obviously has only one reading."""
        has_root = self.roots or self.other_roots
        return is_plain(self.path) and not has_root and self.raw in (None, self.path.encode())


class PathRules(Protocol):
    """Classify paths."""

    def classify(self, target: Target) -> Ground:
        """Classify the path; see the module."""


class Unprotected:
    """Leave every path open."""

    def classify(self, target: Target) -> Ground:
        """Return that the path is open."""
        return Ground.OPEN


class ProtectedPaths:
    """Protect these paths and all that begin like them; a path is open if no reading of it does.

    With `whole_segments`, protect only these paths and those beneath them.

    Raises:
        ConfigurationError: one of them is no path, or can be read in too many forms.
    """

    def __init__(self, paths: Iterable[str], *, whole_segments: bool = False) -> None:
        self._paths = _configured("protect", paths)
        names = [fold(name) for name in self._paths]
        self._names = tuple(map(_name, names))
        forms = [] if whole_segments else [(form, name) for name in names for form in _forms(name)]
        self._alike = (*self._names, *(_name(form, within=name) for form, name in forms))
        #: The patterns searched for last, and the ones among them that find a protected path.
        self._own_of: tuple[tuple[re.Pattern[str], ...], tuple[re.Pattern[str], ...]] = ((), ())
        self._has_long_names = any(len(name.segments) > 1 for name in self._names)
        self._whole_segments = whole_segments
        self._beneath = tuple(name + "/" for name in names)
        self._beneath_pattern = _pattern(names, _END_OF_SEGMENT + _SLASHES, _END_OF_SEGMENT)
        self._beginning_pattern: re.Pattern[str] | None = None
        if not whole_segments:
            begun = [*names, *(form for form, _ in forms)]
            self._beginning_pattern = _pattern(begun, _ANY_END, "")

    @property
    def is_used(self) -> bool:
        """Return whether any path is protected."""
        return bool(self._beneath)

    def classify(self, target: Target) -> Ground:
        """Classify the path; see the module."""
        may_be_cut = (target.cuts_again and self._has_long_names) or target.languages is not None
        if target.is_plain and "." not in target.path and not may_be_cut:
            path = target.path.lower() + "/"
            if self._is_found([path], [target.path], target.searched):
                return Ground.PROTECTED
            if path.startswith(self._beneath):
                return Ground.PROTECTED
            return Ground.BEGINS_ALIKE if self._begins_alike([path]) else Ground.OPEN
        readings = _readings(target, _text_of(target.raw))
        if readings is None:
            return Ground.AMBIGUOUS
        known = (*target.roots, *target.other_roots, *target.outer_roots)
        roots = {fold(root) for root in known} - {""}
        texts = set(map(fold, readings[1]))
        if self._is_found(texts, readings[0], target.searched):
            return Ground.PROTECTED
        if not roots and not may_be_cut and not any(text.startswith("//") for text in texts):
            if any(map(self._beneath_pattern.match, texts)):
                return Ground.PROTECTED
            return Ground.BEGINS_ALIKE if self._begins_alike(texts) else Ground.OPEN
        jumps = {text: _jumps(text, roots, target.languages) for text in texts}
        if None in jumps.values():
            return Ground.AMBIGUOUS
        for is_whole in (True,) if self._whole_segments else (True, False):
            for text in texts:
                ends = jumps[text] or ()
                if self._is_reached(text, ends, is_whole=is_whole, is_cut=target.cuts_again):
                    return Ground.PROTECTED if is_whole else Ground.BEGINS_ALIKE
        return Ground.OPEN

    def _is_found(
        self, texts: Iterable[str], readings: Iterable[str], searched: tuple[re.Pattern[str], ...]
    ) -> bool:
        """Return whether a searched route may be a protected one: the texts contain the words of a
        protected path in order, or match a pattern that also matches in such a path.
        """
        if not searched:
            return False
        if any(_has_words(text, name.words) for text in texts for name in self._alike):
            return True
        if searched is not self._own_of[0]:
            own = [each for each in searched if self._finds_own(each)]
            self._own_of = (searched, tuple(own))
        return any(each.search(reading) for each in self._own_of[1] for reading in readings)

    def _finds_own(self, pattern: re.Pattern[str]) -> bool:
        return any(pattern.search(path + "/") for path in self._paths)

    def _begins_alike(self, texts: Iterable[str]) -> bool:
        pattern = self._beginning_pattern
        return pattern is not None and any(map(pattern.match, texts))

    def _is_reached(
        self, text: str, jumps: tuple[int, ...], *, is_whole: bool, is_cut: bool
    ) -> bool:
        """Return whether a protected path can be read in a text, segment by segment.

        Before its first segment, and between two, any text may be skipped up to the end of a root
        path: each mount may remove the text before it, and then the root path. With `is_cut` any
        run of the path's own segments is such a root path, too: the names of mounts, as seen by the
        apps mounted in them.
        """
        for name in self._names if is_whole else self._alike:
            if not all(word in text for word in name.words):
                continue
            further = _jumps(text, name.mounts) if is_cut else ()
            if further is None:
                return True
            places = tuple(sorted({*jumps, *further}))
            if _can_be_read(text, name.segments, places, is_whole):
                return True
        return False


class PublicPaths:
    """Protect every path except these and those beneath them; "/" is only the start page.

    A path is public if every reading of it is, including letter case.

    Raises:
        ConfigurationError: one of them is no path.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        names = _configured("public", paths)
        self._exactly = frozenset({"", "/"} if "" in names else ())
        listed = [name for name in names if name]
        self._names = tuple((_spellings(each), _mounts(each), _repeats(each)) for each in listed)

    def classify(self, target: Target) -> Ground:
        """Classify the path; see the module."""
        if target.is_plain:
            return self._ground_of([target.path], target)
        readings = _readings(target, _beneath_mount(_text_of(target.raw), target.path))
        if readings is None:
            return Ground.AMBIGUOUS
        views = [view for text in readings[0] for view in _relative_views(text, target)]
        return self._ground_of(views, target)

    def _ground_of(self, views: list[str], target: Target) -> Ground:
        if all(self._is_public(view, target) for view in views):
            return Ground.OPEN
        uncut = target._replace(cuts_again=False)
        if target.cuts_again and all(self._is_public(view, uncut) for view in views):
            return Ground.REPEATS_A_NAME
        return Ground.PROTECTED

    def _is_public(self, view: str, target: Target) -> bool:
        """Return whether a view is beneath a public path.

        With `cuts_again`, the name of a mount that leads there must not occur again in it or after
        it: the mounted app may remove everything up to that name. A searched pattern may only match
        at the start of a segment of the public path.
        """
        if view in self._exactly:
            return True
        for spellings, mounts, repeats in self._names:
            found = spellings.match(view)
            if found is None or (target.cuts_again and repeats):
                continue
            if target.cuts_again and any(view.find(mount, found.end()) >= 0 for mount in mounts):
                continue
            begins = [at + 1 for at, letter in enumerate(found[0]) if letter == "/"]
            hits = (each.search(view, begin) for each in target.searched for begin in begins)
            if all(hit is None or hit.start() in begins for hit in hits):
                return True
        return False


def path_rules(
    protect: Iterable[str], public: Iterable[str] | None, *, whole_segments: bool
) -> PathRules:
    """Return the rules for a middleware's options.

    Raises:
        ConfigurationError: both are given, or one of them contains something that is no path.
    """
    protected = ProtectedPaths(protect, whole_segments=whole_segments)
    if public is None:
        return protected if protected.is_used else Unprotected()
    if protected.is_used:
        raise ConfigurationError(
            "give either protect=[…] (these paths need a verified caller) or public=[…] (all "
            "others do), not both"
        )
    return PublicPaths(public)


def _readings(target: Target, raw: str | None) -> tuple[list[str], list[str]] | None:
    """Return path and `raw_path` after each decoding, and the same for their folded forms.

    None if they are ambiguous. A root path may be a client's input: daphne reads it from a header
    of the request.
    """
    texts = [target.path] if raw is None else [target.path, raw]
    roots = (*target.roots, *target.other_roots)
    if any(map(_is_too_long, (*texts, *roots))) or any(map(_UNREADABLE.search, roots)):
        return None
    readings = _decoded(texts)
    folded = None if readings is None else _decoded(map(fold, readings))
    return None if readings is None or folded is None else (readings, folded)


def _decoded(texts: Iterable[str]) -> list[str] | None:
    """Return texts after each decoding, the first ones unchanged; None if one is ambiguous."""
    readings: dict[str, None] = {}
    read = 0
    for text in texts:
        reading, decodings = text, 0
        while reading not in readings:
            if decodings > MAX_DECODINGS or _is_too_long(reading) or _is_ambiguous(reading):
                return None
            readings[reading] = None
            read += len(reading)
            if read > MAX_READ:
                return None
            reading, decodings = _unescaped(reading), decodings + 1
    return list(readings)


def _unescaped(text: str) -> str:
    """Do the same as urllib's `unquote()`, which takes 5 ms for 4 KiB of only `%`."""
    return _ESCAPES.sub(_unescape, text)


def _unescape(found: re.Match[str]) -> str:
    return bytes.fromhex(found[0].replace("%", "")).decode("utf-8", "replace")


def _is_too_long(text: str) -> bool:
    return (
        len(text) > MAX_LENGTH
        or text.count("%") > MAX_PERCENT_SIGNS
        or (not text.isascii() and len(_NOT_ASCII.findall(text)) > MAX_NOT_ASCII)
    )


def _is_ambiguous(reading: str) -> bool:
    return (
        reading[:1] != "/"
        or _UNREADABLE.search(reading) is not None
        or _DOTS.search(reading) is not None
    )


def _jumps(
    text: str, roots: Iterable[str], languages: re.Pattern[str] | None = None
) -> tuple[int, ...] | None:
    """Return the positions in a text after each root path and each language's prefix.

    None if it is ambiguous: there are too many, or a root path is followed by a scheme.
    """
    ends = set() if languages is None else {found.end() for found in languages.finditer(text)}
    for root in roots:
        found = _ends_of((root,), text)
        if found is None or (text.startswith(root) and _SCHEME.match(text, len(root))):
            return None
        ends.update(found)
        # Litestar's mounts remove it once more, with a slash before the rest.
        bare = root.lstrip("/")
        for end in found:
            while bare and text.startswith(bare, end):
                end += len(bare)
                ends.add(end)
    return tuple(sorted(ends)) if len(ends) <= 2 * MAX_ROOTS else None


def _ends_of(roots: Iterable[str], text: str) -> list[int] | None:
    """Return the positions after each occurrence of some texts; None for too many."""
    found: list[int] = []
    for root in roots:
        at = text.find(root)
        while at >= 0:
            if len(found) == MAX_ROOTS:
                return None
            found.append(at + len(root))
            at = text.find(root, at + 1)
    return found


def _can_be_read(
    text: str, segments: tuple[re.Pattern[str], ...], jumps: tuple[int, ...], is_whole: bool
) -> bool:
    places = _without_authority(text, {0, *jumps})
    for number, segment in enumerate(segments, 1):
        following: set[int] = set()
        for place in places:
            found = segment.match(text, place)
            if found is None:
                continue
            end = _END.match(text, found.end())
            if number == len(segments) and (end is not None or not is_whole):
                return True
            if end is not None:
                following.add(end.end())
            elif not is_whole:
                following.add(found.end())
            following.update(jump for jump in jumps if jump > found.end())
            following |= _without_authority(text, {found.end()}) - {found.end()}
        places = _without_authority(text, following)
    return not segments


def _without_authority(text: str, places: set[int]) -> set[int]:
    """Return positions in a text, and those after an authority that starts there."""
    behind = (_AUTHORITY.match(text, place) for place in places)
    return places | {found.end() for found in behind if found is not None}


class _Name(NamedTuple):
    """A protected path: its segments, the patterns that find them, and possible mounts' names.

    A mount's root path is any run of the segments before the last one: which run depends on the
    text that outer mounts removed. Each run ends with its last segment, so the single segments are
    enough.
    """

    words: tuple[str, ...]
    segments: tuple[re.Pattern[str], ...]
    mounts: tuple[str, ...]


def _name(path: str, *, within: str | None = None) -> _Name:
    """Return a protected path, or a form of the path `within`, with that path's mounts."""
    words = path.split("/")[1:]
    return _Name(
        words=tuple(words),
        segments=tuple(re.compile(_SLASHES + re.escape(word)) for word in words),
        mounts=_mounts(path if within is None else within),
    )


def _forms(path: str) -> list[str]:
    """Return the other forms of a path if a mount in it matches by text.

    These are the path without each run of its segments that the rest begins with, which may be that
    mount's name, and with two segments merged if the second one begins with the letters that the
    first one ends with.

    Raises:
        ConfigurationError: there are too many.
    """
    found = [path]
    for form in found:
        words = form.split("/")[1:]
        for end in range(1, len(words)):
            rest = "/".join(words[end:])
            made = [
                [*words[:begin], *words[end:]]
                for begin in range(end)
                if rest.startswith("/".join(words[begin:end]))
            ]
            first, second = words[end - 1], words[end]
            made += [
                [*words[: end - 1], first + second[shared:], *words[end + 1 :]]
                for shared in range(1, len(second) + 1)
                if first.endswith(second[:shared])
            ]
            new = ["/" + "/".join(each) for each in made]
            found += [each for each in dict.fromkeys(new) if each not in found]
        if len(found) > MAX_FORMS:
            raise ConfigurationError(
                f"protect: the segments of {path!r} begin and end alike, so it can be read in more "
                f"than {MAX_FORMS} forms where a mount matches by text; protect a path above it, "
                "or say whole_segments=True"
            )
    return found[1:]


def _has_words(text: str, words: tuple[str, ...]) -> bool:
    place = 0
    for word in words:
        at = text.find(word, place)
        if at < 0:
            return False
        place = at + len(word)
    return True


def _mounts(path: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys("/" + word for word in path.split("/")[1:-1]))


def _repeats(path: str) -> bool:
    """Return whether one of a path's segments begins with an earlier one, which may be a mount's
    name that is removed there.
    """
    words = path.split("/")[1:]
    return any(later.startswith(word) for at, word in enumerate(words) for later in words[at + 1 :])


def _relative_views(text: str, target: Target) -> Iterator[str]:
    """Yield a text without its root path; if it doesn't start with one, yield the text itself and
    the part after the first root path in it.

    For a root path that only some frameworks remove, yield every part that follows it.
    """
    is_usual = all(root[0] == "/" and root[-1] != "/" for root in target.roots)
    roots = target.roots if is_usual else ()
    relative = next(
        (rest for root in roots if (rest := relative_path(text, root)) is not text), None
    )
    left = text if relative is None else relative
    yield left
    if target.cuts_again and any(root in left for root in roots):
        yield _NOWHERE
    if relative is None:
        yield from (text.partition(root)[2] for root in roots if root in text)
    doubtful = target.other_roots if is_usual else (*target.roots, *target.other_roots)
    for root in doubtful:
        parts = text.split(root, MAX_ROOTS + 1)
        yield from (root.join(parts[start:]) for start in range(1, len(parts)))


def _text_of(raw: bytes | None) -> str | None:
    return None if raw is None else raw.partition(b"?")[0].decode("utf-8", "replace")


def _beneath_mount(raw: str | None, path: str) -> str | None:
    """Return `raw_path` without the prefix that a mount, such as Litestar's, removed only from
    `path`.
    """
    if raw is None or _is_too_long(raw):
        return raw
    decoded, trimmed = _unescaped(raw), path.rstrip("/")
    prefix = decoded.rstrip("/").removesuffix(trimmed)
    return raw.removeprefix(prefix) if prefix and trimmed and prefix != decoded else raw


def _pattern(names: Iterable[str], between: str, end: str) -> re.Pattern[str]:
    """Return a pattern that finds one of some folded paths at the beginning of a reading, with
    `between` separating its segments and `end` after the last one.
    """
    alternatives = (between.join(map(re.escape, name.split("/")[1:])) + end for name in names)
    return re.compile(f"{_SLASHES}(?:{'|'.join(alternatives)})")


def _spellings(name: str) -> re.Pattern[str]:
    """Return a pattern for a public path and its percent-encoded spelling in `raw_path`."""
    letters = (
        re.escape(letter)
        if re.fullmatch("[A-Za-z0-9/._~-]", letter)
        else f"(?:{re.escape(letter)}|(?i:{quote(letter, safe='')}))"
        for letter in name
    )
    return re.compile(f"{''.join(letters)}(?=/|\\Z)")


def _configured(option: str, paths: Iterable[str]) -> tuple[str, ...]:
    if isinstance(paths, str) or not isinstance(paths, Iterable):
        raise ConfigurationError(f'{option} must be a list: {option}=["/api"]')
    paths = tuple(paths)
    for path in paths:
        if not isinstance(path, str) or not _is_configurable(path):
            raise ConfigurationError(
                f"{option}: {path!r} must start with a slash and be the path as the app names it, "
                'like "/api": decoded, without "//", dot segments, ";", "?", "#" and "%", and '
                "without spaces at a segment's beginning or end, in any compatibility form"
            )
        if _PLACEHOLDER.search(path):
            raise ConfigurationError(
                f"{option}: {path!r} is no pattern, and {option}= takes none: name the path above "
                f'the placeholder, "/users" for "/users/{{id}}" and "/api" for "/api/*" or '
                '"/api$"; it covers all that is beneath it'
            )
    return tuple(path.rstrip("/") for path in paths)


def _is_configurable(path: str) -> bool:
    if path[:1] != "/" or any(map(_SEPARATED.search, (path, fold(path)))):
        return False
    has_names = all(fold(segment) for segment in path.strip("/").split("/")) or path == "/"
    return has_names and _readings(Target(path), None) is not None
