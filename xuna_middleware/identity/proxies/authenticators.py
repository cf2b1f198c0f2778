"""Authenticate callers that a proxy in front has signed in, by the JWT that it adds to requests.

Cloudflare Access, Google's Identity-Aware Proxy and AWS' Application Load Balancer. Each function
returns an authenticator for `XunaGate(authenticator=…)`. Its identities count as ambient, since the
proxy adds the JWT for a cookie that the browser sends automatically: the Cross-site rules apply.

The unsigned headers that these proxies also add (an e-mail address, a user's id) are never read: a
client that bypasses the proxy can set them. The signed one is refused unless it is for this very
application.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypedDict, Unpack

from starlette.requests import HTTPConnection

from xuna_middleware.errors import ConfigurationError, InvalidRequestError
from xuna_middleware.identity.credentials import Credentials, Identity
from xuna_middleware.identity.jwt.claims import ClaimPath, TokenKind
from xuna_middleware.identity.jwt.options import checked_audience
from xuna_middleware.identity.jwt.verifiers import JWTVerifier, KeyEventSource, Lifecycle, Verifier
from xuna_middleware.identity.keys.sources import JWKSRefresh, Listener
from xuna_middleware.identity.protocols import VerifierTraits, traits_of
from xuna_middleware.identity.proxies.aws_alb import LoadBalancerVerifier

if TYPE_CHECKING:
    import httpx

_TEAM: Final = re.compile(r"(?P<team>[a-z0-9]([a-z0-9-]*[a-z0-9])?)(\.cloudflareaccess\.com)?")
_IAP_AUDIENCE: Final = re.compile(r"/projects/[0-9]+/[!-~]+")
#: Ten minutes, and Google's 30 seconds for clocks at either end.
_IAP_LIFETIME: Final = 660


class ProxyOptions(TypedDict, total=False):
    """Name the keyword options of the proxies whose keys are a JWK Set; see `JWTVerifier`."""

    leeway: float
    max_lifetime: float
    role_claims: Sequence[ClaimPath]
    freshness: JWKSRefresh | None
    http_transport: "httpx.AsyncBaseTransport | None"
    clock: Callable[[], float]


class _Verifying(Verifier, Lifecycle, Protocol):
    """A verifier that fetches its keys."""


class ProxyAuthenticator:
    """Find the caller in the one header that a proxy signs. The functions below create these.

    Checks: that the header is present once; everything that its verifier checks.
    Does not check: that the request came through the proxy. A header copied from another request is
    valid until it expires, so make sure that only the proxy can reach the app.
    """

    def __init__(self, header: str, verifier: _Verifying) -> None:
        self._header = header
        self._name = header.lower().encode("ascii")
        self._verifier = verifier

    def __repr__(self) -> str:
        return f"ProxyAuthenticator({self._header!r}, {self._verifier!r})"

    async def __call__(self, connection: HTTPConnection) -> Identity | None:
        """Return the caller that the proxy signed in, None if it added no header.

        Raises:
            InvalidRequestError: the header is present twice.
            InvalidTokenError: it isn't valid. UnavailableError: it can't be verified now.
        """
        values = [value for name, value in connection.scope["headers"] if name == self._name]
        if not values:
            return None
        if len(values) > 1:
            raise InvalidRequestError(cause=f"{self._header}: more than one header")
        token = values[0].decode("latin-1")
        return await self._verifier.verify(Credentials(scheme="bearer", token=token))

    @property
    def traits(self) -> VerifierTraits:
        """The traits of its verifier, which determine how long a revocation lasts."""
        return traits_of(self._verifier)

    def listen(self, listener: Listener) -> None:
        """Report changed keys, and keys that can't be fetched."""
        if isinstance(self._verifier, KeyEventSource):
            self._verifier.listen(listener)

    def start(self) -> None:
        """Fetch the keys in the background."""
        self._verifier.start()

    @property
    def ready(self) -> bool:
        """Return whether callers can be verified without waiting."""
        return self._verifier.ready

    async def aclose(self) -> None:
        """Stop the background fetches and close the connections."""
        await self._verifier.aclose()


def cloudflare_access(
    team_domain: str, *, audience: str | Iterable[str], **options: Unpack[ProxyOptions]
) -> ProxyAuthenticator:
    """Take callers from Cloudflare Access: `cloudflare_access("acme", audience="32eafc76…")`.

    `team_domain` is the team's name, or all of `acme.cloudflareaccess.com`. `audience` is the
    application's AUD tag (Access ▸ Applications ▸ Overview); several for several applications.

    Peculiarities of Access:

    - The header is `Cf-Access-Jwt-Assertion`. The cookie `CF_Authorization` holds the same token,
      but isn't always passed on; it is not read here.
    - The issuer has no slash. RS256, `typ: JWT`, `aud` a list; keys change every six weeks, and the
      former stay for seven days.
    - `type` is `app` in an application's token; the team's own session says `org`, and is refused.
    - A token lives as long as the application's session, 24 h by default, which is exactly the
      default `max_lifetime`; where Access is set to more, say so here.
    - A service token proves a client and nobody: its `sub` is empty and `common_name` has its id.
      It is refused; a machine calls with an API key or an access token instead.
    - Groups are in `custom` only where the identity provider's claims are added to the token:
      `role_claims=(("custom", "groups"),)`.

    Raises:
        ConfigurationError: the team or the audience can't be meant.
    """
    issuer = f"https://{_team(team_domain)}.cloudflareaccess.com"
    verifier = JWTVerifier(
        issuer=issuer,
        audience=audience,
        jwks_uri=f"{issuer}/cdn-cgi/access/certs",
        algorithms=("RS256",),
        token_types=("JWT",),
        scope_claims=(),
        kind=_ACCESS_APPLICATION,
        **options,
    )
    return ProxyAuthenticator("Cf-Access-Jwt-Assertion", verifier)


def google_iap(
    *, audience: str | Iterable[str], **options: Unpack[ProxyOptions]
) -> ProxyAuthenticator:
    """Take callers from Google's Identity-Aware Proxy: `google_iap(audience="/projects/…")`.

    `audience` is as the console tells it (IAP ▸ ⋮ ▸ Get JWT audience code):
    `/projects/<number>/global/backendServices/<id>` behind a load balancer,
    `/projects/<number>/apps/<project>` on App Engine,
    `/projects/<number>/locations/<region>/services/<name>` on Cloud Run.

    Peculiarities of IAP:

    - The header is `x-goog-iap-jwt-assertion`, ES256. The project's *number* is in the audience,
      never its id.
    - One issuer and one key set serve all of Google's customers: only the audience tells yours.
    - `sub` is `accounts.google.com:…`, or `securetoken.google.com/<project>:…` with external
      identities, whose claims are in `gcip`. `email` has no such prefix here.
    - A token lives ten minutes; with the clocks' tolerance 660 s are the default `max_lifetime`.
    - Access levels are in `google.access_levels`: `role_claims=(("google", "access_levels"),)`.
    - Health checks don't pass IAP and carry no header: let them ask `/readyz`.

    Raises:
        ConfigurationError: the audience can't be meant.
    """
    names = checked_audience(audience)
    if not all(_IAP_AUDIENCE.fullmatch(name) for name in names):
        raise ConfigurationError(
            'google_iap: audience is like "/projects/123456789/global/backendServices/987", with '
            "the project's number (IAP ▸ ⋮ ▸ Get JWT audience code)"
        )
    defaults: ProxyOptions = {"max_lifetime": _IAP_LIFETIME}
    verifier = JWTVerifier(
        issuer="https://cloud.google.com/iap",
        audience=names,
        jwks_uri="https://www.gstatic.com/iap/verify/public_key-jwk",
        algorithms=("ES256",),
        token_types=("JWT", ""),
        scope_claims=(),
        kind=_ANY,
        **(defaults | options),
    )
    return ProxyAuthenticator("x-goog-iap-jwt-assertion", verifier)


def aws_alb(
    region: str,
    *,
    signer: str,
    issuer: str,
    client_id: str,
    leeway: float = 30,
    role_claims: Sequence[ClaimPath] = ("roles",),
    freshness: JWKSRefresh | None = None,
    http_transport: "httpx.AsyncBaseTransport | None" = None,
    clock: Callable[[], float] = time.time,
) -> ProxyAuthenticator:
    """Take callers from an Application Load Balancer that authenticates with OIDC or Cognito.

    `signer` is the load balancer's ARN, in `region`; `issuer` and `client_id` are the identity
    provider's, as its listener rule names them.

    Peculiarities:

    - The header is `x-amzn-oidc-data`, ES256. What is signed about the token stands in the JWS
      header (`signer`, `client`, `iss`, `exp`); the payload is the provider's userinfo, without
      `aud` and `iat`. So there is no audience: signer and client stand for it.
    - Its segments are padded with `=`, and the padding is signed. Both spellings are taken.
    - There is no key set: each key is a PEM at an address that ends in its `kid`, which must be a
      UUID before it is asked for. All load balancers of a region share that address, so a good
      signature alone says nothing; the `signer` does.
    - GovCloud keeps its keys in S3 (`s3-us-gov-west-1.amazonaws.com/aws-elb-public-keys-prod-…`);
      the region chooses. China's address is not documented, so its regions are refused.
    - `x-amzn-oidc-identity` and `x-amzn-oidc-accesstoken` are not signed by it, and never read.
    - Cognito's groups are not in the userinfo: `role_claims` finds what your provider puts there.

    New keys are looked up once in `freshness.cooldown` seconds, eight at a time; the cooldown is 1
    unless you give a `JWKSRefresh`. `aws_alb_keys.py` says what a flood of made-up ones does.

    Raises:
        ConfigurationError: an option makes no sense; the text names the fix.
    """
    verifier = LoadBalancerVerifier(
        region,
        signer=signer,
        issuer=issuer,
        client_id=client_id,
        leeway=leeway,
        role_claims=role_claims,
        freshness=freshness,
        http_transport=http_transport,
        clock=clock,
    )
    return ProxyAuthenticator("x-amzn-oidc-data", verifier)


def _team(domain: str) -> str:
    name = domain.removeprefix("https://").removesuffix("/") if isinstance(domain, str) else ""
    found = _TEAM.fullmatch(name)
    if found is None:
        raise ConfigurationError(
            'cloudflare_access: team_domain is like "acme" or "acme.cloudflareaccess.com", not the '
            "application's own domain"
        )
    return found["team"]


def _application_only(claims: Mapping[str, Any]) -> str | None:
    if claims.get("type") == "app":
        return None
    return 'token type: "type" is not "app"; a session of the whole team is none of this app\'s'


_ACCESS_APPLICATION: Final = TokenKind(refused=(), required=(), check=_application_only)
_ANY: Final = TokenKind(refused=(), required=())
