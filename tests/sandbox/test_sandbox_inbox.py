"""Waiting with patience loses no message."""

import asyncio

from starlette.types import Message

from xuna_middleware.sandbox.inbox import Inbox


async def test_impatience_keeps_the_receive_under_way() -> None:
    """However often it gives up, the same receive goes on, and its message arrives."""
    begun = 0
    arrives: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def receive() -> Message:
        nonlocal begun
        begun += 1
        return await asyncio.shield(arrives)

    inbox = Inbox(receive)
    assert [await inbox.next(0.001) for _ in range(3)] == [None, None, None]
    arrives.set_result({"type": "websocket.receive", "text": "hi"})
    assert await inbox.next(1) == {"type": "websocket.receive", "text": "hi"}
    assert begun == 1
    inbox.close()
