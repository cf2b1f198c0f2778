"""What a preset says of its tokens: marks that are refused or required, and a check of its own."""

from typing import Any

import pytest
from support.doubles import ask, bearer, make_gate, make_verifier
from support.signing import RSA, good_claims

from xuna_middleware import ConfigurationError
from xuna_middleware.identity.jwt.claims import TokenKind

PLAIN = RSA.header(typ="JWT")


def verifier(**kind: Any) -> Any:
    marks: dict[str, Any] = {"refused": ("nonce",), "required": ("sid", ("use", "session"))}
    return make_verifier(token_types=("at+jwt", "JWT"), kind=TokenKind(**{**marks, **kind}))


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"sid": "1"}, 200),
        ({"use": "session"}, 200),
        ({"use": "other"}, 401),
        ({}, 401),
        ({"sid": "1", "nonce": "n"}, 401),
    ],
)
async def test_marks(claims: Any, status: int) -> None:
    """A name, or a name and its value; one refused mark is too many, one required is enough."""
    token = RSA.token(good_claims(**claims), PLAIN)
    assert (await ask(make_gate(verifier=verifier()), headers=bearer(token))).status == status


async def test_check_of_ones_own(caplog: pytest.LogCaptureFixture) -> None:
    """It says why not, for the operator's log."""

    def check(claims: Any) -> str | None:
        return None if claims.get("plan") == "pro" else "plan: ask sales"

    gate = make_gate(verifier=verifier(required=(), check=check))
    good, other = (RSA.token(good_claims(plan=plan), PLAIN) for plan in ("pro", "free"))
    assert (await ask(gate, headers=bearer(good))).status == 200
    assert (await ask(gate, headers=bearer(other))).status == 401
    assert "plan: ask sales" in caplog.text


@pytest.mark.parametrize(("always", "status"), [(False, 200), (True, 401)])
async def test_rfc_9068_type_says_enough_or_not(always: bool, status: int) -> None:
    """`at+jwt` is an access token by itself, unless the provider gives it to others, too."""
    gate = make_gate(verifier=verifier(always=always))
    assert (await ask(gate, headers=bearer(RSA.token()))).status == status


def test_kind_that_is_none() -> None:
    """Refused when the verifier is built."""
    with pytest.raises(ConfigurationError, match="TokenKind"):
        make_verifier(kind="session")
