"""The process of npm's `oidc-provider`: start it, give it orders, and end it."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from .authority import Authority
from .node import find_node, install
from .provider import Provider

PACKAGE: Final = Path(__file__).parent / "oidc_provider"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operated:
    """Be the operator of a running provider. Each order is carried out when its method returns."""

    provider: Provider
    process: subprocess.Popen[str] = field(repr=False)

    def rotate(self) -> None:
        """Sign with new keys from now on; the set keeps those of the last two times."""
        self._order("rotate")

    def answer_for_keys(self, how: Literal["well", "down", "slow", "never"]) -> None:
        """Answer for the key set at once, with 503, after 1.5 seconds, or not at all.

        Whoever waits for an answer that never comes is hung up on by the next such order.
        """
        self._order("jwks", {"as": how})

    def asked(self) -> int:
        """Return how often the key set was asked for."""
        return int(self._order("count")["asked"])

    def waiting(self) -> int:
        """Return how many wait for a key set right now."""
        return int(self._order("count")["waiting"])

    def _order(self, name: str, options: dict[str, str] | None = None) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"order": name, **(options or {})}) + "\n")
        self.process.stdin.flush()
        return _said(self.process)


@contextmanager
def running_provider(authority: Authority | None = None) -> Iterator[Operated]:
    """Run the provider on free loopback ports, and end its process afterwards.

    Raises:
        NodeUnavailableError: there is no Node, or its packages can't be had.
    """
    install(PACKAGE)
    with subprocess.Popen(
        [*find_node().node, "provider.mjs"],
        cwd=PACKAGE,
        env=_environment(authority),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Operated(provider=_provider(_said(process)), process=process)
        finally:
            _end(process)


def _environment(authority: Authority | None) -> dict[str, str]:
    return {**os.environ, "PROVIDER_TLS": "" if authority is None else str(authority.folder)}


def _provider(said: dict[str, Any]) -> Provider:
    return Provider(
        issuer=said["issuer"],
        tls=said["tls"] or None,
        service_id=said["service"]["client_id"],
        service_secret=said["service"]["client_secret"],
        app_id=said["app"]["client_id"],
        callback=said["app"]["redirect_uris"][0],
        secrets={name: said[name]["client_secret"] for name in ("service", "poster", "prover")},
        signer_key=said["signer"]["key"],
    )


def _said(process: subprocess.Popen[str]) -> dict[str, Any]:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise RuntimeError(f"the provider ended, with status {process.wait(10)}")
    said: dict[str, Any] = json.loads(line)
    return said


def _end(process: subprocess.Popen[str]) -> None:
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
