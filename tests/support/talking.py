"""Talk with an app over a WebSocket without a server between, on whichever event loop that is."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.types import ASGIApp, Message

from support.doubles import DENIAL, Answer, Headers, one_response, websocket_scope

FIRST: Final = "conversation_initiation_client_data"
#: What a page offers: the sub-protocol of the platform's clients.
CONVAI: Final = ("convai",)
#: Seconds for what an app in this process does at once.
_PATIENCE: Final = 10.0


class ClosedError(Exception):
    """Say that the app closed the WebSocket."""


@dataclass
class Talk:
    """Be the client of one WebSocket."""

    to_app: "asyncio.Queue[Message]" = field(default_factory=asyncio.Queue)
    from_app: "asyncio.Queue[Message]" = field(default_factory=asyncio.Queue)
    #: All that the app sent, in order.
    sent: list[Message] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self) -> Message:
        """Give the app what comes next; after its own goodbye, that there is nothing more."""
        if self.over.is_set():
            return {"type": "websocket.disconnect", "code": 1006}
        return await self.to_app.get()

    async def send(self, message: Message) -> None:
        """Take what the app sends."""
        if message["type"] == "websocket.close":
            self.over.set()
        self.sent.append(message)
        await self.from_app.put(message)

    async def next(self) -> Message:
        """Return what the app sends next."""
        async with asyncio.timeout(_PATIENCE):
            return await self.from_app.get()

    async def accepted(self) -> str | None:
        """See that it was accepted, and return the sub-protocol."""
        message = await self.next()
        assert message["type"] == "websocket.accept", message
        subprotocol: str | None = message.get("subprotocol")
        return subprotocol

    async def refusal(self) -> Answer:
        """Return the HTTP answer that it was refused with."""
        start, body = await self.next(), await self.next()
        return one_response([start, body], "websocket.http.response")

    async def say(self, frame: Mapping[str, Any] | str | bytes) -> None:
        """Send a frame: a value as JSON, or the very text or bytes."""
        if isinstance(frame, bytes):
            message: Message = {"type": "websocket.receive", "bytes": frame}
        else:
            text = frame if isinstance(frame, str) else json.dumps(frame)
            message = {"type": "websocket.receive", "text": text}
        await self.to_app.put(message)

    async def begin(self, **members: Any) -> None:
        """Be accepted, and send the first frame with these members."""
        await self.accepted()
        await self.say({"type": FIRST, **members})

    async def hear(self) -> Any:
        """Return the next frame's value.

        Raises:
            ClosedError: there is none any more.
        """
        message = await self.next()
        if message["type"] != "websocket.send":
            raise ClosedError(message)
        return json.loads(message["text"])

    async def heard(self, kind: str) -> Any:
        """Return the next frame of a kind."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                frame = await self.hear()
                if frame["type"] == kind:
                    return frame

    async def ending(self, within: float = _PATIENCE) -> tuple[int, str]:
        """Return the code and reason that the app closes with in time, whatever comes before."""
        async with asyncio.timeout(within):
            while True:
                message = await self.from_app.get()
                if message["type"] == "websocket.close":
                    return message["code"], message["reason"]

    def frames(self) -> list[str]:
        """Return the frames that the app sent."""
        return [each["text"] for each in self.sent if each["type"] == "websocket.send"]

    async def hang_up(self, code: int = 1000, reason: str = "") -> None:
        """Leave."""
        await self.to_app.put({"type": "websocket.disconnect", "code": code, "reason": reason})


@asynccontextmanager
async def talking(
    app: ASGIApp,
    path: str = "/xuna/conversation",
    *,
    query: str = "",
    headers: Headers = (),
    subprotocols: Iterable[str] = CONVAI,
    **scope: Any,
) -> AsyncIterator[Talk]:
    """Open a WebSocket until the block ends; then leave, and wait until the app has noticed."""
    talk = Talk()
    await talk.to_app.put({"type": "websocket.connect"})
    opened = websocket_scope(
        path, headers=headers, query=query.encode(), **{"extensions": DENIAL, **scope}
    )
    opened["subprotocols"] = list(subprotocols)
    serving = asyncio.ensure_future(app(opened, talk.receive, talk.send))
    try:
        yield talk
    finally:
        await talk.hang_up()
        async with asyncio.timeout(_PATIENCE):
            await serving
