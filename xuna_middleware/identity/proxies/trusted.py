"""Decide which peers are trusted proxies: networks, exactly as the operator wrote them. Pure.

An IPv4-mapped address is the IPv4 address, because that is how a dual-stack socket spells the peer
of an IPv4 connection. No other address counts as the IPv4 address that it contains (translated,
6to4, Teredo, ISATAP): a host that can send from it is no proxy of 10.0.0.0/8.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from xuna_middleware.errors import ConfigurationError

Address: TypeAlias = IPv4Address | IPv6Address

_UNIX: Final = "unix"
_MAPPED: Final = IPv6Network("::ffff:0:0/96")


class TrustedProxies:
    """A set of addresses and networks ("10.0.0.0/8", "::1"); "unix" admits a Unix socket's peers.

    Raises:
        ConfigurationError: an entry is no address or network; names are not resolved.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        if isinstance(networks, str):
            raise ConfigurationError(f'trusted_proxies must be a list, like ("{networks}",)')
        entries = tuple(networks)
        self._unix = _UNIX in entries
        self._networks = tuple(_network(entry) for entry in entries if entry != _UNIX)

    def contains(self, client: tuple[str, int] | None) -> bool:
        """Return whether ASGI's `client` is listed; None (no address) only if "unix" is."""
        if client is None:
            return self._unix
        address = read_address(client[0])
        return address is not None and any(address in network for network in self._networks)


def read_address(text: str) -> Address | None:
    """Parse a text as an address, a mapped one as IPv4; None if it is no address.

    A zone ("%eth0") names a link of this machine, and is dropped.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    if address in _MAPPED:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return IPv6Address(int(address))


def _network(entry: object) -> IPv4Network | IPv6Network:
    try:
        if not isinstance(entry, str):
            raise ValueError
        network = ip_network(entry)
    except ValueError:
        raise ConfigurationError(
            "trusted_proxies takes addresses, networks without host bits (10.0.0.0/8) and "
            '"unix"; write a proxy\'s address, not its name'
        ) from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - 96))
    return network
