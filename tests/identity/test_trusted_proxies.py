"""Which peers are trusted proxies."""

from typing import Any

import pytest

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.identity.proxies.trusted import TrustedProxies

LISTED = TrustedProxies(("10.0.0.0/8", "::1", "fe80::/10"))


@pytest.mark.parametrize("host", ["10.1.2.3", "::1", "::ffff:10.1.2.3", "fe80::1%eth0"])
def test_listed(host: str) -> None:
    """Networks, addresses, mapped addresses, scope ids."""
    assert LISTED.contains((host, 1))


@pytest.mark.parametrize(
    "host",
    [
        *("::10.1.2.3", "::ffff:0:10.1.2.3", "64:ff9b::10.1.2.3", "64:ff9b:1::10.1.2.3"),
        *("2002:a01:203::1", "2001::f5fe:fdfc", "2001:db8::5efe:a01:203", "10.1.2.3%eth0"),
    ],
)
def test_address_in_another_is_no_proxy(host: str) -> None:
    """Whoever writes a proxy's IPv4 address into their own IPv6 address is not that proxy."""
    assert not LISTED.contains((host, 1))


def test_mapped_networks() -> None:
    """Mean the IPv4 network: a peer is the same whichever way the operator and the server spell."""
    listed = TrustedProxies(("::ffff:10.0.0.0/104", "::ffff:192.0.2.1"))
    for host in ("10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1"):
        assert listed.contains((host, 1))
    for host in ("11.0.0.1", "192.0.2.2", "::10.1.2.3"):
        assert not listed.contains((host, 1))


@pytest.mark.parametrize("host", ["11.0.0.1", "::2", "::ffff:11.0.0.1", "", "proxy", "010.0.0.1"])
def test_not_listed(host: str) -> None:
    """Others, and what is no address."""
    assert not LISTED.contains((host, 1))


def test_a_unix_socket() -> None:
    """No address: only where "unix" is listed."""
    assert not LISTED.contains(None)
    assert TrustedProxies(("unix",)).contains(None)


@pytest.mark.parametrize("entries", ["10.0.0.1", ("proxy.local",), ("10.0.0.1/8",), (5,)])
def test_no_network(entries: Any) -> None:
    """Refused while the gate is being built."""
    with pytest.raises(ConfigurationError, match="trusted_proxies"):
        TrustedProxies(entries)
