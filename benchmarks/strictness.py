"""How strict others are on the same inputs: `python -m benchmarks.strictness`.

Three readers see every row of `tests/support/bad_tokens.py` that is signed well: this package,
PyJWT and joserfc, both set up as strictly as their documentation has it (required claims, issuer,
audience, algorithms, keys by `kid`, joserfc with its claims registry). Counted is who accepts a
hostile token, and which exceptions leave a library that are not its own. Not every row is a
library's to refuse: neither of the two says that it reads `typ`, `cnf`, the length of a `sub` or a
token's life.
Then the Wycheproof vectors, if they lie beside the project.

It exits with 1 if this package accepts one of them, or leaks an exception.
"""

import asyncio
import json
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, Final

import jwt
from joserfc import errors, jws
from joserfc.jwk import JWKRegistry
from joserfc.jwk import KeySet as JoserfcKeys
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support import bad_tokens, vectors  # noqa: E402
from support.signing import AUDIENCE, ISSUER, KEYS, NOW, RSA, unb64  # noqa: E402

from xuna_middleware import Credentials, InvalidTokenError, JWTVerifier  # noqa: E402

WELL_SIGNED: Final[Mapping[str, Mapping[str, Callable[[], str]]]] = {
    "headers": bad_tokens.HEADERS,
    "shapes": bad_tokens.SHAPES,
    "JSON": bad_tokens.JSON,
    "times": bad_tokens.TIMES,
    "claims": bad_tokens.CLAIMS,
}
ACCEPTED, REFUSED, LEAKED = "accepted", "refused", "leaked"
ALGORITHMS: Final = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
ALGORITHMS_EC: Final = ["ES256", "ES384", "ES512", "EdDSA"]
SECRETS: Final = ["HS256", "HS384", "HS512"]


class TestsTime(datetime):
    """The tokens' time, for PyJWT, which takes no clock."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "TestsTime":
        return cls.fromtimestamp(NOW, tz)


FrameFilter = Callable[[str], object]


def ours() -> FrameFilter:
    """Return this package's verifier, at its defaults."""
    verifier = JWTVerifier(issuer=ISSUER, audience=AUDIENCE, jwks=KEYS, clock=lambda: NOW)

    def judge(token: str) -> object:
        return asyncio.run(verifier.verify(Credentials(scheme="bearer", token=token)))

    return judge


def pyjwt() -> FrameFilter:
    """Return PyJWT with everything required that it can check."""
    keys = jwt.PyJWKSet.from_dict(KEYS)

    def judge(token: str) -> object:
        named = jwt.get_unverified_header(token).get("kid")
        key = next((each for each in keys.keys if each.key_id == named), None)
        if key is None:
            raise jwt.PyJWKClientError("no such key")
        return jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            audience=AUDIENCE,
            issuer=ISSUER,
            leeway=30,
            options={"require": ["exp", "iat", "iss", "aud", "sub"]},
        )

    return judge


def joserfc() -> FrameFilter:
    """Return joserfc with its registry of claims, all essential."""
    keys = JoserfcKeys.import_key_set(KEYS)  # type: ignore[arg-type]
    # Unknown header parameters are to be ignored (RFC 7515 section 4), which is not its default.
    registry = JWSRegistry(algorithms=[*ALGORITHMS, *ALGORITHMS_EC], strict_check_header=False)
    claims_registry = JWTClaimsRegistry(
        now=int(NOW),
        leeway=30,
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": AUDIENCE},
        **{name: {"essential": True} for name in ("exp", "iat", "sub")},  # type: ignore[arg-type]
    )

    def judge(token: str) -> object:
        verified = jws.deserialize_compact(token, keys, registry=registry)
        claims = json.loads(verified.payload)
        if not isinstance(claims, dict):
            raise errors.InvalidPayloadError("no object")
        claims_registry.validate(claims)
        return claims

    return judge


#: Who judges, and the exceptions that say no. `ValueError` of `json.loads` is ours to catch above.
JUDGES: Final[Mapping[str, tuple[FrameFilter, tuple[type[Exception], ...]]]] = {
    "xuna_middleware": (ours(), (InvalidTokenError,)),
    "PyJWT": (pyjwt(), (jwt.PyJWTError,)),
    "joserfc": (joserfc(), (errors.JoseError, json.JSONDecodeError)),
}


def verdict(judge: FrameFilter, refusals: tuple[type[Exception], ...], token: str) -> str:
    """Tell what becomes of a token."""
    try:
        judge(token)
    except refusals:
        return REFUSED
    except Exception:
        return LEAKED
    return ACCEPTED


def hostile() -> dict[str, Counter[str]]:
    """Return each judge's verdicts on all rows, and print them by table."""
    totals = {name: Counter[str]() for name in JUDGES}
    print(f"{'signed well, and hostile':26}" + "".join(f"{name:>18}" for name in JUDGES))
    for table, rows in WELL_SIGNED.items():
        counts = {
            name: Counter(verdict(*JUDGES[name], make()) for make in rows.values())
            for name in JUDGES
        }
        cells = "".join(f"{_cell(counts[name]):>18}" for name in JUDGES)
        print(f"{f'{table} ({len(rows)})':26}{cells}")
        for name in JUDGES:
            totals[name] += counts[name]
    rows_in_all = sum(len(rows) for rows in WELL_SIGNED.values())
    print(f"{f'all ({rows_in_all})':26}" + "".join(f"{_cell(totals[n]):>18}" for n in JUDGES))
    print("accepted + leaked exceptions, of each table's rows", end="\n\n")
    return totals


def _cell(counts: Counter[str]) -> str:
    return f"{counts[ACCEPTED]} + {counts[LEAKED]}"


def by_us(token: str, keys: Any) -> bytes | None:
    """Return a vector's payload if we take it."""
    return vectors.verified_payload(token, keys)


def by_pyjwt(token: str, keys: Any) -> bytes | None:
    """Return a vector's payload if PyJWT takes it, with the key's own algorithm alone."""
    members = jwt.PyJWKSet.from_dict(keys).keys
    named = jwt.get_unverified_header(token).get("kid")
    key = next(each for each in members if each.key_id == named or len(members) == 1)
    decoded = jwt.PyJWS().decode(
        token, key, algorithms=[key.algorithm_name], options={"enforce_minimum_key_length": True}
    )
    return decoded if isinstance(decoded, bytes) else None


def by_joserfc(token: str, keys: Any) -> bytes | None:
    """Return a vector's payload if joserfc takes it, all its algorithms allowed."""
    members = keys["keys"]
    known: Any = JoserfcKeys.import_key_set(keys)
    if len(members) == 1:
        known = JWKRegistry.import_key(members[0])
    allowed = [*ALGORITHMS, *ALGORITHMS_EC, *SECRETS]
    verified = jws.deserialize_compact(token, known, algorithms=allowed)
    return bytes(verified.payload)


def agreements(name: str) -> Iterator[tuple[str, int]]:
    """Yield how many of a file's cases each judge sees as its label does."""
    cases = [
        (case, group.get("public", group["private"]))
        for group in json.loads((vectors.VECTORS / name).read_text("utf-8"))["testGroups"]
        for case in group["tests"]
    ]
    for judge, read in (("xuna_middleware", by_us), ("PyJWT", by_pyjwt), ("joserfc", by_joserfc)):
        yield judge, sum(_agrees(read, case, keys) for case, keys in cases)
    yield "cases", len(cases)


def _agrees(read: Callable[[str, Any], bytes | None], case: Any, keys: Any) -> bool:
    try:
        payload = read(case["jws"], keys if "keys" in keys else {"keys": [keys]})
    except Exception:
        payload = None
    if case["result"] == "invalid":
        return payload is None
    return payload is not None and payload == unb64(case["jws"].split(".")[1])


def main() -> int:
    """Print the figures; return 1 if ours are not the strictest there can be."""
    warnings.simplefilter("ignore")
    vars(jwt.api_jwt)["datetime"] = TestsTime
    for name, judge in JUDGES.items():
        if verdict(*judge, RSA.token()) != ACCEPTED:
            print(f"{name} refuses a good token: the comparison shows nothing")
            return 1
    totals = hostile()
    for name in ("json_web_signature_test.json", "json_web_key_test.json"):
        if (vectors.VECTORS / "wycheproof" / name).exists():
            figures = dict(agreements(f"wycheproof/{name}"))
            print(name, figures)
    return 1 if totals["xuna_middleware"].keys() != {REFUSED} else 0


if __name__ == "__main__":
    sys.exit(main())
