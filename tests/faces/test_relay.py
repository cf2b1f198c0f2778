"""Conversations that the gate carries: who may have one, what the platform gets, how they end."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
from doubles import DENIAL, Answer, ask, echo_app, in_fast_time, make_verifier, websocket_scope
from scripted import GREETING, ScriptedLine
from signing import CANARY
from starlette.requests import HTTPConnection
from starlette.types import Message
from talking import ClosedError, Talk, talking

from xuna_middleware import (
    Agent,
    Concurrent,
    ConfigurationError,
    Event,
    Identity,
    Limit,
    MemoryStore,
    OIDCVerifier,
    OneOf,
    PlatformError,
    RelayRules,
    SignedUrl,
    StoreError,
    TalkTime,
    Visitors,
    XunaGate,
    XunaMiddleware,
    claim,
    require_scopes,
)
from xuna_middleware.sandbox import SandboxAgent, SandboxPlatform
from xuna_middleware.stores.protocol import Held
from xuna_middleware.testing import Sandbox, sandboxed

URL: Final = "https://acme.com/xuna"
PAGE: Final = (b"origin", b"https://page.example.com")
HOME: Final = (b"origin", b"https://acme.com")
EVIL: Final = (b"origin", b"https://evil.example.com")
JSON: Final = (b"content-type", b"application/json")
REFRESH: Final = "xuna_gate_refresh"
PROMPT: Final = "agent.prompt.prompt"
OPEN: Final = frozenset({PROMPT, "agent.language", "agent.first_message"})

Pair = tuple[bytes, bytes]


@dataclass(kw_only=True)
class Stage:
    """Hold a gate on the rehearsal stage, and what happened there."""

    gate: XunaGate
    app: XunaMiddleware
    sandbox: Sandbox
    platform: SandboxPlatform
    events: list[Event] = field(default_factory=list)

    def sign_in(self, subject: str = "user-1", **options: Any) -> list[Pair]:
        headers = self.sandbox.sign_in(subject, **options)
        return [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    def token(self, subject: str = "user-1", **options: Any) -> str:
        """Return the token alone."""
        value = self.sandbox.sign_in(subject, **options)["Authorization"]
        return value.removeprefix("Bearer ")

    async def ask(self, path: str, headers: Iterable[Pair] = (), **scope: Any) -> Answer:
        return await ask(self.app, f"/xuna{path}", headers=list(headers), **scope)

    async def signed_url(
        self, headers: Iterable[Pair] | None = None, **members: Any
    ) -> Mapping[str, Any]:
        """Ask for a signed URL as a page does, and get one."""
        answer = await self.ask(
            "/get-signed-url",
            [*(self.sign_in() if headers is None else headers), JSON],
            method="POST",
            body=json.dumps(members).encode(),
        )
        assert answer.status == 200, answer.body
        told: Mapping[str, Any] = answer.json()
        return told

    async def ticket(self, headers: Iterable[Pair] | None = None, **members: Any) -> str:
        """Return the ticket in such a URL."""
        url = (await self.signed_url(headers, **members))["signed_url"]
        return parse_qs(urlsplit(url).query)["ticket"][0]

    async def left(self, headers: Iterable[Pair] | None = None) -> list[int]:
        """Return what is left of the limits of the one agent."""
        answer = await self.ask("/agents", self.sign_in() if headers is None else headers)
        return [limit["left"] for limit in answer.json()["agents"][0]["limits"]]

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]

    async def ended(self) -> Event:
        """Return how the latest conversation ended, once it has."""
        async with asyncio.timeout(10):
            while not self.named("ended"):  # noqa: ASYNC110 - events wake nobody
                await asyncio.sleep(0.005)
        return self.named("ended")[-1]

    @property
    def untouched(self) -> bool:
        """Whether the platform was asked for nothing."""
        return not self.platform.issued and not self.platform.conversations


def agent(**options: Any) -> Agent:
    return Agent("support", **{"id": "agent_1", "transports": ("relay",), **options})


def verifier() -> OIDCVerifier:
    return OIDCVerifier("https://id.example.com", audience="voice")


@asynccontextmanager
async def on_stage(*agents: Agent, **options: Any) -> AsyncIterator[Stage]:
    """Put a gate on the stage until the block ends, and close it then."""
    events: list[Event] = []
    platform = options.pop("platform", None) or SandboxPlatform(
        api_key=f"xi-{CANARY}-key",
        agents=[SandboxAgent(f"agent_{number}", allowed_overrides=OPEN) for number in range(5)],
    )
    if "authenticator" not in options:
        options["verifier"] = verifier()
    gate = XunaGate(agents=agents or [agent()], public_url=URL, on_event=[events.append], **options)
    app = XunaMiddleware(echo_app, gate)
    with sandboxed(gate, platform=platform) as sandbox:
        async with gate:
            yield Stage(gate=gate, app=app, sandbox=sandbox, platform=platform, events=events)


def swap_line(stage: Stage, monkeypatch: pytest.MonkeyPatch, line: Any) -> list[SignedUrl]:
    """Let the platform's WebSocket be a line of the test's, or an error; return what opened it."""
    opened: list[SignedUrl] = []

    async def connect(signed: SignedUrl, *, max_frame: int) -> Any:
        opened.append(signed)
        if isinstance(line, Exception):
            raise line
        return line

    monkeypatch.setattr(stage.gate.platform, "connect", connect)
    return opened


# --- The signed URL -------------------------------------------------------------------------


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
        assert (answer.status, answer.json()["code"]) == (403, "transport_not_open")
        assert stage.untouched


@pytest.mark.parametrize(
    ("members", "status", "code"),
    [
        ({"dynamic_variables": {"plan": "gold"}}, 400, "variable_not_open"),
        ({"dynamic_variables": {"system__x": "y"}}, 400, "variable_reserved"),
        ({"overrides": {"agent": {"prompt": {"prompt": "x"}}}}, 403, "override_not_open"),
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


# --- Who may have a conversation ------------------------------------------------------------


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
        assert stage.named("started")[0].subject == "user-1"


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


async def cookie(connection: HTTPConnection) -> Identity | None:
    name = connection.cookies.get("name")
    return Identity(subject=name) if name else None


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
            assert stage.named("started")[0].subject == "ada"
        else:
            answer = await talk.refusal()
            assert (answer.status, answer.json()["code"]) == (403, "cross_site")
            assert stage.untouched


@asynccontextmanager
async def with_visitors(**options: Any) -> AsyncIterator[Stage]:
    """Open one agent to visitors, beside one that isn't."""
    faq = Agent(
        "faq",
        id="agent_1",
        transports=("relay",),
        anonymous=True,
        max_duration=60,
        limits=[Limit("100/day", per="all")],
    )
    private = Agent("private", id="agent_2", transports=("relay",))
    visitors = Visitors(secret="s" * 43)
    async with on_stage(faq, private, visitors=visitors, **options) as stage:
        yield stage


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
        assert {event.issuer for event in stage.named("started")} == {"urn:xuna-gate:visitors"}


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
    "webrtc alone": ("agent=phone", 403, "transport_not_open"),
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


# --- What the platform gets -----------------------------------------------------------------


async def test_the_servers_word_reaches_the_platform() -> None:
    """Variables, secrets, prompt and user are the server's; what is open is the client's."""
    talker = agent(
        dynamic_variables={"plan": "pro", "secret__key": "s3", "name": claim("name")},
        overrides={PROMPT: "You know {{plan}}"},
        client_variables=("page",),
        client_overrides=("agent.language",),
        user_id=lambda who: f"acme:{who.subject}",
    )
    async with on_stage(talker) as stage:
        headers = stage.sign_in(claims={"name": "Ada"})
        async with talking(stage.app, headers=headers) as talk:
            await talk.begin(
                dynamic_variables={"page": "home"},
                conversation_config_override={"agent": {"language": "de"}},
                user_id="somebody-else",
                source_info={"source": "js"},
            )
            await talk.heard("agent_response")
        (conversation,) = stage.platform.conversations
        own = dict(conversation.dynamic_variables.items())
        assert {**own, "plan": "pro", "secret__key": "s3", "name": "Ada", "page": "home"} == own
        assert conversation.overrides == {PROMPT: "You know {{plan}}", "agent.language": "de"}
        assert conversation.user_id == "acme:user-1"
        assert stage.sandbox.issued[0].transport == "relay"


async def test_a_clients_user_is_nobody() -> None:
    """Where the server names none, there is none."""
    async with on_stage() as stage:
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin(user_id="somebody-else")
            await talk.heard("agent_response")
        assert stage.platform.conversations[0].user_id is None


BAD_FIRST_FRAMES: Final[Mapping[str, tuple[Any, tuple[int, str]]]] = {
    "not open": ({"dynamic_variables": {"role": "admin"}}, (4400, "variable_not_open")),
    "clash": ({"dynamic_variables": {"plan": "gold"}}, (4400, "variable_conflict")),
    "system": ({"dynamic_variables": {"system__time": "1"}}, (4400, "variable_reserved")),
    "secret": ({"dynamic_variables": {"secret__key": "x"}}, (4400, "variable_reserved")),
    "secret, upper case": (
        {"dynamic_variables": {"SECRET__key": "x"}},
        (4400, "variable_reserved"),
    ),
    "no scalar": ({"dynamic_variables": {"page": {"a": 1}}}, (4400, "invalid_variable")),
    "no object": ({"dynamic_variables": "page=home"}, (4400, "invalid_variable")),
    "override not open": (
        {"conversation_config_override": {"agent": {"prompt": {"prompt": "x"}}}},
        (4403, "override_not_open"),
    ),
    "override unknown": (
        {"conversation_config_override": {"agent": {"tools": []}}},
        (4403, "override_not_open"),
    ),
    "override in one word": (
        {"conversation_config_override": {"agent.language": "de"}},
        (4403, "override_not_open"),
    ),
    "override no object": (
        {"conversation_config_override": {"agent": "x"}},
        (4400, "invalid_override"),
    ),
    "extra body": ({"custom_llm_extra_body": {"temperature": 2}}, (4400, "member_not_open")),
    "unknown member": ({"branch_id": "main"}, (4400, "member_not_open")),
    "source": ({"source_info": {"a": {}}}, (4400, "member_not_open")),
}
OTHER_FIRST_FRAMES: Final[Mapping[str, tuple[str | bytes, tuple[int, str]]]] = {
    "another": ('{"type":"user_message","text":"hi"}', (4400, "first_frame_expected")),
    "no JSON": ("hello", (4400, "no_json")),
    "binary": (b"\x00\x01", (1003, "binary_frame")),
    "too large": ('{"type":"' + "x" * 2048 + '"}', (1009, "frame_too_large")),
}


def picky() -> Agent:
    return agent(
        client_variables=("page", "plan"),
        client_overrides=("agent.language",),
        dynamic_variables=lambda who: {"plan": "pro"},
        relay=RelayRules(max_frame=1024),
        max_duration=60,
        limits=[Concurrent(1), TalkTime("10 minutes/day"), Limit("5/day")],
    )


@pytest.mark.parametrize("name", [*BAD_FIRST_FRAMES, *OTHER_FIRST_FRAMES])
async def test_first_frame_that_ends_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No frame went to either side; slot and time come back, and the credential stays counted."""
    async with on_stage(picky()) as stage:
        opened = swap_line(stage, monkeypatch, ScriptedLine(GREETING))
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            if name in BAD_FIRST_FRAMES:
                members, ending = BAD_FIRST_FRAMES[name]
                await talk.begin(**members)
            else:
                frame, ending = OTHER_FIRST_FRAMES[name]
                await talk.accepted()
                await talk.say(frame)
            assert await talk.ending() == ending
            assert talk.frames() == []
        event = await stage.ended()
        assert (event.close_code, event.cause) == (ending[0], f"gate: {ending[1]}")
        assert (event.seconds, event.turns) == (0.0, 0)
        assert opened == []
        assert stage.named("started") == []
        assert await stage.left() == [1, 600, 4]


async def test_client_that_leaves_instead_of_beginning() -> None:
    """Its code is noted; nothing stays taken but the credential."""
    async with on_stage(picky()) as stage:
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.accepted()
            await talk.hang_up(4123, "never mind")
            event = await stage.ended()
        assert (event.close_code, event.cause) == (4123, "client: never mind")
        assert await stage.left() == [1, 600, 4]
        assert stage.platform.conversations == ()


@pytest.mark.parametrize("breaks_at", ["receive", "send"])
async def test_client_that_is_gone_before_it_is_accepted(breaks_at: str) -> None:
    """While the gate asked the platform; whatever the server says of it, it is no fault."""
    async with on_stage(picky()) as stage:
        kind = "websocket.disconnect" if breaks_at == "receive" else "websocket.connect"

        async def receive() -> Message:
            return {"type": kind}

        async def send(message: Message) -> None:
            raise OSError("nobody is there")

        scope = websocket_scope("/xuna/conversation", headers=stage.sign_in())
        await stage.app(scope, receive, send)
        assert (await stage.ended()).cause == "client: closed"
        assert stage.named("refused") == []
        assert await stage.left() == [1, 600, 4]


def test_no_first_frame_in_five_seconds() -> None:
    """A connection that says nothing holds nothing."""

    async def story() -> None:
        async with on_stage(picky()) as stage:
            began = asyncio.get_running_loop().time()
            async with talking(stage.app, headers=stage.sign_in()) as talk:
                await talk.accepted()
                assert await talk.ending() == (4408, "first_frame_timeout")
            assert asyncio.get_running_loop().time() - began == pytest.approx(5, abs=0.5)
            assert await stage.left() == [1, 600, 4]
            assert stage.platform.conversations == ()

    in_fast_time(story())


async def test_second_first_frame() -> None:
    """The platform never sees what would set the variables anew, in whichever letters."""
    for spelling in (
        "conversation_initiation_client_data",
        "convers\\u0061tion_initiation_client_data",
    ):
        async with on_stage() as stage:
            async with talking(stage.app, headers=stage.sign_in()) as talk:
                await talk.begin()
                await talk.heard("agent_response")
                await talk.say(f'{{"type":"{spelling}","dynamic_variables":{{"plan":"gold"}}}}')
                assert await talk.ending() == (4400, "second_first_frame")
            await stage.ended()
            (conversation,) = stage.platform.conversations
            assert "plan" not in conversation.dynamic_variables
            assert (conversation.close_code, conversation.ended_by) == (1000, "user")


async def test_rules_of_the_agent() -> None:
    """What the agent doesn't open ends it."""
    texts = RelayRules(client_frames=("user_message",), frames_per_second=3)
    async with on_stage(agent(relay=texts)) as stage:
        for said, ending in (
            ({"user_audio_chunk": "AAAA"}, (4403, "frame_not_open")),
            ({"type": "client_tool_result", "tool_call_id": "x"}, (4403, "frame_not_open")),
        ):
            async with talking(stage.app, headers=stage.sign_in()) as talk:
                await talk.begin()
                await talk.heard("agent_response")
                await talk.say(said)
                assert await talk.ending() == ending


# --- Limits ---------------------------------------------------------------------------------


def limited(**options: Any) -> Agent:
    limits = [Concurrent(1), TalkTime("10 minutes/day"), Limit("3/day")]
    return agent(max_duration=60, limits=limits, **options)


def test_limits_from_the_ticket_to_the_end() -> None:
    """Looked at with the ticket, taken at the connect, settled with the true length."""

    async def story() -> None:
        async with on_stage(limited()) as stage:
            for _ in range(5):
                ticket = await stage.ticket()
            assert await stage.left() == [1, 600, 3], "a ticket takes nothing"
            async with talking(stage.app, query=f"ticket={ticket}") as talk:
                await talk.begin()
                await talk.heard("agent_response")
                assert await stage.left() == [0, 540, 2]
                refused = await stage.ask("/get-signed-url", stage.sign_in())
                assert (refused.status, refused.json()["code"]) == (429, "quota_exceeded")
                assert refused.header("retry-after")
                async with talking(stage.app, headers=stage.sign_in()) as second:
                    assert (await second.refusal()).status == 429
                await asyncio.sleep(20)
            event = await stage.ended()
            assert event.seconds == pytest.approx(20, abs=0.5)
            left = await stage.left()
            assert (left[0], left[2]) == (1, 2)
            assert left[1] == pytest.approx(600 - (event.seconds or 0), abs=1)
            (settled,) = stage.named("settled")
            assert settled.seconds == event.seconds

    in_fast_time(story())


async def test_ticket_does_not_reserve() -> None:
    """Of two who got a ticket for the last slot one is too late, before it is accepted."""
    async with on_stage(limited()) as stage:
        tickets = [await stage.ticket() for _ in range(2)]
        async with talking(stage.app, query=f"ticket={tickets[0]}") as talk:
            await talk.begin()
            await talk.heard("agent_response")
            async with talking(stage.app, query=f"ticket={tickets[1]}") as late:
                assert (await late.refusal()).status == 429
        assert len(stage.platform.issued) == 1


async def test_nothing_stays_taken_where_there_is_no_signed_url() -> None:
    """It failed before anything was opened: all of it comes back."""
    async with on_stage(limited(id="agent_9")) as stage:
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            assert (await talk.refusal()).status == 502
        assert await stage.left() == [1, 600, 3]
        assert len(stage.named("released")) == 1
        assert stage.named("ended") == []


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (PlatformError(cause="platform: refused"), (4502, "platform_error")),
        (PlatformError(status_code=504, code="platform_timeout"), (4504, "platform_timeout")),
        (RuntimeError(f"who knows {CANARY}"), (1011, "internal_error")),
    ],
)
async def test_platform_that_does_not_open(
    error: Exception, ending: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client reads why; slot and time come back."""
    async with on_stage(limited()) as stage:
        opened = swap_line(stage, monkeypatch, error)
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin()
            assert await talk.ending() == ending
            assert talk.frames() == []
        await stage.ended()
        assert len(opened) == 1
        assert await stage.left() == [1, 600, 2]
        assert await stage.gate.sessions() == ()
        assert len(stage.named("refused")) == 1


class Forgetful(MemoryStore):
    """A store that is away when a lease is to be held, or a length to be settled."""

    def __init__(self, fails: str) -> None:
        super().__init__()
        self.fails = fails

    async def hold(self, leases: Any) -> tuple[Held, ...]:
        if self.fails == "hold":
            raise StoreError("away")
        return await super().hold(leases)

    async def settle(self, name: str, milliseconds: int) -> str | None:
        if self.fails == "settle":
            raise StoreError("away")
        return await super().settle(name, milliseconds)

    async def let_go(self, name: str, slots: Any) -> None:
        if self.fails == "let_go":
            raise StoreError("away")
        await super().let_go(name, slots)


async def test_store_that_holds_no_lease() -> None:
    """What nobody could end isn't begun: 503, and all of it comes back."""
    async with on_stage(limited(), store=Forgetful("hold")) as stage:
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            assert (await talk.refusal()).status == 503
        assert await stage.left() == [1, 600, 3]


@pytest.mark.parametrize(
    ("fails", "left", "said"),
    [("settle", [1, 540, 2], "counts in full"), ("let_go", [0, 599, 2], "ends by itself")],
)
async def test_store_that_is_away_at_the_end(
    fails: str, left: list[int], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator reads what that costs; the client's goodbye is the same."""
    async with on_stage(limited(), store=Forgetful(fails)) as stage:
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin()
            await talk.heard("agent_response")
        await stage.ended()
        assert await stage.left() == left
        assert said in caplog.text


# --- How it ends ----------------------------------------------------------------------------


def test_longest_time() -> None:
    """`max_duration` to the second, whatever the platform's is."""

    async def story() -> None:
        async with on_stage(agent(max_duration=45)) as stage:
            async with talking(stage.app, headers=stage.sign_in()) as talk:
                await talk.begin()
                assert await talk.ending() == (4410, "max_duration")
            event = await stage.ended()
            assert event.seconds == pytest.approx(45, abs=0.1)
            assert stage.platform.conversations[0].ended_by == "user", "the platform is hung up on"

    in_fast_time(story())


def test_silence() -> None:
    """`pong` frames, which a client sends by itself, are none of its words."""

    async def story() -> None:
        async with on_stage(agent(relay=RelayRules(idle_timeout=30))) as stage:
            async with talking(stage.app, headers=stage.sign_in()) as talk:
                await talk.begin()
                await asyncio.sleep(20)
                await talk.say({"type": "user_activity"})
                for _ in range(2):
                    await asyncio.sleep(10)
                    await talk.say({"type": "pong", "event_id": 1})
                assert await talk.ending() == (4408, "idle_timeout")
            assert (await stage.ended()).seconds == pytest.approx(50, abs=0.1)

    in_fast_time(story())


async def brief(connection: HTTPConnection) -> Identity | None:
    """Know a cookie that says how long it is good."""
    lasts = connection.cookies.get("lasts")
    return None if lasts is None else Identity(subject="ada", expires_at=time.time() + float(lasts))


async def test_end_of_the_proof() -> None:
    """At `exp`, without leeway."""
    async with on_stage(authenticator=brief) as stage:
        began = time.time()
        async with talking(stage.app, headers=[(b"cookie", b"lasts=0.4"), HOME]) as talk:
            await talk.begin()
            assert await talk.ending() == (4401, "token_expired")
        assert 0.4 <= time.time() - began < 10


async def test_refresh() -> None:
    """A fresh token of the same caller extends it; what else is sent changes nothing."""
    async with on_stage() as stage:
        expires_at = int(time.time() + 2)
        token = stage.token(expires_in=2)
        async with talking(
            stage.app, headers=[(b"authorization", f"Bearer {token}".encode())]
        ) as talk:
            await talk.begin()
            await talk.heard("agent_response")
            fresh = stage.token(expires_in=600)
            for sent, answer in (
                (stage.token("user-2"), {"code": "another_caller"}),
                ("made.up.token", {"code": "invalid_token"}),
                (stage.token(expires_in=-100), {"code": "invalid_token"}),
                (fresh, {"expires_at": pytest.approx(time.time() + 600, abs=5)}),
            ):
                await talk.say({"type": REFRESH, "token": sent})
                assert await talk.heard(REFRESH) == {"type": REFRESH, **answer}
            await asyncio.sleep(max(0.0, expires_at + 0.1 - time.time()))
            await talk.say({"type": "user_message", "text": "hello"})
            await talk.heard("agent_response")
        (conversation,) = stage.platform.conversations
        assert [line.role for line in conversation.transcript] == ["agent", "user", "agent"]


@pytest.mark.parametrize("whose", ["user-2", "made up"])
async def test_refresh_that_does_not_extend(whose: str) -> None:
    """It ends when the first token does."""
    async with (
        on_stage() as stage,
        talking(stage.app, headers=stage.sign_in(expires_in=2)) as talk,
    ):
        await talk.begin()
        token = "a.b.c" if whose == "made up" else stage.token(whose, expires_in=600)
        await talk.say({"type": REFRESH, "token": token})
        assert await talk.ending() == (4401, "token_expired")


async def test_refresh_with_a_token_that_ends_at_once() -> None:
    """The leeway makes it good, and not one second longer."""
    async with on_stage() as stage, talking(stage.app, headers=stage.sign_in()) as talk:
        await talk.begin()
        await talk.say({"type": REFRESH, "token": stage.token(expires_in=-5)})
        assert await talk.ending() == (4401, "token_expired")


async def test_refresh_where_tokens_say_nothing() -> None:
    """A gate with cookies alone has nobody to ask."""
    async with (
        on_stage(authenticator=cookie) as stage,
        talking(stage.app, headers=[(b"cookie", b"name=ada"), HOME]) as talk,
    ):
        await talk.begin()
        await talk.say({"type": REFRESH, "token": stage.token()})
        assert (await talk.heard(REFRESH))["code"] == "another_caller"


async def test_revoked() -> None:
    """What runs ends, and neither a ticket, nor a new one, nor the token opens anything."""
    async with on_stage() as stage:
        headers = stage.sign_in()
        issuer = stage.sandbox._provider.issuer
        ticket = await stage.ticket(headers)
        async with (
            talking(stage.app, headers=headers) as talk,
            talking(stage.app, headers=stage.sign_in("user-2")) as other,
        ):
            await talk.begin()
            await talk.heard("agent_response")
            await other.begin()
            await other.heard("agent_response")
            await stage.gate.revoke(issuer, "user-1")
            assert await talk.ending() == (4411, "revoked")
            await other.say({"type": "user_message", "text": "hello"})
            await other.heard("agent_response")
        before = len(stage.platform.issued)
        assert (await stage.ask("/get-signed-url", headers)).status == 401
        assert (await stage.ask("/ticket", headers, method="POST")).status == 401
        async with talking(stage.app, headers=headers) as again:
            assert (await again.refusal()).json()["code"] == "invalid_token"
        async with talking(stage.app, query=f"ticket={ticket}") as again:
            assert (await again.refusal()).json()["code"] == "invalid_token"
        assert len(stage.platform.issued) == before
        assert stage.named("revoked")[0].subject == "user-1"
        await asyncio.sleep(1 - time.time() % 1)  # an `iat` is in whole seconds
        async with talking(stage.app, headers=stage.sign_in()) as anew:
            await anew.begin()
            await anew.heard("agent_response")


async def test_revoked_between_reservation_and_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease says so, and nothing is carried."""

    class Late(MemoryStore):
        async def hold(self, leases: Any) -> tuple[Held, ...]:
            return tuple(Held(lease.slots, "revoked") for lease in leases)

    async with on_stage(store=Late()) as stage:
        line = ScriptedLine()
        swap_line(stage, monkeypatch, line)
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin()
            assert await talk.ending() == (4411, "revoked")
            assert talk.frames() == []
        await stage.ended()
        assert line.closed == (1000, "")


def test_lease_that_cannot_be_renewed() -> None:
    """After the 30 seconds of the lease, and not before, it ends: nobody else would know of it."""

    class Dying(MemoryStore):
        dead = False

        async def hold(self, leases: Any) -> tuple[Held, ...]:
            if self.dead:
                raise StoreError("away")
            return await super().hold(leases)

    async def story() -> None:
        store = Dying()
        async with on_stage(store=store) as stage:
            async with talking(stage.app, headers=stage.sign_in()) as talk:
                await talk.begin()
                await asyncio.sleep(12)
                store.dead = True
                assert await talk.ending() == (4503, "store_unavailable")
            assert 30 <= (float((await stage.ended()).seconds or 0)) <= 46

    in_fast_time(story())


def test_lease_that_is_away_for_a_moment() -> None:
    """Twenty seconds without a store harm nobody."""

    class Shaky(MemoryStore):
        away = False

        async def hold(self, leases: Any) -> tuple[Held, ...]:
            if self.away:
                raise StoreError("away")
            return await super().hold(leases)

    async def story() -> None:
        store = Shaky()
        async with (
            on_stage(store=store) as stage,
            talking(stage.app, headers=stage.sign_in()) as talk,
        ):
            await talk.begin()
            for store.away in (True, False, True, False):
                await asyncio.sleep(20)
            await talk.say({"type": "user_message", "text": "hello"})
            await talk.heard("agent_response")

    in_fast_time(story())


async def test_gate_that_is_closed() -> None:
    """What runs ends with it, and is settled before it is gone."""
    async with (
        on_stage(limited()) as stage,
        talking(stage.app, headers=stage.sign_in()) as talk,
    ):
        await talk.begin()
        await talk.heard("agent_response")
        await stage.gate.aclose()
        assert await talk.ending() == (1001, "going_away")
        assert len(stage.named("settled")) == 1
        assert await stage.gate.sessions() == ()


async def test_server_that_cancels() -> None:
    """All is given back, and the platform is hung up on."""
    async with on_stage(limited()) as stage:
        talk = Talk()
        await talk.to_app.put({"type": "websocket.connect"})
        scope = websocket_scope("/xuna/conversation", headers=stage.sign_in())
        serving = asyncio.ensure_future(stage.app(scope, talk.receive, talk.send))
        await talk.begin()
        await talk.heard("agent_response")
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        event = await stage.ended()
        assert (event.close_code, event.cause) == (1011, "gate: internal_error")
        assert (await stage.left())[0] == 1
        assert not stage.platform.conversations[0].live


@pytest.mark.parametrize(
    ("told", "ending"),
    [
        ((1000, "done"), (1000, "done")),
        ((4321, "a word of its own"), (4321, "a word of its own")),
        ((1005, ""), (1000, "")),
        ((2999, "reserved"), (4502, "platform_error")),
        (None, (4502, "platform_error")),
    ],
)
async def test_platform_that_ends_it(
    told: Any, ending: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own code passes through."""
    async with on_stage() as stage:
        line = ScriptedLine(GREETING)
        swap_line(stage, monkeypatch, line)
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin()
            await talk.hear()
            line.hang_up(*(told or ()))
            with pytest.raises(ClosedError):
                await talk.hear()
        by = "gate" if ending[0] == 4502 else "platform"
        event = await stage.ended()
        assert (event.close_code, event.cause) == (ending[0], f"{by}: {ending[1] or 'closed'}")


@pytest.mark.parametrize(
    ("code", "told"), [(1000, (1000, "bye")), (4000, (4000, "bye")), (1006, (1000, ""))]
)
async def test_client_that_ends_it(
    code: int, told: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its goodbye is handed on; nobody says goodbye to whoever left."""
    async with on_stage() as stage:
        line = ScriptedLine(GREETING)
        swap_line(stage, monkeypatch, line)
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin()
            await talk.hear()
            await talk.hang_up(code, "bye")
            await stage.ended()
            assert "websocket.close" not in [message["type"] for message in talk.sent]
        assert line.closed == told


# --- Those who watch ------------------------------------------------------------------------


def boss(who: Identity) -> bool:
    return who.subject == "boss"


async def test_operators_see_and_end() -> None:
    """All that runs, by a name that nobody guesses; ended at once, and said so."""
    async with on_stage(limited(), operators=boss) as stage:
        headers = stage.sign_in("boss")
        assert (await stage.ask("/sessions", headers)).json() == {"sessions": []}
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin()
            await talk.heard("agent_response")
            (session,) = (await stage.ask("/sessions", headers)).json()["sessions"]
            assert (session["subject"], session["agent"]) == ("user-1", "support")
            assert session["conversation_id"] == stage.platform.conversations[0].id
            assert abs(session["started_at"] - time.time()) < 60
            path = f"/sessions/{session['id']}"
            answer = await stage.ask(path, headers, method="DELETE")
            assert (answer.status, answer.json()) == (
                202,
                {"session": session["id"], "ending": True},
            )
            assert await talk.ending() == (4412, "ended_by_operator")
        event = await stage.ended()
        assert (event.cause, event.session) == ("gate: ended_by_operator", session["id"])
        assert (await stage.ask(path, headers, method="DELETE")).status == 404
        assert (await stage.ask("/sessions", headers)).json() == {"sessions": []}


@pytest.mark.parametrize(
    ("path", "method", "who", "status"),
    [
        ("/sessions", "GET", "user-1", 403),
        ("/sessions", "GET", None, 401),
        ("/sessions", "DELETE", "boss", 405),
        ("/sessions", "POST", "boss", 405),
        ("/sessions/ses_1", "DELETE", "user-1", 403),
        ("/sessions/ses_1", "DELETE", None, 401),
        ("/sessions/ses_1", "DELETE", "boss", 404),
        ("/sessions/ses_1", "GET", "boss", 405),
        ("/sessions/", "GET", "boss", 200),
        ("/sessions/a/b", "DELETE", "boss", 404),
    ],
)
async def test_who_may_see_and_end(path: str, method: str, who: str | None, status: int) -> None:
    """Whom the rule admits."""
    async with on_stage(operators=boss) as stage:
        headers = [] if who is None else stage.sign_in(who)
        assert (await stage.ask(path, headers, method=method)).status == status


async def test_no_operators() -> None:
    """Then there are no such routes."""
    async with on_stage() as stage:
        for path, method in (("/sessions", "GET"), ("/sessions/ses_1", "DELETE")):
            assert (await stage.ask(path, stage.sign_in("boss"), method=method)).status == 404


async def test_visitors_are_no_operators() -> None:
    """Whatever the rule says."""
    async with with_visitors(operators=lambda who: True) as stage:
        answer = await stage.ask("/sessions", [HOME])
        assert (answer.status, answer.json()["code"]) == (401, "not_authenticated")


async def test_operators_cookie_from_elsewhere() -> None:
    """Another site's page ends nobody's conversation."""
    options: dict[str, Any] = {"authenticator": cookie, "operators": lambda who: True}
    async with on_stage(**options) as stage:
        for origin, status in (([EVIL], 403), ([], 403), ([HOME], 404)):
            headers = [(b"cookie", b"name=ada"), *origin]
            answer = await stage.ask("/sessions/ses_1", headers, method="DELETE")
            assert answer.status == status


async def test_sessions_that_cannot_be_known() -> None:
    """503, not an empty list."""

    class Silent(MemoryStore):
        async def leases(self) -> tuple[str, ...]:
            raise StoreError("away")

        async def end(self, name: str) -> bool:
            raise StoreError("away")

    async with on_stage(operators=boss, store=Silent()) as stage:
        for path, method in (("/sessions", "GET"), ("/sessions/ses_1", "DELETE")):
            answer = await stage.ask(path, stage.sign_in("boss"), method=method)
            assert answer.status == 503


async def test_events_and_their_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What began, with the names of what was set, and what it came to."""
    talker = limited(dynamic_variables={"plan": "pro"}, overrides={"agent.language": "de"})
    async with on_stage(talker) as stage:
        line = ScriptedLine(GREETING)
        swap_line(stage, monkeypatch, line)
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin()
            await talk.hear()
            line.say({"type": "agent_response", "agent_response_event": {"agent_response": "é"}})
            await talk.hear()
            await talk.say('{"type":"user_message","text":"é"}')
            line.say('{"type":"ping"}')
            await talk.hear()
            await talk.hang_up(1000)
            ended = await stage.ended()
        (started,) = stage.named("started")
        assert (started.agent, started.transport) == ("support", "relay")
        assert (started.variables, started.overrides) == (("plan",), ("agent.language",))
        assert len(started.limits) == 3
        assert started.session == ended.session
        assert ended.conversation_id == stage.sandbox.issued[0].conversation_id
        assert (ended.turns, ended.client_bytes) == (
            1,
            len('{"type":"user_message","text":"é"}') + 1,
        )
        assert ended.platform_bytes == sum(len(frame.encode()) for frame in talk.frames())
        assert (ended.close_code, ended.cause) == (1000, "client: closed")
        names = [event.name for event in stage.events]
        order = ("verified", "authorized", "reserved", "started", "ended", "settled")
        assert [name for name in names if name in order] == list(order)


async def test_conversation_that_the_platform_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without limits nobody asked for its name before; the first frame tells it."""
    async with on_stage(operators=boss) as stage:
        swap_line(stage, monkeypatch, ScriptedLine(GREETING))
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin()
            await talk.hear()
            await talk.hang_up()
            assert (await stage.ended()).conversation_id == "conv_scripted"


def ending_by(how: str, talk: Talk, line: ScriptedLine) -> Any:
    """Return what makes a conversation end so."""
    frames: dict[str, Any] = {
        "no JSON": f"{CANARY} is what I say",
        "second first frame": {"type": "conversation_initiation_client_data", "a": CANARY},
        "binary": CANARY.encode(),
    }
    if how in frames:
        return talk.say(frames[how])
    return talk.hang_up() if how == "client" else line.close(1000, "")


def variables_of(how: str) -> dict[str, str]:
    """Return the client's variables: one that isn't open, or one that is."""
    return {"role" if how == "variable not open" else "page": f"{CANARY}-value"}


@pytest.mark.parametrize("refuses", [False, True], ids=["opens", "refuses"])
@pytest.mark.parametrize(
    "how",
    ["client", "platform", "variable not open", "no JSON", "second first frame", "binary"],
)
async def test_nothing_secret_shows(
    how: str, refuses: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No token, ticket, signed URL, key or value in an event, a log line, a reason or a frame."""
    talker = agent(
        dynamic_variables={"plan": f"{CANARY}-plan", "secret__key": f"{CANARY}-secret"},
        client_variables=("page",),
        user_id=lambda who: f"{CANARY}-user",
        relay=RelayRules(client_frames=("user_message",)),
        max_duration=60,
        limits=[Concurrent(9), TalkTime("10 minutes/day")],
    )
    with caplog.at_level(logging.DEBUG):
        async with on_stage(talker) as stage:
            headers, fresh = stage.sign_in(), stage.token(expires_in=500)
            ticket = await stage.ticket(headers)
            line = ScriptedLine(GREETING)
            error = PlatformError(cause="platform: refused")
            opened = swap_line(stage, monkeypatch, error if refuses else line)
            async with talking(stage.app, query=f"ticket={ticket}") as talk:
                await talk.begin(dynamic_variables=variables_of(how), user_id=f"{CANARY}-else")
                await talk.say({"type": REFRESH, "token": fresh})
                await ending_by(how, talk, line)
                await stage.ended()
            async with talking(stage.app, query=f"ticket={ticket}") as again:
                refusal = await again.refusal()
    urls = [signed.url for signed in opened]
    assert bool(urls) is (how != "variable not open")
    shown = f"{caplog.text} {stage.events!r} {talk.sent!r} {refusal!r} {stage.gate!r}"
    token = headers[0][1].decode().removeprefix("Bearer ")
    secrets = (CANARY, token, fresh, ticket, "conversation_signature", *urls)
    assert [secret for secret in secrets if secret in shown] == []


@pytest.mark.parametrize("count", [30])
async def test_many_at_once_hold_exactly_as_many(count: int) -> None:
    """Slots hold with connects in parallel, and all are free afterwards."""
    async with on_stage(agent(limits=[Concurrent(10, per="all")])) as stage:
        opened, refused = 0, 0
        done = asyncio.Event()

        async def one(number: int) -> None:
            nonlocal opened, refused
            headers = stage.sign_in(f"user-{number}")
            async with talking(stage.app, headers=headers) as talk:
                first = await talk.next()
                if first["type"] == "websocket.accept":
                    opened += 1
                else:
                    refused += 1
                if opened + refused == count:
                    done.set()
                await done.wait()

        await asyncio.gather(*(one(number) for number in range(count)))
        assert (opened, refused) == (10, 20)
        assert await stage.left() == [10]
        assert await stage.gate.sessions() == ()
