"""Replay as a state machine: any order of proofs, replays and passing time."""

from dataclasses import dataclass
from typing import Any, Final, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from support.signing import EC, NOW, proof, thumbprint

from xuna_middleware import DPoP, InvalidTokenError, MemoryStore
from xuna_middleware.identity.bound.dpop import Proofs
from xuna_middleware.identity.bound.request import ProofContext

URL: Final = "https://acme.com/xuna/get-signed-url"
OPTION: Final = DPoP(max_age=60, leeway=5)


@dataclass(kw_only=True)
class Shown:
    """What a request shows, said outright."""

    proofs: tuple[bytes, ...]
    store: MemoryStore
    method: str = "GET"
    target: str = URL
    gate: str = ""
    address: str = "192.0.2.1"


class Replays(RuleBasedStateMachine):
    """Two processes' checkers on one store: a proof passes at most once, and only in its time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.store = MemoryStore(monotonic=lambda: self.now)
        self.checkers = [Proofs(OPTION, lambda: self.now) for _ in range(2)]
        self.used: set[tuple[str, float]] = set()

    @rule(
        jti=st.sampled_from("abc"),
        age=st.sampled_from([-6, -5, 0, 30, 65, 66]),
        process=st.sampled_from([0, 1]),
    )
    def present(self, jti: str, age: float, process: int) -> None:
        """Present a proof made `age` seconds ago; the jti alone makes it a used one."""
        fits = -5 <= age <= 65
        expected = fits and not any(jti == used and self.now < until for used, until in self.used)
        made = proof(EC, "token", URL, jti=jti, iat=self.now - age)
        assert self.passes(made, process) is expected
        if expected:
            self.used.add((jti, self.now + 60 + 2 * 5 + 1))

    @rule(seconds=st.sampled_from([1, 30, 70, 71]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    def passes(self, made: bytes, process: int) -> bool:
        shown = cast("ProofContext", Shown(proofs=(made,), store=self.store))
        story: Any = self.checkers[process].check(shown, "token", thumbprint(EC.jwk), "issuer", "a")
        try:
            story.send(None)
        except StopIteration:
            return True
        except InvalidTokenError:
            return False
        raise AssertionError("the check waited for something")


TestReplays = Replays.TestCase
TestReplays.settings = settings(max_examples=40, stateful_step_count=20)
