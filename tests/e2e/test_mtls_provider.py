"""Tokens that a real provider bound to a client certificate, at a gate behind a real nginx.

No ASGI server fills in the TLS extension, so a proxy that ends TLS is how this is run.
"""

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest

from .authority import Authority
from .gates import Gate, proxied_gate
from .nginx import find_nginx
from .provider import Provider

ROUTE: Final = "/xuna/get-signed-url"


@pytest.fixture(scope="module")
def gate(
    oidc_provider: Provider, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gate]:
    nginx = find_nginx()
    if nginx is None:
        pytest.skip("no nginx here: apt-get install nginx")
    directory = tmp_path_factory.mktemp("gate")
    with proxied_gate(nginx, directory, authority, oidc_provider, "mtls") as gate:
        yield gate


@pytest.fixture(scope="module")
def token(oidc_provider: Provider, authority: Authority) -> str:
    """Return a token that the provider bound to the certificate of `holder`."""
    return oidc_provider.bound_to_certificate("ES256", "voice", authority)


def get(gate: Gate, token: str, verify: Any, **headers: str) -> httpx.Response:
    return httpx.get(
        gate.public + ROUTE,
        headers={"Authorization": f"Bearer {token}", **headers},
        verify=verify,
        trust_env=False,
        timeout=20,
    )


def assert_refused(reply: httpx.Response) -> None:
    assert (reply.status_code, reply.json()["code"]) == (401, "invalid_token")
    assert reply.headers["www-authenticate"].startswith('Bearer error="invalid_token"')


def test_token_passes_with_its_certificate(gate: Gate, token: str, authority: Authority) -> None:
    """Who got the token uses it, as often as they like."""
    for _ in range(2):
        assert get(gate, token, authority.client("holder")).status_code == 200


def test_stolen_token_is_refused(gate: Gate, token: str, authority: Authority) -> None:
    """Without a certificate, and with another one of the same authority."""
    assert_refused(get(gate, token, authority.client()))
    assert_refused(get(gate, token, authority.client("thief")))


def test_certificate_in_a_header_of_the_thief(gate: Gate, token: str, authority: Authority) -> None:
    """Certificates are public: naming one is not having its key. The proxy replaces the header."""
    forged = quote((authority.folder / "holder.pem").read_text())
    for client in (authority.client(), authority.client("thief")):
        assert_refused(get(gate, token, client, **{"Client-Cert": forged}))


def test_token_of_no_certificate_is_refused(
    gate: Gate, oidc_provider: Provider, authority: Authority
) -> None:
    """The same provider's ordinary token, where certificates are required."""
    free = oidc_provider.client_credentials("ES256", "voice")
    assert_refused(get(gate, free, authority.client("holder")))


def test_provider_knows_clients_by_their_certificate(
    oidc_provider: Provider, authority: Authority
) -> None:
    """What these tests stand on: the provider gives `holder`'s token to nobody else."""
    form = {"grant_type": "client_credentials", "client_id": "holder"}
    with httpx.Client(verify=authority.client("thief"), trust_env=False) as thief:
        reply = thief.post(f"{oidc_provider.tls}/token", data=form)
    assert (reply.status_code, reply.json()["error"]) == (401, "invalid_client")
