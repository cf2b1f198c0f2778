"""The same decision wherever the gate stands: wrapped or mounted, in any framework, at any root.

Each framework shapes the scope in its own way (see `paths.py`); what is answered must not differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import httpx
import pytest
from support.doubles import make_gate
from support.places import PLACES, Place

from xuna_middleware import Agent, XunaGate, require_scopes
from xuna_middleware.testing import sandboxed


@pytest.fixture
def gate() -> XunaGate:
    return make_gate(agents=[Agent("support", id="agent_1", allow=require_scopes("voice:talk"))])


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Say what is asked, beneath the gate's path, and the one answer to it.

    `who`: admitted, unscoped, forged or nobody. `code` is the problem's; None where it went well.
    `issued` counts the passes that leave.
    """

    path: str = "/get-signed-url"
    method: str = "GET"
    who: str = "admitted"
    status: int
    code: str | None
    issued: int = 0


CASES: Mapping[str, Case] = {
    "signed URL": Case(status=200, code=None, issued=1),
    "signed URL, POST": Case(method="POST", status=200, code=None, issued=1),
    "token": Case(path="/conversation-token", status=200, code=None, issued=1),
    "a slash too many at the end": Case(path="/get-signed-url/", status=200, code=None, issued=1),
    "encoded": Case(path="/get%2Dsigned%2durl", status=200, code=None, issued=1),
    "agents": Case(path="/agents", status=200, code=None),
    "nobody": Case(who="nobody", status=401, code="not_authenticated"),
    "forged": Case(who="forged", status=401, code="invalid_token"),
    "unscoped": Case(who="unscoped", status=403, code="insufficient_scope"),
    "unknown agent": Case(path="/get-signed-url?agent=x", status=404, code="unknown_agent"),
    "agent by its platform id": Case(
        path="/get-signed-url?agent=agent_1", status=404, code="unknown_agent"
    ),
    "HEAD": Case(method="HEAD", status=405, code=None),
    "DELETE": Case(method="DELETE", status=405, code="method_not_allowed"),
}
#: Beneath a prefix or mount all is the gate's, so these are its 404, and nobody's pass.
NOTHING_THERE = ("/nowhere", "/GET-SIGNED-URL", "/get-signed-url/x", "/x/get-signed-url")


async def ask(place: Place, gate: XunaGate, case: Case) -> tuple[httpx.Response, int]:
    """Return the answer, and how many passes left."""
    with sandboxed(gate) as sandbox:
        admitted = sandbox.sign_in("user-1", scopes=["voice:talk"])
        headers = {
            "admitted": admitted,
            "unscoped": sandbox.sign_in("user-1", scopes=["voice:listen"]),
            "forged": {"Authorization": admitted["Authorization"][:-8] + "AAAAAAAA"},
            "nobody": {},
        }[case.who]
        transport = httpx.ASGITransport(place.build(gate), root_path=place.root_path)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.request(case.method, place.at + case.path, headers=headers)
        return answer, len(sandbox.issued)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
async def test_the_answer_is_the_same(gate: XunaGate, place: Place, case: Case) -> None:
    """One decision in every shape of scope; a pass leaves only where the answer holds it."""
    answer, issued = await ask(place, gate, case)
    code = answer.json().get("code") if answer.content else None
    assert (answer.status_code, code) == (case.status, case.code)
    assert answer.headers["cache-control"] == "no-store"
    assert issued == case.issued


@pytest.mark.parametrize("path", NOTHING_THERE)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
async def test_nothing_else_is_there(gate: XunaGate, place: Place, path: str) -> None:
    """What resembles a route is none, whoever asks."""
    answer, issued = await ask(place, gate, Case(path=path, status=404, code="not_found"))
    assert (answer.status_code, issued) == (404, 0)


AT_A_PREFIX = {name: place for name, place in PLACES.items() if place.at.endswith("/xuna")}


@pytest.mark.parametrize("near", ["X", "%2F..", "%00", ";x", "%5C.."])
@pytest.mark.parametrize("place", AT_A_PREFIX.values(), ids=AT_A_PREFIX)
async def test_a_neighbour_of_the_prefix_hands_out_nothing(
    gate: XunaGate, place: Place, near: str
) -> None:
    """`/xunaX/get-signed-url`, `/xuna%2F../get-signed-url` and the like are somebody else's."""
    moved = replace(place, at=place.at + near)
    answer, issued = await ask(moved, gate, CASES["signed URL"])
    assert (answer.status_code, issued) == (404, 0)
