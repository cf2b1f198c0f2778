"""Check a verifier's options when it is built, and compile them. Pure.

Whatever is given instead of what an option takes, of whichever type, is a ConfigurationError.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.identity.jwt._jose import ASYMMETRIC, SYMMETRIC
from xuna_middleware.identity.jwt.claims import ClaimPath, ClaimPolicy, TokenKind, normalized_type
from xuna_middleware.identity.keys.endpoints import EndpointPolicy, configured_host, host_names

if TYPE_CHECKING:
    import httpx

_LARGEST_LEEWAY: Final = 300
#: In seconds; as the times in tokens, so that sums of both stay exact.
_LONGEST: Final = 2**53
#: Seconds: the longest `max_lifetime`, 50 years. A revocation must be able to last longer.
MAX_LIFETIME: Final = 50 * 366 * 86_400
#: Types that are never an access token, whatever an option says.
_FOREIGN_TYPES: Final = frozenset(
    {
        *("logout+jwt", "secevent+jwt", "dpop+jwt", "client-authentication+jwt"),
        *("token-introspection+jwt", "oauth-authz-req+jwt", "entity-statement+jwt", "kb+jwt"),
    }
)


def claim_policy(
    *,
    issuer: str,
    audience: str | Iterable[str],
    token_types: Sequence[str],
    leeway: float,
    max_lifetime: float,
    audience_claim: str,
    scope_claims: Sequence[ClaimPath],
    role_claims: Sequence[ClaimPath],
    kind: TokenKind,
    accepts_bound: bool,
) -> ClaimPolicy:
    """Return what claims are checked against, from the options that every verifier of JWTs has."""
    return ClaimPolicy(
        issuer=checked_issuer(issuer),
        audience=checked_audience(audience),
        token_types=checked_token_types(token_types),
        leeway=checked_seconds(leeway, "leeway", most=_LARGEST_LEEWAY),
        max_lifetime=checked_seconds(max_lifetime, "max_lifetime", most=MAX_LIFETIME),
        audience_claim=checked_claim_name(audience_claim, "audience_claim"),
        scope_claims=checked_paths(scope_claims, "scope_claims"),
        role_claims=checked_paths(role_claims, "role_claims"),
        kind=checked_kind(kind),
        accepts_bound=accepts_bound,
    )


def checked_issuer(issuer: str) -> str:
    """Return a configured `iss`."""
    if not _is_text(issuer):
        raise ConfigurationError('issuer must be the token\'s "iss", to the letter')
    return issuer


def checked_audience(audience: str | Iterable[str]) -> frozenset[str]:
    """Return configured audiences as a set. There is no way to accept any."""
    names = (audience,) if isinstance(audience, str) else _listed(audience)
    if not names or not all(_is_text(name) for name in names):
        raise ConfigurationError(
            'audience is required: the name of your API at the provider, like "https://api.acme.com"'
        )
    return frozenset(names)


def checked_token_types(token_types: Sequence[str]) -> frozenset[str]:
    """Return accepted `typ` values in the form in which they are compared."""
    names = _listed(token_types)
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigurationError(
            'token_types must be a tuple of one type at least: token_types=("at+jwt",)'
        )
    types = frozenset(normalized_type(name) for name in names)
    if foreign := sorted(types & _FOREIGN_TYPES):
        raise ConfigurationError(
            f"token_types: {foreign[0]} is never an access token; leave it out"
        )
    return types


def checked_algorithms(algorithms: Sequence[str], *, secrets: bool) -> frozenset[str]:
    """Return accepted `alg` values; HMAC only where the operator gives the keys."""
    known = (*ASYMMETRIC, *(SYMMETRIC if secrets else ()))
    accepted = _listed(algorithms)
    if not accepted or not all(name in known for name in accepted):
        hint = "" if secrets else "; HMAC needs JWTVerifier(jwks={…}) with the secret"
        raise ConfigurationError(f"algorithms must be a tuple of {', '.join(known)}{hint}")
    return frozenset(accepted)


def checked_seconds(value: float, option: str, *, most: float = _LONGEST) -> float:
    """Return a configured duration; NaN, infinity, negatives and booleans are refused."""
    if type(value) not in (int, float) or not 0 <= value <= most:
        bound = "" if most == _LONGEST else f" up to {most}"
        raise ConfigurationError(f"{option} must be a number of seconds from 0{bound}")
    return value


def checked_claim_name(name: str, option: str) -> str:
    """Return a configured claim name."""
    if not _is_text(name):
        raise ConfigurationError(f'{option} must be the name of a claim, such as "aud"')
    return name


def checked_paths(paths: Sequence[ClaimPath], option: str) -> tuple[ClaimPath, ...]:
    """Return claim names and paths."""
    listed = _listed(paths)
    if listed is None or not all(_is_path(path) for path in listed):
        raise ConfigurationError(
            f"{option} must be a tuple of claim names, or of tuples of names for nested ones: "
            f'{option}=("roles", ("realm_access", "roles"))'
        )
    return listed


def checked_kind(kind: TokenKind) -> TokenKind:
    """Return how the wanted kind of token is told from others."""
    if not isinstance(kind, TokenKind):
        raise ConfigurationError("kind must be a TokenKind(…); the presets of providers set it")
    return kind


def checked_clock(clock: Callable[[], float]) -> Callable[[], float]:
    """Return a configured clock."""
    if not callable(clock):
        raise ConfigurationError("clock must be a function such as time.time")
    return clock


def checked_transport(
    http_transport: "httpx.AsyncBaseTransport | None",
) -> "httpx.AsyncBaseTransport | None":
    """Return a configured transport. Known by its method, since httpx is imported elsewhere."""
    sends = getattr(http_transport, "handle_async_request", None)
    if http_transport is not None and (isinstance(http_transport, type) or not callable(sends)):
        raise ConfigurationError(
            "transport must be an httpx.AsyncBaseTransport, such as httpx.AsyncHTTPTransport(), "
            "or None"
        )
    return http_transport


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


def _listed(values: Any) -> tuple[Any, ...] | None:
    """Return what an option lists; None where it is no list, which one text by itself isn't."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        return None
    return tuple(values)


def _is_path(path: Any) -> bool:
    names = (path,) if isinstance(path, str) else path
    return isinstance(names, tuple) and names != () and all(_is_text(name) for name in names)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != "" and value.isprintable()
