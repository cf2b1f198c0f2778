"""A platform for measurements, cheap and fast: `python -m benchmarks.platform PORT`.

It hands out signed URLs, and in a conversation waits for the first frame, sends the metadata, and
answers each audio frame with one; beside some of them it sends what else a platform says. A client
may tell it to close (`contextual_update`). It checks nothing: the sandbox does that.
"""

import asyncio
import json
import logging
import sys
from http import HTTPStatus
from itertools import count

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from benchmarks.conversations import (
    AUDIO_OUT,
    CLOSE,
    METADATA,
    PING,
    RESPONSE,
    SUBPROTOCOL,
    is_client_audio,
)

SIGNED_URL = "/v1/convai/conversation/get-signed-url"
CONVERSATION = "/v1/convai/conversation"

numbers = count(1)


def answer(connection: ServerConnection, request: Request) -> Response | None:
    """Answer what is no WebSocket: with a signed URL, whoever asks."""
    if not request.path.startswith(SIGNED_URL):
        return None
    number = next(numbers)
    query = f"agent_id=agent_1&conversation_signature={number}"
    url = f"ws://{request.headers['Host']}{CONVERSATION}?{query}"
    told = {"signed_url": url, "conversation_id": f"conv_{number}"}
    response = connection.respond(HTTPStatus.OK, json.dumps(told))
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "application/json"
    return response


async def talk(connection: ServerConnection) -> None:
    await connection.recv()
    await connection.send(METADATA)
    heard = 0
    async for frame in connection:
        if frame == CLOSE:
            return
        if is_client_audio(str(frame)):
            if heard % 4 == 1:
                await connection.send(PING)
            if heard % 8 == 2:
                await connection.send(RESPONSE)
            await connection.send(AUDIO_OUT)
            heard += 1


async def main(port: int) -> None:
    async with serve(
        talk,
        "127.0.0.1",
        port,
        compression=None,
        subprotocols=[SUBPROTOCOL],
        process_request=answer,
        logger=logging.Logger("benchmarks.platform", logging.CRITICAL),  # clients vanish here
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
