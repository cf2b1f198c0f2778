"""Read the published vectors beside the project, in place; skip where they are absent."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from xuna_middleware.identity.jwt._jose import JOSEError, read_compact
from xuna_middleware.identity.keys.jwks import holds_secrets, read_key_set, read_secrets

VECTORS: Final = Path(__file__).parents[2] / "../shared/vectors"


def path_of(name: str) -> Path:
    """Return a file of vectors, or skip the test that asks for it."""
    path = VECTORS / name
    if not path.exists():
        pytest.skip(f"the vectors ({name}) are not beside this project")
    return path


def load(name: str) -> Any:
    """Return a file of vectors as JSON."""
    return json.loads(path_of(name).read_text(encoding="utf-8"))


def verified_payload(token: Any, keys: Any) -> bytes | None:
    """Return the payload if our reading and our keys accept the token, else None.

    It is the inner part of a verifier: these payloads are raw octets and not claims. Public keys
    are read as a provider publishes them, secrets as an operator gives them.
    """
    try:
        parts = read_compact(token)
        known = read_secrets(keys) if holds_secrets(keys) else read_key_set(keys)
        key = known.find(parts.header.kid, parts.header.algorithm)
    except JOSEError:
        return None
    return parts.payload if key is not None and key.verify(parts) else None
