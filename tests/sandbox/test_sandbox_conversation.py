"""Conversations over a real WebSocket, against a real server."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.typing import Subprotocol

from xuna_middleware.sandbox import Conversation, SandboxAgent, SandboxPlatform

from .stage import AGENT, Stage, StageOf, platform_with

# One loop and one server for all of them: what differs is the platform behind it.
pytestmark = pytest.mark.asyncio(loop_scope="module")

PERSONAL = SandboxAgent(
    "agent_personal",
    first_message="Hello {{user_name}}, plan {{plan}}.",
    prompt="Mind the {{plan}} plan.",
    default_variables={"plan": "free"},
    allowed_overrides=frozenset({"agent.first_message", "agent.language", "agent.prompt.prompt"}),
)
PUBLIC = SandboxAgent("agent_public", private=False, first_message="Welcome.")


async def ended(platform: SandboxPlatform) -> Conversation:
    """Return the last conversation once its record is finished."""
    async with asyncio.timeout(5):
        while platform.conversations[-1].live:  # noqa: ASYNC110 - it has no event to await
            await asyncio.sleep(0)
    return platform.conversations[-1]


async def test_a_conversation_from_begin_to_end(stage_of: StageOf) -> None:
    """Metadata first, first words, answers, a client's close; and all of it is recorded."""
    platform = platform_with()
    async with stage_of(platform) as stage:
        address = f"{await stage.signed_url()}&source=js_sdk&version=1.25.0"
        async with stage.dial(address) as caller:
            conversation_id = await caller.begin(user_id="u-1")
            words = [await caller.said()]
            for text in ("Who are you?", "My printer is on fire"):
                await caller.send("user_message", text=text)
                words.append(await caller.said())
            assert platform.conversations[0].live
        record = await ended(platform)
    assert words[0] == "[sandbox] Hello there."
    assert all(line.startswith("[sandbox] ") for line in words)
    assert (record.id, record.agent_id, record.user_id) == (conversation_id, AGENT.id, "u-1")
    assert (record.admitted_by, record.ended_by, record.close_code) == ("signed_url", "user", 1000)
    assert record.error is None
    assert record.duration is not None
    assert [line.role for line in record.transcript] == ["agent", "user", "agent", "user", "agent"]
    assert [line.text for line in record.transcript if line.role == "agent"] == words
    assert conversation_id == platform.issued[0].conversation_id


async def test_a_signed_url_opens_one_conversation(stage_of: StageOf) -> None:
    """The second connection, and one with another signature, get 3000 and no frame."""
    platform = platform_with()
    async with stage_of(platform) as stage:
        address = await stage.signed_url()
        async with stage.dial(address) as caller:
            await caller.begin()
        forged = f"{await stage.signed_url()}x"
        for refused in (address, forged):
            async with stage.dial(refused) as caller:
                frames, code, reason = await caller.until_closed()
                assert (frames, code) == ([], 3000)
                assert reason.startswith("sandbox: signed URL")
    assert len(platform.conversations) == 1


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", 1008),
        ("agent_id=", 1008),
        ("agent_id=agent_one", 3000),
        ("agent_id=agent_unknown", 3000),
        ("agent_id=agent_public&agent_id=agent_public", 1008),
        ("agent_id=agent_public&conversation_signature=x", 3000),
        ("agent_id=agent_public&conversation_signature=", 3000),
        ("token=x", 3000),
        ("token=x&conversation_signature=y", 1008),
        ("agent_id=agent_one&conversation_signature=conv_%C3%A4", 3000),
        ("agent_id=%00", 3000),
    ],
)
async def test_without_a_pass_no_private_agent(shared: Stage, query: str, code: int) -> None:
    """Whatever the URL says, without a genuine pass there is no conversation."""
    async with shared.dial(shared.address(query)) as caller:
        frames, closed, _ = await caller.until_closed()
    assert (frames, closed) == ([], code)


async def test_a_public_agent_takes_its_id(stage_of: StageOf) -> None:
    """Without any credential; it is recorded as public."""
    platform = platform_with(PUBLIC)
    async with stage_of(platform) as stage:
        async with stage.dial(stage.address("agent_id=agent_public&source=js")) as caller:
            await caller.begin()
            assert await caller.said() == "[sandbox] Welcome."
        record = await ended(platform)
    assert record.admitted_by == "public"


@pytest.mark.parametrize(
    ("offered", "selected"),
    [
        (["convai"], "convai"),
        (["bearer.abc", "convai"], "convai"),
        (["something"], None),
    ],
)
async def test_the_sub_protocol(shared: Stage, offered: list[str], selected: str | None) -> None:
    """`convai` is selected where it is offered, and nothing else ever."""
    protocols = [Subprotocol(name) for name in offered]
    async with shared.dial(await shared.signed_url(), subprotocols=protocols) as caller:
        assert caller.socket.subprotocol == selected
        assert caller.socket.response is not None
        assert caller.socket.response.headers["xuna-sandbox"] == "true"


async def test_variables_and_overrides_from_the_client(stage_of: StageOf) -> None:
    """With a signed URL they come in the first frame; what is missing has its default."""
    platform = platform_with(PERSONAL)
    override = {"agent": {"prompt": {"prompt": "Be brief."}}, "tts": {}}
    async with stage_of(platform) as stage:
        async with stage.talk(
            PERSONAL.id,
            dynamic_variables={"user_name": "Ada"},
            conversation_config_override=override,
        ) as caller:
            assert await caller.said() == "[sandbox] Hello Ada, plan free."
            await caller.send("user_message", text="Who are you?")
            assert "Be brief." in await caller.said()
        record = await ended(platform)
    assert record.dynamic_variables["user_name"] == "Ada"
    assert record.overrides == {"agent.prompt.prompt": "Be brief."}
    assert record.attached == frozenset()


async def test_what_was_attached_to_a_token_wins(stage_of: StageOf) -> None:
    """A client can't change a variable or an override that was attached at creation."""
    platform = platform_with(PERSONAL)
    async with stage_of(platform) as stage:
        given = await stage.token(
            PERSONAL.id,
            dynamic_variables={"user_name": "Ada", "plan": "free"},
            conversation_config_override={"agent": {"language": "de"}},
        )
        async with stage.dial(stage.address(f"token={given['token']}")) as caller:
            forged = {"plan": "pro", "topic": "tea"}
            override = {"agent": {"language": "fr"}}
            conversation_id = await caller.begin(
                dynamic_variables=forged, conversation_config_override=override
            )
            assert await caller.said() == "[sandbox] Hello Ada, plan free."
        record = await ended(platform)
        async with stage.dial(stage.address(f"token={given['token']}")) as again:
            assert (await again.until_closed())[1] == 3000
    assert conversation_id == given["conversation_id"]
    assert record.admitted_by == "token"
    assert (record.dynamic_variables["plan"], record.dynamic_variables["topic"]) == ("free", "tea")
    assert record.overrides == {"agent.language": "de"}
    assert record.attached == {"user_name", "plan", "agent.language"}


@pytest.mark.parametrize(
    "override",
    [
        {"agent": {"first_message": ""}},
        {"agent": {"first_message": None}},
        {"tts": {"voice_id": "v"}},
        {"agent": {"prompt": {"llm": "x"}}},
        {"agent": "x"},
        {"invented": True},
    ],
)
async def test_a_closed_override_ends_it_in_silence(
    stage_of: StageOf, override: dict[str, Any]
) -> None:
    """No error frame and no reason, as the real one does; the record knows why."""
    platform = platform_with(PERSONAL)
    async with stage_of(platform) as stage:
        async with stage.talk(
            PERSONAL.id,
            dynamic_variables={"user_name": "Ada"},
            conversation_config_override=override,
        ) as caller:
            assert await caller.until_closed() == ([], 1008, "")
        record = await ended(platform)
    assert (record.error, record.ended_by) == ("override_error", "agent")


async def test_a_missing_variable_ends_it_with_an_error(stage_of: StageOf) -> None:
    """An error frame that names it, then the close."""
    platform = platform_with(PERSONAL)
    async with stage_of(platform) as stage:
        async with stage.talk(PERSONAL.id) as caller:
            (frame,), code, _ = await caller.until_closed()
        record = await ended(platform)
        history = (await stage.client.get(f"/v1/convai/conversations/{record.id}")).json()
    assert frame["error_event"]["error_type"] == "missing_dynamic_variable"
    assert "user_name" in frame["error_event"]["message"]
    assert code == 1008
    assert (history["status"], history["metadata"]["error"]["reason"]) == (
        "failed",
        "missing_dynamic_variable",
    )


async def test_its_time_is_up(stage_of: StageOf) -> None:
    """An error frame, then the close; a client that talks without pause doesn't prevent it."""
    brief = SandboxAgent("agent_brief", max_duration=0.15)
    platform = platform_with(brief)
    async with stage_of(platform) as stage:
        async with stage.talk(brief.id) as caller:
            chatter = asyncio.create_task(chat(caller.socket))
            frames, code, _ = await caller.until_closed()
            chatter.cancel()
        record = await ended(platform)
    assert frames[-1]["error_event"]["error_type"] == "max_duration_exceeded"
    assert code == 1000
    assert record.error == "max_duration_exceeded"


async def chat(socket: Any) -> None:
    while True:
        await socket.send(json.dumps({"type": "user_activity"}))
        await asyncio.sleep(0)


async def test_no_more_at_one_time_than_allowed(stage_of: StageOf) -> None:
    """A pass that was issued before doesn't open a second one, and none is issued meanwhile."""
    single = SandboxAgent("agent_single", concurrency=1)
    platform = platform_with(single)
    async with stage_of(platform) as stage:
        early = await stage.signed_url(single.id)
        async with stage.talk(single.id):
            async with stage.dial(early) as second:
                _, code, reason = await second.until_closed()
            refused = await stage.client.get(
                "/v1/convai/conversation/token", params={"agent_id": single.id}
            )
        await ended(platform)
        assert await stage.signed_url(single.id)
    assert (code, reason) == (1008, "sandbox: too many concurrent conversations")
    assert refused.status_code == 429
    assert refused.json()["detail"]["status"] == "too_many_concurrent_requests"
    assert "retry-after" in refused.headers


async def test_quota_counts_what_starts(stage_of: StageOf) -> None:
    """One conversation left: the second signed URL opens nothing."""
    platform = platform_with(quota=1)
    async with stage_of(platform) as stage:
        first, second = await stage.signed_url(), await stage.signed_url()
        async with stage.dial(first) as caller:
            await caller.begin()
        async with stage.dial(second) as caller:
            _, code, reason = await caller.until_closed()
    assert (code, reason) == (1008, "sandbox: quota exceeded")


async def test_pings_are_answered_and_measured(stage_of: StageOf) -> None:
    """The next ping tells the latency of the last; a pong to no ping does no harm."""
    platform = platform_with(ping_interval=0.02)
    async with stage_of(platform) as stage, stage.talk() as caller:
        await caller.said()
        await caller.send("pong", event_id=999)
        first = (await caller.receive())["ping_event"]
        await caller.send("pong", event_id=first["event_id"])
        second = (await caller.receive())["ping_event"]
    assert first["ping_ms"] is None
    assert isinstance(second["ping_ms"], int)
    assert second["event_id"] > first["event_id"]


async def test_what_asks_for_no_answer_gets_none(stage_of: StageOf) -> None:
    """Updates, activity, feedback and results of tools are taken and kept; talk goes on."""
    platform = platform_with()
    async with stage_of(platform) as stage:
        async with stage.talk() as caller:
            await caller.said()
            await caller.send("contextual_update", text="is on page 2")
            await caller.send("user_activity")
            await caller.send("feedback", score="like", event_id=1)
            await caller.send("client_tool_result", tool_call_id="t", result="x", is_error=False)
            await caller.send("multimodal_message", text={"type": "user_message", "text": "Tea"})
            assert "Tea" in await caller.said()
        record = await ended(platform)
    assert (list(record.context), list(record.feedback)) == (["is on page 2"], ["like"])


async def test_audio_is_counted_and_not_heard(stage_of: StageOf) -> None:
    """It says once that nobody hears it."""
    platform = platform_with()
    async with stage_of(platform) as stage:
        async with stage.talk() as caller:
            await caller.said()
            for _ in range(2):
                await caller.socket.send(json.dumps({"user_audio_chunk": "AAABAAIA"}))
            assert "nobody here can hear" in await caller.said()
            await caller.send("user_message", text="Tea")
            assert "Tea" in await caller.said()
        record = await ended(platform)
    assert record.audio_bytes == 12


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x00\x01", 1003),
        ("no json", 1007),
        ('{"type": "invented"}', 1008),
        ('{"type": "user_message", "text": 1}', 1008),
        ('{"type": "conversation_initiation_client_data"}', 1008),
        ('{"type": "user_message", "text": "' + "a" * 300_000 + '"}', 1009),
    ],
)
async def test_a_bad_frame_closes(shared: Stage, frame: str | bytes, code: int) -> None:
    """Each with its code, and the reason says which."""
    async with shared.talk() as caller:
        await caller.said()
        await caller.socket.send(frame)
        frames, closed, reason = await caller.until_closed()
    assert (frames, closed) == ([], code)
    assert reason.startswith("sandbox: ")


@pytest.mark.parametrize(
    "variables", [{"system__time": "x"}, {"user_name": None}, {"user_name": ["Ada"]}]
)
async def test_a_bad_initiation_closes(shared: Stage, variables: dict[str, Any]) -> None:
    """Reserved names and values that are no scalars are refused at the start."""
    async with shared.talk(dynamic_variables=variables) as caller:
        frames, code, _ = await caller.until_closed()
    assert (frames, code) == ([], 1008)


async def test_a_client_that_skips_the_initiation(stage_of: StageOf) -> None:
    """Its first message is answered, after the agent's first words."""
    async with stage_of(platform_with()) as stage, stage.dial(await stage.signed_url()) as caller:
        await caller.send("user_message", text="Tea")
        assert (await caller.receive())["type"] == "conversation_initiation_metadata"
        assert await caller.said() == "[sandbox] Hello there."
        assert "Tea" in await caller.said()


async def test_a_client_that_vanishes(stage_of: StageOf) -> None:
    """Without a close frame the record still ends; servers call it 1005 or 1006."""
    platform = platform_with()
    async with stage_of(platform) as stage, stage.talk() as caller:
        caller.socket.transport.abort()
        record = await ended(platform)
    assert record.ended_by == "user"
    assert record.close_code in (1005, 1006)


async def test_history_in_the_platform_s_json(stage_of: StageOf) -> None:
    """Listed newest first, shown with its transcript, deleted once it is over."""
    platform = platform_with(AGENT, PUBLIC)
    async with stage_of(platform) as stage:
        async with stage.talk() as caller:
            await caller.said()
            await caller.send("user_message", text="Tea")
            await caller.said()
            running = platform.conversations[0]
            one = f"/v1/convai/conversations/{running.id}"
            early = await stage.client.delete(one)
            during = (await stage.client.get(one)).json()
        await ended(platform)
        async with stage.dial(stage.address("agent_id=agent_public")) as caller:
            await caller.begin()
        await ended(platform)
        shown = (await stage.client.get(one)).json()
        listed = (await stage.client.get("/v1/convai/conversations")).json()
        of_one = await stage.client.get("/v1/convai/conversations", params={"agent_id": AGENT.id})
        gone = [(await stage.client.delete(one)).status_code for _ in range(2)]
    assert (early.status_code, during["status"], shown["status"]) == (400, "in-progress", "done")
    assert [line["role"] for line in shown["transcript"]] == ["agent", "user", "agent"]
    assert shown["metadata"]["authorization_method"] == "signed_url"
    assert [one["agent_id"] for one in listed["conversations"]] == [PUBLIC.id, AGENT.id]
    assert [one["conversation_id"] for one in of_one.json()["conversations"]] == [running.id]
    assert gone == [200, 404]


async def test_a_deleted_agent_opens_nothing(stage_of: StageOf) -> None:
    """A pass outlives its agent, and is refused."""
    platform = platform_with()
    async with stage_of(platform) as stage:
        address = await stage.signed_url()
        await stage.client.delete(f"/v1/convai/agents/{AGENT.id}")
        async with stage.dial(address) as caller:
            assert (await caller.until_closed())[1] == 1008


async def test_a_stop_closes_what_runs() -> None:
    """When the server stops, an open conversation is closed, and its record ends."""
    platform = platform_with()
    async with AsyncExitStack() as calls:
        async with Stage.of(platform) as stage:
            caller = await calls.enter_async_context(stage.talk())
            await caller.said()
        _, code, _ = await caller.until_closed()
    assert code == 1012
    assert (await ended(platform)).close_code == 1012
