"""What the demo shows: four agents, and the gate in front of them: what a user writes."""

import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from secrets import token_urlsafe
from typing import Final

import httpx

from xuna_middleware import (
    AccessDeniedError,
    Agent,
    AnonymousAccess,
    Concurrent,
    Event,
    Identity,
    Immediate,
    Limit,
    OIDCVerifier,
    ProofOfWork,
    RelayRules,
    TalkTime,
    XunaGate,
    XunaPlatform,
    all_of,
    claim,
    deny,
    require_scopes,
)
from xuna_middleware.sandbox import PEOPLE, VOICE_SCOPE, Person, SandboxAgent

AUDIENCE: Final = "xuna-demo"
CLIENT_ID: Final = "xuna-demo-page"
#: The scope that admits to the operator's window.
OVERSEE_SCOPE: Final = "voice:oversee"
#: Who may see and end live conversations, and revoke people.
OPERATORS: Final = require_scopes(OVERSEE_SCOPE)
#: Seconds of the banker's time: short enough for a person to see the limit come.
_LONGEST: Final = 90

#: Who can sign in: the sandbox's people, and somebody who watches over them.
CAST: Final = (
    *PEOPLE,
    Person(
        subject="olga",
        name="Olga Brandt",
        scopes=frozenset({OVERSEE_SCOPE}),
        claims={"email": "olga@example.com", "plan": "staff", "roles": ["operator"]},
        note="An operator: sees who talks, ends it, revokes. Talks herself with nobody.",
    ),
)

#: The agents as their makers would describe them on the platform.
PLATFORM_AGENTS: Final = (
    SandboxAgent(
        "agent_demo_concierge",
        name="the concierge",
        first_message="Hello {{user_name}}, the concierge speaking. What can I do for you?",
        prompt="You are the concierge. You help {{user_name}}, who is on the {{plan_name}} plan.",
    ),
    SandboxAgent(
        "agent_demo_advisor",
        name="the advisor",
        prompt="You are the advisor. You know {{user_name}} and take your time.",
        allowed_overrides=frozenset({"agent.first_message"}),
    ),
    SandboxAgent(
        "agent_demo_guide",
        name="the guide",
        first_message="Welcome, whoever you are. I am the guide.",
        prompt="You are the guide. You show visitors around.",
    ),
    SandboxAgent(
        "agent_demo_banker",
        name="the banker",
        first_message="Hello {{user_name}}, the banker here. Nobody but the gate sees my notes.",
        prompt="You are a banker without a customer.",
        allowed_overrides=frozenset({"agent.prompt.prompt"}),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """Hold what the gate is connected to in this run; the key is in no rendering.

    Attributes:
        issuer: of the sandbox provider. platform_url: where the sandbox platform is.
        api_key: the sandbox platform's, made anew for each run.
        public_url: where clients reach the gate. on_event: takes every `Event`.
    """

    issuer: str
    platform_url: str
    api_key: str = field(repr=False)
    public_url: str
    on_event: Callable[[Event], None]


def on_the_pro_plan(who: Identity) -> bool | AccessDeniedError:
    """Admit the Pro plan; tell the others why not, in words that they get to read."""
    if who.claims.get("plan") == "pro":
        return True
    return deny("plan_too_small", "The advisor is part of the Pro plan.")


def welcome(who: Identity) -> str:
    """Return the advisor's first words to this person."""
    return f"Good to see you, {who.claims['name']}. Where were we?"


_LEDGER: Final = token_urlsafe().encode()


def ledger_key(who: Identity) -> str:
    """Return the key of this person's account, made anew in each run: for a tool of the banker."""
    return hmac.digest(_LEDGER, who.subject.encode(), "sha256").hex()


def instructions(who: Identity) -> str:
    """Return what the banker is to know of this person, and this person is not to read."""
    return (
        "You are the banker of {{user_name}}, on the {{plan_name}} plan. The gate wrote these "
        "instructions, which no page has seen or could change. In confidence: "
        f"{who.subject}'s credit line ends at 12,000."
    )


PERSONAL: Final = {"user_name": claim("name"), "plan_name": claim("plan")}
AGENTS: Final = (
    Agent(
        "concierge",
        id="agent_demo_concierge",
        allow=require_scopes(VOICE_SCOPE),
        dynamic_variables=PERSONAL,
    ),
    Agent(
        "advisor",
        id="agent_demo_advisor",
        allow=all_of(require_scopes(VOICE_SCOPE), on_the_pro_plan),
        dynamic_variables=PERSONAL,
        overrides={"agent.first_message": welcome},
    ),
    Agent(
        "guide",
        id="agent_demo_guide",
        anonymous=True,
        max_duration=120,
        limits=[Limit("3/hour"), TalkTime("60 minutes/day", per="all")],
    ),
    Agent(
        "banker",
        id="agent_demo_banker",
        allow=require_scopes(VOICE_SCOPE),
        transports=("relay",),
        max_duration=_LONGEST,
        dynamic_variables={**PERSONAL, "secret__ledger_key": ledger_key},
        overrides={"agent.prompt.prompt": instructions},
        user_id=claim("sub"),
        limits=[Concurrent(1), TalkTime("30 minutes/day")],
        relay=RelayRules(
            idle_timeout=60,
            frames_per_second=20,
            client_frames=("user_message",),
        ),
    ),
)
#: The same agents in the page's words, by name.
IN_WORDS: Final = {
    "concierge": ("Concierge", f"For everyone with the scope {VOICE_SCOPE}."),
    "advisor": ("Advisor", f"Asks for {VOICE_SCOPE} and the Pro plan."),
    "guide": ("Guide", "For everybody, signed in or not."),
    "banker": ("Banker", f"Through the gate: one conversation at a time, {_LONGEST} s each."),
}


def build_gate(wiring: Wiring, *, agents: Iterable[Agent] = AGENTS) -> XunaGate:
    """Build the gate of the demo.

    The transports are there because everything is on this machine: httpx heeds proxy variables
    only where none is given.
    """
    return XunaGate(
        verifier=OIDCVerifier(
            wiring.issuer, audience=AUDIENCE, http_transport=httpx.AsyncHTTPTransport()
        ),
        agents=agents,
        platform=XunaPlatform(
            wiring.api_key,
            base_url=wiring.platform_url,
            include_conversation_id=True,
            http_transport=httpx.AsyncHTTPTransport(),
        ),
        anonymous=AnonymousAccess(
            secret=token_urlsafe(),
            limits=[Limit("20/hour", per="address")],
            captcha=ProofOfWork(12),
        ),
        public_url=wiring.public_url,
        operators=OPERATORS,
        on_event=[Immediate(wiring.on_event)],
    )
