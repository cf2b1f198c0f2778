"""Which peers are trusted proxies: networks, exactly as the operator wrote them. Pure."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from xuna_middleware.errors import ConfigurationError

_UNIX: Final = "unix"


class Networks:
    """Hold addresses and networks ("10.0.0.0/8", "::1"); "unix" admits a Unix socket's peers.

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
        """Tell whether ASGI's `client` is listed; None (no address) only where "unix" is."""
        if client is None:
            return self._unix
        try:
            address = ip_address(client[0].partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


def _network(entry: object) -> IPv4Network | IPv6Network:
    try:
        if not isinstance(entry, str):
            raise ValueError
        return ip_network(entry)
    except ValueError:
        raise ConfigurationError(
            "trusted_proxies takes addresses, networks without host bits (10.0.0.0/8) and "
            '"unix"; write a proxy\'s address, not its name'
        ) from None
