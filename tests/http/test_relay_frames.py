"""What passes from a client to the platform once a conversation runs, and what it may cost."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

import pytest
from support.relay_stage import agent, on_stage, swap_line
from support.scripted import GREETING, ScriptedLine
from support.talking import FIRST, talking

from xuna_middleware import ANY, RelayRules

KIND: Final = FIRST.upper()
#: A second first frame, as a platform might take it that is more tolerant than its documentation.
DISGUISED: Final[Mapping[str, str]] = {
    "upper case": f'{{"type":"{KIND}","dynamic_variables":{{"plan":"gold"}}}}',
    "upper case alone": f'{{"type":"{KIND}"}}',
    "name in upper case": f'{{"TYPE":"{FIRST}"}}',
    "camel case": '{"type":"conversationInitiationClientData"}',
    "hyphens": '{"type":"conversation-initiation-client-data"}',
    "escaped": '{"type":"\\u0043onversation_initiation_client_data"}',
    "dotless i": '{"type":"conversat\u0131on_initiation_client_data"}',
    "full width": '{"type":"\uff43onversation_initiation_client_data"}',
    "long s": '{"type":"conver\u017fation_initiation_client_data"}',
    "white space": f'{{"type":"\u3000{FIRST}\\t"}}',
    "as audio": f'{{"user_audio_chunk":"AAAA","type":"{KIND}"}}',
    "its members": '{"type":"user_activity","dynamic_variables":{"plan":"gold"}}',
}


async def heard_by(line: ScriptedLine, frames: int) -> None:
    """Wait until the platform has heard so many frames."""
    async with asyncio.timeout(10):
        while len(line.heard) < frames:  # noqa: ASYNC110 - the line wakes nobody
            await asyncio.sleep(0)


@pytest.mark.parametrize("rules", [RelayRules(), RelayRules(client_frames=ANY)])
@pytest.mark.parametrize("name", DISGUISED)
async def test_second_first_frame_in_disguise(
    name: str, rules: RelayRules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The platform never sees it, by whatever rules."""
    line = ScriptedLine(GREETING)
    async with on_stage(agent(relay=rules)) as stage:
        swap_line(stage, monkeypatch, line)
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin()
            await talk.heard("conversation_initiation_metadata")
            await talk.say(DISGUISED[name])
            assert await talk.ending() == (4400, "second_first_frame")
        assert len(line.heard) == 1, "nothing but the gate's own first frame"


#: Each but the last costs 30 to 300 ms to parse, or more.
HEAVY: Final[Mapping[str, tuple[str, tuple[int, str]]]] = {
    "brackets": ("[" * 1_000_000, (1009, "frame_too_large")),
    "objects": ('{"a":[' + "{}," * 340_000 + "0]}", (1009, "frame_too_large")),
    "lists": ('{"type":"feedback","a":[' + "[]," * 20_000 + "0]}", (4400, "invalid_json")),
    "numbers": ('{"type":"feedback","a":[' + "1e9," * 15_000 + "0]}", (4400, "invalid_json")),
    "members": (
        '{"type":"feedback",' + ",".join(f'"{n}":0' for n in range(5_000)) + "}",
        (4400, "invalid_json"),
    ),
    "digits": ('{"type":"feedback","a":' + "9" * 4_000 + "}", (4400, "invalid_json")),
    "depth": ('{"type":"feedback","a":' + "[" * 40 + "]" * 40 + "}", (4400, "invalid_json")),
    "audio with a member beside it": (
        '{"user_audio_chunk":"' + "A" * 900_000 + '","a":[' + "{}," * 30_000 + "0]}",
        (1009, "frame_too_large"),
    ),
    "text": (json.dumps({"type": "user_message", "text": "a" * 70_000}), (1009, "frame_too_large")),
}


@pytest.mark.parametrize("rules", [RelayRules(), RelayRules(client_frames=ANY)])
@pytest.mark.parametrize("name", HEAVY)
async def test_frame_that_costs_too_much(name: str, rules: RelayRules) -> None:
    """It is refused before it is parsed."""
    text, ending = HEAVY[name]
    async with (
        on_stage(agent(relay=rules)) as stage,
        talking(stage.app, headers=stage.sign_in()) as talk,
    ):
        await talk.begin()
        await talk.heard("agent_response")
        await talk.say(text)
        assert await talk.ending() == ending


@pytest.mark.parametrize("name", HEAVY)
async def test_first_frame_that_costs_too_much(name: str) -> None:
    """The same bounds hold for the first one."""
    async with on_stage(agent(client_variables=("a",))) as stage:
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.accepted()
            text, ending = HEAVY[name]
            await talk.say(text.replace("feedback", FIRST))
            assert await talk.ending() == ending
        assert not stage.platform.conversations


async def test_large_audio_passes_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's audio comes in frames of more than a megabyte, where `max_frame` admits that."""
    spoken = json.dumps({"type": "audio", "audio_event": {"audio_base_64": "A" * 1_450_000}})
    said = '{"user_audio_chunk":"' + "A" * 1_000_000 + '"}'
    line = ScriptedLine(GREETING, spoken)
    async with on_stage(agent(relay=RelayRules(max_frame=2 * 1024 * 1024))) as stage:
        swap_line(stage, monkeypatch, line)
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin()
            await talk.heard("audio")
            await talk.say(said)
            await talk.say({"type": "client_tool_result", "result": "[{,}]" * 12_000})
            await talk.say({"type": "contextual_update", "text": "ä" * 10_000})
            await talk.say('{"type":"pong","event_id":1}')
            await heard_by(line, 5)
        assert talk.frames()[1] == spoken
        assert line.heard[1] == said


async def test_newer_client_keeps_working(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A frame that nobody documented is dropped; one log line says which option would pass it."""
    line = ScriptedLine(GREETING)
    async with on_stage() as stage:
        swap_line(stage, monkeypatch, line)
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin()
            await talk.heard("conversation_initiation_metadata")
            for number in range(5):
                await talk.say({"type": "client_wave", "hand": number})
            await talk.say({"type": "user_activity"})
            await heard_by(line, 2)
        assert (await stage.ended()).cause == "client: closed"
    assert [json.loads(each)["type"] for each in line.heard] == [FIRST, "user_activity"]
    (said,) = [line for line in caplog.messages if "client_wave" in line]
    assert "client_frames=ANY" in said


async def test_text_cut_inside_an_emoji(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The frame is lost, the conversation goes on, and one log line says what happened."""
    line = ScriptedLine(GREETING)
    async with on_stage() as stage:
        swap_line(stage, monkeypatch, line)
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin()
            await talk.heard("conversation_initiation_metadata")
            for _ in range(5):
                await talk.say({"type": "user_message", "text": "secret\ud83d"})
            await talk.say({"type": "client_wave"})
            await talk.say({"type": "user_message", "text": "whole \U0001f600"})
            await heard_by(line, 2)
        assert (await stage.ended()).cause == "client: closed"
    assert [json.loads(each)["type"] for each in line.heard] == [FIRST, "user_message"]
    assert "whole" in line.heard[1]
    (said,) = [line for line in caplog.messages if "half a character" in line]
    assert "toWellFormed" in said
    assert "secret" not in said
    assert "client_wave" in caplog.text, "another reason has a line of its own"


@pytest.mark.parametrize(
    ("rules", "frame", "option"),
    [
        (RelayRules(client_frames=("audio",)), {"type": "user_message"}, "client_frames="),
        (RelayRules(), {"type": "user_message", "text": "a" * 70_000}, "max_non_audio_frame="),
        (RelayRules(max_frame=1024), {"user_audio_chunk": "A" * 1024}, "max_frame="),
    ],
)
async def test_log_names_the_option(
    rules: RelayRules,
    frame: Mapping[str, Any],
    option: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The operator reads what would change it."""
    async with on_stage(agent(relay=rules)) as stage:
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin()
            await talk.heard("agent_response")
            await talk.say(frame)
            await talk.ending()
        await stage.ended()
    assert any(f"RelayRules({option}" in line for line in caplog.messages)


async def test_lines_are_paced(caplog: pytest.LogCaptureFixture) -> None:
    """However many conversations drop frames: one line a second, with how many were left out."""
    async with on_stage(agent()) as stage:
        for _ in range(5):
            async with talking(stage.app, headers=stage.sign_in()) as talk:
                await talk.begin()
                await talk.say({"type": "of_tomorrow"})
                await talk.heard("agent_response")
                await talk.hang_up()
        await stage.ended()
    assert sum("was dropped" in line for line in caplog.messages) < 5
