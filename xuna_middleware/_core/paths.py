"""Determine the path of a request relative to the gate. Pure.

`scope["path"]` is decoded once and usually includes `root_path`, but Litestar strips the prefix,
and some servers leave their own root path out. So `root_path` is removed only where the path
starts with it, and nothing is ever read from `Host` or a rebuilt URL.
"""

import re
from typing import Final

_ODD: Final = re.compile(r"[^A-Za-z0-9_/.~-]")


def route_path(path: str, root_path: str, app_root_path: str = "") -> str:
    """Return a path without `root_path`, or without the part of it that mounts added.

    Starlette's mounts append to `root_path` and keep its previous value in `app_root_path`.
    """
    relative = relative_path(path, root_path)
    if relative is path:
        relative = relative_path(path, root_path.removeprefix(app_root_path))
    return relative


def relative_path(path: str, root_path: str) -> str:
    """Return `path` without `root_path`, where it starts with that in whole segments."""
    root = root_path.rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :]
    return path


def is_plain(path: str) -> bool:
    """Return whether a path is unambiguous."""
    return path[:1] == "/" and _ODD.search(path) is None and "//" not in path and "/." not in path
