"""Testing one's own routes: no provider, no platform, no network, no key.

pytest examples/testing_routes.py
"""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from examples.starlette_app import app, gate
from xuna_middleware.testing import Sandbox, sandboxed


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandboxed(gate) as sandbox:
        yield sandbox


def test_the_agent_knows_the_callers_name(sandbox: Sandbox) -> None:
    ada = sandbox.sign_in("user-1", scopes=["voice:talk"], claims={"name": "Ada"})
    answer = TestClient(app).get("/xuna/get-signed-url", headers=ada)
    assert answer.status_code == 200
    assert sandbox.issued[0].dynamic_variables == {"user_name": "Ada"}


def test_without_the_scope_nothing_is_issued(sandbox: Sandbox) -> None:
    answer = TestClient(app).get("/xuna/get-signed-url", headers=sandbox.sign_in("user-1"))
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
    assert not sandbox.issued


def test_a_route_of_ones_own(sandbox: Sandbox) -> None:
    client = TestClient(app)
    assert client.get("/api/me").status_code == 401
    signed_in = sandbox.sign_in("user-1", scopes=["voice:talk"])
    assert client.get("/api/me", headers=signed_in).json() == {"user": "user-1"}
