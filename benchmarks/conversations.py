"""What is said in a conversation while it is measured: frames as large and as mixed as real ones.

A frame of audio is a quarter of a second, 8,000 bytes of PCM in base64, each way. Beside eight of
them the client sends one `user_activity` and two `pong`, the platform two `ping` and one
`agent_response`. The next audio is sent when the last was answered, so nothing piles up.
"""

import asyncio
import base64
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

SUBPROTOCOL: Final = Subprotocol("convai")
_PCM: Final = base64.b64encode(random.Random(0).randbytes(8000)).decode()


def _frame(members: Mapping[str, Any]) -> str:
    return json.dumps(members, separators=(",", ":"))


FIRST: Final = _frame({"type": "conversation_initiation_client_data"})
AUDIO_IN: Final = _frame({"user_audio_chunk": _PCM})
ACTIVITY: Final = _frame({"type": "user_activity"})
PONG: Final = _frame({"type": "pong", "event_id": 7})
#: By which a client asks this platform to end the conversation.
CLOSE: Final = _frame({"type": "contextual_update", "text": "goodbye"})

METADATA: Final = _frame(
    {
        "type": "conversation_initiation_metadata",
        "conversation_initiation_metadata_event": {
            "conversation_id": "conv_1",
            "agent_output_audio_format": "pcm_16000",
            "user_input_audio_format": "pcm_16000",
        },
    }
)
AUDIO_OUT: Final = _frame({"type": "audio", "audio_event": {"audio_base_64": _PCM, "event_id": 7}})
PING: Final = _frame({"type": "ping", "ping_event": {"event_id": 7, "ping_ms": 20}})
RESPONSE: Final = _frame(
    {
        "type": "agent_response",
        "agent_response_event": {"agent_response": "Of course; I have put that into the order."},
    }
)

#: After so many exchanges all begins anew; batches are multiples of it.
CYCLE: Final = 8
_OPENING: Final = 20


def is_client_audio(frame: str) -> bool:
    return frame.startswith('{"user_audio_chunk"')


async def exchange(socket: ClientConnection, number: int) -> int:
    """Send a quarter of a second and hear the answer; returns how many frames passed both ways."""
    passed = 2
    if number % CYCLE == 0:
        await socket.send(ACTIVITY)
        passed += 1
    await socket.send(AUDIO_IN)
    while True:
        frame = str(await socket.recv())
        if frame.startswith('{"type":"audio"'):
            return passed
        passed += 1
        if frame.startswith('{"type":"ping"'):
            await socket.send(PONG)
            passed += 1


async def talk(sockets: Sequence[ClientConnection], exchanges: int, at_once: int) -> int:
    """Talk in all conversations, so many at the same time; returns how many frames passed."""
    waiting = iter(sockets)

    async def one_after_another() -> int:
        passed = 0
        for socket in waiting:
            for number in range(exchanges):
                passed += await exchange(socket, number)
        return passed

    return sum(await asyncio.gather(*(one_after_another() for _ in range(at_once))))


async def opened(
    stack: AsyncExitStack, url: str, headers: Iterable[Mapping[str, str]]
) -> list[ClientConnection]:
    """Open one conversation for each set of headers, up to where the platform has spoken."""
    waiting = iter(headers)
    sockets: list[ClientConnection] = []

    async def one_after_another() -> None:
        for each in waiting:
            socket = await stack.enter_async_context(
                connect(
                    url,
                    additional_headers=each,
                    compression=None,
                    subprotocols=[SUBPROTOCOL],
                    ping_interval=None,
                )
            )
            await socket.send(FIRST)
            if await socket.recv() != METADATA:
                raise SystemExit(f"{url}: not what the platform said")
            sockets.append(socket)

    await asyncio.gather(*(one_after_another() for _ in range(_OPENING)))
    return sockets
