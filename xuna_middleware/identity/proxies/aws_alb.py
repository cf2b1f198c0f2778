"""The JWT of an AWS Application Load Balancer, `x-amzn-oidc-data`.

`authenticators.py` lists its peculiarities.

- Three base64url segments, each with all of its padding or none; they are read as any other token
  is, and the signature is checked over what was sent, padding included.
- ES256 and nothing else; `signer`, `client` and `iss` are compared before a key is looked up.
- `exp` is the header's, and the payload's, too, where it has one.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from xuna_middleware._core.http import Outbound
from xuna_middleware.errors import ConfigurationError, InvalidTokenError
from xuna_middleware.identity.credentials import Credentials, Identity
from xuna_middleware.identity.jwt._jose import (
    MAX_TOKEN_LENGTH,
    CompactToken,
    JOSEError,
    decode_base64url,
    read_compact,
    read_object,
)
from xuna_middleware.identity.jwt.claims import (
    ClaimPath,
    normalized_type,
    refuse,
    shown,
    subject_of,
    time_of,
    words_in,
)
from xuna_middleware.identity.jwt.options import (
    checked_clock,
    checked_issuer,
    checked_paths,
    checked_seconds,
    checked_transport,
)
from xuna_middleware.identity.keys.sources import JWKSRefresh
from xuna_middleware.identity.protocols import VerifierTraits
from xuna_middleware.identity.proxies.aws_alb_keys import KEY_ID, KeysByAddress

if TYPE_CHECKING:
    import httpx

_REGION: Final = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]")
_ARN: Final = re.compile(
    r"arn:aws[a-z-]*:elasticloadbalancing:(?P<region>[a-z0-9-]+):[0-9]{12}"
    r":loadbalancer/app/[A-Za-z0-9-]+/[0-9a-f]+"
)
_TYPES: Final = frozenset({"jwt", ""})
_LONGEST_LEEWAY: Final = 300
#: A load balancer signs again every few minutes; a lifetime above a day can't be from one.
_LIFETIME: Final = 86400


class LoadBalancerVerifier:
    """Verify the JWTs of one load balancer for one client of one provider; see `aws_alb`."""

    def __init__(
        self,
        region: str,
        *,
        signer: str,
        issuer: str,
        client_id: str,
        leeway: float,
        role_claims: Sequence[ClaimPath],
        freshness: JWKSRefresh | None,
        http_transport: "httpx.AsyncBaseTransport | None",
        clock: Callable[[], float],
    ) -> None:
        self.issuer = checked_issuer(issuer)
        self._client_id = _checked_client(client_id)
        address = key_address(region)
        self._signed = {
            "signer": _checked_signer(signer, region),
            "client": self._client_id,
            "iss": self.issuer,
        }
        self._leeway = checked_seconds(leeway, "leeway", most=_LONGEST_LEEWAY)
        self.traits = VerifierTraits(
            issuers=frozenset({self.issuer}), max_token_seconds=_LIFETIME + self._leeway
        )
        self._role_claims = checked_paths(role_claims, "role_claims")
        self._clock = checked_clock(clock)
        self._outbound = Outbound(http_transport=checked_transport(http_transport))
        self._keys = KeysByAddress(self.issuer, address, self._outbound, freshness)

    def __repr__(self) -> str:
        return f"LoadBalancerVerifier(signer={self._signed['signer']!r})"

    def start(self) -> None:
        """Start refreshing the keys. None is known before the first token names it."""
        self._keys.start()

    @property
    def ready(self) -> bool:
        """Return whether keys are available."""
        return self._keys.ready

    async def aclose(self) -> None:
        """Stop the background fetches and close the connections."""
        self._keys.stop()
        await self._outbound.aclose()

    async def verify(self, credentials: Credentials) -> Identity:
        """Return the caller that the load balancer signed in; see `Verifier.verify`."""
        try:
            token, header = read_padded(credentials.token)
            claims = read_object(token.payload)
        except JOSEError as error:
            raise InvalidTokenError(cause=f"malformed: {error}") from None
        kid = self._checked_header(token, header)
        key = await self._keys.find(kid)
        if not key.verify(token):
            refuse("signature", "does not match the key")
        self._keys.proven(kid)
        return self._identity(header, claims)

    def _checked_header(self, token: CompactToken, header: Mapping[str, Any]) -> str:
        """Return the kid of a header that could be this load balancer's. Nothing is quoted."""
        kid, algorithm = token.header.kid, token.header.algorithm
        if algorithm != "ES256":
            refuse("algorithm", "a load balancer signs with ES256")
        if normalized_type(token.header.typ) not in _TYPES:
            refuse("token type", "is not JWT")
        for name, expected in self._signed.items():
            if header.get(name) != expected:
                refuse(name, f"the header's {name} is not the configured one")
        if kid is None or not KEY_ID.fullmatch(kid):
            refuse("key", "kid is no UUID")
        return kid

    def _identity(self, header: Mapping[str, Any], claims: Mapping[str, Any]) -> Identity:
        dated = (header, claims) if "exp" in claims else (header,)
        return Identity(
            subject=subject_of(claims),
            issuer=self._checked_issuer(claims),
            roles=words_in(claims, self._role_claims),
            claims=claims,
            client_id=self._client_id,
            expires_at=min(self._end(each) for each in dated),
        )

    def _checked_issuer(self, claims: Mapping[str, Any]) -> str:
        named = claims.get("iss", self.issuer)
        if named != self.issuer:
            refuse("issuer", f'userinfo is of {shown(named)}, accepted "{self.issuer}"')
        return self.issuer

    def _end(self, members: Mapping[str, Any]) -> float:
        now, expires_at = self._clock(), time_of(members, "exp")
        if now >= expires_at + self._leeway:
            refuse("expired", f"{now - expires_at:.0f} s ago")
        if expires_at - now > _LIFETIME + self._leeway:
            refuse("lifetime", f"{expires_at - now:.0f} s are left, which no load balancer gives")
        return expires_at


def read_padded(text: str) -> tuple[CompactToken, dict[str, Any]]:
    """Read a token whose segments may be padded, and all of its header. Verifies nothing.

    Raises:
        JOSEError: it is anything but a compact JWS with all of its padding, or none, in each
            segment.
    """
    if len(text) > MAX_TOKEN_LENGTH or not text.isascii():
        raise JOSEError("too long, or not ASCII")
    segments = [_unpadded(segment) for segment in text.split(".")]
    token = read_compact(".".join(segments))
    header = read_object(decode_base64url(segments[0].encode("ascii")))
    return token._replace(signing_input=text.rpartition(".")[0].encode("ascii")), header


def key_address(region: str) -> str:
    """Return the URL of a region's keys, to which a kid is appended.

    Raises:
        ConfigurationError: it is no region, or its address is not known.
    """
    if not isinstance(region, str) or not _REGION.fullmatch(region):
        raise ConfigurationError('aws_alb: region is like "eu-central-1"')
    if region.startswith("cn-"):
        raise ConfigurationError("aws_alb: where China's regions keep their keys isn't documented")
    if region.startswith("us-gov-"):
        return f"https://s3-{region}.amazonaws.com/aws-elb-public-keys-prod-{region}/"
    return f"https://public-keys.auth.elb.{region}.amazonaws.com/"


def _unpadded(segment: str) -> str:
    bare = segment.rstrip("=")
    if len(segment) not in (len(bare), len(bare) + -len(bare) % 4):
        raise JOSEError("padding")
    return bare


def _checked_client(client_id: str) -> str:
    if not isinstance(client_id, str) or not client_id:
        raise ConfigurationError("aws_alb: client_id is that of the listener's rule")
    return client_id


def _checked_signer(signer: str, region: str) -> str:
    found = _ARN.fullmatch(signer) if isinstance(signer, str) else None
    if found is None or found["region"] != region:
        raise ConfigurationError(
            "aws_alb: signer is the ARN of an Application Load Balancer in the same region: "
            f'"arn:aws:elasticloadbalancing:{region}:123456789012:loadbalancer/app/…/…"'
        )
    return signer
