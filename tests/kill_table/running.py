"""Run tests on a broken copy of the package, in a process of its own that starts quickly.

A process is forked from a server that has loaded what the tests stand on, but nothing of the
package, so that a variant costs its tests and not the imports.
"""

import multiprocessing
import os
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

#: The longest that one run may take; only a process that hangs takes so long.
SECONDS: Final = 300
#: What most tests import. Nothing here may import the package.
LOADED_BEFORE: Final = [
    *(
        "pytest",
        "pytest_asyncio.plugin",
        "httpx",
        "aiohttp",
        "starlette.testclient",
        "starlette.middleware.cors",
    ),
    *("cryptography.x509", "cryptography.hazmat.primitives.asymmetric.rsa", "joserfc.jwk"),
    *("joserfc.jws", "authlib.oauth2.auth", "redis.asyncio", "itsdangerous", "websockets"),
    *("websockets.asyncio.client", "jwt", "fastapi", "hypothesis"),
]
#: Of the plugins that happen to be installed the tests need one; loading all takes seconds.
_OPTIONS: Final = (
    *("-x", "-q", "-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)


def run_forked(root: Path, place: Path, tests: list[str]) -> tuple[int, str]:
    """Run tests with the package that lies in a place; return the exit status and the last words.

    Raises:
        TimeoutError: they took longer than `SECONDS`; the process is ended.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED_BEFORE)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_outcome, args=(sender, root, place, tests))
    process.start()
    sender.close()
    try:
        if not receiver.poll(SECONDS):
            raise TimeoutError(f"{tests} took longer than {SECONDS} s")
        outcome: tuple[int, str] = receiver.recv()
    finally:
        process.kill()
        process.join()
        receiver.close()
    return outcome


def _send_outcome(sender: Connection, root: Path, place: Path, tests: list[str]) -> None:
    sender.send(_run_pytest(root, place, tests))


def _run_pytest(root: Path, place: Path, tests: list[str]) -> tuple[int, str]:
    """Run tests with the package that lies in a place, until the first failure; return the exit
    status and the last words.
    """
    import pytest

    os.chdir(root)
    sys.dont_write_bytecode = True
    os.environ.update(
        PYTHONPATH=str(place), PYTHONDONTWRITEBYTECODE="1", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"
    )
    sys.path[:] = [str(place), *(path for path in sys.path if path not in ("", str(root)))]
    for name in [name for name in sys.modules if name.partition(".")[0] == "xuna_middleware"]:
        del sys.modules[name]
    said = StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        try:
            status = int(pytest.main([*_OPTIONS, *tests]))
        except BaseException:
            traceback.print_exc()
            status = -2
    return status, said.getvalue()[-2000:]
