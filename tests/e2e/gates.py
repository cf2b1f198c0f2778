"""Gates of `served_gates.py` as tests see them: in public, and where they really listen."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .authority import Authority
from .nginx import running_nginx
from .provider import Provider
from .servers import free_port, running

Binding = Literal["none", "dpop", "nonce", "mtls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Know a served gate: `public` is the site's address for clients, `inner` the server's own."""

    public: str
    inner: str


@contextmanager
def served_gate(
    directory: Path,
    provider: Provider,
    binding: Binding,
    *,
    app: str = "wrapped",
    prefix: str = "",
    public: str = "http://127.0.0.1:{port}",
) -> Iterator[Gate]:
    """Serve with uvicorn. A `prefix` is what a proxy strips, and the server's `root_path`."""
    environment = {
        "SERVED_ISSUER": provider.issuer,
        "SERVED_PUBLIC_URL": f"{public}{prefix}/xuna",
        "SERVED_BINDING": binding,
    }
    options = {"module": "served_gates", "app": app, "root_path": prefix}
    with running("uvicorn", directory, environment=environment, **options) as server:
        yield Gate(public=public.format(port=server.port) + prefix, inner=server.url)


@contextmanager
def proxied_gate(
    nginx: str, directory: Path, authority: Authority, provider: Provider, binding: Binding
) -> Iterator[Gate]:
    """Serve with uvicorn behind nginx, which ends TLS and strips a prefix."""
    port, prefix = free_port(), "/front"
    public = f"https://127.0.0.1:{port}"
    with served_gate(directory, provider, binding, prefix=prefix, public=public) as gate:
        upstream = int(gate.inner.rpartition(":")[2])
        folder = directory / "nginx"
        folder.mkdir()
        with running_nginx(nginx, folder, authority, port=port, prefix=prefix, upstream=upstream):
            yield gate
