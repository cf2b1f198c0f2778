"""What can be checked is checked when it is built: each option, against values that people pass.

Each option gets every value of one list. It either means something, and then this table says so,
or it is a ConfigurationError; never a TypeError, and never nonsense that is taken in silence.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
import pytest
from support.signing import AUDIENCE, ISSUER, KEYS

from xuna_middleware import ConfigurationError, JWTVerifier, OIDCVerifier, XunaPlatform, providers

TENANT: Final = "11111111-2222-3333-4444-555555555555"

VALUES: Final[dict[str, Any]] = {
    "None": None,
    "5": 5,
    "'x'": "x",
    "[]": [],
    "[None]": [None],
    "[[]]": [[]],
    "{}": {},
    "{'x': 1}": {"x": 1},
    "b'x'": b"x",
    "True": True,
    "NaN": float("nan"),
    "inf": float("inf"),
    "10**400": 10**400,
    "'\\ud800'": "\ud800",
    "print": print,
    "a class": httpx.MockTransport,
    "an object": object(),
}
NOTHING: Final = frozenset[str]()
ONLY_NONE: Final = frozenset({"None"})
ONE_TEXT: Final = frozenset({"'x'"})
#: What a function returns is not known before it is called.
CALLABLE: Final = frozenset({"print", "a class"})

#: By option, the values that mean something.
CLAIMS: Final[dict[str, frozenset[str]]] = {
    "audience": ONE_TEXT,
    "algorithms": NOTHING,
    "token_types": NOTHING,
    "leeway": frozenset({"5"}),
    "max_lifetime": frozenset({"5"}),
    "audience_claim": ONE_TEXT,
    "scope_claims": frozenset({"[]"}),
    "role_claims": frozenset({"[]"}),
    "insecure_hosts": frozenset({"[]"}),
    "freshness": ONLY_NONE,
    "http_transport": ONLY_NONE,
    "clock": CALLABLE,
}
DISCOVERY: Final = {
    **CLAIMS,
    "metadata_url": ONLY_NONE,
    "endpoint_hosts": frozenset({"[]"}),
}
PLATFORM: Final = {
    "api_key": frozenset({"None", "'x'"}),
    "base_url": ONLY_NONE,
    "http_transport": ONLY_NONE,
    "personalization": NOTHING,
    "livekit_url": ONLY_NONE,
    "signed_url_hosts": frozenset({"[]"}),
    "include_conversation_id": frozenset({"True"}),
    "branch_id": frozenset({"None", "'x'"}),
    "environment": frozenset({"None", "'x'"}),
    "start_within": frozenset({"None", "5"}),
    "clock": CALLABLE,
}

Build = Callable[..., Any]
#: What is built, what it is given beside the option, and its options.
BUILT: Final[list[tuple[Build, Mapping[str, Any], Mapping[str, frozenset[str]]]]] = [
    (
        JWTVerifier,
        {"issuer": ISSUER, "audience": AUDIENCE, "jwks": KEYS},
        {**CLAIMS, "issuer": ONE_TEXT, "jwks": NOTHING, "jwks_uri": ONLY_NONE},
    ),
    (
        JWTVerifier,
        {"issuer": ISSUER, "audience": AUDIENCE, "jwks_uri": f"{ISSUER}/keys"},
        {**CLAIMS, "jwks": ONLY_NONE, "jwks_uri": NOTHING},
    ),
    (
        OIDCVerifier,
        {"issuer": ISSUER, "audience": AUDIENCE},
        {**DISCOVERY, "issuer": NOTHING},
    ),
    (
        providers.auth0,
        {"domain": "acme.eu.auth0.com", "audience": AUDIENCE},
        {**DISCOVERY, "domain": NOTHING},
    ),
    (
        providers.keycloak,
        {"base_url": "https://sso.acme.com", "realm": "acme", "audience": "voice"},
        {**DISCOVERY, "base_url": NOTHING, "realm": ONE_TEXT},
    ),
    (
        providers.entra,
        {"tenant_id": TENANT, "audience": AUDIENCE},
        {**DISCOVERY, "tenant_id": NOTHING, "version": NOTHING},
    ),
    (XunaPlatform, {"api_key": "k"}, PLATFORM),
    (
        XunaPlatform().moved,
        {"api_key": "k", "base_url": "https://x.test"},
        {"api_key": ONE_TEXT, "base_url": NOTHING, "http_transport": ONLY_NONE},
    ),
]
CASES: Final = [
    pytest.param(build, usual, option, meant, id=f"{build.__name__}-{number}-{option}")
    for number, (build, usual, options) in enumerate(BUILT)
    for option, meant in options.items()
]


def outcome(build: Build, options: Mapping[str, Any]) -> str:
    """Say what becomes of it: "built", "refused" with a sentence, or what it raised instead."""
    try:
        build(**options)
    except ConfigurationError as error:
        return "refused" if len(str(error)) > 15 else "refused in no words"
    except Exception as error:
        return type(error).__name__
    return "built"


@pytest.mark.parametrize(("build", "usual", "option", "meant"), CASES)
def test_each_option_means_something_or_is_refused(
    build: Build, usual: Mapping[str, Any], option: str, meant: frozenset[str]
) -> None:
    """The option alone is odd; everything else is as usual."""
    outcomes = {name: outcome(build, {**usual, option: VALUES[name]}) for name in VALUES}
    assert outcomes == {name: "built" if name in meant else "refused" for name in VALUES}


@pytest.mark.parametrize(
    ("build", "usual"), [pytest.param(build, usual, id=build.__name__) for build, usual, _ in BUILT]
)
def test_the_usual_options_are_accepted(build: Build, usual: Mapping[str, Any]) -> None:
    """The control: nothing above is refused for what stands beside the option."""
    assert outcome(build, usual) == "built"


@pytest.mark.parametrize("build", [JWTVerifier, OIDCVerifier])
@pytest.mark.parametrize(
    ("option", "names"),
    [
        ("audience", ["a", "b"]),
        ("algorithms", ["RS256"]),
        ("token_types", ["at+jwt", ""]),
        ("scope_claims", ["scope", ("a", "b")]),
        ("insecure_hosts", ["keycloak"]),
    ],
)
def test_anything_that_lists_will_do(build: Build, option: str, names: list[Any]) -> None:
    """A tuple, a list, a set, and what can be gone through once only: none of it is lost."""
    usual = {"issuer": ISSUER, "audience": AUDIENCE}
    keys = {"jwks": KEYS} if build is JWTVerifier else {}
    for kind in (tuple, list, frozenset, iter):
        assert outcome(build, {**usual, **keys, option: kind(names)}) == "built"


def test_what_can_be_gone_through_once_is_kept() -> None:
    """Claim paths were checked, and then there were none left."""
    verifier = OIDCVerifier(ISSUER, audience=AUDIENCE, scope_claims=iter(["scope"]))  # type: ignore[arg-type]
    assert verifier._policy.scope_claims == ("scope",)


def test_a_preset_takes_an_audience_of_any_kind() -> None:
    """It looks at the names and hands them on, all of them."""
    verifier = providers.auth0("acme.eu.auth0.com", audience=iter(["a", "b"]))  # type: ignore[arg-type]
    assert verifier._policy.audience == {"a", "b"}


@pytest.mark.parametrize("path", ["", ("",), ("a", "")])
def test_a_claim_has_a_name(path: Any) -> None:
    """An empty one is nobody's."""
    with pytest.raises(ConfigurationError, match="scope_claims"):
        OIDCVerifier(ISSUER, audience=AUDIENCE, scope_claims=(path,))


def test_keycloaks_address_may_hold_the_word() -> None:
    """What is refused is a path with the realm in it, not a host of that name, nor half an IPv6."""
    verifier = providers.keycloak("https://realms.acme.com", "acme", audience="voice")
    assert verifier.issuer == "https://realms.acme.com/realms/acme"
    with pytest.raises(ConfigurationError):
        providers.keycloak("https://[", "acme", audience="voice")
