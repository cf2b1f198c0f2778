"""What the agent says: short answers made by rule. No model, no network, no dice. Pure."""

import re
from collections.abc import Mapping
from typing import Final

from xuna_middleware.sandbox.agents import Scalar, fill

#: Begins everything the agent says, so that no one takes a rehearsal for the play.
MARK: Final = "[sandbox] "

_RULES: Final = (
    (
        r"\b(who|what) are you\b|\byour name\b",
        (
            "I am {agent}, in rehearsal. My instructions begin: “{persona}”",
            "Still {agent}. A rule answers you, not a model. My instructions begin: “{persona}”",
        ),
    ),
    (
        r"\b(about|know) me\b|\bwho am i\b|\bmy (name|plan|account)\b",
        (
            "I was told: {known}.",
            "Nothing beyond this: {known}.",
        ),
    ),
    (
        r"\b(hello|hi|hey|good (morning|day|evening))\b",
        ("Hello{comma_user}. What can I do for you?", "And hello again{comma_user}."),
    ),
    (
        r"\b(thanks|thank you)\b",
        ("You are welcome{comma_user}.", "Gladly{comma_user}. Anything else?"),
    ),
    (
        r"\b(bye|goodbye|see you)\b",
        ("Goodbye{comma_user}. You can hang up now.", "Until next time{comma_user}."),
    ),
    (
        r"\?\s*$",
        (
            "A fair question. The real {agent} would look that up; I only rehearse.",
            "I can't know that here. What I can tell: you have asked {turn} things so far.",
            "Good question. On the platform, this is where a model would answer you.",
        ),
    ),
)
_OTHERWISE: Final = (
    "I heard: “{text}”. Go on.",
    "Noted, “{text}”. What next?",
    "“{text}”, understood. That was message {turn}.",
)
_MATCHERS: Final = tuple((re.compile(pattern, re.IGNORECASE), said) for pattern, said in _RULES)
_LONGEST: Final = 120


def opening(first_message: str, variables: Mapping[str, Scalar]) -> str:
    """Return the agent's first words, filled in and marked; empty where it lets the user begin."""
    return f"{MARK}{fill(first_message, variables)}" if first_message else ""


def reply(text: str, *, turn: int, agent: str, prompt: str, variables: Mapping[str, Scalar]) -> str:
    """Answer the user's `turn`-th message (from 1), in the agent's persona."""
    said = next((said for matcher, said in _MATCHERS if matcher.search(text)), _OTHERWISE)
    user = str(variables.get("user_name", ""))
    words = said[(turn - 1) % len(said)].format(
        agent=agent,
        persona=_short(fill(prompt, variables)),
        known=_known(variables),
        comma_user=f", {user}" if user else "",
        text=_short(text.strip()),
        turn=turn,
    )
    return f"{MARK}{words}"


def deaf() -> str:
    """Return what the agent says when audio comes in: it has no ears."""
    return f"{MARK}I notice audio, but nobody here can hear it. Please write to me."


def _known(variables: Mapping[str, Scalar]) -> str:
    shown = {
        name: value
        for name, value in sorted(variables.items())
        if not name.startswith(("system__", "secret__"))
    }
    listed = ", ".join(f"{name} is {value}" for name, value in shown.items())
    return listed or "nothing about you"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
