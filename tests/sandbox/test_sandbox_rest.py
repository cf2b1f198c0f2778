"""The platform's REST face, in process: what it gives, and each error body."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from xuna_middleware.sandbox import SandboxAgent, SandboxPlatform

from .stage import AGENT, KEY, TALK, Clock, platform_with, rest

SIGNED = f"{TALK}/get-signed-url"
TOKEN = f"{TALK}/token"
KEYED = [
    ("GET", SIGNED),
    ("GET", TOKEN),
    ("POST", TOKEN),
    ("GET", "/v1/convai/agents"),
    ("POST", "/v1/convai/agents"),
    ("POST", "/v1/convai/agents/create"),
    ("GET", "/v1/convai/agents/agent_one"),
    ("PATCH", "/v1/convai/agents/agent_one"),
    ("DELETE", "/v1/convai/agents/agent_one"),
    ("GET", "/v1/convai/conversations"),
    ("GET", "/v1/convai/conversations/conv_x"),
    ("DELETE", "/v1/convai/conversations/conv_x"),
]


@pytest.mark.parametrize(("method", "path"), KEYED)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], "needs_authorization"),
        ([("xi-api-key", "wrong")], "invalid_api_key"),
        ([("xi-api-key", "")], "invalid_api_key"),
        ([("xi-api-key", KEY + " x")], "invalid_api_key"),
        ([("xi-api-key", KEY), ("xi-api-key", KEY)], "invalid_api_key"),
        ([("authorization", f"Bearer {KEY}")], "needs_authorization"),
    ],
)
async def test_the_key_comes_first(
    method: str, path: str, headers: list[tuple[str, str]], status: str
) -> None:
    """Every call without the one right key is a 401, before anything else is looked at."""
    platform = platform_with()
    async with rest(platform, key=None) as client:
        answer = await client.request(method, path, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["detail"]["status"] == status
    assert KEY not in answer.text
    assert platform.agents == (AGENT,)


async def test_a_signed_url() -> None:
    """It leads where the call came in, and holds agent and signature."""
    platform = platform_with()
    async with rest(platform) as client:
        answer = await client.get(SIGNED, params={"agent_id": AGENT.id})
    url = urlsplit(answer.json()["signed_url"])
    assert (url.scheme, url.netloc, url.path) == ("ws", "sandbox.test", TALK)
    assert parse_qs(url.query).keys() == {"agent_id", "conversation_signature"}
    assert "conversation_id" not in answer.json()
    assert [one.transport for one in platform.issued] == ["websocket"]


@pytest.mark.parametrize("told", ["true", "True", "1"])
async def test_a_signed_url_with_its_conversation(told: str) -> None:
    """`include_conversation_id` tells the id; the other parameters of the SDK are let pass."""
    platform = platform_with()
    query = {"agent_id": AGENT.id, "include_conversation_id": told, "environment": "staging"}
    async with rest(platform) as client:
        answer = await client.get(SIGNED, params=query)
    assert answer.json()["conversation_id"] == platform.issued[0].conversation_id
    assert platform.issued[0].conversation_id.startswith("conv_")


@pytest.mark.parametrize(
    ("base_url", "start"),
    [
        ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/v1/"),
        ("https://voice.example/sandbox/", "wss://voice.example/sandbox/v1/"),
    ],
)
async def test_base_url_is_where_clients_go(base_url: str, start: str) -> None:
    """A configured address wins over the Host header; http becomes ws, https wss."""
    async with rest(platform_with(base_url=base_url)) as client:
        answer = await client.get(SIGNED, params={"agent_id": AGENT.id})
    assert answer.json()["signed_url"].startswith(start)


async def test_mounted_it_names_its_mount() -> None:
    """Below a prefix, the signed URL carries the prefix."""
    platform = platform_with()
    outer = Starlette(routes=[Mount("/voice", platform)])
    async with rest(outer) as client:  # type: ignore[arg-type]
        answer = await client.get(f"/voice{SIGNED}", params={"agent_id": AGENT.id})
    assert answer.json()["signed_url"].startswith(f"ws://sandbox.test/voice{TALK}?")


@pytest.mark.parametrize("way", ["body", "query"])
async def test_a_token_with_what_is_attached(way: str) -> None:
    """Variables and overrides travel in a body or JSON-encoded in the query, and are remembered."""
    platform = platform_with()
    attached: dict[str, Any] = {
        "dynamic_variables": {"user_name": "Ada", "count": 3, "vip": True},
        "conversation_config_override": {"agent": {"language": "de"}},
    }
    async with rest(platform) as client:
        if way == "body":
            named = {"participant_name": "Ada"}
            answer = await client.post(TOKEN, params=named, json={"agent_id": AGENT.id, **attached})
        else:
            query = {name: json.dumps(value) for name, value in attached.items()}
            query["participant_name"] = "Ada"
            answer = await client.get(TOKEN, params={"agent_id": AGENT.id, **query})
    (issued,) = platform.issued
    assert answer.status_code == 200
    assert answer.json().keys() == {"token", "conversation_id"}
    assert answer.json()["conversation_id"] == issued.conversation_id
    assert issued.dynamic_variables == attached["dynamic_variables"]
    assert issued.overrides == {"agent.language": "de"}
    assert issued.participant == "Ada"


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "loc"),
    [
        ("GET", SIGNED, {}, 422, ["query", "agent_id"]),
        ("GET", SIGNED, {"params": {"agent_id": ""}}, 422, ["query", "agent_id"]),
        ("GET", SIGNED, {"params": {"agent_id": ["agent_one"] * 2}}, 422, ["query", "agent_id"]),
        (
            "GET",
            SIGNED,
            {"params": {"agent_id": "agent_one", "include_conversation_id": "perhaps"}},
            422,
            ["query", "include_conversation_id"],
        ),
        ("GET", TOKEN, {}, 422, ["query", "agent_id"]),
        (
            "GET",
            TOKEN,
            {"params": {"agent_id": "agent_one", "dynamic_variables": "{"}},
            422,
            ["query", "dynamic_variables"],
        ),
        ("POST", TOKEN, {"content": b"{"}, 422, ["body"]),
        ("POST", TOKEN, {"content": b"[" * 60_000}, 422, ["body"]),
        ("POST", TOKEN, {"content": b"\xff"}, 422, ["body"]),
        ("POST", TOKEN, {"content": b'{"agent_id": "\\ud800"}'}, 422, ["body"]),
        ("POST", TOKEN, {"content": b'{"agent_id": NaN}'}, 422, ["body"]),
        ("POST", "/v1/convai/agents", {"content": b'{"name": 1e999}'}, 422, ["body"]),
        ("POST", TOKEN, {"json": ["agent_one"]}, 422, ["body"]),
        ("POST", TOKEN, {"json": {}}, 422, ["body", "agent_id"]),
        ("POST", TOKEN, {"json": {"agent_id": 1}}, 422, ["body", "agent_id"]),
        (
            "POST",
            TOKEN,
            {"json": {"agent_id": "agent_one", "dynamic_variables": ["x"]}},
            422,
            ["body", "dynamic_variables"],
        ),
        (
            "POST",
            TOKEN,
            {"json": {"agent_id": "agent_one", "dynamic_variables": {"x": None}}},
            422,
            ["body", "dynamic_variables", "x"],
        ),
        (
            "POST",
            TOKEN,
            {"json": {"agent_id": "agent_one", "dynamic_variables": {"system__x": "1"}}},
            422,
            ["body", "dynamic_variables", "system__x"],
        ),
        (
            "POST",
            TOKEN,
            {"json": {"agent_id": "agent_one", "conversation_config_override": "de"}},
            422,
            ["body", "conversation_config_override"],
        ),
        ("GET", "/v1/convai/agents", {"params": {"page_size": "0"}}, 422, ["query", "page_size"]),
        ("GET", "/v1/convai/agents", {"params": {"page_size": "٣"}}, 422, ["query", "page_size"]),
        ("GET", "/v1/convai/agents", {"params": {"cursor": "x"}}, 422, ["query", "cursor"]),
        ("POST", "/v1/convai/agents", {"json": {"name": 1}}, 422, ["body", "name"]),
        (
            "PATCH",
            "/v1/convai/agents/agent_one",
            {"json": {"platform_settings": {"auth": "off"}}},
            422,
            ["body", "platform_settings", "auth"],
        ),
        (
            "PATCH",
            "/v1/convai/agents/agent_one",
            {"json": {"conversation_config": {"conversation": {"max_duration_seconds": 0}}}},
            422,
            ["body", "conversation_config", "conversation", "max_duration_seconds"],
        ),
    ],
)
async def test_bad_input_is_a_list_of_what_is_wrong(
    method: str, path: str, options: dict[str, Any], status: int, loc: list[str]
) -> None:
    """A 422 names the place; nothing is issued and nothing changes."""
    platform = platform_with()
    async with rest(platform) as client:
        answer = await client.request(method, path, **options)
    assert answer.status_code == status
    (problem,) = answer.json()["detail"]
    assert problem.keys() == {"loc", "msg", "type"}
    assert problem["loc"] == loc
    assert platform.issued == ()
    assert platform.agents == (AGENT,)


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "detail"),
    [
        ("GET", "/v1/nothing", {}, 404, "Not Found"),
        ("GET", "/v1/convai/agents/", {}, 404, "Not Found"),
        ("HEAD", SIGNED, {}, 405, None),
        ("POST", SIGNED, {}, 405, "Method Not Allowed"),
        ("DELETE", TOKEN, {}, 405, "Method Not Allowed"),
        ("POST", TOKEN, {"content": b" " * 70_000}, 413, "Request body too large"),
        ("GET", "/v1/convai/agents/agent_x", {}, 404, {"status": "agent_not_found"}),
        (
            "GET",
            SIGNED,
            {"params": {"agent_id": "agent_x"}},
            404,
            {"status": "agent_not_found"},
        ),
        (
            "GET",
            "/v1/convai/conversations/conv_x",
            {},
            404,
            {"status": "conversation_not_found"},
        ),
        (
            "DELETE",
            "/v1/convai/conversations/conv_x",
            {},
            404,
            {"status": "conversation_not_found"},
        ),
    ],
)
async def test_other_errors(
    method: str, path: str, options: dict[str, Any], status: int, detail: Any
) -> None:
    """A text, or status and message, under `detail`."""
    platform = platform_with()
    async with rest(platform) as client:
        answer = await client.request(method, path, **options)
    assert answer.status_code == status
    if isinstance(detail, dict):
        assert answer.json()["detail"]["status"] == detail["status"]
        assert answer.json()["detail"]["message"].startswith("Sandbox")
    elif detail is not None:
        assert answer.json() == {"detail": detail}
    assert platform.issued == ()


async def test_a_production_without_post() -> None:
    """With `post_tokens=False` a POST is a 405 with Allow, and GET goes on."""
    async with rest(platform_with(post_tokens=False)) as client:
        refused = await client.post(TOKEN, json={"agent_id": AGENT.id})
        given = await client.get(TOKEN, params={"agent_id": AGENT.id})
    assert (refused.status_code, given.status_code) == (405, 200)
    assert refused.headers["allow"] == "GET"


async def test_quota() -> None:
    """With nothing left, both calls that issue answer 401 quota_exceeded: not a bad key."""
    async with rest(platform_with(quota=0)) as client:
        answers = [
            await client.get(path, params={"agent_id": AGENT.id}) for path in (SIGNED, TOKEN)
        ]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert {answer.json()["detail"]["status"] for answer in answers} == {"quota_exceeded"}


async def test_unknown_agents_appear_private() -> None:
    """Where that is wanted, an id that a key's owner names becomes an agent, a private one."""
    platform = platform_with(unknown_agents=SandboxAgent)
    async with rest(platform) as client:
        answer = await client.get(SIGNED, params={"agent_id": "agent_new"})
        wrong = await client.get(SIGNED, params={"agent_id": "support"})
        long = await client.get(SIGNED, params={"agent_id": "agent_" + "x" * 200})
    assert (answer.status_code, wrong.status_code, long.status_code) == (200, 404, 404)
    assert [(one.id, one.private) for one in platform.agents[1:]] == [("agent_new", True)]


async def test_unknown_agents_have_a_number() -> None:
    """Names alone don't fill the memory."""
    platform = platform_with(unknown_agents=SandboxAgent)
    for number in range(999):
        platform.add(SandboxAgent(f"agent_{number}"))
    async with rest(platform) as client:
        unseen = await client.get(SIGNED, params={"agent_id": "agent_unseen"})
        created = await client.post("/v1/convai/agents", json={})
    assert (unseen.status_code, created.status_code) == (404, 400)
    assert len(platform.agents) == 1_000


async def test_an_agent_s_life() -> None:
    """Created, shown, changed in part, listed, deleted: in the platform's JSON."""
    platform = platform_with()
    body = {
        "name": "Two",
        "conversation_config": {
            "agent": {"first_message": "Hi {{user_name}}", "prompt": {"prompt": "Be kind."}},
            "conversation": {"max_duration_seconds": 60},
        },
        "platform_settings": {
            "overrides": {
                "conversation_config_override": {
                    "agent": {"first_message": True, "language": True},
                    "tts": {"voice_id": False},
                }
            },
            "call_limits": {"agent_concurrency_limit": 2},
        },
    }
    async with rest(platform) as client:
        created = (await client.post("/v1/convai/agents", json=body)).json()["agent_id"]
        one = f"/v1/convai/agents/{created}"
        shown = (await client.get(one)).json()
        switch = {"conversation_config_override": {"agent": {"language": False}}}
        change = {"platform_settings": {"auth": {"enable_auth": False}, "overrides": switch}}
        changed = (await client.patch(one, json=change)).json()
        listed = (await client.get("/v1/convai/agents", params={"search": "tw"})).json()
        made = platform.agents[1]
        gone = await client.delete(one)
        after = await client.get(one)
    assert created.startswith("agent_")
    assert shown["platform_settings"]["auth"] == {"enable_auth": True}
    assert shown["conversation_config"]["agent"]["prompt"] == {"prompt": "Be kind."}
    assert changed["platform_settings"]["auth"] == {"enable_auth": False}
    assert (made.private, made.allowed_overrides) == (False, frozenset({"agent.first_message"}))
    assert (made.name, made.max_duration, made.concurrency) == ("Two", 60, 2)
    assert [agent["agent_id"] for agent in listed["agents"]] == [created]
    assert (gone.status_code, after.status_code) == (200, 404)


async def test_pages_of_agents() -> None:
    """Cursor by cursor, every agent comes once."""
    platform = platform_with(*(SandboxAgent(f"agent_{number}") for number in range(7)))
    seen, query = [], {"page_size": "3"}
    async with rest(platform) as client:
        while True:
            page = (await client.get("/v1/convai/agents", params=query)).json()
            seen += [agent["agent_id"] for agent in page["agents"]]
            if not page["has_more"]:
                break
            query["cursor"] = page["next_cursor"]
    assert seen == [agent.id for agent in platform.agents]


async def test_every_face_says_sandbox() -> None:
    """A header on every answer, errors included; words on the root page; the repr."""
    platform = platform_with(clock=Clock())
    async with rest(platform) as client:
        answers = [await client.get(path) for path in ("/", SIGNED, "/nothing")]
    assert {answer.headers["xuna-sandbox"] for answer in answers} == {"true"}
    assert "sandbox" in answers[0].text
    assert "rehearsal" in repr(platform)
    assert KEY not in repr(platform) + str(vars(platform))


def test_a_random_key_is_a_sandbox_s() -> None:
    """Without a key of its own, each sandbox makes one that nobody could take for a real one."""
    first, second = SandboxPlatform(), SandboxPlatform()
    assert first.api_key.startswith("sandbox_")
    assert first.api_key != second.api_key


@pytest.mark.parametrize(
    "wrong", [{"api_key": ""}, {"base_url": "127.0.0.1:80"}, {"ping_interval": 0}]
)
def test_wrong_options_are_told(wrong: dict[str, Any]) -> None:
    """What can't work is said when it is built."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SandboxPlatform(**wrong)


async def test_lifespan_is_answered() -> None:
    """It starts and stops under a server that asks for lifespan."""
    sent: list[str] = []
    incoming = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, str]:
        return {"type": next(incoming)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await platform_with()({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
