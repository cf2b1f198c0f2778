"""A conversation through the gate on every server that there is, and behind nginx with TLS."""

import json
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from .authority import Authority
from .nginx import find_nginx, running_nginx
from .scripted_platform import SIGNATURE, scripted_platform
from .servers import SERVERS, TOKEN, free_port, running
from .test_relay_faults import BEGIN, HELLO, Served, begun, ending, platform_closed, until


@pytest.mark.parametrize("server", SERVERS)
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
