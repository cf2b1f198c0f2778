"""Proxies that sign in: the tokens they add, as documented, and the addresses of their keys."""

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from support.signing import EC, RSA, Signer, b64, changed, ec_signer, jwks, unb64

TEAM: Final = "https://acme.cloudflareaccess.com"
AUD: Final = "32eafc7626e974616deaf0dc3ce63d7bcbed58a2731e84d06bc3cdf1b53c4228"
IAP_KEYS: Final = "https://www.gstatic.com/iap/verify/public_key-jwk"
IAP_AUDIENCE: Final = "/projects/123456789/global/backendServices/987654321"
REGION: Final = "eu-central-1"
ALB: Final = f"arn:aws:elasticloadbalancing:{REGION}:123456789012:loadbalancer/app/front/50dc6c495c"
IDP: Final = f"https://cognito-idp.{REGION}.amazonaws.com/{REGION}_AbCdEf"
CLIENT: Final = "4fmvhv22tjrgd7d3k3tghttct7"
KID: Final = "c2f80c8b-c05c-4068-af14-17299f7896b1"
ALB_SIGNER: Final = ec_signer(KID)


def now() -> int:
    """Return the time, in seconds: tokens are made when a test comes to them, not before."""
    return int(time.time())


@dataclass
class Published:
    """Serve keys at their addresses, and keep what was asked for."""

    answers: dict[str, httpx.Response | Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    absent: int = 404

    def handle(self, request: httpx.Request) -> httpx.Response:
        address = str(request.url)
        self.asked.append(address)
        found = self.answers.get(address)
        if found is None:
            return httpx.Response(self.absent)
        if isinstance(found, Exception):
            raise found
        return httpx.Response(found.status_code, content=found.content)

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.handle)


def cloudflare_claims(**changes: Any) -> dict[str, Any]:
    """Return the payload of an application token, as Access documents it."""
    good = {
        "aud": [AUD],
        "email": "ada@acme.com",
        "exp": now() + 3600,
        "iat": now() - 60,
        "nbf": now() - 60,
        "iss": TEAM,
        "type": "app",
        "identity_nonce": "6ei69kawdKzMIAPF",
        "sub": "7335d417-61da-459d-899c-0a01c76a2f94",
        "country": "US",
    }
    return changed(good, changes)


def cloudflare_token(header: Mapping[str, Any] = {}, **changes: Any) -> str:
    """Return what Access puts into Cf-Access-Jwt-Assertion."""
    return RSA.token(cloudflare_claims(**changes), RSA.header(**{"typ": "JWT", **header}))


def iap_claims(**changes: Any) -> dict[str, Any]:
    """Return the payload that IAP documents."""
    good = {
        "iss": "https://cloud.google.com/iap",
        "sub": "accounts.google.com:118133858486581853996",
        "email": "ada@acme.com",
        "aud": IAP_AUDIENCE,
        "exp": now() + 540,
        "iat": now() - 60,
        "hd": "acme.com",
        "google": {"access_levels": ["accessPolicies/1/accessLevels/office"]},
    }
    return changed(good, changes)


def iap_token(header: Mapping[str, Any] = {}, **changes: Any) -> str:
    """Return what IAP puts into x-goog-iap-jwt-assertion."""
    return EC.token(iap_claims(**changes), EC.header(**{"typ": "JWT", **header}))


def alb_header(**changes: Any) -> dict[str, Any]:
    """Return the JWS header that a load balancer writes."""
    good = {
        "typ": "JWT",
        "kid": KID,
        "alg": "ES256",
        "iss": IDP,
        "client": CLIENT,
        "signer": ALB,
        "exp": now() + 120,
    }
    return changed(good, changes)


def alb_token(
    header: Mapping[str, Any] = {},
    *,
    by: Signer = ALB_SIGNER,
    padded: bool = True,
    **changes: Any,
) -> str:
    """Return what a load balancer puts into x-amzn-oidc-data: padded, and signed so."""
    claims = changed({"sub": "23d498b2-3031-70d25", "email": "ada@acme.com"}, changes)
    write = _padded if padded else b64
    signing_input = f"{write(_json(alb_header(**header)))}.{write(_json(claims))}"
    return f"{signing_input}.{write(by.sign(signing_input.encode()))}"


def key_url(kid: str = KID, region: str = REGION) -> str:
    """Return where a load balancer's key is."""
    return f"https://public-keys.auth.elb.{region}.amazonaws.com/{kid}"


def pem_of(signer: Signer) -> bytes:
    """Return a P-256 signer's public key as it is published."""
    x, y = (int.from_bytes(unb64(signer.jwk[name])) for name in ("x", "y"))
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def published() -> Published:
    """Return all three providers' keys, where they are; those of sets are of two algorithms."""
    return Published(
        {
            f"{TEAM}/cdn-cgi/access/certs": httpx.Response(200, json=jwks(RSA, EC)),
            "https://www.gstatic.com/iap/verify/public_key-jwk": httpx.Response(
                200, json=jwks(RSA, EC)
            ),
            key_url(): httpx.Response(200, content=pem_of(ALB_SIGNER)),
        }
    )


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _padded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode()
