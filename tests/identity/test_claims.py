"""The claims of a verified token, as a table without keys, clocks or I/O."""

from collections.abc import Mapping
from typing import Any, Final

import pytest
from support.signing import AUDIENCE, ISSUER, LEFT_OUT, NOW, good_claims

from xuna_middleware import Identity, InvalidTokenError
from xuna_middleware.identity.jwt.claims import ClaimPolicy, find_claim, normalized_type


def policy(**options: Any) -> ClaimPolicy:
    """Return the usual policy, changed."""
    usual: dict[str, Any] = {
        "issuer": ISSUER,
        "audience": frozenset({AUDIENCE, "second"}),
        "token_types": frozenset({"at+jwt"}),
        "leeway": 30.0,
        "max_lifetime": 86400.0,
        "audience_claim": "aud",
        "scope_claims": ("scope", "scp"),
        "role_claims": ("roles", ("realm_access", "roles")),
    }
    return ClaimPolicy(**{**usual, **options})


def checked(
    typ: str = "at+jwt", options: Mapping[str, Any] | None = None, **changes: Any
) -> Identity:
    """Check good claims, changed."""
    return policy(**(options or {})).check(typ, good_claims(**changes), NOW)


CAUSES: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "iss": ({"iss": "x"}, "issuer"),
    "type": ({"typ": "JWT"}, "token type"),
    "aud": ({"aud": "x"}, "audience"),
    "exp missing": ({"exp": LEFT_OUT}, "exp"),
    "iat missing": ({"iat": LEFT_OUT}, "iat"),
    "expired": ({"exp": NOW - 30}, "expired"),
    "iat ahead": ({"iat": NOW + 31}, "iat"),
    "nbf ahead": ({"nbf": NOW + 31}, "nbf"),
    "nbf text": ({"nbf": "0"}, "nbf"),
    "too long a life": ({"iat": NOW - 86_000, "exp": NOW + 500}, "lifetime"),
    "cnf": ({"cnf": {}}, "cnf"),
    "sub": ({"sub": " \t"}, "subject"),
}


@pytest.mark.parametrize(("changes", "cause"), CAUSES.values(), ids=CAUSES.keys())
def test_refusal_names_its_rule(changes: dict[str, Any], cause: str) -> None:
    """The part before the colon is what log lines are counted by: few, fixed words."""
    with pytest.raises(InvalidTokenError) as caught:
        checked(**changes)
    assert caught.value.cause.partition(":")[0] == cause


def test_identity_of_a_good_token() -> None:
    """What the claims say, and no more."""
    who = checked(azp="app-2", roles=["admin", 7], realm_access={"roles": ["user"]}, scp="a b")
    assert (who.issuer, who.subject, who.client_id) == (ISSUER, "user-1", "app")
    assert who.scopes == {"voice:talk", "openid", "a", "b"}
    assert who.roles == {"admin", "user"}
    assert who.expires_at == NOW + 600
    assert who.claims["azp"] == "app-2"


WORDS: Final[dict[str, tuple[Any, set[str]]]] = {
    "a text": ("a b", {"a", "b"}),
    "a text with many spaces": ("  a   b ", {"a", "b"}),
    "an empty text": ("", set()),
    "a list": (["a", "b c"], {"a", "b c"}),
    "a list with others": (["a", 1, None, ["b"]], {"a"}),
    "an empty list": ([], set()),
    "null": (None, set()),
    "a number": (7, set()),
    "true": (True, set()),
    "an object": ({"a": 1}, set()),
    "missing": (LEFT_OUT, set()),
    "a text with a tab": ("a\tb", {"a\tb"}),
}


@pytest.mark.parametrize(("value", "words"), WORDS.values(), ids=WORDS.keys())
def test_scopes(value: Any, words: set[str]) -> None:
    """A space-separated text (RFC 8693 section 4.2) or a list; anything odd grants nothing."""
    assert checked(scope=value).scopes == words
    assert checked(scope=LEFT_OUT, roles=value).roles == words


@pytest.mark.parametrize(
    ("changes", "client_id"),
    [
        ({}, "app"),
        ({"client_id": LEFT_OUT}, None),
        ({"client_id": LEFT_OUT, "azp": "web"}, "web"),
        ({"client_id": 7, "azp": "web"}, None),
        ({"client_id": None}, None),
    ],
)
def test_client(changes: dict[str, Any], client_id: str | None) -> None:
    """`client_id` (RFC 9068), else `azp`; odd values name nobody."""
    assert checked(**changes).client_id == client_id


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a", {"b": {"c": 1}}),
        (("a", "b", "c"), 1),
        (("a", "b", "c", "d"), None),
        (("x", "b"), None),
        (("a", "x"), None),
        ("a.b", None),
        (("a.b",), None),
    ],
)
def test_claim_at_a_path(path: Any, found: Any) -> None:
    """A tuple is a way through nested objects; a name with dots is a name."""
    assert find_claim({"a": {"b": {"c": 1}}}, path) == found


@pytest.mark.parametrize(
    ("typ", "normalized"),
    [
        *(("at+jwt", "at+jwt"), ("AT+JWT", "at+jwt"), ("application/at+jwt", "at+jwt")),
        *(("Application/AT+JWT", "at+jwt"), ("", ""), ("JWT", "jwt"), (" JWT", " jwt")),
    ],
)
def test_type_is_a_media_type(typ: str, normalized: str) -> None:
    """RFC 7515 section 4.1.9: `application/` may be left out, and case says nothing."""
    assert normalized_type(typ) == normalized


@pytest.mark.parametrize("leeway", [0, 0.5, 300])
def test_leeway_counts_for_every_time(leeway: float) -> None:
    """exp, nbf and iat alike, to the second."""
    options = {"leeway": leeway}
    checked(options=options, exp=NOW - leeway + 0.01, iat=NOW - 600)
    checked(options=options, nbf=NOW + leeway)
    checked(options=options, iat=NOW + leeway)
    refused: list[dict[str, Any]] = [
        {"exp": NOW - leeway},
        {"nbf": NOW + leeway + 0.01},
        {"iat": NOW + leeway + 0.01},
    ]
    for changes in refused:
        with pytest.raises(InvalidTokenError):
            checked(options=options, **changes)


def test_short_lifetime_of_ones_own() -> None:
    """`max_lifetime` bounds the whole life, and what is left of it."""
    options = {"max_lifetime": 60.0}
    checked(options=options, iat=NOW, exp=NOW + 60)
    refused: list[dict[str, Any]] = [
        {"iat": NOW, "exp": NOW + 60.5},
        {"iat": NOW + 30, "exp": NOW + 90.5},
    ]
    for changes in refused:
        with pytest.raises(InvalidTokenError):
            checked(options=options, **changes)


def test_any_configured_audience_will_do() -> None:
    """One of several."""
    checked(aud="second")
    checked(aud=["x", "second", "y"])
