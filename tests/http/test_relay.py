"""Conversations that the gate carries: where they are, and who may have one."""

import json
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest
from support.doubles import DENIAL, ask, echo_app, make_verifier
from support.relay_stage import (
    EVIL,
    HOME,
    JSON,
    PAGE,
    Pair,
    agent,
    cookie,
    on_stage,
    verifier,
    with_visitors,
)
from support.talking import talking

from xuna_middleware import (
    Agent,
    ConfigurationError,
    Identity,
    Limit,
    OneOf,
    SignedUrl,
    XunaGate,
    XunaMiddleware,
    XunaPlatform,
    claim,
    require_scopes,
)
from xuna_middleware.anonymous.cookie import AnonymousTokens, new_visit


async def test_signed_url_leads_to_the_gate() -> None:
    """The documented browser code gets a URL of ours, and the conversation is the platform's."""
    async with on_stage(agent(client_variables=("page",))) as stage:
        told = await stage.signed_url(dynamic_variables={"page": "home"})
        url = urlsplit(told["signed_url"])
        assert (url.scheme, url.netloc, url.path) == ("wss", "acme.com", "/xuna/conversation")
        assert told["transport"] == "websocket"
        assert told["session"] == {"dynamicVariables": {"page": "home"}}
        assert 55 < told["start_by"] - time.time() <= 60
        assert stage.untouched, "the platform comes later"
        query = url.query + "&source=js&version=1.25"  # as the client adds them
        async with talking(stage.app, query=query) as talk:
            await talk.begin(dynamic_variables={"page": "home"})
            metadata = await talk.hear()
            assert metadata["type"] == "conversation_initiation_metadata"
            await talk.heard("agent_response")
            await talk.say({"type": "user_message", "text": "hello"})
            await talk.heard("agent_response")
        (conversation,) = stage.platform.conversations
        assert [line.role for line in conversation.transcript] == ["agent", "user", "agent"]


@pytest.mark.parametrize("transports", [("websocket",), ("websocket", "relay")])
async def test_signed_url_leads_to_the_platform(transports: Any) -> None:
    """Where the agent lists `websocket` it is the platform's own, as it always was."""
    async with on_stage(agent(transports=transports)) as stage:
        url = urlsplit((await stage.signed_url())["signed_url"])
        assert url.netloc == "platform.sandbox.invalid"
        assert len(stage.platform.issued) == 1


async def test_no_signed_url_of_the_platforms_for_a_relayed_agent() -> None:
    """Neither from the route nor from `gate.issue()`; and no token."""
    async with on_stage() as stage:
        issued = await stage.gate.issue(Identity(subject="ada"), transport="websocket")
        assert isinstance(issued, SignedUrl)
        assert issued.url.startswith("wss://acme.com/xuna/conversation?agent=support&ticket=xgt_")
        answer = await stage.ask("/conversation-token", stage.sign_in())
        assert (answer.status, answer.json()["code"]) == (403, "transport_not_allowed")
        assert stage.untouched


@pytest.mark.parametrize(
    ("members", "status", "code"),
    [
        ({"dynamic_variables": {"plan": "gold"}}, 400, "variable_not_allowed"),
        ({"dynamic_variables": {"system__x": "y"}}, 400, "variable_reserved"),
        ({"overrides": {"agent": {"prompt": {"prompt": "x"}}}}, 403, "override_not_allowed"),
        ({"overrides": {"conversation": {"text_only": True}}}, 200, None),
        ({"overrides": {"agent": {"language": "xx"}}}, 400, "invalid_override"),
        ({"overrides": {"tts": {"model_id": "m"}}}, 400, "override_not_carried"),
        ({"agent": "nobody"}, 404, "unknown_agent"),
    ],
)
async def test_what_is_asked_for_is_checked_at_once(members: Any, status: int, code: Any) -> None:
    """A page is told now, and nothing says that a ticket left."""
    opened = {"agent.language": OneOf("de", "en"), "tts.model_id": OneOf("m")}
    opened["conversation.text_only"] = OneOf(True)
    async with on_stage(agent(client_overrides=opened)) as stage:
        answer = await stage.ask(
            "/get-signed-url",
            [*stage.sign_in(), JSON],
            method="POST",
            body=json.dumps(members).encode(),
        )
        assert (answer.status, answer.json().get("code")) == (status, code)
        assert stage.untouched
        assert bool(stage.named("ticket_issued")) is (status == 200)


def test_relay_without_an_address() -> None:
    """Nobody could be led there."""
    with pytest.raises(ConfigurationError, match="public_url"):
        XunaGate(verifier=verifier(), agents=[agent()])


async def test_routes_without_a_prefix() -> None:
    """`/conversation` and `/ticket` are claimed once an agent lists the relay, and not before."""
    for transports, claimed in ((("relay",), True), (("websocket",), False)):
        gate = XunaGate(
            verifier=make_verifier(),
            agents=[agent(transports=transports)],
            public_url="https://acme.com",
        )
        app = XunaMiddleware(echo_app, gate, prefix="")
        answer = await ask(app, "/ticket", method="POST")
        assert (answer.status == 401) is claimed
        async with talking(app, "/conversation") as talk:
            first = await talk.next()
            assert (first["type"] == "websocket.accept") is not claimed


async def test_with_a_header() -> None:
    """Any client that can set one; `convai` is chosen where it is offered, and nothing else is."""
    async with on_stage() as stage:
        for offered, chosen in ((["convai"], "convai"), ([], None), (["chat", "x"], None)):
            async with talking(stage.app, headers=stage.sign_in(), subprotocols=offered) as talk:
                assert await talk.accepted() == chosen


async def test_with_a_sub_protocol() -> None:
    """The token is read there, and never chosen."""
    async with on_stage() as stage:
        for offered in (
            [f"bearer.{stage.token()}", "convai"],
            ["convai", f"bearer.{stage.token()}"],
        ):
            async with talking(stage.app, subprotocols=offered) as talk:
                assert await talk.accepted() == "convai"
        async with talking(stage.app, subprotocols=[f"bearer.{stage.token()}"]) as talk:
            assert await talk.accepted() is None


async def test_ticket_is_good_once() -> None:
    """The second is the one 401, and the platform isn't asked for it."""
    async with on_stage() as stage:
        query = f"ticket={await stage.ticket()}"
        async with talking(stage.app, query=query) as talk:
            await talk.begin()
            await talk.heard("agent_response")
        async with talking(stage.app, query=query) as talk:
            answer = await talk.refusal()
            assert (answer.status, answer.json()["code"]) == (401, "invalid_token")
        assert len(stage.platform.issued) == 1
        assert stage.named("conversation_started")[0].subject == "user-1"


async def test_ticket_is_its_agents() -> None:
    """For another one it opens nothing, not even once more; left out, its own is meant."""
    two = Agent("other", id="agent_2", transports=("relay",))
    async with on_stage(agent(), two) as stage:
        ticket = await stage.ticket(agent="support")
        async with talking(stage.app, query=f"agent=other&ticket={ticket}") as talk:
            assert (await talk.refusal()).status == 400
        assert stage.untouched
        ticket = await stage.ticket(agent="support")
        async with talking(stage.app, query=f"ticket={ticket}") as talk:
            await talk.begin()
            await talk.heard("agent_response")
        assert [each.agent_id for each in stage.platform.conversations] == ["agent_1"]


@pytest.mark.parametrize(
    ("made", "used", "opens"),
    [
        ([PAGE], [PAGE], True),
        ([PAGE], [HOME], True),
        ([PAGE], [], True),
        ([PAGE], [EVIL], False),
        ([], [PAGE], False),
        ([PAGE], [(b"origin", b"null")], False),
    ],
)
async def test_ticket_is_its_pages(made: list[Pair], used: list[Pair], opens: bool) -> None:
    """The page that asked for it, or the gate's own."""
    async with on_stage() as stage:
        ticket = await stage.ticket([*stage.sign_in(), *made])
        async with talking(stage.app, query=f"ticket={ticket}", headers=used) as talk:
            if opens:
                await talk.accepted()
            else:
                answer = await talk.refusal()
                assert (answer.status, answer.json()["code"]) == (403, "cross_site")
                assert stage.untouched


@pytest.mark.parametrize(
    ("origin", "opens"),
    [
        ([HOME], True),
        ([PAGE], True),
        ([], False),
        ([EVIL], False),
        ([(b"origin", b"null")], False),
        ([(b"origin", b"https://acme.com.evil.example")], False),
        ([HOME, HOME], False),
    ],
)
async def test_cookies_come_from_where_they_may(origin: list[Pair], opens: bool) -> None:
    """A browser asks nobody before it opens a WebSocket, cookies and all."""
    options = {"cors_origins": ["https://page.example.com"], "authenticator": cookie}
    async with (
        on_stage(**options) as stage,
        talking(stage.app, headers=[(b"cookie", b"name=ada"), *origin]) as talk,
    ):
        if opens:
            await talk.begin()
            await talk.heard("agent_response")
            assert stage.named("conversation_started")[0].subject == "ada"
        else:
            answer = await talk.refusal()
            assert (answer.status, answer.json()["code"]) == (403, "cross_site")
            assert stage.untouched


async def test_visitors() -> None:
    """They talk from our own page, with a ticket or without, with whom it is open to them."""
    async with with_visitors() as stage:
        async with talking(stage.app, query="agent=faq", headers=[HOME]) as talk:
            await talk.begin()
            await talk.heard("agent_response")
        ticket = await stage.ticket([HOME], agent="faq")
        async with talking(stage.app, query=f"ticket={ticket}", headers=[HOME]) as talk:
            await talk.begin()
            await talk.heard("agent_response")
        assert {event.issuer for event in stage.named("conversation_started")} == {
            "urn:xuna-gate:visitors"
        }


async def test_visitor_who_signs_in_and_talks() -> None:
    """Their visitor's ticket ends when the conversation is opened, not where it isn't."""
    async with with_visitors() as stage:
        ticket = AnonymousTokens(["s" * 43], seconds=86_400).write(new_visit())
        cookie = (b"cookie", f"__Host-xuna_visitor={ticket}".encode())
        mine = [HOME, cookie, *stage.sign_in()]
        broken = httpx.MockTransport(lambda request: httpx.Response(404))
        with stage.gate.overridden(platform=XunaPlatform("xi-key", http_transport=broken)):
            async with talking(stage.app, query="agent=faq", headers=mine) as talk:
                assert (await talk.refusal()).status == 502
        async with talking(stage.app, query="agent=faq", headers=[HOME, cookie]) as talk:
            await talk.begin()
        async with talking(stage.app, query="agent=faq", headers=mine) as talk:
            await talk.begin()
        async with talking(stage.app, query="agent=faq", headers=[HOME, cookie]) as talk:
            answer = await talk.refusal()
            assert (answer.status, answer.json()["code"]) == (403, "visitor_signed_in")


@pytest.mark.parametrize(
    ("query", "origin", "status", "code"),
    [
        ("agent=faq", [EVIL], 403, "cross_site"),
        ("agent=faq", [], 403, "cross_site"),
        ("agent=private", [HOME], 401, "not_authenticated"),
        ("agent=private", [], 401, "not_authenticated"),
        ("", [HOME], 401, "not_authenticated"),
    ],
)
async def test_where_visitors_may_not_be(query: str, origin: Any, status: int, code: str) -> None:
    """Whoever forgot their token is told so, and not where to ask from."""
    async with with_visitors() as stage:
        async with talking(stage.app, query=query, headers=origin) as talk:
            answer = await talk.refusal()
            assert (answer.status, answer.json()["code"]) == (status, code)
        assert stage.untouched


REFUSED: Final[Mapping[str, tuple[str, int, str]]] = {
    "nobody": ("agent=support", 401, "not_authenticated"),
    "made up": ("agent=support&ticket=xgt_" + "A" * 43, 401, "invalid_token"),
    "two tickets": (f"ticket=xgt_{'A' * 43}&ticket=xgt_{'B' * 43}", 400, "invalid_request"),
    "unknown": ("agent=nobody", 404, "unknown_agent"),
    "platform's id": ("agent=agent_1", 404, "unknown_agent"),
    "none named": ("", 400, "agent_missing"),
    "two named": ("agent=support&agent=support", 400, "invalid_request"),
    "closed": ("agent=closed", 403, "insufficient_scope"),
    "webrtc alone": ("agent=phone", 403, "transport_not_allowed"),
    "poor": ("agent=poor", 429, "quota_exceeded"),
    "broken": ("agent=broken", 503, "unavailable"),
    "claimless": ("agent=claimless", 403, "claim_missing"),
    "gone": ("agent=gone", 502, "platform_error"),
}
ANONYMOUS: Final = ("nobody", "made up", "two tickets")
#: Of these the platform was asked, and refused by itself.
ASKED: Final = ("gone",)


def many_agents() -> list[Agent]:
    def broken(who: Identity) -> Any:
        raise RuntimeError("no database")

    relay: Any = ("relay",)
    return [
        agent(),
        Agent("closed", id="agent_2", transports=relay, allow=require_scopes("admin")),
        Agent("phone", id="agent_2", transports=("webrtc",)),
        Agent(
            "poor",
            id="agent_2",
            transports=relay,
            limits=[Limit("1/day", per=nobody_in_particular)],
        ),
        Agent("broken", id="agent_2", transports=relay, dynamic_variables=broken),
        Agent("claimless", id="agent_2", transports=relay, dynamic_variables={"n": claim("n")}),
        Agent("gone", id="agent_9", transports=relay),
    ]


def nobody_in_particular(who: Identity) -> str:
    return "all the same"


@pytest.mark.parametrize("denial", [DENIAL, {}], ids=["denial", "no denial"])
@pytest.mark.parametrize("name", REFUSED)
async def test_refused_before_it_is_accepted(name: str, denial: Any) -> None:
    """As an HTTP answer where the server can; nothing is taken, and the platform isn't asked."""
    query, status, code = REFUSED[name]
    async with on_stage(*many_agents()) as stage:
        if name == "poor":
            async with talking(stage.app, query=query, headers=stage.sign_in()) as talk:
                await talk.begin()
                await talk.heard("agent_response")
        before = len(stage.platform.issued)
        headers = () if name in ANONYMOUS else stage.sign_in()
        async with talking(stage.app, query=query, headers=headers, extensions=denial) as talk:
            if denial:
                answer = await talk.refusal()
                assert (answer.status, answer.json()["code"]) == (status, code)
                assert answer.header("cache-control") == "no-store"
                assert answer.header("xuna-gate-ref")
            else:
                assert (await talk.next()) == {"type": "websocket.close", "code": 1008}
        assert len(stage.platform.issued) == before
        assert stage.named("refused")[-1].code == code
        assert await stage.gate.sessions() == ()


async def test_agents_that_are_not_relayed_are_served_too() -> None:
    """`websocket` is allowed through the gate as well; `webrtc` alone isn't (above)."""
    async with (
        on_stage(agent(transports=("websocket",))) as stage,
        talking(stage.app, headers=stage.sign_in()) as talk,
    ):
        await talk.begin()
        await talk.heard("agent_response")


async def test_other_websockets_of_the_gate() -> None:
    """There is one route; a slash at its end is nothing."""
    async with on_stage() as stage:
        for path, status in (("/xuna/agents", 404), ("/xuna/conversation/x", 404)):
            async with talking(stage.app, path, headers=stage.sign_in()) as talk:
                assert (await talk.refusal()).status == status
        async with talking(stage.app, "/xuna/conversation/", headers=stage.sign_in()) as talk:
            assert await talk.accepted() == "convai"
        answer = await stage.ask("/conversation", stage.sign_in())
        assert answer.status == 404


async def test_token_that_is_good_by_the_leeway_alone() -> None:
    """It gets a signed URL elsewhere; a conversation here would be over before it began."""
    async with on_stage(agent(transports=("websocket", "relay"))) as stage:
        late = stage.sign_in(expires_in=-5)
        assert (await stage.ask("/get-signed-url", late)).status == 200
        before = len(stage.platform.issued)
        async with talking(stage.app, headers=late) as talk:
            assert (await talk.refusal()).json()["code"] == "invalid_token"
        assert len(stage.platform.issued) == before


async def test_gate_that_can_carry_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library nobody is promised a conversation, and the operator reads why."""
    async with on_stage(agent(limits=[Limit("9/day")])) as stage:

        def missing() -> None:
            raise ConfigurationError("the relay needs websockets")

        monkeypatch.setattr(stage.gate.platform, "check_relay", missing)
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            assert (await talk.refusal()).status == 503
        assert await stage.left() == [9]
        assert stage.untouched
