"""Those who watch conversations: operators, events, and what they are never shown."""

import asyncio
import json
import logging
import time
from typing import Any

import pytest
from support.relay_stage import (
    EVIL,
    HOME,
    REFRESH,
    agent,
    boss,
    cookie,
    limited,
    on_stage,
    swap_line,
    with_visitors,
)
from support.scripted import GREETING, ScriptedLine
from support.signing import CANARY
from support.talking import Talk, talking

from xuna_middleware import Concurrent, MemoryStore, RelayRules, TalkTime
from xuna_middleware.errors import PlatformError
from xuna_middleware.stores import StoreError


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
        (started,) = stage.named("conversation_started")
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
        order = (
            "verified",
            "authorized",
            "reserved",
            "conversation_started",
            "conversation_ended",
            "settled",
        )
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


@pytest.mark.parametrize("name", ["conv_" + "x" * 300, "conv_1\nforged", "a name of its own", ""])
async def test_name_that_is_none_for_a_log(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frame passes; nobody writes the name down."""
    async with on_stage() as stage:
        greeting = GREETING.replace('"conv_scripted"', json.dumps(name))
        swap_line(stage, monkeypatch, ScriptedLine(greeting))
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin()
            await talk.hear()
            await talk.hang_up()
            assert (await stage.ended()).conversation_id is None
        assert talk.frames() == [greeting]


async def test_client_that_leaves_with_many_words() -> None:
    """They are one printable line in the event."""
    async with on_stage() as stage, talking(stage.app, headers=stage.sign_in()) as talk:
        await talk.accepted()
        await talk.hang_up(4000, "bye\n2026 forged line\x1b[0m")
        assert (await stage.ended()).cause == "client: bye?2026 forged line?[0m"


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
