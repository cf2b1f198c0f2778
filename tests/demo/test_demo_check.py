"""`--check`: it passes on the demo as it is, and fails where the gate is broken."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import typer.testing

from xuna_middleware import (
    Agent,
    Credentials,
    Identity,
    Immediate,
    OIDCVerifier,
    Verifier,
    XunaGate,
    XunaPlatform,
    claim,
    require_scopes,
)
from xuna_middleware.demo import command
from xuna_middleware.demo.check import run
from xuna_middleware.demo.scene import (
    AGENTS,
    AUDIENCE,
    OVERSEE_SCOPE,
    PERSONAL,
    Wiring,
    build_gate,
)
from xuna_middleware.demo.stage import raise_stage
from xuna_middleware.demo.steps import STEPS
from xuna_middleware.sandbox import VOICE_SCOPE

CANARY = "canary-of-a-key-that-must-not-be-used"
#: A JWT, a signed URL's secret part, a key.
SECRET = re.compile(r"eyJ|signature=|token=|ticket=|xgt_|xi-api-key", re.IGNORECASE)


class Gullible:
    """Believe whatever a token says."""

    async def verify(self, credentials: Credentials) -> Identity:
        payload = credentials.token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
        scopes = frozenset(claims["scope"].split())
        return Identity(subject=claims["sub"], scopes=scopes, claims=claims)


def opened(wiring: Wiring) -> XunaGate:
    """Build the gate without its rules."""
    return build_gate(wiring, agents=[replace(one, allow=None) for one in AGENTS])


def credulous(wiring: Wiring) -> XunaGate:
    """Build the gate with a verifier that checks no signature."""
    return by_hand(wiring, Gullible(), OVERSEE_SCOPE)


def unwatched(wiring: Wiring) -> XunaGate:
    """Build the gate so that whoever may talk may also see and end what others talk."""
    verifier = OIDCVerifier(wiring.issuer, audience=AUDIENCE)
    return by_hand(wiring, verifier, VOICE_SCOPE)


def by_hand(wiring: Wiring, verifier: Verifier, oversee_scope: str) -> XunaGate:
    return XunaGate(
        verifier=verifier,
        agents=AGENTS,
        platform=XunaPlatform(
            wiring.api_key, base_url=wiring.platform_url, include_conversation_id=True
        ),
        public_url=wiring.public_url,
        operators=require_scopes(oversee_scope),
        on_event=[Immediate(wiring.on_event)],
    )


def crowded(wiring: Wiring) -> XunaGate:
    """Build the gate without limits for those who are known."""
    return build_gate(wiring, agents=[one if one.anonymous else unlimited(one) for one in AGENTS])


def unlimited(agent: Agent) -> Agent:
    return replace(agent, limits=())


def porous(wiring: Wiring) -> XunaGate:
    """Build the gate so that the banker believes a client's first frame."""
    *others, banker = AGENTS
    loose = replace(
        banker,
        dynamic_variables={"user_name": PERSONAL["user_name"]},
        client_variables=("plan_name",),
    )
    return build_gate(wiring, agents=[*others, loose])


def talkative(wiring: Wiring) -> XunaGate:
    """Build the gate so that the banker tells its secret, and who calls under another name."""
    *others, banker = AGENTS
    told = {**PERSONAL, "ledger_key": claim("sub")}
    named = replace(banker, dynamic_variables=told, user_id=claim("name"))
    return build_gate(wiring, agents=[*others, named])


def forgeable(wiring: Wiring) -> XunaGate:
    """Build the gate with a variable that a client may set."""
    concierge, *others = AGENTS
    loose = Agent(
        "concierge",
        id=concierge.id,
        allow=concierge.allow,
        dynamic_variables={"user_name": PERSONAL["user_name"]},
        client_variables=("plan_name",),
    )
    return build_gate(wiring, agents=[loose, *others])


def mute(wiring: Wiring) -> XunaGate:
    """Build the gate so that it tells the page nothing."""
    silent = Wiring(
        issuer=wiring.issuer,
        platform_url=wiring.platform_url,
        api_key=wiring.api_key,
        public_url=wiring.public_url,
        on_event=lambda event: None,
    )
    return build_gate(silent)


def test_the_command_walks_every_step_and_tells_no_secret() -> None:
    """One line a step, a summary, exit 0; no variable of a real set-up and no proxy is heeded."""
    done = subprocess.run(
        [sys.executable, "-m", "xuna_middleware.demo", "--check"],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        env={
            **os.environ,
            "XUNA_AI_API_KEY": CANARY,
            "XUNA_AI_BASE_URL": "http://127.0.0.1:9",
            "HTTP_PROXY": "http://127.0.0.1:9",
            "PYTHONIOENCODING": "utf-8",
        },
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout
    assert [line[0] for line in lines if line] == ["✓"] * (len(STEPS) + 1)
    assert all(re.match(r"✓ +\d+ ms  \S", line) for line in lines[: len(STEPS)])
    assert f"{len(STEPS)} of {len(STEPS)} steps" in lines[-1]
    assert done.stderr == ""
    assert CANARY not in done.stdout
    assert not SECRET.search(done.stdout)


async def test_the_keys_of_a_run_are_in_no_line() -> None:
    """What this very run used as secrets, compared with what it told."""
    lines: list[str] = []
    async with raise_stage() as stage:
        assert await run(stage, lines.append), lines
        assert stage.platform.api_key not in "\n".join(lines)
        assert stage.platform.api_key not in repr(stage)


@pytest.mark.parametrize(
    ("build", "failing"),
    [
        (opened, ["Each is shown", "Cleo is refused", "Ben is refused"]),
        (credulous, ["A tampered token"]),
        (unwatched, ["Olga sees", "Olga ends"]),
        (crowded, ["A second conversation"]),
        (porous, ["A forged variable ends it"]),
        (talkative, ["The gate adds"]),
        (forgeable, ["A forged variable"]),
        (mute, ["The feed tells", "Nothing was issued"]),
    ],
)
async def test_a_broken_gate_is_seen(
    build: Callable[[Wiring], XunaGate], failing: list[str]
) -> None:
    """Each of these gates lets something through, and the step that is about it says so."""
    lines: list[str] = []
    async with raise_stage(build=build) as stage:
        assert not await run(stage, lines.append)
    wrong = [line for line in lines if line.startswith("✗")]
    assert all(any(step in line for line in wrong) for step in failing), lines
    assert "✗" in lines[-1]


def test_a_broken_gate_makes_the_command_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 1, for scripts."""
    monkeypatch.setattr(command, "raise_stage", partial(raise_stage, build=opened))
    result = typer.testing.CliRunner().invoke(command.app, ["--check"])
    assert result.exit_code == 1
    assert "✗" in result.output
