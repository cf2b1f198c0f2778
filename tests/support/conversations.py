"""A platform that numbers its conversations and tells how each is, and a caller who has them."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx

from support.doubles import API_KEY, SIGNED_URL, ask, bearer, make_gate
from support.signing import RSA, good_claims
from xuna_middleware import Agent, XunaGate, XunaPlatform

ME = {"sub": "user-1"}


@dataclass
class Conversations:
    """Stand in for XUNA AI: number the conversations, and tell how each is."""

    issued: int = 0
    looked_up: list[str] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)
    status: int = 200

    async def handle(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        if name.startswith("conv_"):
            self.looked_up.append(name)
            if name not in self.told:
                return httpx.Response(404, json={"detail": "unknown"})
            return httpx.Response(self.status, json=self.told[name])
        self.issued += 1
        known = {"conversation_id": f"conv_{self.issued}"}
        if name == "token":
            return httpx.Response(200, json={"token": "a.b.c", **known})
        with_id = known if "include_conversation_id" in request.url.params else {}
        return httpx.Response(200, json={"signed_url": SIGNED_URL, **with_id})

    def end(self, number: int, length: Any, status: str = "done") -> None:
        self.told[f"conv_{number}"] = {
            "status": status,
            "metadata": {"call_duration_secs": length},
        }

    def gate(self, *limits: Any, max_duration: float = 60, **options: Any) -> XunaGate:
        platform = XunaPlatform(API_KEY, http_transport=httpx.MockTransport(self.handle))
        agents = [Agent("support", id="agent_1", limits=limits, max_duration=max_duration)]
        return make_gate(platform, agents=agents, **options)


async def issue(gate: XunaGate, path: str = "/get-signed-url", **claims: Any) -> int:
    """Ask for a pass and return the status, once what goes on beside the answer is done."""
    answer = await ask(gate, path, headers=bearer(RSA.token(good_claims(**(ME | claims)))))
    for _ in range(5):
        await asyncio.sleep(0)
    return answer.status


async def left(gate: XunaGate) -> list[int]:
    headers = bearer(RSA.token(good_claims(**ME)))
    answer = await ask(gate, "/agents", headers=headers)
    return [limit["left"] for limit in answer.json()["agents"][0]["limits"]]
