"""The client's end of a conversation: accepted, heard, and said goodbye to."""

import asyncio
from typing import Any

import pytest
from starlette.types import Message
from support.doubles import in_fast_time, seconds
from support.talking import Talk

from xuna_middleware.relay.client import Client
from xuna_middleware.relay.close_codes import (
    BINARY_FRAME,
    FRAME_TOO_LARGE,
    NON_AUDIO_FRAME_TOO_LARGE,
    REVOKED,
    CloseReason,
    ConversationClosedError,
    hung_up,
)


async def accepted(send: Any = None) -> tuple[Client, Talk]:
    """Return an accepted client; `send` is what its server does from then on."""
    talk = Talk()
    await talk.to_app.put({"type": "websocket.connect"})
    client = Client({"type": "websocket"}, talk.receive, talk.send)
    await client.accept()
    if send is not None:
        client.send = send
    return client, talk


async def test_goodbye_is_said_once() -> None:
    """To whoever was accepted, and did not leave by themselves."""
    client, talk = await accepted()
    await client.close(CloseReason(code=4411, reason="é" * 100))
    await client.close(REVOKED)
    (goodbye,) = [message for message in talk.sent if message["type"] == "websocket.close"]
    assert goodbye == {"type": "websocket.close", "code": 4411, "reason": "é" * 61}


async def test_nobody_to_say_goodbye_to() -> None:
    """One who left, or was never accepted."""
    client, talk = await accepted()
    await client.close(hung_up(1000, ""))
    assert [message["type"] for message in talk.sent] == ["websocket.accept"]
    silent = Talk()
    await Client({"type": "websocket"}, silent.receive, silent.send).close(REVOKED)
    assert silent.sent == []


async def test_goodbye_that_fails() -> None:
    """Servers raise what they like."""

    async def fails(message: Message) -> None:
        raise RuntimeError("closed already")

    client, _ = await accepted(fails)
    await client.close(REVOKED)


def test_goodbye_that_nobody_takes() -> None:
    """Two seconds, and no more."""

    async def hangs(message: Message) -> None:
        await asyncio.Event().wait()

    async def story() -> float:
        client, _ = await accepted(hangs)
        await client.close(REVOKED)
        return seconds()

    assert in_fast_time(story()) == pytest.approx(2, abs=0.1)


def test_goodbye_that_goes_on_when_it_is_cancelled() -> None:
    """Some servers swallow the cancellation of a send: nobody waits for those either."""

    async def goes_on(message: Message) -> None:
        for _ in range(2):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    async def story() -> float:
        client, _ = await accepted(goes_on)
        await client.close(REVOKED)
        return seconds()

    assert in_fast_time(story()) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    ("message", "ending"),
    [
        ({"type": "websocket.receive", "bytes": b"x"}, BINARY_FRAME),
        ({"type": "websocket.receive", "bytes": b"x", "text": None}, BINARY_FRAME),
        ({"type": "websocket.disconnect", "code": 1001, "reason": "x"}, hung_up(1001, "x")),
        ({"type": "websocket.disconnect", "code": None, "reason": None}, hung_up(1006, "")),
        ({"type": "websocket.disconnect"}, hung_up(1006, "")),
        ({"type": "websocket.receive", "text": "x" * 1025}, NON_AUDIO_FRAME_TOO_LARGE),
        ({"type": "websocket.receive", "text": "é" * 1025}, FRAME_TOO_LARGE),
    ],
)
async def test_instead_of_a_first_frame(message: Message, ending: CloseReason) -> None:
    """Whatever a server leaves out."""
    client, talk = await accepted()
    await talk.to_app.put(message)
    with pytest.raises(ConversationClosedError) as caught:
        await client.first(2048, 1024)
    assert caught.value.ending == ending


async def test_an_empty_text_is_a_frame() -> None:
    """Though nothing can be read from it."""
    client, talk = await accepted()
    await talk.to_app.put({"type": "websocket.receive", "text": ""})
    assert await client.first(2048, 1024) == ""
