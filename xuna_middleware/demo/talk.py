"""A conversation in text over the platform's WebSocket: the page's conversation.js, in Python."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol


class Talk:
    """Hold one conversation in text, in the platform's frames."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def introduce(self, session: Mapping[str, Any]) -> None:
        """Send the first frame: what the gate's answer said that the client has to carry."""
        frame: dict[str, Any] = {"type": "conversation_initiation_client_data"}
        if "dynamicVariables" in session:
            frame["dynamic_variables"] = session["dynamicVariables"]
        if "overrides" in session:
            frame["conversation_config_override"] = underscored(session["overrides"])
        await self._send(frame)

    async def started(self) -> str:
        """Return the conversation's id, from the frame that must come first."""
        frame = json.loads(await self._socket.recv())
        if frame["type"] != "conversation_initiation_metadata":
            raise AssertionError(f"the first frame is {frame['type']}")
        return str(frame["conversation_initiation_metadata_event"]["conversation_id"])

    async def say(self, text: str) -> str:
        """Send a message and return what the agent answers."""
        await self._send({"type": "user_message", "text": text})
        return await self.hear()

    async def hear(self) -> str:
        """Return the agent's next words; pings are answered on the way."""
        async for message in self._socket:
            frame = json.loads(message)
            if frame["type"] == "agent_response":
                return str(frame["agent_response_event"]["agent_response"])
            if frame["type"] == "ping":
                await self._send({"type": "pong", "event_id": frame["ping_event"]["event_id"]})
            elif frame["type"] == "error":
                raise AssertionError(f"the platform says {frame['error_event']['error_type']}")
        raise AssertionError(f"the conversation was closed with {self._socket.close_code}")

    async def _send(self, frame: Mapping[str, Any]) -> None:
        await self._socket.send(json.dumps(frame))


@asynccontextmanager
async def talk(signed_url: str) -> AsyncIterator[Talk]:
    """Open a signed URL with the sub-protocol `convai`; the end of the block ends the call."""
    async with connect(signed_url, subprotocols=[Subprotocol("convai")], proxy=None) as socket:
        yield Talk(socket)


def underscored(tree: Any) -> Any:
    """Return `{"agent": {"firstMessage": …}}` as the wire spells it, `first_message`."""
    if not isinstance(tree, Mapping):
        return tree
    return {_snake(name): underscored(value) for name, value in tree.items()}


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
