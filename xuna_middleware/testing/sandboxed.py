"""Put a gate on the rehearsal stage for the length of a test, all within one process."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import httpx

from xuna_middleware import OIDCVerifier, XunaGate, XunaPlatform
from xuna_middleware.sandbox import SandboxAgent, SandboxPlatform, SandboxProvider
from xuna_middleware.testing.issued import IssuedPass, RecordingPlatform

# Names that no resolver knows (RFC 2606): what is meant to stay in process can't leave it.
_ISSUER: Final = "https://provider.sandbox.invalid"
_PLATFORM: Final = "https://platform.sandbox.invalid"


class Sandbox:
    """Sign people in, and see what the gate handed out. Made by `sandboxed()`."""

    def __init__(
        self, provider: SandboxProvider, platform: SandboxPlatform, recorder: RecordingPlatform
    ) -> None:
        self._provider = provider
        self._recorder = recorder
        #: The local platform: `add()` agents, look at `agents`.
        self.platform = platform

    def sign_in(
        self,
        subject: str,
        *,
        scopes: Iterable[str] = (),
        roles: Iterable[str] = (),
        claims: Mapping[str, Any] | None = None,
        expires_in: float = 600,
    ) -> dict[str, str]:
        """Return the headers of somebody who is signed in: a Bearer token that is really signed.

        Args:
            subject: anybody; nobody needs to be created first.
            scopes, roles: what the token carries, for `require_scopes` and `require_roles`.
            claims: further claims, such as `{"name": "Ada", "plan": "pro"}`.
            expires_in: in seconds; well below zero (the leeway is 30 s) for a token that has ended.

        Raises:
            ValueError: `claims` holds one that the provider writes itself, such as `sub` or `exp`.
        """
        said = {**(claims or {})}
        if roles := list(roles):
            said["roles"] = roles
        token = self._provider.token(
            subject, scopes=tuple(scopes), claims=said, expires_in=expires_in
        )
        return {"Authorization": f"Bearer {token}"}

    @property
    def issued(self) -> tuple[IssuedPass, ...]:
        """Return what left the gate, oldest first. A refused request leaves nothing here."""
        return tuple(self._recorder.issued)

    def __repr__(self) -> str:
        return f"<Sandbox, {len(self.issued)} issued>"


@contextmanager
def sandboxed(gate: XunaGate, *, platform: SandboxPlatform | None = None) -> Iterator[Sandbox]:
    """Swap a gate's identity provider and platform for local ones while the block runs.

    Agents, rules, variables, routes, an `authenticator` and the options of your `XunaPlatform` stay
    yours. `verifier` is swapped, and a gate that has none takes Bearer tokens for that while; a
    `webhook` of yours takes what is signed with the platform's `webhook_secret`. It
    works with `TestClient`, with `httpx.ASGITransport` and on any event loop; it opens no socket,
    and needs no API key.

    Args:
        platform: your own `SandboxPlatform`, with agents or a quota; by default a new one, where
            agents appear, private, when they are first asked for.

    Does not check: your provider's tokens and your verifier's options. To test a verifier of your
    own, call it, or leave it in place: `gate.overridden(platform=…)`.
    """
    stage = SandboxPlatform(unknown_agents=SandboxAgent) if platform is None else platform
    yours = gate.platform if isinstance(gate.platform, XunaPlatform) else XunaPlatform()
    moved = yours.moved(
        api_key=stage.api_key, base_url=_PLATFORM, http_transport=httpx.ASGITransport(stage)
    )
    recorder = RecordingPlatform(moved, stage)
    webhook = gate.webhook and gate.webhook.moved(secret=stage.webhook_secret)
    with gate.overridden(verifier=_verifier(), platform=recorder, webhook=webhook):
        yield Sandbox(_provider(), stage, recorder)


@cache
def _provider() -> SandboxProvider:
    # One for the process: its RSA key takes longer to make than most tests run.
    return SandboxProvider(issuer=_ISSUER)


def _verifier() -> OIDCVerifier:
    provider = _provider()
    return OIDCVerifier(
        provider.issuer,
        audience=provider.audiences[0],
        http_transport=httpx.ASGITransport(provider),
    )
