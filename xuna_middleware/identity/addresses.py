"""From which address a request comes: the connection's, or what listed proxies say. Pure.

`X-Forwarded-For` is a list to which each proxy appends the peer it saw. It is read from its end, as
far as the peers are listed proxies; what stands before the first other address was written by
whoever sent the request, and is not read. Nor is more than the last 32 addresses. An IPv6 address
counts by its /64, which is the least that one subscriber has (RFC 6177); one that stands for an
IPv4 address is that address.
"""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from starlette.types import Scope

from xuna_middleware.identity.networks import Networks

_FORWARDED_FOR = b"x-forwarded-for"
#: Hops that are read, from the end: far more proxies than any request passes. Reading the 9,000
#: that fit into a header of 64 KB would take 75 ms.
_MOST_HOPS = 32


def client_address(scope: Scope, proxies: Networks) -> str | None:
    """Return the address that a request counts under; None where the server tells none."""
    client = scope.get("client")
    peer = client[0] if client else None
    if proxies.contains(client):
        for hop in reversed(_hops(scope)):
            if _read(hop) is None:
                break  # a proxy of ours handed on what is no address: it counts as the sender
            peer = hop
            if not proxies.contains((_bare(hop), 0)):
                break
    address = None if peer is None else _read(peer)
    return peer if address is None else _counted(address)


def _hops(scope: Scope) -> list[str]:
    values = [value for name, value in scope["headers"] if name == _FORWARDED_FOR]
    joined = b",".join(values)
    hops = joined.rsplit(b",", _MOST_HOPS)[-_MOST_HOPS:] if joined else []
    return [hop.decode("latin-1").strip() for hop in hops]


def _read(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(_bare(text))
    except ValueError:
        return None


def _bare(hop: str) -> str:
    """Return an address without port, brackets and zone; some proxies write a port."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    return hop.partition("%")[0]


def _counted(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Network((address, 64), strict=False))
    return str(address)
