"""The ROCA fingerprint (CVE-2017-15361): RSA moduli of a generator whose primes can be found.

A vulnerable modulus is, modulo each small prime, a power of 65537. A random modulus is that for
all of the primes below with a chance of about 2⁻²⁷.
"""

from functools import cache
from typing import Final

_PRIMES: Final = (
    *(3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83),
    *(89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167),
)


def has_roca_fingerprint(modulus: int) -> bool:
    """Return whether every residue is one that the flawed generator produces. Pure."""
    return all(modulus % prime in _powers(prime) for prime in _PRIMES)


@cache
def _powers(prime: int) -> frozenset[int]:
    """Return the powers of 65537 modulo `prime`; as many as there are primes above, no more."""
    return frozenset(pow(65537, exponent, prime) for exponent in range(prime))
