"""`xuna-gate api-key`, as its users run it."""

import subprocess
import sys
from pathlib import Path

import pytest

from xuna_middleware import APIKey, APIKeyVerifier, Credentials, hash_api_key

XUNA_GATE = [sys.executable, "-m", "xuna_middleware.cli"]


def run(*words: str, said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*XUNA_GATE, *words], input=said, capture_output=True, text=True)


async def test_a_new_key_opens_with_the_line_that_is_printed() -> None:
    """The key alone is on standard output, so that it can be piped to where it belongs."""
    told = run("api-key", "new", "--subject", "kiosk 7", "--scope", "b", "--scope", "a")
    assert told.returncode == 0
    (key,) = told.stdout.splitlines()
    line = told.stderr.splitlines()[-1]
    listed = eval(line, {"APIKey": APIKey})
    identity = await APIKeyVerifier([listed]).verify(Credentials(scheme="bearer", token=key))
    assert (identity.subject, identity.scopes) == ("kiosk 7", frozenset("ab"))
    assert key not in told.stderr


def test_every_key_is_new() -> None:
    """Two runs, two keys."""
    one, other = (run("api-key", "new", "--subject", "x").stdout for _ in range(2))
    assert one != other


def test_hash_of_a_key() -> None:
    """A key is read from standard input, where no list of processes shows it."""
    key = run("api-key", "new", "--subject", "x").stdout.strip()
    told = run("api-key", "hash", said=key + "\n")
    assert told.stdout.strip() == hash_api_key(key)


def test_hash_of_what_is_none() -> None:
    """A mistyped key is told as such, and not repeated."""
    told = run("api-key", "hash", said="xgk_cAnArY\n")
    assert told.returncode == 1
    assert "no API key" in told.stderr
    assert "cAnArY" not in told.stderr + told.stdout


def test_without_typer() -> None:
    """Whoever lacks the extra is told its name."""
    script = "import sys; sys.modules['typer'] = None; from xuna_middleware.cli import main; main()"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert told.returncode == 1
    assert told.stderr.strip() == 'xuna-gate needs typer: pip install "xuna-middleware[cli]"'


def test_installed_command() -> None:
    """The script that pip installs is the same."""
    script = Path(sys.executable).with_name("xuna-gate")
    if not script.exists():
        pytest.skip("the package is not installed here")
    told = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert "api-key" in told.stdout
