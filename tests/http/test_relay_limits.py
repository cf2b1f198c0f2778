"""Limits of conversations that the gate carries: looked at, taken, given back, settled."""

import asyncio
from typing import Any

import pytest
from support.doubles import in_fast_time, seconds
from support.relay_stage import (
    limited,
    on_stage,
    swap_line,
)
from support.signing import CANARY
from support.talking import talking

from xuna_middleware import ConversationToken, MemoryStore
from xuna_middleware.errors import PlatformError
from xuna_middleware.gate import core_of
from xuna_middleware.platform import Grant
from xuna_middleware.stores import StoreError
from xuna_middleware.stores.protocol import LeaseStatus


def test_limits_from_the_ticket_to_the_end() -> None:
    """Looked at with the ticket, taken at the connect, settled with the true length."""

    async def story() -> None:
        async with on_stage(limited()) as stage:
            for _ in range(5):
                ticket = await stage.ticket()
            assert await stage.left() == [1, 600, 3], "a ticket takes nothing"
            async with talking(stage.app, query=f"ticket={ticket}") as talk:
                await talk.begin()
                await talk.heard("agent_response")
                assert await stage.left() == [0, 540, 2]
                refused = await stage.ask("/get-signed-url", stage.sign_in())
                assert (refused.status, refused.json()["code"]) == (429, "quota_exceeded")
                assert refused.header("retry-after")
                async with talking(stage.app, headers=stage.sign_in()) as second:
                    assert (await second.refusal()).status == 429
                await asyncio.sleep(20)
            event = await stage.ended()
            assert event.seconds == pytest.approx(20, abs=0.5)
            left = await stage.left()
            assert (left[0], left[2]) == (1, 2)
            assert left[1] == pytest.approx(600 - (event.seconds or 0), abs=1)
            (settled,) = stage.named("settled")
            assert settled.seconds == event.seconds

    in_fast_time(story())


async def test_ticket_does_not_reserve() -> None:
    """Of two who got a ticket for the last slot one is too late, before it is accepted."""
    async with on_stage(limited()) as stage:
        tickets = [await stage.ticket() for _ in range(2)]
        async with talking(stage.app, query=f"ticket={tickets[0]}") as talk:
            await talk.begin()
            await talk.heard("agent_response")
            async with talking(stage.app, query=f"ticket={tickets[1]}") as late:
                assert (await late.refusal()).status == 429
        assert len(stage.platform.issued) == 1


async def test_nothing_stays_taken_where_there_is_no_signed_url() -> None:
    """It failed before anything was opened: all of it comes back."""
    async with on_stage(limited(id="agent_9")) as stage:
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            assert (await talk.refusal()).status == 502
        assert await stage.left() == [1, 600, 3]
        assert len(stage.named("released")) == 1
        assert stage.named("conversation_ended") == []


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (PlatformError(cause="platform: refused"), (4502, "platform_error")),
        (PlatformError(status_code=504, code="platform_timeout"), (4504, "platform_timeout")),
        (RuntimeError(f"who knows {CANARY}"), (1011, "internal_error")),
    ],
)
async def test_platform_that_does_not_open(
    error: Exception, ending: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client reads why; all comes back, since nobody talked."""
    async with on_stage(limited()) as stage:
        opened = swap_line(stage, monkeypatch, error)
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin()
            assert await talk.ending() == ending
            assert talk.frames() == []
        await stage.ended()
        assert len(opened) == 1
        assert await stage.left() == [1, 600, 3]
        assert await stage.gate.sessions() == ()
        assert len(stage.named("refused")) == 1


async def test_platform_that_gives_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform of one's own that does not do what `Platform` says."""

    async def issue(grant: Grant) -> ConversationToken:
        return ConversationToken(token="x", agent=grant.agent)

    async with on_stage(limited()) as stage:
        monkeypatch.setattr(stage.gate.platform, "issue", issue)
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            assert (await talk.refusal()).status == 502
        assert await stage.left() == [1, 600, 3]


class Forgetful(MemoryStore):
    """A store that is away when a lease is to be held, or a length to be settled."""

    def __init__(self, fails: str) -> None:
        super().__init__()
        self.fails = fails

    async def hold(self, leases: Any) -> tuple[LeaseStatus, ...]:
        if self.fails == "hold":
            raise StoreError("away")
        return await super().hold(leases)

    async def remember(self, note: Any) -> None:
        if self.fails == "remember":
            raise StoreError("away")
        await super().remember(note)

    async def settle(self, name: str, milliseconds: int) -> str | None:
        if self.fails == "settle":
            raise StoreError("away")
        return await super().settle(name, milliseconds)

    async def release_lease(self, name: str, slots: Any) -> bool:
        if self.fails == "release_lease":
            raise StoreError("away")
        return await super().release_lease(name, slots)


async def test_store_that_holds_no_lease() -> None:
    """What nobody could end isn't begun: 503, and all of it comes back."""
    async with on_stage(limited(), store=Forgetful("hold")) as stage:
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            assert (await talk.refusal()).status == 503
        assert await stage.left() == [1, 600, 3]


@pytest.mark.parametrize(
    ("fails", "left", "said"),
    [
        ("remember", [1, 599, 2], "unless this process sees the end"),
        ("settle", [1, 540, 2], "could not refund unused talk time"),
        ("release_lease", [0, 599, 2], "ends by itself"),
    ],
)
async def test_store_that_is_away_at_the_end(
    fails: str, left: list[int], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator reads what that costs; the client's goodbye is the same."""
    async with on_stage(limited(), store=Forgetful(fails)) as stage:
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin()
            await talk.heard("agent_response")
        await stage.ended()
        assert await stage.left() == left
        assert said in caplog.text


class Late(MemoryStore):
    """A store that takes its time for the first lease."""

    def __init__(self, takes: float) -> None:
        super().__init__(monotonic=seconds)
        self.takes = takes

    async def hold(self, leases: Any) -> tuple[LeaseStatus, ...]:
        takes, self.takes = self.takes, 0.0
        await asyncio.sleep(takes)
        return await super().hold(leases)


@pytest.mark.parametrize(("takes", "begins"), [(29.0, True), (31.0, False)])
def test_slot_that_somebody_else_may_have_had(takes: float, begins: bool) -> None:
    """What begins after its slot's lease ran out is refused, and leaves nothing that is renewed."""

    async def story() -> None:
        async with on_stage(limited(), store=Late(takes)) as stage:
            async with talking(stage.app, headers=stage.sign_in()) as slow:
                await asyncio.sleep(takes + 0.5)
                async with talking(stage.app, headers=stage.sign_in()) as second:
                    if begins:
                        await slow.accepted()
                        assert (await second.refusal()).status == 429
                        return
                    assert (await slow.refusal()).status == 503
                    await second.accepted()
                    assert len(await stage.gate.sessions()) == 1
            await asyncio.sleep(5)
            assert (await stage.left())[0] == 1
            assert await stage.gate.sessions() == ()

    in_fast_time(story())


async def test_conversation_that_is_refused_last_is_renewed_no_more() -> None:
    """One that was revoked while the platform was asked leaves no lease that beats."""
    async with on_stage(limited()) as stage:
        issue = stage.gate.platform.issue

        async def revoke_first(grant: Grant) -> Any:
            await stage.gate.revoke(grant.identity.issuer, grant.identity.subject)
            return await issue(grant)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stage.gate.platform, "issue", revoke_first)
            async with talking(stage.app, headers=stage.sign_in()) as talk:
                assert (await talk.refusal()).status == 401
        assert len(core_of(stage.gate).relay_context.sessions) == 0
