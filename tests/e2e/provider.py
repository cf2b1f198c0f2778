"""The real OpenID provider, as a value: where it is, and how to get a token from it.

The provider is npm's `oidc-provider`; `provider_process.py` runs it.
"""

import base64
import hashlib
import html
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
from support.proofs import make_proof
from support.signing import Signer

from .authority import Authority

#: How many steps a sign-in may take: authorize, login, resume, consent, resume, with redirects.
STEPS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Hold what a sign-in gave."""

    access_token: str = field(repr=False)
    id_token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Know a running provider and the clients that are registered there.

    An `algorithm` is `RS256`, `PS256`, `ES256`, `EdDSA` or `Ed25519`, or for an access token that
    is no JWT `opaque`, or `brief` for one that lives a second. An `audience` is plain text. Scopes
    are `voice:talk` and `voice:listen`. `tls` is where it takes client certificates.
    """

    issuer: str
    service_id: str
    service_secret: str = field(repr=False)
    app_id: str
    callback: str
    tls: str | None
    secrets: Mapping[str, str] = field(repr=False)
    signer_key: Mapping[str, str] = field(repr=False)

    def client_credentials(
        self, algorithm: str, audience: str, *, scope: str = "voice:talk"
    ) -> str:
        """Return an access token of the service itself; nobody signs in."""
        form = _asking(algorithm, audience, scope)
        with httpx.Client() as client:
            answer = self._token(client, form, (self.service_id, self.service_secret))
        return str(answer["access_token"])

    def bound_to_key(self, algorithm: str, audience: str, key: Signer) -> str:
        """Return a token of `prover` that is bound to a DPoP key (RFC 9449 section 5).

        The provider asks for a nonce first, as section 8 has it, and gets it.
        """
        refused = self._proving(algorithm, audience, key)
        assert (refused.status_code, refused.json()["error"]) == (400, "use_dpop_nonce")
        answer = _json(self._proving(algorithm, audience, key, refused.headers["dpop-nonce"]))
        assert answer["token_type"] == "DPoP"
        return str(answer["access_token"])

    def bound_to_certificate(self, algorithm: str, audience: str, authority: Authority) -> str:
        """Return a token of `holder`, known by and bound to its certificate (RFC 8705)."""
        form = {**_asking(algorithm, audience, "voice:talk"), "client_id": "holder"}
        with httpx.Client(verify=authority.client("holder"), trust_env=False) as client:
            answer = _json(client.post(f"{self.tls}/token", data=form))
        return str(answer["access_token"])

    def revoke(self, token: str) -> None:
        """Revoke a token of the service (RFC 7009)."""
        reply = self._asked_as_service("revocation_endpoint", token)
        assert reply.status_code == 200

    def knows(self, token: str) -> bool:
        """Tell whether the provider itself calls a token active (RFC 7662)."""
        return bool(_json(self._asked_as_service("introspection_endpoint", token))["active"])

    def code_pkce(
        self, algorithm: str, audience: str, *, user: str = "ada", scope: str = "voice:talk"
    ) -> str:
        """Return an access token of a person who signed in at the app."""
        return self.sign_in(algorithm, audience, user=user, scope=scope).access_token

    def sign_in(
        self, algorithm: str, audience: str, *, user: str = "ada", scope: str = "voice:talk"
    ) -> Tokens:
        """Walk through the login and the consent page as a browser would (RFC 7636)."""
        verifier = secrets.token_urlsafe(32)
        ask = {
            "client_id": self.app_id,
            "redirect_uri": self.callback,
            "response_type": "code",
            "scope": f"openid {scope}",
            "resource": _indicator(algorithm, audience),
            "code_challenge": _challenge(verifier),
            "code_challenge_method": "S256",
            "state": secrets.token_urlsafe(16),
        }
        with httpx.Client() as client:
            form = {
                "grant_type": "authorization_code",
                "client_id": self.app_id,
                "redirect_uri": self.callback,
                "code": self._code(client, ask, user),
                "code_verifier": verifier,
            }
            answer = self._token(client, form)
        return Tokens(access_token=answer["access_token"], id_token=answer["id_token"])

    def metadata(self) -> dict[str, Any]:
        """Return the discovery document (OpenID Connect Discovery section 4)."""
        return _json(httpx.get(f"{self.issuer}/.well-known/openid-configuration"))

    def _proving(
        self, algorithm: str, audience: str, key: Signer, nonce: str | None = None
    ) -> httpx.Response:
        address = self.metadata()["token_endpoint"]
        return httpx.post(
            address,
            data=_asking(algorithm, audience, "voice:talk"),
            auth=("prover", self.secrets["prover"]),
            headers={"DPoP": make_proof(key, "POST", address, nonce=nonce)},
            trust_env=False,
        )

    def _asked_as_service(self, endpoint: str, token: str) -> httpx.Response:
        auth = (self.service_id, self.service_secret)
        return httpx.post(self.metadata()[endpoint], data={"token": token}, auth=auth)

    def _code(self, client: httpx.Client, ask: dict[str, str], user: str) -> str:
        reply = client.get(self.metadata()["authorization_endpoint"], params=ask)
        for _ in range(STEPS):
            onward = reply.headers.get("location")
            if onward is None:
                reply = client.post(_submit_url(reply), data=_filled_in(reply.text, user))
            elif onward.startswith(self.callback):
                return _answered(onward, ask["state"])
            else:
                reply = client.get(httpx.URL(self.issuer).join(onward))
        raise AssertionError(f"the sign-in did not end after {STEPS} steps")

    def _token(
        self, client: httpx.Client, form: dict[str, str], auth: tuple[str, str] | None = None
    ) -> dict[str, Any]:
        address = self.metadata()["token_endpoint"]
        # A None would be "look for a .netrc", so a public client has no argument at all.
        return _json(
            client.post(address, data=form, auth=auth) if auth else client.post(address, data=form)
        )


def _asking(algorithm: str, audience: str, scope: str) -> dict[str, str]:
    return {
        "grant_type": "client_credentials",
        "resource": _indicator(algorithm, audience),
        "scope": scope,
    }


def _indicator(algorithm: str, audience: str) -> str:
    return f"urn:audience:{algorithm}:{audience}"


def _challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _submit_url(page: httpx.Response) -> str:
    found = re.search(r'<form[^>]* action="([^"]+)"', page.text)
    # The page itself is not shown: it holds the names of the request.
    assert found, f"no form to fill in: {page.status_code} {page.url.path}"
    return html.unescape(found[1])


def _filled_in(page: str, user: str) -> dict[str, str]:
    if 'name="prompt" value="login"' in page:
        return {"prompt": "login", "login": user, "password": "any"}
    return {"prompt": "consent"}


def _answered(callback: str, state: str) -> str:
    answer = parse_qs(urlsplit(callback).query)
    assert "code" in answer, f"no code: {answer.get('error')} {answer.get('error_description')}"
    assert answer["state"] == [state]
    return answer["code"][0]


def _json(reply: httpx.Response) -> dict[str, Any]:
    members: dict[str, Any] = reply.json()
    problem = f"{members.get('error')} {members.get('error_description')}"
    assert reply.status_code == 200, f"{reply.status_code} at {reply.url.path}: {problem}"
    return members
