"""The yardstick: a WebSocket proxy of `websockets` that does nothing else, in twenty lines."""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve


async def pump(source, target):
    async for message in source:
        await target.send(message)
    await target.close()


async def main(port, upstream):
    async def carry(client):
        async with connect(upstream, compression=None, subprotocols=["convai"]) as platform:
            await asyncio.gather(pump(client, platform), pump(platform, client))

    options = {"compression": None, "subprotocols": ["convai"]}
    async with serve(carry, "127.0.0.1", port, **options) as server:
        await server.serve_forever()


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
