"""Verify proofs of possession, one for each request (DPoP, RFC 9449 section 4.3, 7 to 9).

- One `DPoP` header, at most 8 KB, parsed strictly by `_jose.py`; its type is `dpop+jwt`, its
  algorithm one of the option's, its `jwk` the public key whose thumbprint the token names.
- The signature is that key's; `htm`, `htu` and `ath` name this method, URL and token.
- `iat` lies within `max_age` and the leeway. `jti` was not used before; it is stored only after all
  other checks passed, so that strangers can't fill the store. Token holders can't either: the
  number of stored proofs of one account, and of one address, is bounded; any more get a 429.
- With `nonce`, the proof contains a recent nonce of this gate; a missing one uses up no `jti`.
  Another gate's nonce doesn't count, even with the same secrets or in the same process: a nonce
  covers `public_url`'s origin and the store's `namespace`.

Dot segments in `htu` are not resolved: ASGI's path keeps them, so to the application they differ.
"""

import hmac
import math
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, Literal, NoReturn
from urllib.parse import quote, unquote_to_bytes, urlsplit

from xuna_middleware.errors import (
    ConfigurationError,
    DPoPNonceRequiredError,
    InvalidTokenError,
    LimitReachedError,
    UnavailableError,
    over_budget,
)
from xuna_middleware.identity.bound.request import ProofContext
from xuna_middleware.identity.jwt._jose import ASYMMETRIC, JOSEError, read_object, read_proof
from xuna_middleware.stores.protocol import OverBudgetError, Quota, Region, StoreError, named

#: Seconds. A nonce is accepted in the slot that made it and the next: 5 minutes at most.
_SLOT: Final = 150
_LEAST_SECRET: Final = 32
_MOST_SECONDS: Final = 3600
_LARGEST_TIME: Final = 2**53
_LARGEST_RATE: Final = 100_000
#: Characters of an address in a log line.
_LONGEST_SHOWN: Final = 500
_WEB: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_PORTS: Final = {"http": 80, "https": 443}
#: Characters unescaped in a path segment; ASGI's decoded path doesn't distinguish `@` from `%40`.
_IN_SEGMENT: Final = ":@!$&'()*+,;=-._~"
_URI: Final = re.compile(r"(?:[!-$&-~]|%[0-9A-Fa-f]{2})+")
#: For nonces if no secrets are given.
_OWN_SECRET: Final = secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class DPoP:
    """Configure which proofs a verifier accepts.

    Attributes:
        mode: `accepted` needs a proof for tokens bound to a key; `required` refuses all others.
        algorithms: asymmetric ones that a proof may be signed with.
        max_age: of a proof, in seconds; at most an hour.
        leeway: for clocks that differ, in seconds, before and after; at most an hour.
        nonce: whether a proof must contain a nonce of this gate (section 9), which bounds its age,
            whatever the client's clock says.
        account_rate, address_rate: how many proofs a second one account, and one address, may send
            on average over the time for which a used one is kept (`max_age` and twice the leeway).
            Beyond that, 429. Issuers count apart, and so do verifiers with other figures. All
            behind one proxy that the gate's `trusted_proxies` doesn't list are one address.
        nonce_secrets: texts of 32 random characters or more, the newest first: the newest makes
            nonces, all verify. Several workers need the same ones; by default each process has its
            own random one. In no repr.

    Raises:
        ConfigurationError: an option is none of these.
    """

    mode: Literal["accepted", "required"] = "required"
    algorithms: Sequence[str] = ASYMMETRIC
    max_age: float = 60
    leeway: float = 5
    nonce: bool = False
    nonce_secrets: Sequence[str] = field(default=(), repr=False)
    account_rate: float = 50
    address_rate: float = 200

    def __post_init__(self) -> None:
        if self.mode not in ("accepted", "required"):
            raise ConfigurationError('DPoP: mode must be "accepted" or "required"')
        if type(self.nonce) is not bool:
            raise ConfigurationError("DPoP: nonce must be True or False")
        _check_seconds("max_age", self.max_age, above=0)
        _check_seconds("leeway", self.leeway, above=-1)
        object.__setattr__(self, "algorithms", _algorithms(self.algorithms))
        object.__setattr__(self, "nonce_secrets", _nonce_secrets(self.nonce_secrets))
        _check_rate("account_rate", self.account_rate)
        _check_rate("address_rate", self.address_rate)
        if self.nonce_secrets and not self.nonce:
            raise ConfigurationError("DPoP: nonce_secrets need nonce=True")


class Proofs:
    """Check that a request was signed by the key to which its token is bound."""

    def __init__(self, option: DPoP, clock: Callable[[], float]) -> None:
        self._option = option
        self._clock = clock
        #: For as long as a proof could pass (and a second for rounding).
        self._seconds = option.max_age + 2 * option.leeway + 1
        self._of_account = self._quota(option.account_rate)
        self._of_address = self._quota(option.address_rate)
        self._secrets = [text.encode() for text in option.nonce_secrets or (_OWN_SECRET,)]

    async def check(
        self, presented: ProofContext, token: str, thumbprint: str, issuer: str, subject: str
    ) -> None:
        """Check the proof that came with a verified token; `thumbprint` is its `cnf.jkt`, `issuer`
        and `subject` are the token's.

        Checks: everything in the list at the top of this file.
        Does not check: the token itself.

        Raises:
            InvalidTokenError: the proof is missing, repeated, wrong, too old, or was used before.
            DPoPNonceRequiredError: only the nonce is missing or wrong.
            UnavailableError: the store can't say whether it was used before.
            LimitReachedError: too many proofs of this account, or from this address.
        """
        claims, now = self._signed(presented.proofs, thumbprint), self._clock()
        _check_request(claims, presented, token)
        self._check_time(claims.get("iat"), now)
        jti = _jti(claims)
        self._check_nonce(claims.get("nonce"), now, presented.gate)
        await self._use_up(presented, f"{thumbprint}\0{jti}", issuer, subject)

    def _signed(self, proofs: Sequence[bytes], thumbprint: str) -> Mapping[str, Any]:
        if len(proofs) != 1:
            _refuse("there must be exactly one DPoP header")
        try:
            proof, key = read_proof(proofs[0])
        except JOSEError as error:
            _refuse(f"the proof can't be read: {error}")
        if proof.header.typ != "dpop+jwt" or proof.header.algorithm not in self._option.algorithms:
            _refuse("the proof is not dpop+jwt, or its algorithm is not in algorithms=")
        if key.thumbprint != thumbprint:
            _refuse("the proof is of another key than the token is bound to")
        if not key.verify(proof):
            _refuse("the proof's signature does not hold")
        return _claims(proof.payload)

    def _check_time(self, iat: Any, now: float) -> None:
        if type(iat) not in (int, float) or not -_LARGEST_TIME < iat < _LARGEST_TIME:
            _refuse("iat is missing or not a number of seconds")
        oldest = now - self._option.max_age - self._option.leeway
        if not oldest <= iat <= now + self._option.leeway:
            _refuse("iat is too long ago, or in the future: compare the client's clock")

    def _check_nonce(self, nonce: Any, now: float, gate: str) -> None:
        if self._option.nonce and not self._is_ours(nonce, int(now // _SLOT), gate):
            raise DPoPNonceRequiredError(
                _nonce(self._secrets[0], int(now // _SLOT), gate),
                cause="dpop: the proof lacks a recent nonce; the answer has one",
            )

    def _is_ours(self, nonce: Any, slot: int, gate: str) -> bool:
        if not isinstance(nonce, str) or not nonce.isascii():
            return False
        ours = [_nonce(secret, at, gate) for secret in self._secrets for at in (slot, slot - 1)]
        return any(hmac.compare_digest(nonce, each) for each in ours)

    def _quota(self, rate: float) -> Quota:
        most = math.ceil(rate * self._seconds)
        # Verifiers with other figures count separately: one verifier's limits don't apply to the
        # callers of another.
        name = f"proofs/{self._seconds:g}/{most}"
        return Quota(field=name, most=most, amount=1, seconds=self._seconds, kind="slot")

    async def _use_up(self, presented: ProofContext, once: str, issuer: str, subject: str) -> None:
        """Store the proof as used, within the limits of this account and this address. Addresses
        count per issuer, so callers of one tenant can't use up the limit of another.
        """
        key, region = f"dpop:{_digest(once.encode())}", Region.PROOFS
        within = [
            (named(region, f"{kind}:{len(issuer)}:{issuer}{one}"), quota)
            for kind, one, quota in (
                ("account", subject, self._of_account),
                ("address", presented.address, self._of_address),
            )
        ]
        try:
            fresh = await presented.store.put(key, b"", self._seconds, region, within)
        except OverBudgetError as over:
            raise self._too_many(over) from None
        except StoreError:
            raise UnavailableError(cause="dpop: the store can't say if a proof was used") from None
        if not fresh:
            _refuse("the proof was used before")

    def _too_many(self, over: OverBudgetError) -> LimitReachedError:
        who, option, rate = (
            ("account", "account_rate", self._option.account_rate),
            ("address", "address_rate", self._option.address_rate),
        )[over.place]
        cause = f"budget: one {who} sends more proofs than DPoP({option}={rate:g}) lets it"
        if who == "address":
            cause += "; behind a proxy, list it: trusted_proxies=…"
        return over_budget("DPoP proofs", cause, over.seconds)


def _claims(payload: bytes) -> Mapping[str, Any]:
    try:
        return read_object(payload)
    except JOSEError as error:
        _refuse(f"the proof's claims are {error}")


def _check_request(claims: Mapping[str, Any], presented: ProofContext, token: str) -> None:
    if claims.get("htm") != presented.method:
        _refuse("htm is not the request's method")
    named = claims.get("htu")
    target = presented.target
    if target is None:
        _refuse("the request's path is too long for a proof")
    wanted = _normalized(target)
    if not isinstance(named, str) or wanted is None or _normalized(named) != wanted:
        shown = target[:_LONGEST_SHOWN]
        _refuse(f"htu is not the request's address, which is {shown}: see public_url")
    if claims.get("ath") != _digest(token.encode()):
        _refuse("ath is not the hash of the access token")


def _jti(claims: Mapping[str, Any]) -> str:
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 1 <= len(jti) <= 255 or not jti.isprintable():
        _refuse("jti is missing, or is not 1 to 255 printable characters")
    return jti


@lru_cache(maxsize=256)
def _normalized(uri: str) -> str | None:
    """Return an address in one spelling (RFC 3986 section 6.2.2, 6.2.3), without its query.

    None for what is no absolute `http` address without user information.
    """
    if not _URI.fullmatch(uri):  # first: `urlsplit` normalizes what isn't ASCII, at a high cost
        return None
    try:
        parts = urlsplit(uri)
        scheme, host, port = _WEB[parts.scheme], parts.hostname, parts.port
    except (KeyError, ValueError):
        return None
    if not host or "@" in parts.netloc:
        return None
    shown = f"[{host}]" if ":" in host else host
    authority = shown if port in (None, _PORTS[scheme]) else f"{shown}:{port}"
    segments = [quote(unquote_to_bytes(s), safe=_IN_SEGMENT) for s in parts.path.split("/")]
    return f"{scheme}://{authority}{'/'.join(segments) or '/'}"


def _nonce(secret: bytes, slot: int, gate: str) -> str:
    """Return a gate's nonce of a time slot, in characters that section 8.1 allows."""
    return _text(hmac.digest(secret, f"dpop nonce {slot} {gate}".encode(), "sha256"))


def _digest(octets: bytes) -> str:
    return _text(sha256(octets).digest())


def _text(octets: bytes) -> str:
    return urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def _check_seconds(name: str, value: object, *, above: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigurationError(f"DPoP: {name} must be a number of seconds")
    if value < 0 or value <= above or value > _MOST_SECONDS:
        raise ConfigurationError(f"DPoP: {name} is out of range; at most {_MOST_SECONDS} seconds")


def _check_rate(name: str, value: object) -> None:
    if type(value) not in (int, float) or not 0 < value <= _LARGEST_RATE:  # type: ignore[operator]
        raise ConfigurationError(f"DPoP: {name} must be proofs a second, up to {_LARGEST_RATE}")


def _algorithms(names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str) or not names or not set(names) <= set(ASYMMETRIC):
        raise ConfigurationError(f"DPoP: algorithms must be some of {', '.join(ASYMMETRIC)}")
    return tuple(names)


def _nonce_secrets(texts: Sequence[str]) -> tuple[str, ...]:
    if isinstance(texts, str) or not all(isinstance(t, str) for t in texts):
        raise ConfigurationError("DPoP: nonce_secrets must be a list of texts, the newest first")
    if any(len(text) < _LEAST_SECRET for text in texts):
        raise ConfigurationError(
            "DPoP: each of nonce_secrets must have 32 characters or more; make one with "
            "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`"
        )
    return tuple(texts)


def _refuse(explanation: str) -> NoReturn:
    raise InvalidTokenError(cause=f"dpop: {explanation}")
