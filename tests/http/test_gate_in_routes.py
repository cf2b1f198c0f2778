"""The gate in a route of one's own: `issue`, `identity`, `overridden`; how it is put together."""

from typing import Any, Final

import pytest
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from support.doubles import (
    DENIAL,
    SIGNED_URL,
    CountedPlatform,
    ask,
    bearer,
    http_scope,
    knock,
    make_gate,
    make_verifier,
    one_response,
)
from support.signing import ISSUER, RSA, good_claims

from xuna_middleware import (
    AccessDeniedError,
    Agent,
    ConfigurationError,
    ConversationToken,
    Credentials,
    Identity,
    SignedUrl,
    XunaGate,
    XunaMiddleware,
    get_identity,
    require_scopes,
)
from xuna_middleware.errors import InvalidRequestError

ANNA: Final = Identity(subject="anna", scopes=frozenset({"voice:talk"}))
TWO: Final[list[Agent]] = [
    Agent("support", id="agent_1", allow=require_scopes("voice:talk"), client_variables=("mood",)),
    Agent("sales", id="agent_2", transports=("webrtc",)),
]


async def test_issue_gives_a_pass() -> None:
    """Both kinds, as values whose `to_dict()` is the route's JSON."""
    platform = CountedPlatform()
    gate = make_gate(platform)
    url = await gate.issue(ANNA, transport="websocket")
    token = await gate.issue(ANNA, "support", transport="webrtc")
    assert isinstance(url, SignedUrl)
    assert isinstance(token, ConversationToken)
    assert url.to_dict()["signed_url"] == SIGNED_URL
    assert token.to_dict()["transport"] == "webrtc"
    assert SIGNED_URL not in repr(url)
    assert len(platform.requests) == 2


async def test_issue_checks_what_the_routes_check() -> None:
    """Agent, rule, transport and variables; and no pass for any of them."""
    platform = CountedPlatform()
    gate = make_gate(platform, agents=TWO)
    stranger = Identity(subject="x")
    with pytest.raises(InvalidRequestError) as missing:
        await gate.issue(ANNA, transport="websocket")
    with pytest.raises(InvalidRequestError) as unknown:
        await gate.issue(ANNA, "agent_1", transport="websocket")
    with pytest.raises(AccessDeniedError) as denied:
        await gate.issue(stranger, "support", transport="websocket")
    with pytest.raises(AccessDeniedError) as transport:
        await gate.issue(ANNA, "sales", transport="websocket")
    with pytest.raises(InvalidRequestError) as variable:
        await gate.issue(ANNA, "support", transport="websocket", dynamic_variables={"role": "boss"})
    with pytest.raises(AccessDeniedError) as override:
        await gate.issue(
            ANNA, "support", transport="websocket", overrides={"agent": {"language": "de"}}
        )
    caught = (missing, unknown, denied, transport, variable, override)
    assert [each.value.status_code for each in caught] == [400, 404, 403, 403, 400, 403]
    assert platform.requests == []
    await gate.issue(ANNA, "support", transport="websocket", dynamic_variables={"mood": "good"})
    assert len(platform.requests) == 1


@pytest.mark.parametrize("identity", [None, "anna", {"subject": "anna"}, True])
async def test_issue_takes_an_identity_only(identity: Any) -> None:
    """Whoever forgot to look who calls finds out at once."""
    platform = CountedPlatform()
    with pytest.raises(ConfigurationError):
        await make_gate(platform).issue(identity, transport="websocket")
    assert platform.requests == []


@pytest.mark.parametrize("transport", ["relay", "", None, "WEBSOCKET"])
async def test_issue_takes_a_known_transport_only(transport: Any) -> None:
    """The relay comes later."""
    with pytest.raises(ConfigurationError):
        await make_gate().issue(ANNA, transport=transport)


async def test_function_of_two_needs_the_connection() -> None:
    """Without one it is the author's mistake, and says so."""

    async def allow(who: Identity, connection: HTTPConnection) -> bool:
        return connection.headers.get("x-plan") == "pro"

    platform = CountedPlatform()
    gate = make_gate(platform, agents=[Agent("support", id="agent_1", allow=allow)])
    with pytest.raises(ConfigurationError):
        await gate.issue(ANNA, transport="websocket")
    connection = HTTPConnection(http_scope(headers=[(b"x-plan", b"pro")]))
    await gate.issue(ANNA, transport="websocket", connection=connection)
    assert len(platform.requests) == 1


async def test_identity_in_routes_of_http_and_websocket() -> None:
    """It verifies on demand, and its refusals answer by themselves."""
    gate = make_gate()

    async def me(request: Request) -> JSONResponse:
        return JSONResponse((await gate.identity(request)).subject)

    async def talk(websocket: WebSocket) -> None:
        who = await gate.identity(websocket)
        await websocket.accept(headers=[(b"x-who", who.subject.encode())])
        await websocket.close()

    app = Starlette(routes=[Route("/me", me), WebSocketRoute("/talk", talk)])
    assert (await ask(app, "/me", headers=bearer(RSA.token()))).json() == "user-1"
    for headers, challenge in [
        ([], "Bearer"),
        (bearer("x.y.z"), 'Bearer error="invalid_token"'),
    ]:
        answer = await ask(app, "/me", headers=headers)
        assert (answer.status, answer.header("www-authenticate")) == (401, challenge)
        assert answer.header("cache-control") == "no-store"
        assert answer.header("xuna-gate-ref")
        sent = await knock(app, "/talk", headers=headers, extensions=DENIAL)
        denied = one_response(sent, "websocket.http.response")
        assert (denied.status, denied.header("www-authenticate")) == (401, challenge)
    sent = await knock(app, "/talk", headers=bearer(RSA.token()))
    assert sent[0]["type"] == "websocket.accept"


async def test_get_identity_needs_the_middleware() -> None:
    """On a scope that nobody verified it is None, whatever else stands there."""
    assert get_identity(http_scope()) is None
    assert get_identity(http_scope(user=ANNA)) is None
    assert get_identity(http_scope(headers=[(b"xuna_middleware.identity", b"boss")])) is None


async def test_agents_lists_what_a_caller_may_use() -> None:
    """By rule; it issues nothing, and shows no platform id."""
    platform = CountedPlatform()
    gate = make_gate(platform, agents=TWO)
    answer = await ask(gate, "/agents", headers=bearer(RSA.token()))
    assert [each["name"] for each in answer.json()["agents"]] == ["support", "sales"]
    answer = await ask(gate, "/agents", headers=bearer(RSA.token(good_claims(scope=""))))
    assert [each["name"] for each in answer.json()["agents"]] == ["sales"]
    assert b"agent_" not in answer.body
    assert (await ask(gate, "/agents")).status == 401
    assert platform.requests == []


async def test_overridden_swaps_and_restores() -> None:
    """Verifier and platform; agents and rules stay; what was there comes back after an error."""
    real, fake = CountedPlatform(), CountedPlatform()
    gate = make_gate(real)

    class Everybody:
        async def verify(self, credentials: Credentials) -> Identity:
            return ANNA

    async def ask_and_fail() -> None:
        with gate.overridden(verifier=Everybody()):
            with gate.overridden(platform=fake.client()):
                assert (await ask(gate, headers=bearer("anything"))).status == 200
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await ask_and_fail()
    assert (len(real.requests), len(fake.requests)) == (0, 1)
    assert (await ask(gate, headers=bearer("anything"))).status == 401
    assert (await ask(gate, headers=bearer(RSA.token()))).status == 200
    assert (len(real.requests), len(fake.requests)) == (1, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"agents": []},
        {"agents": ["support"]},
        {"agents": [Agent("a", id="agent_1"), Agent("a", id="agent_2")]},
        {"verifier": []},
        {"verifier": [make_verifier(), make_verifier()]},
        {"agents": [Agent("a", id="agent_1", overrides={"agent.prompt.prompt": "x"})]},
        {"agents": [Agent("a", id="agent_1", dynamic_variables={"secret__x": "y"})]},
    ],
    ids=lambda each: str(each)[:60],
)
def test_gate_that_makes_no_sense(options: dict[str, Any]) -> None:
    """Refused when it is built, with the fix."""
    with pytest.raises(ConfigurationError):
        make_gate(**options)


def test_gate_needs_to_know_who_calls() -> None:
    """There is no gate that admits everybody."""
    with pytest.raises(ConfigurationError, match="who calls"):
        XunaGate(agents=[Agent("a", id="agent_1")], platform=CountedPlatform().client())


async def test_several_issuers_at_the_face() -> None:
    """Each with its own keys and audience; the subject is named together with its issuer."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        who = get_identity(scope)
        seen.append((who and who.issuer, who and who.subject))
        await JSONResponse({})(scope, receive, send)

    other = "https://other.example"
    gate = make_gate(verifier=[make_verifier(), make_verifier(issuer=other, audience="two")])
    wrapped = XunaMiddleware(app, gate, protect=["/api"])
    for claims in (good_claims(), good_claims(iss=other, aud="two")):
        assert (await ask(wrapped, "/api", headers=bearer(RSA.token(claims)))).status == 200
    for claims in (good_claims(aud="two"), good_claims(iss=other)):
        assert (await ask(wrapped, "/api", headers=bearer(RSA.token(claims)))).status == 401
    assert seen == [(ISSUER, "user-1"), (other, "user-1")]
