"""A conversation through the gate on every server that there is, and behind nginx with TLS."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from .authority import Authority
from .nginx import find_nginx, running_nginx
from .scripted_platform import SIGNATURE, scripted_platform
from .servers import NO_RELAY, SERVERS, TOKEN, free_port, running
from .test_relay_faults import (
    BEGIN,
    HELLO,
    MEBIBYTE,
    Served,
    begun,
    ending,
    platform_closed,
    until,
)

FIT: Final = [server for server in SERVERS if server not in NO_RELAY]
#: What the log says to do.
FIXES: Final = {
    "uvicorn, websockets": "start uvicorn with --ws websockets-sansio",
    "daphne": "serve the relay with uvicorn, hypercorn or granian",
}


@pytest.mark.parametrize("app", ["app", "mounted"])
@pytest.mark.parametrize("server", NO_RELAY)
async def test_server_that_holds_too_much(server: str, app: str, tmp_path: Path) -> None:
    """Refused before the accept, with a line that names the fix; the platform hears nothing."""
    pytest.importorskip(server.partition(",")[0])
    port = free_port()
    environment = {"SERVED_PLATFORM": f"http://127.0.0.1:{port}"}
    options = {"module": "served_relay", "app": app, "environment": environment}
    with running(server, tmp_path, **options) as running_:
        served = Served(server=running_, platform_port=port)
        async with scripted_platform(port) as platform:
            with pytest.raises(InvalidStatus) as refused:
                async with served.talking():
                    pass
            # daphne has no HTTP answers to a WebSocket: it says 403 to all.
            status = refused.value.response.status_code
            assert status == (403 if server == "daphne" else 503)
            assert platform.closed == []
        log = running_.log.read_text(encoding="utf-8")
    assert f"configuration: no relay on this server: {server.partition(',')[0]}" in log
    assert log.count(FIXES[server]) == 2, "once at the start, once for the refusal"


@pytest.mark.parametrize("server", FIT)
async def test_client_that_is_held_back(server: str, tmp_path: Path) -> None:
    """It floods a platform that reads nothing: the server holds a few frames, and it ends."""
    port = free_port()
    environment = {"SERVED_PLATFORM": f"http://127.0.0.1:{port}"}
    with running(server, tmp_path, module="served_relay", environment=environment) as running_:
        served = Served(server=running_, platform_port=port)
        async with scripted_platform(port):
            await served.state()
            before = await served.state()
            async with served.talking("deaf", ping_interval=None) as talk:
                await begun(talk)

                async def flood() -> None:
                    frame = json.dumps({"type": "user_message", "text": "x" * 1_000_000})
                    with suppress(ConnectionClosed):
                        while True:
                            await talk.send(frame)

                async def is_over() -> bool:
                    return not await served.sessions()

                flooding = asyncio.ensure_future(flood())
                await until(is_over)
                growth = (await served.state())["memory"] - before["memory"]
                flooding.cancel()
                talk.transport.abort()
            assert growth < 40 * MEBIBYTE


@pytest.mark.parametrize("server", FIT)
async def test_conversation(server: str, tmp_path: Path) -> None:
    """Refused, carried in order, ended by each side, with the codes that the table says."""
    port = free_port()
    environment = {"SERVED_PLATFORM": f"http://127.0.0.1:{port}"}
    with running(server, tmp_path, module="served_relay", environment=environment) as running_:
        served = Served(server=running_, platform_port=port)
        async with scripted_platform(port) as platform:
            with pytest.raises(InvalidStatus) as refused:
                async with served.talking("nobody"):
                    pass
            assert refused.value.response.status_code == 404
            async with served.talking() as talk:
                assert talk.subprotocol == "convai"
                await begun(talk)
                for number in range(20):
                    await talk.send(f'{{"type":"user_message","text":"{number}"}}')
                    assert json.loads(await talk.recv())["type"] == "agent_response"
                await talk.recv()
                await talk.close(4000, "bye")
            await until(platform_closed(platform))
            assert len(platform.heard) == 21
            async with served.talking() as talk:
                await begun(talk)
                await talk.send(BEGIN)
                assert await ending(talk) == (4400, "second_first_frame")
            async with served.talking("closes") as talk:
                await talk.send(BEGIN)
                await talk.send(HELLO)
                assert await ending(talk) == (4321, "a word of its own")
        log = running_.log.read_text(encoding="utf-8")
    assert "Traceback" not in log
    assert SIGNATURE not in log
    assert TOKEN not in log


async def test_behind_nginx(authority: Authority, tmp_path: Path) -> None:
    """nginx ends TLS and strips a prefix: the signed URL leads there, and is good once."""
    nginx = find_nginx()
    if nginx is None:
        pytest.skip("no nginx here: apt-get install nginx")
    front, inner, port = "/front", tmp_path / "nginx", free_port()
    public, platform_port = f"https://127.0.0.1:{port}{front}/xuna", free_port()
    environment = {
        "SERVED_PLATFORM": f"http://127.0.0.1:{platform_port}",
        "SERVED_PUBLIC_URL": public,
    }
    inner.mkdir()
    options = {"module": "served_relay", "root_path": front, "environment": environment}
    with (
        running("uvicorn", tmp_path, **options) as served,
        running_nginx(nginx, inner, authority, port=port, prefix=front, upstream=served.port),
    ):
        async with scripted_platform(platform_port) as platform:
            url = await signed_url(public, authority)
            assert url.startswith(f"wss://127.0.0.1:{port}{front}/xuna/conversation?")
            async with connect(
                url, ssl=authority.client(), subprotocols=[Subprotocol("convai")], proxy=None
            ) as talk:
                await begun(talk)
                await talk.send(HELLO)
                assert json.loads(await talk.recv())["type"] == "agent_response"
            with pytest.raises(InvalidStatus) as again:
                await connect(url, ssl=authority.client(), proxy=None)
            await until(platform_closed(platform))
    assert again.value.response.status_code == 401


async def signed_url(public: str, authority: Authority) -> str:
    headers = {"Authorization": f"Bearer {TOKEN}.ada"}
    async with httpx.AsyncClient(verify=authority.client(), trust_env=False) as client:
        answer = await client.get(f"{public}/get-signed-url?agent=talks", headers=headers)
    assert answer.status_code == 200
    url: str = answer.json()["signed_url"]
    return url
