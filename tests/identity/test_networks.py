"""Which peers are trusted proxies."""

from typing import Any

import pytest

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.identity.networks import Networks

LISTED = Networks(("10.0.0.0/8", "::1", "fe80::/10"))


@pytest.mark.parametrize("host", ["10.1.2.3", "::1", "::ffff:10.1.2.3", "fe80::1%eth0"])
def test_listed(host: str) -> None:
    """Networks, addresses, mapped addresses, scope ids."""
    assert LISTED.contains((host, 1))


@pytest.mark.parametrize("host", ["11.0.0.1", "::2", "::ffff:11.0.0.1", "", "proxy", "010.0.0.1"])
def test_not_listed(host: str) -> None:
    """Others, and what is no address."""
    assert not LISTED.contains((host, 1))


def test_a_unix_socket() -> None:
    """No address: only where "unix" is listed."""
    assert not LISTED.contains(None)
    assert Networks(("unix",)).contains(None)


@pytest.mark.parametrize("entries", ["10.0.0.1", ("proxy.local",), ("10.0.0.1/8",), (5,)])
def test_no_network(entries: Any) -> None:
    """Refused while the gate is being built."""
    with pytest.raises(ConfigurationError, match="trusted_proxies"):
        Networks(entries)
