"""A way to Redis on which answers get lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class LossyLink:
    """Pass on what clients and a server say; see `lose()`."""

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self._server_port = server_port
        self._to_lose: list[bytes] = []

    def lose(self, command: str) -> None:
        """Let the next command of this name arrive, and its answer, and the connection, be lost."""
        self._to_lose.append(b"\r\n" + command.encode() + b"\r\n")

    @property
    def has_lost(self) -> bool:
        return not self._to_lose

    async def serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Carry one connection until an end closes it, or an answer is lost."""
        server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        is_lost = False

        async def ask() -> None:
            nonlocal is_lost
            while said := await client.read(65_536):
                if self._to_lose and self._to_lose[0] in said:
                    self._to_lose.pop(0)
                    is_lost = True
                to_server.write(said)

        async def answer() -> None:
            while (said := await server.read(65_536)) and not is_lost:
                to_client.write(said)

        ways = [asyncio.ensure_future(ask()), asyncio.ensure_future(answer())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await _closed(to_server)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


@asynccontextmanager
async def lossy_link(server_port: int) -> AsyncIterator[LossyLink]:
    """Open a link on a free port, and close it when all who use it have closed their ends."""
    link, running = LossyLink(server_port), set[asyncio.Task[None]]()

    async def carry(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if mine := asyncio.current_task():
            running.add(mine)
            mine.add_done_callback(running.discard)
        try:
            await link.serve(client, to_client)
        finally:
            await _closed(to_client)

    door = await asyncio.start_server(carry, "127.0.0.1", 0)
    link.port = door.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        door.close()
        await asyncio.wait_for(asyncio.gather(*running), 10)
        await door.wait_closed()
