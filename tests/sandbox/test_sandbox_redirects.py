"""Redirect addresses: exact, and any port on loopback (RFC 8252). Pure tables."""

import pytest

from xuna_middleware.sandbox.redirects import check_registered, is_registered

REGISTERED = (
    "https://app.example/callback",
    "http://127.0.0.1/callback",
    "http://[::1]/callback",
    "http://localhost/callback?from=sandbox",
)


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example/callback",
        "http://127.0.0.1/callback",
        "http://127.0.0.1:1/callback",
        "http://127.0.0.1:65535/callback",
        "http://[::1]:8000/callback",
        "http://localhost:3000/callback?from=sandbox",
    ],
)
def test_registered(uri: str) -> None:
    """The same, byte by byte; on loopback with whatever port."""
    assert is_registered(uri, REGISTERED)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/callback",
        "https://app.example/callback/",
        "https://app.example/callback?x=1",
        "https://app.example:8443/callback",
        "https://app.example.evil.example/callback",
        "HTTPS://app.example/callback",
        "https://APP.example/callback",
        "http://app.example/callback",
        "http://127.0.0.1:0/callback",
        "http://127.0.0.1:65536/callback",
        "http://127.0.0.1:/callback",
        "http://127.0.0.1:80a/callback",
        "http://127.0.0.1:٨٠/callback",
        "http://127.0.0.1:8000/callback2",
        "http://127.0.0.1:8000/callback#x",
        "http://127.0.0.1:8000/callback\n",
        "http://127.0.0.1:8000\\@evil.example/callback",
        "http://127.0.0.1@evil.example/callback",
        "http://127.0.0.1:8000@evil.example/callback",
        "http://127.0.0.1.evil.example/callback",
        "http://127.0.0.2/callback",
        "http://127.1/callback",
        "http://2130706433/callback",
        "https://127.0.0.1/callback",
        "http://localhost:3000/callback",
        "javascript:alert(1)",
    ],
)
def test_not_registered(uri: str) -> None:
    """Anything else is refused, however close it looks."""
    assert not is_registered(uri, REGISTERED)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "http://app.example/",
        "https://app.example/#x",
        "myapp://cb",
        "https://a\\b/",
        "https://a b/",
    ],
)
def test_what_may_not_be_registered(uri: str) -> None:
    """No plain http beyond loopback, no fragment, no scheme of one's own."""
    with pytest.raises(ValueError, match="redirect address"):
        check_registered(uri)
