"""Test routes behind a gate without a provider, a platform, a network or an API key.

with sandboxed(gate) as sandbox, TestClient(app) as client:
    answer = client.get("/xuna/get-signed-url", headers=sandbox.sign_in("user-1"))
    assert answer.status_code == 200
    assert sandbox.issued[0].agent == "support"
"""

from xuna_middleware.testing.issued import IssuedPass
from xuna_middleware.testing.sandboxed import Sandbox, sandboxed

__all__ = ["IssuedPass", "Sandbox", "sandboxed"]
