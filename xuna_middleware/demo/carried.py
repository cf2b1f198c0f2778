"""What `--check` asserts of conversations that the gate carries, a step at a time."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
from websockets.exceptions import InvalidStatus

from xuna_middleware import Identity, XunaGate
from xuna_middleware.demo.scene import AGENTS, Wiring, build_gate, instructions, ledger_key
from xuna_middleware.demo.stage import raise_stage
from xuna_middleware.demo.talk import Talk, talk
from xuna_middleware.demo.visitor import Visitor
from xuna_middleware.demo.walk import SIGNED_URL, Step, Walk, expect, leaks, refused, signs_in

BANKER: Final = {"agent": "banker"}
SESSIONS: Final = "/xuna/sessions"
REVOKE: Final = "/api/revoke"
#: Seconds that a conversation lasts where the step about the time limit looks.
_MOMENT: Final = 1.0
#: Seconds between two looks whether a conversation's slot is free again.
_BLINK: Final = 0.01


async def _leads_to_the_gate(walk: Walk) -> None:
    given = await _led(walk, "ada")
    expect("session" not in given, "the client is given something to carry")
    expect("conversation_id" not in given, "a conversation was opened already")
    expect(len(walk.stage.platform.issued) == walk.issued, "the platform was asked already")


async def _gate_writes_the_first_frame(walk: Walk) -> None:
    async with _carried(walk, "ada") as call:
        expect("Hello Ada Moreau" in await _begun(call), "the agent does not know her name")
        expect("plan_name is pro" in await call.say("What is my plan?"), "first turn")
        expect("The gate wrote these" in await call.say("Who are you?"), "the prompt is another")
    record = walk.stage.platform.conversations[-1]
    ada = Identity(subject="ada")
    secrets = {ledger_key(ada), instructions(ada)}
    walk.secrets |= secrets
    expect(record.dynamic_variables["secret__ledger_key"] == ledger_key(ada), "another secret")
    expect(record.overrides == {"agent.prompt.prompt": instructions(ada)}, "another prompt")
    expect(record.user_id == "ada", "the platform was not told who she is")
    heard = "\n".join(call.heard)
    expect(not any(leaks(secret, heard) for secret in secrets), "the client saw a secret")


async def _only_one_at_once(walk: Walk) -> None:
    spare = await _led(walk, "ada")
    async with _carried(walk, "ada") as call:
        await _begun(call)
        again = await walk.visitor.post(SIGNED_URL, BANKER, walk.tokens["ada"])
        refused(walk, again, 429, "quota_exceeded")
        try:
            async with talk(spare["signed_url"]):
                raise AssertionError("an earlier signed URL opened a second one")
        except InvalidStatus as denied:
            expect(denied.response.status_code == httpx.codes.TOO_MANY_REQUESTS, "it is no 429")


async def _forged_first_frame_ends_it(walk: Walk) -> None:
    before = len(walk.stage.platform.conversations)
    async with _carried(walk, "ben") as call:
        await call.introduce({"dynamicVariables": {"plan_name": "enterprise"}})
        expect(await call.closed() == (4400, "variable_not_allowed"), "it ended otherwise")
    expect(call.heard == [], "the client was sent something")
    expect(len(walk.stage.platform.conversations) == before, "the platform heard of it")


async def _fresh_token_prolongs_it(walk: Walk) -> None:
    async with _carried(walk, "ada") as call:
        await _begun(call)
        fresh = await walk.visitor.sign_in("ada")
        walk.secrets.add(fresh)
        answer = await call.renew(fresh)
        expect(answer.get("expires_at", 0) > time.time(), "it was not prolonged")
        answer = await call.renew(walk.tokens["ben"])
        expect(answer.get("code") == "subject_mismatch", "another's token is taken")


async def _operator_sees_it(walk: Walk) -> None:
    async with _carried(walk, "ada") as call:
        await _begun(call)
        session = await _only_session(walk)
        expect((session["subject"], session["agent"]) == ("ada", "banker"), "it is another's")
        record = walk.stage.platform.conversations[-1]
        expect(session["conversation_id"] == record.id, "it has another name")
        denied = await walk.visitor.get(SESSIONS, walk.tokens["ada"])
        refused(walk, denied, 403, "insufficient_scope")
        denied = await walk.visitor.delete(f"{SESSIONS}/{session['id']}", walk.tokens["ada"])
        refused(walk, denied, 403, "insufficient_scope")


async def _operator_ends_it(walk: Walk) -> None:
    async with _carried(walk, "ada") as call:
        await _begun(call)
        session = await _only_session(walk)
        answer = await walk.visitor.delete(f"{SESSIONS}/{session['id']}", walk.tokens["olga"])
        expect(answer.status_code == httpx.codes.ACCEPTED, f"it answers {answer.status_code}")
        expect(await call.closed() == (4412, "ended_by_operator"), "it ended otherwise")


async def _revocation_ends_it(walk: Walk) -> None:
    async with _carried(walk, "ben") as call:
        await _begun(call)
        session = await _only_session(walk)
        whom = {"issuer": session["issuer"], "subject": session["subject"]}
        ada, olga = walk.tokens["ada"], walk.tokens["olga"]
        by_ada = await walk.visitor.post(REVOKE, whom, ada)
        expect(by_ada.status_code == httpx.codes.FORBIDDEN, "Ada may revoke Ben")
        elsewhere = await walk.visitor.post(REVOKE, whom, olga, sec_fetch_site="cross-site")
        expect(elsewhere.status_code == httpx.codes.FORBIDDEN, "a page elsewhere may revoke")
        done = await walk.visitor.post(REVOKE, whom, olga)
        expect(done.status_code == httpx.codes.OK, f"revoking answers {done.status_code}")
        expect(await call.closed() == (4411, "revoked"), "it ended otherwise")


async def _revoked_token_gets_nothing(walk: Walk) -> None:
    for agent in ("banker", "concierge"):
        answer = await walk.visitor.post(SIGNED_URL, {"agent": agent}, walk.tokens["ben"])
        refused(walk, answer, 401, "invalid_token")
    await _next_second()
    await signs_in("ben")(walk)
    async with _carried(walk, "ben") as call:
        expect("Hello Ben Okafor" in await _begun(call), "the new sign-in is not good")


async def _time_limit_ends_it(walk: Walk) -> None:
    """Look at the same scene with a shorter limit: nobody wants to wait for the banker's."""
    async with (
        raise_stage(build=hurried) as stage,
        aclosing(Visitor(stage.url)) as visitor,
    ):
        there = Walk(stage=stage, visitor=visitor, log=walk.log, secrets=walk.secrets)
        await signs_in("ada")(there)
        async with _carried(there, "ada") as call:
            await _begun(call)
            expect(await call.closed() == (4410, "max_duration"), "it ended otherwise")
        lasted = next(
            event.seconds for event in stage.feed.events() if event.name == "conversation_ended"
        )
        expect(lasted and _MOMENT <= lasted < _MOMENT + 1, f"it lasted {lasted} s")


def hurried(wiring: Wiring) -> XunaGate:
    """Build the gate of the demo with a time limit that a step can wait for."""
    agents = [replace(one, max_duration=_MOMENT) if one.is_relayed else one for one in AGENTS]
    return build_gate(wiring, agents=agents)


async def _led(walk: Walk, person: str) -> dict[str, Any]:
    """Return this person's way to the banker: a signed URL that leads to the gate, good once."""
    answer = await walk.visitor.post(SIGNED_URL, BANKER, walk.tokens[person])
    expect(answer.status_code == httpx.codes.OK, f"the gate answers {answer.status_code}")
    expect(answer.headers["cache-control"] == "no-store", "the answer may be stored")
    given = dict(answer.json())
    leads = urlsplit(given["signed_url"])
    walk.secrets |= set(parse_qs(leads.query)["ticket"])
    page = urlsplit(walk.stage.url)
    expect((leads.netloc, leads.path) == (page.netloc, "/xuna/conversation"), "it leads elsewhere")
    return given


@asynccontextmanager
async def _carried(walk: Walk, person: str) -> AsyncIterator[Talk]:
    """Let this person talk with the banker; afterwards all that was taken is given back."""
    given = await _led(walk, person)
    async with talk(given["signed_url"]) as call:
        walk.carried += 1
        yield call
    while await walk.stage.gate.sessions():  # noqa: ASYNC110 - a free slot is told to nobody
        await asyncio.sleep(_BLINK)


async def _begun(call: Talk) -> str:
    """Begin as the page does, with nothing of one's own; return the agent's first words."""
    await call.introduce({})
    await call.started()
    return await call.hear()


async def _only_session(walk: Walk) -> dict[str, Any]:
    """Return the one live conversation that the operator is shown."""
    answer = await walk.visitor.get(SESSIONS, walk.tokens["olga"])
    expect(answer.status_code == httpx.codes.OK, f"it answers {answer.status_code}")
    sessions = answer.json()["sessions"]
    expect(len(sessions) == 1, f"{len(sessions)} conversations are listed")
    return dict(sessions[0])


async def _next_second() -> None:
    """Wait for a token's `iat`, in whole seconds, to be later than a revocation just now."""
    await asyncio.sleep(math.ceil(time.time()) - time.time())


#: The steps, as in `steps.STEPS`.
CARRIED: Final[tuple[tuple[str, Step], ...]] = (
    ("Ada's signed URL for the banker leads to the gate itself", _leads_to_the_gate),
    ("The gate adds prompt, secret and user id, unseen by her", _gate_writes_the_first_frame),
    ("A second conversation at once is refused: 429", _only_one_at_once),
    ("A forged variable ends it, the platform hears nothing: 4400", _forged_first_frame_ends_it),
    ("Her fresh token lets it last longer, Ben's doesn't", _fresh_token_prolongs_it),
    ("Olga sees who talks with whom; Ada may not: 403", _operator_sees_it),
    ("Olga ends Ada's conversation: 4412", _operator_ends_it),
    ("Olga revokes Ben while he talks: 4411", _revocation_ends_it),
    ("His token gets nothing more: 401; his next sign-in does", _revoked_token_gets_nothing),
    ("The time limit ends a conversation: 4410", _time_limit_ends_it),
)
