r"""Which path a request means, in every shape that servers and frameworks give it. Pure.

`scope["path"]` is decoded once and includes `root_path`, except where it doesn't: Litestar strips
the prefix, some servers leave their own root path out. So `root_path` is removed only where the
path starts with it, and nothing is ever read from `Host` or a rebuilt URL.

For a protected path, a reading too many costs a 401 where a 404 would have come; a reading too few
is a hole. So every reading counts: as it stands, decoded again, without scheme and host, query and
`;…`, with `\`, `//`, `.` and `..` resolved, in any letter case, and what follows `root_path`
wherever that stands (Litestar cuts there, Quart without looking for a slash). An odd path of more
than 4,096 characters is not read at all: it counts as protected.
"""

import posixpath
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

from xuna_middleware.errors import ConfigurationError

_ODD: Final = re.compile(r"[^A-Za-z0-9_/.~-]")
_SLASHES: Final = re.compile(r"[/\\]+")
_AROUND: Final = "".join(map(chr, range(0x21)))
#: Scheme and authority, query and fragment, and the parameters of segments (RFC 3986).
_LEFT_OUT: Final = (
    re.compile(r"\A[A-Za-z][A-Za-z0-9+.-]*:(//[^/?#]*)?"),
    re.compile(r"[?#].*", re.DOTALL),
    re.compile(r";[^/]*"),
)
_MOST_READINGS: Final = 64
#: In characters; what is longer, and not plain, is protected as it is.
_LONGEST_ODD: Final = 4096


def route_path(path: str, root_path: str, app_root_path: str = "") -> str:
    """Return a path less `root_path`, or less the part of that which mounts added.

    Starlette's mounts append to `root_path` and keep what it was before in `app_root_path`.
    """
    relative = relative_path(path, root_path)
    if relative is path:
        relative = relative_path(path, root_path.removeprefix(app_root_path))
    return relative


def relative_path(path: str, root_path: str) -> str:
    """Return `path` less `root_path`, where it starts with that by whole segments."""
    root = root_path.rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :]
    return path


def is_plain(path: str) -> bool:
    """Tell whether a path has one reading only."""
    return path[:1] == "/" and _ODD.search(path) is None and "//" not in path and "/." not in path


class ProtectedPaths:
    """Tell which requests lie at or beneath the protected paths."""

    __slots__ = ("_beneath",)

    def __init__(self, paths: Iterable[str]) -> None:
        if isinstance(paths, str) or not isinstance(paths, Iterable):
            raise ConfigurationError('protect must be a list: protect=["/api"]')
        self._beneath = tuple(_configured(path) + "/" for path in paths)

    def match(self, path: str, root_path: str) -> bool:
        """Tell whether any reading of the path is protected."""
        if not self._beneath:
            return False
        path, root = path.casefold(), root_path.rstrip("/").casefold()
        if is_plain(path) and (not root or root not in path):
            return (path + "/").startswith(self._beneath)
        return len(path) > _LONGEST_ODD or self._any_beneath(path, root)

    def _any_beneath(self, path: str, root: str) -> bool:
        """Look at all readings; of more than 64, which nobody sends in earnest, one is enough."""
        seen: set[str] = set()
        pending = [path]
        while pending and len(seen) < _MOST_READINGS:
            reading = pending.pop()
            if any(each.startswith(self._beneath) for each in _spellings(reading)):
                return True
            seen.add(reading)
            pending += readings(reading, root) - seen
        return bool(pending)


def readings(path: str, root: str) -> set[str]:
    """Return what a path may be understood as by one step further."""
    further = {part.sub("", path) for part in _LEFT_OUT}
    further |= {unquote(path, errors="replace"), path.strip(_AROUND)}
    if root:
        rest = path.split(root, maxsplit=_MOST_READINGS)[1:]
        further.update(root.join(rest[start:]) for start in range(len(rest)))
    return further - {path}


def _spellings(path: str) -> tuple[str, str]:
    """Return a path with single slashes, and that with its dots resolved; a slash behind each."""
    slashed = _SLASHES.sub("/", f"/{path}/")
    return slashed, posixpath.normpath(slashed) + "/"


def _configured(path: str) -> str:
    if not isinstance(path, str) or not is_plain(path):
        raise ConfigurationError(
            f'protect: {path!r} must start with a slash and be plain, like "/api"; '
            "it covers everything beneath"
        )
    return path.rstrip("/").casefold()
