"""Check a verifier's options when it is built, and compile them. Pure."""

import math
from collections.abc import Iterable, Sequence
from typing import Final

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.identity._jose import ASYMMETRIC, SYMMETRIC
from xuna_middleware.identity.claims import ClaimPath, normalized_type
from xuna_middleware.identity.endpoints import EndpointPolicy, configured_host, host_names

_LARGEST_LEEWAY: Final = 300
#: Types that are never an access token, whatever an option says.
_FOREIGN_TYPES: Final = frozenset(
    {
        *("logout+jwt", "secevent+jwt", "dpop+jwt", "client-authentication+jwt"),
        *("token-introspection+jwt", "oauth-authz-req+jwt", "entity-statement+jwt", "kb+jwt"),
    }
)


def checked_issuer(issuer: str) -> str:
    """Return a configured `iss`."""
    if not isinstance(issuer, str) or not issuer or not issuer.isprintable():
        raise ConfigurationError('issuer must be the token\'s "iss", to the letter')
    return issuer


def checked_audience(audience: str | Iterable[str]) -> frozenset[str]:
    """Return configured audiences as a set. There is no way to accept any."""
    names = frozenset([audience] if isinstance(audience, str) else audience or ())
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigurationError(
            'audience is required: the name of your API at the provider, like "https://api.acme.com"'
        )
    return names


def checked_token_types(token_types: Sequence[str]) -> frozenset[str]:
    """Return accepted `typ` values in the form in which they are compared."""
    if isinstance(token_types, str):
        raise ConfigurationError(f'token_types must be a tuple: token_types=("{token_types}",)')
    types = frozenset(normalized_type(name) for name in token_types)
    if not types:
        raise ConfigurationError('token_types must name one type at least: ("at+jwt",)')
    if foreign := sorted(types & _FOREIGN_TYPES):
        raise ConfigurationError(
            f"token_types: {foreign[0]} is never an access token; leave it out"
        )
    return types


def checked_algorithms(algorithms: Sequence[str], *, secrets: bool) -> frozenset[str]:
    """Return accepted `alg` values; HMAC only where the operator gives the keys."""
    if isinstance(algorithms, str):
        raise ConfigurationError(f'algorithms must be a tuple: algorithms=("{algorithms}",)')
    known = frozenset(ASYMMETRIC) | (frozenset(SYMMETRIC) if secrets else frozenset())
    accepted = frozenset(algorithms)
    if not accepted or not accepted <= known:
        hint = "" if secrets else "; HMAC needs JWTVerifier(jwks={…}) with the secret"
        raise ConfigurationError(f"algorithms must be of {', '.join(sorted(known))}{hint}")
    return accepted


def checked_seconds(value: float, option: str, *, most: float = math.inf) -> float:
    """Return a configured duration; NaN, infinity, negatives and booleans are refused."""
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value <= most:
        bound = "" if most == math.inf else f" up to {most}"
        raise ConfigurationError(f"{option} must be a number of seconds from 0{bound}")
    return value


def checked_leeway(leeway: float) -> float:
    """Return a configured leeway, at most 300 seconds."""
    return checked_seconds(leeway, "leeway", most=_LARGEST_LEEWAY)


def checked_claim_name(name: str, option: str) -> str:
    """Return a configured claim name."""
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f'{option} must be the name of a claim, such as "aud"')
    return name


def checked_paths(paths: Sequence[ClaimPath], option: str) -> tuple[ClaimPath, ...]:
    """Return claim names and paths."""
    if isinstance(paths, str):
        raise ConfigurationError(f'{option} must be a tuple: {option}=("{paths}",)')
    for path in paths:
        names = (path,) if isinstance(path, str) else path
        if not isinstance(names, tuple) or not names or not all(isinstance(n, str) for n in names):
            raise ConfigurationError(
                f"{option} takes claim names, or tuples of names for nested ones"
            )
    return tuple(paths)


def provider_endpoints(
    issuer: str,
    metadata_url: str | None,
    insecure_hosts: Iterable[str],
    endpoint_hosts: Iterable[str],
) -> EndpointPolicy:
    """Return which hosts a provider's documents may name: its own, and those vouched for."""
    insecure = host_names(insecure_hosts, "insecure_hosts")
    hosts = {configured_host(issuer, "issuer", insecure)}
    if "?" in issuer:
        raise ConfigurationError("issuer must have no query (OpenID Connect Discovery 1.0, 3)")
    if metadata_url is not None:
        hosts.add(configured_host(metadata_url, "metadata_url", insecure))
    return EndpointPolicy(
        hosts=frozenset(hosts) | host_names(endpoint_hosts, "endpoint_hosts"),
        insecure_hosts=insecure,
    )
