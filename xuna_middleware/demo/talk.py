"""A conversation in text, with the platform or through the gate: conversation.js, in Python."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

#: Seconds for an end to come.
_PATIENCE: Final = 5.0
_REFRESH: Final = "xuna_gate_refresh"


class Talk:
    """Hold one conversation in text, in the platform's frames. `heard` are those that came."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.heard: list[str] = []

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
        frame = await self._next()
        if frame["type"] != "conversation_initiation_metadata":
            raise AssertionError(f"the first frame is {frame['type']}")
        return str(frame["conversation_initiation_metadata_event"]["conversation_id"])

    async def say(self, text: str) -> str:
        """Send a message and return what the agent answers."""
        await self._send({"type": "user_message", "text": text})
        return await self.hear()

    async def hear(self) -> str:
        """Return the agent's next words; pings are answered on the way."""
        frame = await self._frame("agent_response")
        return str(frame["agent_response_event"]["agent_response"])

    async def renew(self, token: str) -> dict[str, Any]:
        """Give the gate a fresh token, and return what it answers."""
        await self._send({"type": _REFRESH, "token": token})
        return await self._frame(_REFRESH)

    async def closed(self) -> tuple[int | None, str | None]:
        """Wait for the end that somebody else makes; return its code and its reason."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._socket.wait_closed()
        except TimeoutError:
            raise AssertionError("the conversation goes on") from None
        return self._socket.close_code, self._socket.close_reason

    async def _frame(self, kind: str) -> dict[str, Any]:
        try:
            while (frame := await self._next())["type"] != kind:
                await self._heed(frame)
        except ConnectionClosed:
            code = self._socket.close_code
            raise AssertionError(f"the conversation was closed with {code}") from None
        return frame

    async def _heed(self, frame: Mapping[str, Any]) -> None:
        if frame["type"] == "ping":
            await self._send({"type": "pong", "event_id": frame["ping_event"]["event_id"]})
        elif frame["type"] == "error":
            raise AssertionError(f"the platform says {frame['error_event']['error_type']}")

    async def _next(self) -> dict[str, Any]:
        text = str(await self._socket.recv())
        self.heard.append(text)
        return dict(json.loads(text))

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
