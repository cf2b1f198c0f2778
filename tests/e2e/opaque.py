"""Real providers of opaque tokens, one face for three code bases."""

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

from .provider import Provider

SCRIPTS: Final = Path(__file__).parent / "opaque_providers"
#: In seconds, for a token that lives one to be over.
PATIENCE: Final = 20


class OpaqueProvider(Protocol):
    """Issue tokens as a real provider does, and end them.

    `options` are those of an `IntrospectionVerifier` for it, `subject` whom a token stands for.
    """

    @property
    def options(self) -> Mapping[str, Any]: ...

    @property
    def subject(self) -> str: ...

    def token(self) -> str: ...

    def stray_token(self) -> str:
        """Return a good token that was meant for somebody else."""

    def expired_token(self) -> str:
        """Return one that was good, and that the provider itself calls inactive by now."""

    def revoke(self, token: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """Be the clients and the operator of a provider in `opaque_providers`.

    `further` are options of a verifier that only this provider needs.
    """

    issuer: str
    clients: Mapping[str, str] = field(repr=False)
    endpoints: Mapping[str, str]
    process: subprocess.Popen[str] = field(repr=False)
    further: Mapping[str, Any]
    password: str = field(repr=False)

    subject = "robot"

    @property
    def options(self) -> Mapping[str, Any]:
        asker = {"client_id": "resource", "client_secret": self.clients["resource"]}
        names = {"subject_claims": ("sub", "username", "client_id")}
        return {"issuer": self.issuer, **asker, **names, **self.further}

    def token(self, client: str = "robot", **form: str) -> str:
        form = {"grant_type": "client_credentials", **form}
        return str(self._ask("token_endpoint", client, form).json()["access_token"])

    def stray_token(self) -> str:
        return self.token("stray")

    def token_of(self, user: str) -> str:
        """Return a person's token, by the password grant: nothing here is about signing in."""
        return self.token("web", grant_type="password", username=user, password=self.password)

    def expired_token(self) -> str:
        token = self.token()
        assert self.process.stdin is not None
        self.process.stdin.write(f"{token}\n")
        self.process.stdin.flush()
        _said(self.process)
        assert not self._is_active(token)
        return token

    def revoke(self, token: str) -> None:
        assert self._is_active(token)
        self._ask("revocation_endpoint", "robot", {"token": token})
        assert not self._is_active(token)

    def _is_active(self, token: str) -> bool:
        reply = self._ask("introspection_endpoint", "resource", {"token": token})
        return bool(reply.json()["active"])

    def _ask(self, endpoint: str, client: str, form: Mapping[str, str]) -> httpx.Response:
        reply = httpx.post(
            self.endpoints[endpoint],
            data=dict(form),
            auth=(client, self.clients[client]),
            trust_env=False,
            timeout=20,
        )
        assert reply.status_code == 200, f"{reply.status_code} at {endpoint}"
        return reply


@dataclass(frozen=True, slots=True, kw_only=True)
class OfNode:
    """See npm's `oidc-provider` the same way."""

    provider: Provider

    subject = "service"

    @property
    def options(self) -> Mapping[str, Any]:
        known = self.provider
        asker = {"client_id": "service", "client_secret": known.service_secret}
        names = {"subject_claims": ("sub", "client_id"), "audience": "voice"}
        return {"issuer": known.issuer, **asker, **names}

    def token(self) -> str:
        return self.provider.client_credentials("opaque", "voice")

    def stray_token(self) -> str:
        return self.provider.client_credentials("opaque", "voice-admin")

    def expired_token(self) -> str:
        token = self.provider.client_credentials("brief", "voice")
        deadline = time.monotonic() + PATIENCE
        while self.provider.knows(token):
            assert time.monotonic() < deadline
            select.select([], [], [], 0.05)
        return token

    def revoke(self, token: str) -> None:
        assert self.provider.knows(token)
        self.provider.revoke(token)
        assert not self.provider.knows(token)


@contextmanager
def running_script(name: str, directory: Path, further: Mapping[str, Any]) -> Iterator[Script]:
    """Run a provider on a free loopback port, in a directory for its files; end its process."""
    log = directory / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, str(SCRIPTS / name)],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        ) as process,
    ):
        try:
            yield _script(_said(process), process, further)
        finally:
            _end(process)


def _script(
    said: Mapping[str, Any], process: subprocess.Popen[str], further: Mapping[str, Any]
) -> Script:
    # RFC 8414's document: a provider that only does OAuth has no other.
    metadata = f"{said['issuer']}/.well-known/oauth-authorization-server"
    return Script(
        issuer=said["issuer"],
        clients=said["clients"],
        endpoints=httpx.get(metadata, trust_env=False, timeout=20).json(),
        process=process,
        further={"metadata_url": metadata, **further},
        password=said.get("password", ""),
    )


def _said(process: subprocess.Popen[str]) -> dict[str, Any]:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise RuntimeError(f"the provider ended, with status {process.wait(10)}: see its log")
    said: dict[str, Any] = json.loads(line)
    return said


def _end(process: subprocess.Popen[str]) -> None:
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
