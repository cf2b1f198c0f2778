"""Keycloak."""

from collections.abc import Sequence
from typing import Unpack
from urllib.parse import quote

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.identity.jwt.options import checked_audience
from xuna_middleware.identity.jwt.verifiers import OIDCVerifier
from xuna_middleware.providers._preset import EITHER_TYPE, VerifierOptions, text


def keycloak(
    base_url: str,
    realm: str,
    *,
    audience: str | Sequence[str],
    **options: Unpack[VerifierOptions],
) -> OIDCVerifier:
    """Verify tokens of one realm: `keycloak("https://sso.acme.com", "acme", audience="voice")`.

    `base_url` is the part before `/realms/`, as the browser sees it; until Keycloak 17 it ended in
    `/auth`. `audience` is the client that represents your API.

    Peculiarities of Keycloak:

    - The audience is not in its tokens until an Audience mapper puts it there (Client scopes ▸ … ▸
      Add mapper ▸ By configuration ▸ Audience); `account` is in nearly all of them.
    - The header says `typ: JWT` unless the client is set to `at+jwt` (26.2 on); the payload's own
      `typ` is `Bearer`, and `ID` in an ID token.
    - Roles are `realm_access.roles` and `resource_access.<client>.roles`. Both are read, the latter
      for the clients named as audience only; a realm role and a client role of one name are one.
    - Scopes are the names of client scopes, `profile` and `email` among them.
    - Lightweight access tokens leave out what they can, roles and `sub` included; without `sub` a
      token is refused, so let the `basic` scope's mapper add it to those too.
    - The issuer follows the address that Keycloak was asked at unless its hostname is configured.
      To fetch keys inside a cluster: `insecure_hosts=("keycloak",)` and
      `metadata_url="http://keycloak:8080/realms/acme/.well-known/openid-configuration"`.

    Raises:
        ConfigurationError: the address, the realm or the audience can't be meant.
    """
    issuer = f"{_base(base_url)}/realms/{_realm(realm)}"
    clients = sorted(checked_audience(audience))
    if "account" in clients:
        raise ConfigurationError(
            'keycloak: "account" is in the tokens of nearly every client of the realm; '
            "add an Audience mapper for a client of your own and name that"
        )
    preset: VerifierOptions = {
        "token_types": EITHER_TYPE,
        "scope_claims": ("scope",),
        "role_claims": (
            ("realm_access", "roles"),
            *(("resource_access", client, "roles") for client in clients),
        ),
    }
    return OIDCVerifier(issuer, audience=clients, **(preset | options))


def _base(base_url: str) -> str:
    base = text(base_url).rstrip("/")
    if not base.startswith(("https://", "http://")) or {"?", "#"} & {*base}:
        raise ConfigurationError(
            'keycloak: base_url must be an address like "https://sso.acme.com"'
        )
    if "/realms" in base.partition("://")[2]:
        raise ConfigurationError(
            'keycloak: base_url is what stands before "/realms/"; the realm is the second argument'
        )
    return base


def _realm(realm: str) -> str:
    if not realm or realm != text(realm) or "/" in realm or not realm.isprintable():
        raise ConfigurationError('keycloak: realm must be the name of one realm, like "acme"')
    return quote(realm, safe="")
