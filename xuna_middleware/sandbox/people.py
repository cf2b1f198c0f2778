"""People to sign in as: one with everything, one on a smaller plan, one without the scope."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: The scope that admits to an agent in the sandbox, the demo and the documentation.
VOICE_SCOPE: Final = "voice:talk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Describe somebody who can sign in. There is no password: this is a rehearsal.

    Attributes:
        subject: `sub`. name: what the page shows and the `name` claim says.
        scopes: what may be granted, beside `openid`, `profile` and `email`, which all may have.
        claims: further claims of every token: `plan`, `email`, `roles`, ….
        note: one line for the sign-in page, saying what this person is good for.
    """

    subject: str
    name: str
    scopes: frozenset[str] = frozenset()
    claims: Mapping[str, Any] = field(default_factory=dict, hash=False)
    note: str = ""

    def __post_init__(self) -> None:
        if not self.subject or not self.name:
            raise ValueError("A Person needs a subject and a name")
        if isinstance(self.scopes, str):
            raise TypeError(f"scopes is a collection of names: write {{{self.scopes!r}}}")
        object.__setattr__(self, "scopes", frozenset(self.scopes))
        object.__setattr__(self, "claims", dict(self.claims))


PEOPLE: Final = (
    Person(
        subject="ada",
        name="Ada Moreau",
        scopes=frozenset({VOICE_SCOPE, "voice:admin"}),
        claims={"email": "ada@example.com", "plan": "pro", "roles": ["member", "admin"]},
        note="May talk with every agent. Plan: pro.",
    ),
    Person(
        subject="ben",
        name="Ben Okafor",
        scopes=frozenset({VOICE_SCOPE}),
        claims={"email": "ben@example.com", "plan": "free", "roles": ["member"]},
        note="May talk. Plan: free.",
    ),
    Person(
        subject="cleo",
        name="Cleo Lindqvist",
        claims={"email": "cleo@example.com", "plan": "free", "roles": ["member"]},
        note=f"Lacks the scope {VOICE_SCOPE}, so the gate refuses.",
    ),
)
