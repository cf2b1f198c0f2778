"""Which path a request means, in every shape that servers and frameworks give it. Pure.

`scope["path"]` is decoded once and includes `root_path`, except where it doesn't: Litestar strips
the prefix, some servers leave their own root path out. So `root_path` is removed only where the
path starts with it, and nothing is ever read from `Host` or a rebuilt URL.

For a protected path, a reading too many costs a 401 where a 404 would have come; a reading too few
is a hole. So every reading counts: with and without `root_path`, decoded again, with `\\`, `;…`,
`//`, `.` and `..` resolved, and in any letter case.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import unquote

from xuna_middleware.errors import ConfigurationError

_ODD: Final = re.compile(r"[^A-Za-z0-9_/.~-]")
_PARAMETERS: Final = re.compile(r";[^/]*")
_SLASHES: Final = re.compile(r"[/\\]+")
_MOST_DECODINGS: Final = 3


def relative_path(path: str, root_path: str) -> str:
    """Return `path` less `root_path`, where it starts with that by whole segments."""
    root = root_path.rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :]
    return path


def is_plain(path: str) -> bool:
    """Tell whether a path has one reading only."""
    return _ODD.search(path) is None and "//" not in path and "/." not in path


class ProtectedPaths:
    """Tell which requests lie at or beneath the protected paths."""

    __slots__ = ("_prefixes",)

    def __init__(self, paths: Iterable[str]) -> None:
        if isinstance(paths, str):
            raise ConfigurationError(f'protect must be a list: protect=["{paths}"]')
        self._prefixes = tuple(_configured(path) for path in paths)

    def match(self, path: str, root_path: str) -> bool:
        """Tell whether any reading of the path is protected."""
        if not self._prefixes:
            return False
        if not is_plain(path):
            return any(self._match_plain(each, root_path) for each in readings(path))
        return self._match_plain(path, root_path)

    def _match_plain(self, path: str, root_path: str) -> bool:
        folded = path.casefold() + "/"
        if folded.startswith(self._prefixes):
            return True
        if not root_path:
            return False
        return relative_path(folded, root_path.casefold()).startswith(self._prefixes)


def readings(path: str) -> Iterator[str]:
    """Yield a path as it stands and as it may be understood further on."""
    for _ in range(_MOST_DECODINGS):
        yield path
        yield _normalized(path)
        yield _normalized(_PARAMETERS.sub("", path))
        decoded = unquote(path, errors="replace")
        if decoded == path:
            return
        path = decoded
    yield _normalized(path)


def _normalized(path: str) -> str:
    return posixpath.normpath(_SLASHES.sub("/", "/" + path))


def _configured(path: str) -> str:
    if not path.startswith("/") or not is_plain(path):
        raise ConfigurationError(
            f'protect: {path!r} must start with a slash and be plain, like "/api"; '
            "it covers everything beneath"
        )
    return path.rstrip("/").casefold() + "/"
