"""nginx as the proxy that ends TLS in front of a gate, and hands on who the client is.

WebSockets pass, too, for which nginx has to be told to hand on the upgrade.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .authority import Authority
from .servers import wait_until_it_listens

#: What nginx would write to the system's folders otherwise.
_SCRATCH: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")

_CONFIGURATION: Final = """\
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{}}
http {{
  access_log off;
  {scratch}
  map $http_upgrade $connection_upgrade {{
    default upgrade;
    '' close;
  }}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificates}/server.pem;
    ssl_certificate_key {certificates}/server.key;
    ssl_client_certificate {certificates}/ca.pem;
    ssl_verify_client optional;
    location {prefix}/ {{
      proxy_pass http://127.0.0.1:{upstream}/;
      proxy_set_header Client-Cert $ssl_client_escaped_cert;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
    }}
  }}
}}
"""


def find_nginx() -> str | None:
    """Return nginx's command; Debian has it where an ordinary user's PATH doesn't lead."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


@contextmanager
def running_nginx(
    command: str, directory: Path, authority: Authority, *, port: int, prefix: str, upstream: int
) -> Iterator[None]:
    """Serve a prefix with TLS and strip it; clients may show a certificate of the authority.

    nginx replaces a `Client-Cert` header that a client sends.
    """
    scratch = [f"{name}_temp_path {directory}/{name};" for name in _SCRATCH]
    configuration = directory / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            directory=directory,
            certificates=authority.folder,
            scratch="\n  ".join(scratch),
            port=port,
            prefix=prefix,
            upstream=upstream,
        )
    )
    log = directory / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [command, "-c", str(configuration), "-p", str(directory), "-e", str(log)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            wait_until_it_listens(port, process, log)
            yield
        finally:
            process.terminate()
