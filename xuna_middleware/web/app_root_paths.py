"""Find the root paths that apps behind the gate were given themselves, whatever the server says.

An app with a root path of its own serves each path under a second name: with
`FastAPI(root_path="/v1")`, `/v1/api` is `/api`. No interface tells it, and the app may be held in
any way by what stands around it. So the one that is wrapped directly is asked, and for all others
the process is: every FastAPI app that there is, and Django's setting.
"""

import gc
import sys
from typing import Any, Final

#: How many middlewares around an app are looked through.
_MOST_MIDDLEWARES: Final = 20


def own_root_path(app: object) -> str:
    """Return the root path of the app itself, "" where it has none; `.app` leads to it."""
    for _ in range(_MOST_MIDDLEWARES):
        modules = {str(kind.__module__).partition(".")[0] for kind in type(app).__mro__}
        if "fastapi" in modules:
            return _checked(getattr(app, "root_path", ""))
        if "django" in modules:
            return _script_name()
        try:
            app = getattr(app, "app", None)
        except Exception:  # a proxy that stands for nothing now
            return ""
    return ""


def root_paths_in_process() -> tuple[str, ...]:
    """Return the root paths of all FastAPI apps of this process, and Django's.

    Takes about 100 ms for a million objects. Does not find: those of other frameworks, and of apps
    that are made later.
    """
    framework = getattr(sys.modules.get("fastapi"), "FastAPI", None)
    apps: list[Any] = []
    if framework is not None:
        apps = [each for each in gc.get_objects() if issubclass(type(each), framework)]
    found = {_script_name(), *(_checked(app.__dict__.get("root_path", "")) for app in apps)}
    return tuple(sorted(found - {""}))


def _script_name() -> str:
    """Return Django's FORCE_SCRIPT_NAME, where Django is there and configured."""
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    if settings is None or not settings.configured:
        return ""
    return _checked(settings.FORCE_SCRIPT_NAME)


def _checked(root_path: object) -> str:
    """Return what could be a root path; a request can hold nothing else."""
    return root_path if isinstance(root_path, str) and root_path[:1] == "/" else ""
