"""What the platform gets to know when the gate carries a conversation, and what it never sees."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import pytest
from starlette.types import Message
from support.doubles import in_fast_time, websocket_scope
from support.relay_stage import (
    PROMPT,
    agent,
    on_stage,
    swap_line,
)
from support.scripted import GREETING, ScriptedLine
from support.talking import talking

from xuna_middleware import (
    Agent,
    Concurrent,
    Limit,
    RelayRules,
    TalkTime,
    claim,
)


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
    "not open": ({"dynamic_variables": {"role": "admin"}}, (4400, "variable_not_allowed")),
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
        (4403, "override_not_allowed"),
    ),
    "override unknown": (
        {"conversation_config_override": {"agent": {"tools": []}}},
        (4403, "override_not_allowed"),
    ),
    "override in one word": (
        {"conversation_config_override": {"agent.language": "de"}},
        (4403, "override_not_allowed"),
    ),
    "override no object": (
        {"conversation_config_override": {"agent": "x"}},
        (4400, "invalid_override"),
    ),
    "extra body": ({"custom_llm_extra_body": {"temperature": 2}}, (4400, "member_not_allowed")),
    "unknown member": ({"branch_id": "main"}, (4400, "member_not_allowed")),
    "source": ({"source_info": {"a": {}}}, (4400, "member_not_allowed")),
}
OTHER_FIRST_FRAMES: Final[Mapping[str, tuple[str | bytes, tuple[int, str]]]] = {
    "another": ('{"type":"user_message","text":"hi"}', (4400, "first_frame_expected")),
    "no JSON": ("hello", (4400, "invalid_json")),
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
        assert stage.named("conversation_started") == []
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
            ({"user_audio_chunk": "AAAA"}, (4403, "frame_not_allowed")),
            ({"type": "client_tool_result", "tool_call_id": "x"}, (4403, "frame_not_allowed")),
        ):
            async with talking(stage.app, headers=stage.sign_in()) as talk:
                await talk.begin()
                await talk.heard("agent_response")
                await talk.say(said)
                assert await talk.ending() == ending
