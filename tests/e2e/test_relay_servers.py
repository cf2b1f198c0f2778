"""A conversation through the gate on every server that there is, over real sockets."""

import json
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

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
