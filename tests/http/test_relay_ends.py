"""How a conversation ends that the gate carries, with which code and reason."""

import asyncio
import time
from typing import Any

import pytest
from starlette.requests import HTTPConnection
from support.doubles import in_fast_time, websocket_scope
from support.relay_stage import (
    HOME,
    REFRESH,
    agent,
    cookie,
    limited,
    on_stage,
    swap_line,
)
from support.scripted import GREETING, ScriptedLine
from support.talking import ClosedError, Talk, talking

from xuna_middleware import Identity, MemoryStore, RelayRules
from xuna_middleware.sandbox import SandboxAgent, SandboxPlatform
from xuna_middleware.stores import StoreError
from xuna_middleware.stores.protocol import LeaseStatus


def test_longest_time() -> None:
    """`max_duration` to the second, whatever the platform's is."""

    async def story() -> None:
        async with on_stage(agent(max_duration=45)) as stage:
            async with talking(stage.app, headers=stage.sign_in()) as talk:
                await talk.begin()
                assert await talk.ending(within=100) == (4410, "max_duration")
            event = await stage.ended()
            assert event.seconds == pytest.approx(45, abs=0.1)
            assert stage.platform.conversations[0].ended_by == "user", "the platform is hung up on"

    in_fast_time(story())


def test_silence() -> None:
    """`pong` frames, which a client sends by itself, are none of its words."""

    async def story() -> None:
        async with on_stage(agent(relay=RelayRules(idle_timeout=30))) as stage:
            async with talking(stage.app, headers=stage.sign_in()) as talk:
                await talk.begin()
                await asyncio.sleep(20)
                await talk.say({"type": "user_activity"})
                for _ in range(2):
                    await asyncio.sleep(10)
                    await talk.say({"type": "pong", "event_id": 1})
                assert await talk.ending(within=100) == (4408, "idle_timeout")
            assert (await stage.ended()).seconds == pytest.approx(50, abs=0.1)

    in_fast_time(story())


async def brief(connection: HTTPConnection) -> Identity | None:
    """Know a cookie that says how long it is good."""
    lasts = connection.cookies.get("lasts")
    return None if lasts is None else Identity(subject="ada", expires_at=time.time() + float(lasts))


async def test_end_of_the_proof() -> None:
    """At `exp`, without leeway."""
    async with on_stage(authenticator=brief) as stage:
        began = time.time()
        async with talking(stage.app, headers=[(b"cookie", b"lasts=0.4"), HOME]) as talk:
            await talk.begin()
            assert await talk.ending() == (4401, "token_expired")
        assert 0.4 <= time.time() - began < 10


async def test_refresh() -> None:
    """A fresh token of the same caller extends it; what else is sent changes nothing."""
    async with on_stage() as stage:
        expires_at = int(time.time() + 2)
        token = stage.token(expires_in=2)
        async with talking(
            stage.app, headers=[(b"authorization", f"Bearer {token}".encode())]
        ) as talk:
            await talk.begin()
            await talk.heard("agent_response")
            fresh = stage.token(expires_in=600)
            for sent, answer in (
                (stage.token("user-2"), {"code": "subject_mismatch"}),
                ("made.up.token", {"code": "invalid_token"}),
                (stage.token(expires_in=-100), {"code": "invalid_token"}),
                (fresh, {"expires_at": pytest.approx(time.time() + 600, abs=5)}),
            ):
                await talk.say({"type": REFRESH, "token": sent})
                assert await talk.heard(REFRESH) == {"type": REFRESH, **answer}
            refused = [each.code for each in stage.events if each.name == "refused"]
            assert refused == ["subject_mismatch", "invalid_token", "invalid_token"]
            await asyncio.sleep(max(0.0, expires_at + 0.1 - time.time()))
            await talk.say({"type": "user_message", "text": "hello"})
            await talk.heard("agent_response")
        (conversation,) = stage.platform.conversations
        assert [line.role for line in conversation.transcript] == ["agent", "user", "agent"]


@pytest.mark.parametrize("whose", ["user-2", "made up"])
async def test_refresh_that_does_not_extend(whose: str) -> None:
    """It ends when the first token does."""
    async with (
        on_stage() as stage,
        talking(stage.app, headers=stage.sign_in(expires_in=2)) as talk,
    ):
        await talk.begin()
        token = "a.b.c" if whose == "made up" else stage.token(whose, expires_in=600)
        await talk.say({"type": REFRESH, "token": token})
        assert await talk.ending() == (4401, "token_expired")


async def test_refresh_with_a_token_that_ends_at_once() -> None:
    """The leeway makes it good, and not one second longer."""
    async with on_stage() as stage, talking(stage.app, headers=stage.sign_in()) as talk:
        await talk.begin()
        await talk.say({"type": REFRESH, "token": stage.token(expires_in=-5)})
        assert await talk.ending() == (4401, "token_expired")


async def test_refresh_where_tokens_say_nothing() -> None:
    """A gate with cookies alone has nobody to ask."""
    async with (
        on_stage(authenticator=cookie) as stage,
        talking(stage.app, headers=[(b"cookie", b"name=ada"), HOME]) as talk,
    ):
        await talk.begin()
        await talk.say({"type": REFRESH, "token": stage.token()})
        assert (await talk.heard(REFRESH))["code"] == "subject_mismatch"


async def test_revoked() -> None:
    """What runs ends, and neither a ticket, nor a new one, nor the token opens anything."""
    async with on_stage() as stage:
        headers = stage.sign_in()
        issuer = stage.sandbox._provider.issuer
        ticket = await stage.ticket(headers)
        async with (
            talking(stage.app, headers=headers) as talk,
            talking(stage.app, headers=stage.sign_in("user-2")) as other,
        ):
            await talk.begin()
            await talk.heard("agent_response")
            await other.begin()
            await other.heard("agent_response")
            await stage.gate.revoke(issuer, "user-1")
            assert await talk.ending() == (4411, "revoked")
            await other.say({"type": "user_message", "text": "hello"})
            await other.heard("agent_response")
        before = len(stage.platform.issued)
        assert (await stage.ask("/get-signed-url", headers)).status == 401
        assert (await stage.ask("/ticket", headers, method="POST")).status == 401
        async with talking(stage.app, headers=headers) as again:
            assert (await again.refusal()).json()["code"] == "invalid_token"
        async with talking(stage.app, query=f"ticket={ticket}") as again:
            assert (await again.refusal()).json()["code"] == "invalid_token"
        assert len(stage.platform.issued) == before
        assert stage.named("revoked")[0].subject == "user-1"
        await asyncio.sleep(1 - time.time() % 1)  # an `iat` is in whole seconds
        async with talking(stage.app, headers=stage.sign_in()) as anew:
            await anew.begin()
            await anew.heard("agent_response")


async def test_revoked_between_reservation_and_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease says so: the 401 of any revoked caller, and the platform hears nothing."""

    class Late(MemoryStore):
        async def hold(self, leases: Any) -> tuple[LeaseStatus, ...]:
            return tuple(LeaseStatus(lease.slots, "revoked") for lease in leases)

    async with on_stage(store=Late()) as stage:
        line = ScriptedLine()
        swap_line(stage, monkeypatch, line)
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            assert (await talk.refusal()).status == 401
        assert not line.heard
        assert await stage.gate.sessions() == ()


def test_lease_that_cannot_be_renewed() -> None:
    """After the 30 seconds of the lease, and not before, it ends: nobody else would know of it."""

    class Dying(MemoryStore):
        dead = False

        async def hold(self, leases: Any) -> tuple[LeaseStatus, ...]:
            if self.dead:
                raise StoreError("away")
            return await super().hold(leases)

    async def story() -> None:
        store = Dying()
        async with on_stage(store=store) as stage:
            async with talking(stage.app, headers=stage.sign_in()) as talk:
                await talk.begin()
                await asyncio.sleep(12)
                store.dead = True
                assert await talk.ending(within=100) == (4503, "lease_lost")
            assert 30 <= (float((await stage.ended()).seconds or 0)) <= 46

    in_fast_time(story())


def test_lease_that_is_away_for_a_moment() -> None:
    """Twenty seconds without a store harm nobody."""

    class Shaky(MemoryStore):
        away = False

        async def hold(self, leases: Any) -> tuple[LeaseStatus, ...]:
            if self.away:
                raise StoreError("away")
            return await super().hold(leases)

    async def story() -> None:
        store = Shaky()
        async with (
            on_stage(store=store) as stage,
            talking(stage.app, headers=stage.sign_in()) as talk,
        ):
            await talk.begin()
            for store.away in (True, False, True, False):
                await asyncio.sleep(20)
            await talk.say({"type": "user_message", "text": "hello"})
            await talk.heard("agent_response")

    in_fast_time(story())


async def test_gate_that_is_closed() -> None:
    """What runs ends with it, and is settled before it is gone."""
    async with (
        on_stage(limited()) as stage,
        talking(stage.app, headers=stage.sign_in()) as talk,
    ):
        await talk.begin()
        await talk.heard("agent_response")
        await stage.gate.aclose()
        assert await talk.ending() == (1001, "going_away")
        assert len(stage.named("settled")) == 1
        assert await stage.gate.sessions() == ()


async def test_server_that_cancels() -> None:
    """All is given back, and the platform is hung up on."""
    async with on_stage(limited()) as stage:
        talk = Talk()
        await talk.to_app.put({"type": "websocket.connect"})
        scope = websocket_scope("/xuna/conversation", headers=stage.sign_in())
        serving = asyncio.ensure_future(stage.app(scope, talk.receive, talk.send))
        await talk.begin()
        await talk.heard("agent_response")
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        event = await stage.ended()
        assert (event.close_code, event.cause) == (1001, "gate: going_away")
        assert (await stage.left())[0] == 1
        assert not stage.platform.conversations[0].live


@pytest.mark.parametrize(
    ("told", "ending"),
    [
        ((1000, "done"), (1000, "done")),
        ((4321, "a word of its own"), (4321, "a word of its own")),
        ((1005, ""), (1000, "")),
        ((2999, "reserved"), (4502, "platform_error")),
        (None, (4502, "platform_error")),
    ],
)
async def test_platform_that_ends_it(
    told: Any, ending: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own code passes through."""
    async with on_stage() as stage:
        line = ScriptedLine(GREETING)
        swap_line(stage, monkeypatch, line)
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin()
            await talk.hear()
            line.hang_up(*(told or ()))
            with pytest.raises(ClosedError):
                await talk.hear()
        by = "gate" if ending[0] == 4502 else "platform"
        event = await stage.ended()
        assert (event.close_code, event.cause) == (ending[0], f"{by}: {ending[1] or 'closed'}")


@pytest.mark.parametrize(
    ("code", "told"), [(1000, (1000, "bye")), (4000, (4000, "bye")), (1006, (1000, ""))]
)
async def test_client_that_ends_it(
    code: int, told: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its goodbye is handed on; nobody says goodbye to whoever left."""
    async with on_stage() as stage:
        line = ScriptedLine(GREETING)
        swap_line(stage, monkeypatch, line)
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin()
            await talk.hear()
            await talk.hang_up(code, "bye")
            await stage.ended()
            assert "websocket.close" not in [message["type"] for message in talk.sent]
        assert line.closed == told


def patient() -> SandboxPlatform:
    """Return a platform that would carry a conversation for a day."""
    return SandboxPlatform(agents=[SandboxAgent("agent_1", max_duration=86_400)])


async def endless(connection: HTTPConnection) -> Identity | None:
    """Know a session that never ends, as many frameworks have them."""
    return Identity(subject="ada") if "name" in connection.cookies else None


def test_conversation_without_any_bound_ends_after_an_hour() -> None:
    """No `max_duration`, no `exp`: whoever configured neither doesn't pay for ever."""

    async def story() -> None:
        async with on_stage(authenticator=endless, platform=patient()) as stage:
            async with talking(stage.app, headers=[(b"cookie", b"name=ada"), HOME]) as talk:
                await talk.begin()
                assert await talk.ending(within=90_000) == (4410, "max_duration")
            assert (await stage.ended()).seconds == pytest.approx(3_600, abs=1)

    in_fast_time(story())


def test_max_duration_may_be_longer_than_that() -> None:
    """Whoever wants more says so."""

    async def story() -> None:
        agents = [agent(max_duration=7_200)]
        async with on_stage(*agents, authenticator=endless, platform=patient()) as stage:
            async with talking(stage.app, headers=[(b"cookie", b"name=ada"), HOME]) as talk:
                await talk.begin()
                assert await talk.ending(within=90_000) == (4410, "max_duration")
            assert (await stage.ended()).seconds == pytest.approx(7_200, abs=1)

    in_fast_time(story())


@pytest.mark.parametrize("longest", [None, 900])
def test_refresh_prolongs_no_further_than_the_longest_time(longest: float | None) -> None:
    """A client that renews its token for ever is counted from where the conversation began."""

    async def story() -> None:
        agents = [agent(max_duration=longest)]
        async with on_stage(*agents, platform=patient()) as stage:
            async with talking(stage.app, headers=stage.sign_in()) as talk:
                await talk.begin()

                async def renew() -> None:
                    while True:
                        await asyncio.sleep(200)
                        await talk.say({"type": REFRESH, "token": stage.token()})

                renewing = asyncio.ensure_future(renew())
                assert await talk.ending(within=90_000) == (4410, "max_duration")
                renewing.cancel()
            assert (await stage.ended()).seconds == pytest.approx(longest or 3_600, abs=1)

    in_fast_time(story())
