"""What happens to an identity provider's keys is told to the gate's hooks."""

from dataclasses import dataclass, field
from typing import Any

import httpx
from support.doubles import ask, bearer, make_gate, make_verifier
from support.signing import AUDIENCE, ISSUER, NOW, good_claims, jwks, rsa_signer

from xuna_middleware import Event, JWTVerifier, TenantVerifiers, Verifier

OLD, NEW = rsa_signer("old"), rsa_signer("new")


@dataclass
class Provider:
    """Publish keys, or nothing."""

    published: Any = OLD
    is_down: bool = False
    events: list[Event] = field(default_factory=list)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if self.is_down:
            return httpx.Response(503)
        return httpx.Response(200, json=jwks(self.published))

    def verifier(self) -> JWTVerifier:
        return make_verifier(
            jwks_uri=f"{ISSUER}/keys", http_transport=httpx.MockTransport(self.answer)
        )

    def told(self) -> list[tuple[str, str | None]]:
        return [
            (event.name, event.issuer)
            for event in self.events
            if event.name in ("keys_rotated", "provider_down")
        ]


async def test_rotation_is_told_once() -> None:
    """Not the first set, and not the same again."""
    provider = Provider()
    gate = make_gate(verifier=provider.verifier(), on_event=[provider.events.append])
    assert (await ask(gate, headers=bearer(OLD.token(good_claims())))).status == 200
    assert provider.told() == []
    provider.published = NEW
    assert (await ask(gate, headers=bearer(NEW.token(good_claims())))).status == 200
    assert provider.told() == [("keys_rotated", ISSUER)]
    await gate.aclose()


async def test_provider_that_is_down() -> None:
    """Told with the cause, at each attempt that fails."""
    provider = Provider(is_down=True)
    gate = make_gate(verifier=provider.verifier(), on_event=[provider.events.append])
    assert (await ask(gate, headers=bearer(OLD.token(good_claims())))).status == 503
    assert provider.told() == [("provider_down", ISSUER)]
    assert provider.events[0].cause
    await gate.aclose()


async def test_two_gates_on_one_verifier() -> None:
    """Each gate's hooks are told, once."""
    provider, other = Provider(is_down=True), Provider()
    verifier = provider.verifier()
    gates = [make_gate(verifier=verifier, on_event=[p.events.append]) for p in (provider, other)]
    for gate in gates:
        await ask(gate, headers=bearer(OLD.token(good_claims())))
    assert provider.told()[:1] == [("provider_down", ISSUER)]
    assert len(other.told()) == len(provider.told()) - 1, "begun before the second gate"
    await verifier.aclose()


async def test_tenants_verifiers_tell_as_well() -> None:
    """Those that are found later."""
    provider = Provider()

    async def find(issuer: str) -> Verifier | None:
        return provider.verifier() if issuer == ISSUER else None

    gate = make_gate(verifier=TenantVerifiers(find), on_event=[provider.events.append])
    assert (await ask(gate, headers=bearer(OLD.token(good_claims())))).status == 200
    provider.published = NEW
    assert (await ask(gate, headers=bearer(NEW.token(good_claims())))).status == 200
    assert provider.told() == [("keys_rotated", ISSUER)]
    await gate.aclose()


async def test_given_keys_tell_nothing() -> None:
    """They stay as they are."""
    seen: list[Event] = []
    verifier = JWTVerifier(issuer=ISSUER, audience=AUDIENCE, jwks=jwks(OLD), clock=lambda: NOW)
    gate = make_gate(verifier=verifier, on_event=[seen.append])
    assert (await ask(gate, headers=bearer(OLD.token(good_claims())))).status == 200
    assert {event.name for event in seen} == {"verified", "authorized", "issued"}
