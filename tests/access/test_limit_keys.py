"""Whom a limit counts: who is one, and who is another."""

from typing import Any

import pytest
from starlette.requests import HTTPConnection
from support.doubles import http_scope, make_gate

from xuna_middleware import (
    AccessDeniedError,
    Agent,
    ConfigurationError,
    GateError,
    Identity,
    Limit,
    LimitReachedError,
    claim,
)
from xuna_middleware.errors import UnavailableError
from xuna_middleware.identity.client_address import client_address
from xuna_middleware.identity.proxies.trusted import TrustedProxies

ANNA = Identity(subject="anna", issuer="https://one", client_id="app", claims={"team": "red"})


async def are_one(per: Any, one: Identity, other: Identity, *, agent: str = "a") -> bool:
    """Tell whether a limit of one credential counts two callers as one."""
    agents = [Agent("a", id="agent_1"), Agent("b", id="agent_2")]
    gate = make_gate(agents=agents, limits=[Limit("1/day", per=per)])
    await gate.issue(one, "a", transport="websocket")
    try:
        await gate.issue(other, agent, transport="websocket")
    except LimitReachedError:
        return True
    return False


def like_anna(**changes: Any) -> Identity:
    """Return somebody who differs from Anna in this only."""
    fields = {"subject": "anna", "issuer": "https://one", "client_id": "app"}
    return Identity(**{**fields, "claims": {"team": "red"}, **changes})


@pytest.mark.parametrize(
    ("per", "change", "one"),
    [
        ("subject", {}, True),
        ("subject", {"client_id": "other", "claims": {}}, True),
        ("subject", {"subject": "bert"}, False),
        ("subject", {"issuer": "https://two"}, False),
        ("subject", {"issuer": "https://on", "subject": "eanna"}, False),
        ("client", {"subject": "bert"}, True),
        ("client", {"client_id": "other"}, False),
        ("client", {"issuer": "https://two"}, False),
        (claim("team"), {"subject": "bert"}, True),
        (claim("team"), {"claims": {"team": "blue"}}, False),
        (claim("team"), {"issuer": "https://two"}, False),
        (claim("team", default="none"), {"claims": {}}, False),
        (lambda who: who.subject[0], {"subject": "albert"}, True),
        (lambda who: who.subject[0], {"subject": "bert"}, False),
        (lambda who: who.subject[0], {"issuer": "https://two"}, False),
        ("all", {"subject": "bert", "issuer": "https://two"}, True),
        ("agent", {"subject": "bert", "issuer": "https://two"}, True),
        (("subject", claim("team")), {}, True),
        (("subject", claim("team")), {"claims": {"team": "blue"}}, False),
        (("client", claim("team")), {"subject": "bert"}, True),
    ],
)
async def test_who_is_counted_as_one(per: Any, change: dict[str, Any], one: bool) -> None:
    """The issuer is part of whatever says something about a caller."""
    assert await are_one(per, ANNA, like_anna(**change)) is one


@pytest.mark.parametrize(("per", "one"), [("subject", True), ("all", True), ("agent", False)])
async def test_limits_of_the_gate_span_agents(per: Any, one: bool) -> None:
    """But for those that count an agent."""
    assert await are_one(per, ANNA, ANNA, agent="b") is one


async def test_limits_of_an_agent_are_its_own() -> None:
    """Another agent's conversations take nothing of it."""
    limits = [Limit("1/day")]
    gate = make_gate(agents=[Agent(name, id="agent_1", limits=limits) for name in ("a", "b")])
    await gate.issue(ANNA, "a", transport="websocket")
    await gate.issue(ANNA, "b", transport="websocket")
    with pytest.raises(LimitReachedError):
        await gate.issue(ANNA, "b", transport="websocket")


async def test_values_of_two_types_are_two() -> None:
    """The number 1, the text "1" and True are three tenants."""
    gate = make_gate(limits=[Limit("1/day", per=claim("tenant"))])
    for tenant in (1, "1", True, 1.5, "x" * 300, "x" * 299 + "y"):
        await gate.issue(Identity(subject="u", claims={"tenant": tenant}), transport="websocket")


@pytest.mark.parametrize(
    ("per", "claims", "refusal", "code"),
    [
        (claim("team"), {}, AccessDeniedError, "claim_missing"),
        (claim("team"), {"team": ["red"]}, AccessDeniedError, "invalid_claim"),
        ("client", {}, AccessDeniedError, "claim_missing"),
        (lambda who: None, {}, UnavailableError, "unavailable"),
        (lambda who: who.claims["team"], {}, UnavailableError, "unavailable"),
    ],
)
async def test_callers_who_cannot_be_counted(
    per: Any, claims: dict[str, Any], refusal: type[GateError], code: str
) -> None:
    """They are not let by uncounted."""
    gate = make_gate(limits=[Limit("1/day", per=per)])
    with pytest.raises(refusal) as caught:
        await gate.issue(Identity(subject="u", claims=claims), transport="websocket")
    assert caught.value.code == code


async def test_address_that_the_server_does_not_tell() -> None:
    """On a Unix socket nobody has one; the log says what to list."""
    gate = make_gate(limits=[Limit("9/day", per="address")])
    connection = HTTPConnection(http_scope(client=None))
    with pytest.raises(UnavailableError) as caught:
        await gate.issue(ANNA, transport="websocket", connection=connection)
    assert "trusted_proxies" in caught.value.cause


def test_bad_functions_are_told_at_once() -> None:
    """As everywhere."""
    with pytest.raises(ConfigurationError, match="function of"):
        Limit("1/day", per=lambda: "x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8:1:2:3::4]:4711"], "2001:db8:1:2::/64"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, garbage, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("2001:db8:1:2::99", [], "2001:db8:1:2::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        ("::ffff:203.0.113.9", [], "203.0.113.9"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:203.0.113.9%eth0", [], "203.0.113.9"),
        ("::ffff:0:203.0.113.9", [], "203.0.113.9"),
        ("64:ff9b::203.0.113.9", [], "203.0.113.9"),
        ("64:FF9B:0:0:0:0:CB00:7109", [], "203.0.113.9"),
        ("64:ff9b::1:203.0.113.9", [], "64:ff9b::/64"),
        ("64:ff9b:1::203.0.113.9", [], "64:ff9b:1::cb00:7109"),
        ("64:ff9b:1:fffe::203.0.113.9", [], "64:ff9b:1:fffe::cb00:7109"),
        ("64:ff9b:2::203.0.113.9", [], "64:ff9b:2::/64"),
        ("2002:cb00:7109::1", [], "203.0.113.9"),
        ("2002:cb00:7109:ffff::1", [], "203.0.113.9"),
        ("2001:0:4136:e378:8000:63bf:34ff:8ef6", [], "203.0.113.9"),
        ("2001:0:53aa:64c:0:1234:34ff:8ef6", [], "203.0.113.9"),
        ("2001:1:4136:e378:8000:63bf:34ff:8ef6", [], "2001:1:4136:e378::/64"),
        ("2001:db8:1:2:0:5efe:cb00:7109", [], "2001:db8:1:2::/64"),
        ("2001:db8:1:2:200:5efe:cb00:7109", [], "2001:db8:1:2::/64"),
        ("2001:db8:1:2::203.0.113.9", [], "2001:db8:1:2::/64"),
        ("::203.0.113.9", [], "::/64"),
        ("::1", [], "::/64"),
        ("64:ff9b::10.0.0.1", ["198.51.100.1"], "10.0.0.1"),
        ("2002:a00:1::1", ["198.51.100.1"], "10.0.0.1"),
        ("10.0.0.1", ["64:ff9b::203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["[64:ff9b::203.0.113.9]:4711, ::ffff:10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1, 64:ff9b::10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["198.51.100.1, 10.0.0.2%eth0"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, 203.0.113.009"], "10.0.0.1"),
        ("testclient", [], "testclient"),
        (None, ["198.51.100.1"], None),
    ],
)
def test_addresses(peer: str | None, forwarded: list[str], counted: str | None) -> None:
    """X-Forwarded-For is read from its end, and only as far as listed proxies wrote it."""
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    scope = http_scope(client=None if peer is None else (peer, 1), headers=headers)
    assert client_address(scope, TrustedProxies(["10.0.0.0/8"])) == counted


def test_proxy_on_a_unix_socket() -> None:
    """Where it is listed it tells the address."""
    headers = [(b"x-forwarded-for", b"198.51.100.1")]
    scope = http_scope(client=None, headers=headers)
    assert client_address(scope, TrustedProxies(["unix"])) == "198.51.100.1"
