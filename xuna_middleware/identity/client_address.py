"""Find a request's client address: the connection's, or the one that listed proxies report. Pure.

`X-Forwarded-For` is a list to which each proxy appends the peer it saw. It is read from its end, as
long as the peers are listed proxies; entries before the first other address were written by the
sender of the request and are not read. At most the last 32 addresses are read.

Limits count per subscriber, so that nobody gets a budget for each address they can use:

| address | counts as | because |
|---|---|---|
| IPv4 | itself | |
| `::ffff:0:0/96`, mapped | the IPv4 address | an IPv4 socket's peer, RFC 4291 2.5.5.2 |
| `::ffff:0:0:0/96`, translated | the IPv4 address | a stateless translator's, RFC 2765 2.1 |
| `64:ff9b::/96` | the IPv4 address | a translator's well-known prefix, RFC 6052 2.1 |
| `64:ff9b:1::/48` | the whole address | each is one IPv4 client, whatever its length, RFC 8215 |
| `2002::/16`, 6to4 | the IPv4 address | it owns 65,536 networks of /64, RFC 3056 2 |
| `2001::/32`, Teredo | the client's IPv4 address | a /64 holds all of a server's, RFC 4380 4 |
| other IPv6 | its /64 | the least that one subscriber has, RFC 6177, RFC 4291 2.5.4 |

Only the prefix decides. In ISATAP (RFC 5214), in network-specific translation prefixes (RFC 6052
2.2) and in IPv4-compatible addresses (deprecated, RFC 4291 2.5.5.1) the IPv4 address is in bits
that any host can choose, so those count by their /64.
"""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final

from starlette.types import Scope

from xuna_middleware.identity.proxies.trusted import Address, TrustedProxies, read_address

_FORWARDED_FOR = b"x-forwarded-for"
#: Hops read from the end: far more proxies than any request passes. Reading the 9,000 that fit into
#: a header of 64 KB would take 75 ms.
_MOST_HOPS = 32


def client_address(scope: Scope, proxies: TrustedProxies) -> str | None:
    """Return the address under which a request counts; None if the server reports none."""
    client = scope.get("client")
    peer = client[0] if client else None
    if proxies.contains(client):
        for hop in reversed(_hops(scope)):
            bare = _bare(hop)
            if read_address(bare) is None:
                break  # a listed proxy passed on a non-address: it counts as the sender
            peer = bare
            if not proxies.contains((bare, 0)):
                break
    address = None if peer is None else read_address(peer)
    return peer if address is None else _subscriber(address)


def _hops(scope: Scope) -> list[str]:
    values = [value for name, value in scope["headers"] if name == _FORWARDED_FOR]
    joined = b",".join(values)
    hops = joined.rsplit(b",", _MOST_HOPS)[-_MOST_HOPS:] if joined else []
    return [hop.decode("latin-1").strip() for hop in hops]


def _bare(hop: str) -> str:
    """Return an address without port and brackets; some proxies write a port."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    if hop.count(":") == 1:
        return hop.partition(":")[0]
    return hop


def _subscriber(address: Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    for prefix, name in _EMBEDDING:
        if address in prefix:
            return name(address)
    return str(IPv6Network((address, 64), strict=False))


def _last_32_bits(address: IPv6Address) -> str:
    return str(IPv4Address(int(address) & 0xFFFF_FFFF))


def _bits_after_2002(address: IPv6Address) -> str:
    return str(IPv4Address(int(address) >> 80 & 0xFFFF_FFFF))


def _teredo_client(address: IPv6Address) -> str:
    return str(IPv4Address(~int(address) & 0xFFFF_FFFF))


def _whole(address: IPv6Address) -> str:
    return str(address)


_EMBEDDING: Final[tuple[tuple[IPv6Network, Callable[[IPv6Address], str]], ...]] = (
    (IPv6Network("::ffff:0:0:0/96"), _last_32_bits),
    (IPv6Network("64:ff9b::/96"), _last_32_bits),
    (IPv6Network("64:ff9b:1::/48"), _whole),
    (IPv6Network("2002::/16"), _bits_after_2002),
    (IPv6Network("2001::/32"), _teredo_client),
)
