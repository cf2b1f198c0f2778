"""How far a decision reaches: what hasn't begun, other processes, a store that was away."""

import asyncio
from typing import Any

import pytest
from starlette.requests import HTTPConnection
from support.relay_stage import (
    HOME,
    REFRESH,
    URL,
    agent,
    boss,
    limited,
    on_stage,
    swap_line,
    verifier,
    with_visitors,
)
from support.scripted import ScriptedLine
from support.talking import talking

from xuna_middleware import (
    Concurrent,
    ConfigurationError,
    Credentials,
    Identity,
    InvalidTokenError,
    MemoryStore,
    XunaGate,
    XunaMiddleware,
)
from xuna_middleware.errors import NotAuthenticatedError
from xuna_middleware.stores import StoreError


async def test_visitors_ticket_opens_nothing_else() -> None:
    """A protected path and `gate.identity()` take no visitor, by a ticket neither."""
    async with with_visitors() as stage:
        app = XunaMiddleware(stage.app.app, stage.gate, protect=["/api"])
        for _ in range(2):
            ticket = await stage.ticket([HOME], agent="faq")
            async with talking(app, path="/api/ws", query=f"ticket={ticket}") as talk:
                assert (await talk.refusal()).status == 401
        ticket = await stage.ticket([HOME], agent="faq")
        scope = {"type": "websocket", "path": "/", "headers": [], "subprotocols": []}
        connection = HTTPConnection({**scope, "query_string": f"ticket={ticket}".encode()})
        with pytest.raises(NotAuthenticatedError):
            await stage.gate.identity(connection)


@pytest.mark.parametrize("when", ["first frame", "connect"])
async def test_word_before_it_begins(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Revoked while the gate waits: it ends at once, and the platform hears nothing."""
    opening = asyncio.Event()

    async def connect(*_: Any, **__: Any) -> Any:
        opening.set()
        await asyncio.Event().wait()

    async with on_stage(limited()) as stage:
        swap_line(stage, monkeypatch, ScriptedLine())
        monkeypatch.setattr(stage.gate.platform, "connect", connect)
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            if when == "connect":
                await talk.begin()
                await opening.wait()
            else:
                await talk.accepted()
            await stage.gate.revoke(stage.sandbox._provider.issuer, "user-1")
            assert await talk.ending(within=2) == (4411, "revoked")
        await stage.ended()
        assert not stage.named("conversation_started")
        assert (await stage.left(stage.sign_in("user-2")))[0] == 1


class Away(MemoryStore):
    """A store that can be away."""

    is_away = False

    async def reserve(self, *arguments: Any) -> Any:
        self._check()
        return await super().reserve(*arguments)

    async def hold(self, leases: Any) -> Any:
        self._check()
        return await super().hold(leases)

    def _check(self) -> None:
        if self.is_away:
            raise StoreError("away")


@pytest.mark.parametrize("word", ["revoked", "ended_by_operator"])
async def test_what_began_while_the_store_was_away(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is seen, ended and revoked by other processes, once the store is there again."""
    monkeypatch.setattr("xuna_middleware.relay.live.BEAT", 0.05)
    store = Away()
    limits = [Concurrent(1, on_unavailable="local")]
    async with on_stage(agent(limits=limits), store=store) as stage:
        other = XunaGate(verifier=verifier(), agents=[agent()], public_url=URL, store=store)
        store.is_away = True
        async with talking(stage.app, headers=stage.sign_in()) as talk:
            await talk.begin()
            await talk.heard("agent_response")
            assert await other.sessions() == ()
            store.is_away = False
            async with asyncio.timeout(5):
                while not await other.sessions():  # noqa: ASYNC110 - a beat wakes nobody
                    await asyncio.sleep(0.01)
            (session,) = await other.sessions()
            assert len(await stage.gate.sessions()) == 1
            if word == "revoked":
                await other.revoke(session.issuer, session.subject)
            else:
                assert await other.end_session(session.id)
            assert (await talk.ending())[1] == word
        await stage.ended()
        assert await other.sessions() == ()


async def test_revoked_here_while_the_store_is_away() -> None:
    """What this process was told of before, it knows without the store."""
    store = Away()
    limits = [Concurrent(1, on_unavailable="local")]
    async with on_stage(agent(limits=limits), store=store) as stage:
        headers = stage.sign_in()
        await stage.gate.revoke(stage.sandbox._provider.issuer, "user-1")
        store.is_away = True
        async with talking(stage.app, headers=headers) as talk:
            assert (await talk.refusal()).status == 401


class Both:
    """Verify tokens of two issuers who know the same people."""

    async def verify(self, credentials: Credentials) -> Identity:
        issuer, _, subject = credentials.token.partition("-")
        return Identity(issuer=issuer, subject=subject)


async def test_fresh_token_of_another_issuer() -> None:
    """The same name there is another person."""
    async with on_stage() as stage:
        with stage.gate.overridden(verifier=Both()):
            headers = [(b"authorization", b"Bearer one-ada")]
            async with talking(stage.app, headers=headers) as talk:
                await talk.begin()
                await talk.say({"type": REFRESH, "token": "two-ada"})
                assert (await talk.heard(REFRESH))["code"] == "subject_mismatch"


async def test_fresh_token_that_the_rule_refuses() -> None:
    """Who lost what the agent asks for stays no longer than they may."""
    rule = {"allow": lambda who: "voice" in who.scopes}
    async with (
        on_stage(agent(**rule)) as stage,
        talking(stage.app, headers=stage.sign_in(scopes=["voice"])) as talk,
    ):
        await talk.begin()
        for scopes, answer in ((["other"], "code"), (["voice"], "expires_at")):
            await talk.say({"type": REFRESH, "token": stage.token(scopes=scopes)})
            assert answer in await talk.heard(REFRESH)


async def test_tickets_are_bounded() -> None:
    """Nothing is taken for one, so nobody makes them without end, and nobody else goes short."""
    async with on_stage() as stage:
        headers = stage.sign_in()
        told = [(await stage.ask("/ticket", headers, method="POST")).status for _ in range(301)]
        assert told == [200] * 300 + [429]
        assert (await stage.ask("/ticket", stage.sign_in("user-2"), method="POST")).status == 200


def test_operators_need_a_prefix() -> None:
    """At the root nobody would serve what they ask for."""
    gate = XunaGate(verifier=verifier(), agents=[agent()], public_url=URL, operators=boss)
    with pytest.raises(ConfigurationError, match='prefix="/xuna"'):
        XunaMiddleware(gate, gate, prefix="")


async def test_revoked_operator() -> None:
    """Sees nothing any more; a route of one's own can ask, too."""
    async with on_stage(operators=boss) as stage:
        headers, issuer = stage.sign_in("boss"), stage.sandbox._provider.issuer
        who = Identity(subject="boss", issuer=issuer, claims={"iat": 1})
        assert (await stage.ask("/sessions", headers)).status == 200
        await stage.gate.ensure_not_revoked(who)
        await stage.gate.revoke(issuer, "boss")
        assert (await stage.ask("/sessions", headers)).status == 401
        with pytest.raises(InvalidTokenError):
            await stage.gate.ensure_not_revoked(who)
