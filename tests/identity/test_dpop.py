"""Proofs of possession (RFC 9449): each check, replay, and the nonce."""

import asyncio
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, cast

import pytest
from support.signing import EC, ED, LEFT_OUT, NOW, RSA, Signer, b64, changed, compact

from xuna_middleware.errors import (
    ConfigurationError,
    DPoPNonceRequiredError,
    InvalidTokenError,
    UnavailableError,
)
from xuna_middleware.identity.bound.dpop import DPoP, Proofs
from xuna_middleware.identity.bound.request import ProofContext
from xuna_middleware.identity.jwt._jose import import_key
from xuna_middleware.stores.protocol import Region, StoreError

TOKEN = "the.access.token"
URI = "https://api.example.com/xuna/signed-url"


class Kept:
    """A store that can be down."""

    def __init__(self, down: bool = False) -> None:
        self.keys: dict[str, float] = {}
        self.down = down

    async def put(
        self, key: str, value: bytes, seconds: float, region: Region, within: Any
    ) -> bool:
        if self.down:
            raise StoreError
        if key in self.keys:
            return False
        self.keys[key] = seconds
        return True


@dataclass(kw_only=True)
class Shown:
    """What a request shows, said outright."""

    proofs: tuple[bytes, ...]
    method: str = "POST"
    target: str = URI
    address: str = "192.0.2.1"
    store: Kept = field(default_factory=Kept)
    gate: str = ""


def public(signer: Signer) -> dict[str, Any]:
    """Return a signer's key without what a set says of it."""
    return {k: v for k, v in signer.jwk.items() if k not in ("kid", "use")}


def proof(claims: Any = None, header: Any = None, signer: Signer = EC) -> bytes:
    """Return a good proof, changed."""
    good = {"jti": "j-1", "htm": "POST", "htu": URI, "iat": NOW, "ath": b64(_hash(TOKEN))}
    head = {"typ": "dpop+jwt", "alg": signer.algorithm, "jwk": public(signer)}
    return compact(changed(head, header or {}), changed(good, claims or {}), signer.sign).encode()


def _hash(text: str) -> bytes:
    return sha256(text.encode()).digest()


async def check(shown: Shown, option: DPoP | None = None, now: float = NOW, by: Any = EC) -> None:
    """Check what is shown, as for a token bound to a signer's key."""
    thumbprint = import_key(public(by)).thumbprint
    proofs = Proofs(option or DPoP(), lambda: now)
    await proofs.check(cast("ProofContext", shown), TOKEN, thumbprint, "issuer", "subject")


@pytest.mark.parametrize("signer", [EC, ED, RSA])
async def test_a_good_proof_passes_once(signer: Signer) -> None:
    """Each kind of key; the second use is refused."""
    shown = Shown(proofs=(proof(signer=signer),))
    await check(shown, by=signer)
    with pytest.raises(InvalidTokenError):
        await check(shown, by=signer)
    assert list(shown.store.keys.values()) == [71]


@pytest.mark.parametrize(
    "htu", [URI + "?a=b#c", "HTTPS://API.example.com:443/xuna/signed%2Durl", "wss" + URI[5:]]
)
async def test_spellings_of_the_address(htu: str) -> None:
    """RFC 3986 section 6.2: these are the same address."""
    await check(Shown(proofs=(proof({"htu": htu}),)))


BAD_CLAIMS: list[dict[str, Any]] = [
    *({name: LEFT_OUT} for name in ("jti", "htm", "htu", "iat", "ath")),
    *({"htm": value} for value in ("post", "GET", 1, ["POST"])),
    *({"htu": value} for value in (
        URI + "/", "http" + URI[5:], "https://api.example.com:8443/xuna/signed-url",
        "https://u@api.example.com/xuna/signed-url", "/xuna/signed-url", "https://[", 7,
        URI + "%zz", URI + "\n", "https://api.example.com:x/", "https:///xuna/signed-url",
        "https://api.example.com/xuna%2Fsigned-url", "https://api.example.com/a/../xuna/signed-url",
    )),
    *({"iat": value} for value in (NOW - 66, NOW + 6, "1", True, None, [NOW], 10**400)),
    *({"jti": value} for value in ("", "x" * 256, "a\nb", 5, None)),
    *({"ath": value} for value in ("", b64(_hash("another")), 1)),
]  # fmt: skip


@pytest.mark.parametrize("claims", BAD_CLAIMS)
async def test_bad_claims(claims: dict[str, Any]) -> None:
    """Refused, and nothing was put into the store."""
    shown = Shown(proofs=(proof(claims),))
    with pytest.raises(InvalidTokenError) as caught:
        await check(shown)
    assert caught.value.cause.startswith("dpop: ")
    assert not shown.store.keys


BAD_HEADERS: list[dict[str, Any]] = [
    *({"typ": value} for value in (LEFT_OUT, "JWT", "application/dpop+jwt", "DPOP+JWT", 1)),
    *({"alg": value} for value in (LEFT_OUT, "none", "HS256", "ES384", "RS256", 1)),
    *({"jwk": value} for value in (
        LEFT_OUT, None, [], {}, {"kty": "oct", "k": b64(b"k" * 32)}, public(RSA),
        {**public(EC), "d": "AA"}, {**public(EC), "use": "enc"}, {**public(EC), "x": "AA"},
    )),
    *({name: "x"} for name in ("jku", "x5u", "x5c", "crit", "b64", "zip", "cty", "enc")),
    {"kid": 5},
]  # fmt: skip


@pytest.mark.parametrize("header", BAD_HEADERS)
async def test_bad_headers(header: dict[str, Any]) -> None:
    """Refused, and nothing was put into the store."""
    shown = Shown(proofs=(proof(header=header),))
    with pytest.raises(InvalidTokenError):
        await check(shown)
    assert not shown.store.keys


@pytest.mark.parametrize(
    "proofs",
    [
        (), (proof(), proof()), (b"",), (b"a.b",), (proof() + b"=",), (b"\xff" + proof(),),
        (proof()[:-4] + b"AAAA",), (proof({"pad": "x" * 8192}),), (proof(signer=ED),),
        (compact({"typ": "dpop+jwt", "alg": "ES256", "jwk": public(EC)}, b"[]", EC.sign).encode(),),
    ],
)  # fmt: skip
async def test_bad_proofs(proofs: tuple[bytes, ...]) -> None:
    """None, several, cut, padded, not signed, too long, of another key, no object."""
    with pytest.raises(InvalidTokenError):
        await check(Shown(proofs=proofs))


async def test_of_twenty_at_once_one_passes() -> None:
    """The store decides."""
    shown = Shown(proofs=(proof(),))
    done = await asyncio.gather(*(check(shown) for _ in range(20)), return_exceptions=True)
    assert done.count(None) == 1


async def test_a_store_that_is_down_is_no_yes() -> None:
    """503."""
    with pytest.raises(UnavailableError):
        await check(Shown(proofs=(proof(),), store=Kept(down=True)))


SECRETS = ("n" * 32, "o" * 32)


async def asked(option: DPoP, shown: Shown, now: float = NOW) -> str:
    """Return the nonce that the refusal brings."""
    with pytest.raises(DPoPNonceRequiredError) as caught:
        await check(shown, option, now)
    headers = caught.value.headers or {}
    assert headers["WWW-Authenticate"] == 'DPoP error="use_dpop_nonce"'
    assert not shown.store.keys
    return headers["DPoP-Nonce"]


@pytest.mark.parametrize("secrets", [(), SECRETS])
async def test_a_nonce_is_asked_for_and_expires(secrets: tuple[str, ...]) -> None:
    """It passes at once, not after five minutes, and its lack uses up nothing."""
    option = DPoP(nonce=True, nonce_secrets=secrets)
    nonce = await asked(option, Shown(proofs=(proof(),)))
    for other in ("", "é", 5, None, nonce[:-1]):
        await asked(option, Shown(proofs=(proof({"nonce": other}),)))
    await asked(option, Shown(proofs=(proof({"nonce": nonce, "iat": NOW + 300}),)), NOW + 300)
    await check(Shown(proofs=(proof({"nonce": nonce}),)), option)


async def test_an_older_secret_still_verifies() -> None:
    """Rotation: the newest makes, all verify; a foreign one doesn't."""
    old = await asked(DPoP(nonce=True, nonce_secrets=SECRETS[1:]), Shown(proofs=(proof(),)))
    shown = Shown(proofs=(proof({"nonce": old}),))
    await asked(DPoP(nonce=True, nonce_secrets=SECRETS[:1]), shown)
    await check(shown, DPoP(nonce=True, nonce_secrets=SECRETS))


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "off"}, {"nonce": 1}, {"max_age": 0}, {"max_age": float("nan")}, {"leeway": -1},
        {"leeway": -0.5}, {"max_age": True}, {"leeway": "5"}, {"max_age": 3601},
        {"algorithms": ()}, {"algorithms": "ES256"}, {"algorithms": ("HS256",)},
        {"nonce": True, "nonce_secrets": "n" * 40}, {"nonce": True, "nonce_secrets": ("short",)},
        {"nonce": True, "nonce_secrets": (5,)}, {"nonce_secrets": SECRETS},
    ],
)  # fmt: skip
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    """Refused while the gate is being built."""
    with pytest.raises(ConfigurationError):
        DPoP(**options)


def test_the_secrets_are_in_no_repr() -> None:
    """Neither is the option's text."""
    assert SECRETS[0] not in repr(DPoP(nonce=True, nonce_secrets=SECRETS))
