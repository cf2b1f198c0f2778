"""Presets: an `OIDCVerifier` as three well-known providers need it, with what is odd about each.

They set the issuer, the token types and where scopes and roles are found; everything else is the
strict default. Each takes the keyword options of `OIDCVerifier`, which win over the preset's own.
Each refuses what would open the gate to more than one's own API: audiences that stand in tokens
for anything (Auth0's `/userinfo`, Keycloak's `account`, Microsoft Graph) and issuers that are not
one tenant.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypedDict, Unpack
from urllib.parse import quote

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.identity.claims import ClaimPath
from xuna_middleware.identity.dpop import DPoP
from xuna_middleware.identity.keys import Freshness
from xuna_middleware.identity.options import checked_audience
from xuna_middleware.identity.possession import Mode
from xuna_middleware.identity.verifiers import OIDCVerifier

if TYPE_CHECKING:
    import httpx

#: These providers send plain `JWT` unless told to follow RFC 9068; what marks an ID token is then
#: refused, and something that marks an access token is required.
_EITHER_TYPE: Final = ("at+jwt", "JWT")

_MICROSOFT: Final = "login.microsoftonline.com"
_GRAPH: Final = {
    "https://graph.microsoft.com",
    "https://graph.microsoft.com/",
    "00000003-0000-0000-c000-000000000000",
}
_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DOMAIN: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")


class VerifierOptions(TypedDict, total=False):
    """Name the keyword options that a preset passes on; `OIDCVerifier` describes them."""

    algorithms: Sequence[str]
    token_types: Sequence[str]
    leeway: float
    max_lifetime: float
    audience_claim: str
    scope_claims: Sequence[ClaimPath]
    role_claims: Sequence[ClaimPath]
    dpop: Mode | DPoP
    mtls: Mode
    metadata_url: str | None
    insecure_hosts: Iterable[str]
    endpoint_hosts: Iterable[str]
    freshness: Freshness | None
    transport: "httpx.AsyncBaseTransport | None"
    clock: Callable[[], float]


def auth0(
    domain: str, *, audience: str | Sequence[str], **options: Unpack[VerifierOptions]
) -> OIDCVerifier:
    """Verify access tokens of one Auth0 tenant: `auth0("acme.eu.auth0.com", audience="https://…")`.

    `domain` is the tenant's, or the custom domain that the app signs in at: tokens name the one
    they were asked for at. `https://acme.eu.auth0.com/` is taken too. `audience` is the API's
    identifier (Applications ▸ APIs).

    What is odd about Auth0:

    - Its issuer ends in a slash.
    - Access tokens say `typ: JWT` and `azp` unless the API's profile is RFC 9068 (`at+jwt`,
      `client_id`). Of the former, one without any scope can't be told from an ID token and is
      refused: let the app ask for a scope.
    - An app that asks for no `audience` gets an opaque or encrypted token, which is refused.
    - A token lives 24 h by default, exactly the default `max_lifetime`; an API may be set to more.
    - `aud` is a list that also holds `/userinfo` where the app asked for `openid`.
    - With RBAC, `permissions` is what the user's roles allow, whatever the app was granted. So it
      counts as `roles`, and `scope` alone as scopes; to count it as scopes too:
      `scope_claims=("scope", "permissions")`. Roles proper reach a token only through an Action,
      under a name of your own: `role_claims=("https://acme.com/roles",)`.
    - HS256 is on offer for an API; it is refused, since its secret would have to be shared.

    Raises:
        ConfigurationError: `domain` is no domain, or the audience is one of Auth0's own.
    """
    host, names = _auth0_domain(domain), checked_audience(audience)
    if {f"https://{host}/userinfo", f"https://{host}/api/v2/"} & names:
        raise ConfigurationError(
            "auth0: this audience is Auth0's own and stands in tokens for any app of the tenant; "
            "name your API's identifier (Applications ▸ APIs)"
        )
    preset: VerifierOptions = {
        "token_types": _EITHER_TYPE,
        "scope_claims": ("scope",),
        "role_claims": ("permissions",),
    }
    return OIDCVerifier(f"https://{host}/", audience=names, **(preset | options))


def keycloak(
    base_url: str,
    realm: str,
    *,
    audience: str | Sequence[str],
    **options: Unpack[VerifierOptions],
) -> OIDCVerifier:
    """Verify tokens of one realm: `keycloak("https://sso.acme.com", "acme", audience="voice")`.

    `base_url` is what stands before `/realms/`, as the browser sees it; until Keycloak 17 it ended
    in `/auth`. `audience` is the client that stands for your API.

    What is odd about Keycloak:

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
    issuer = f"{_keycloak_base(base_url)}/realms/{_keycloak_realm(realm)}"
    clients = sorted(checked_audience(audience))
    if "account" in clients:
        raise ConfigurationError(
            'keycloak: "account" is in the tokens of nearly every client of the realm; '
            "add an Audience mapper for a client of your own and name that"
        )
    preset: VerifierOptions = {
        "token_types": _EITHER_TYPE,
        "scope_claims": ("scope",),
        "role_claims": (
            ("realm_access", "roles"),
            *(("resource_access", client, "roles") for client in clients),
        ),
    }
    return OIDCVerifier(issuer, audience=clients, **(preset | options))


def entra(
    tenant_id: str,
    *,
    audience: str | Sequence[str],
    version: Literal[1, 2] = 2,
    **options: Unpack[VerifierOptions],
) -> OIDCVerifier:
    """Verify access tokens of one Microsoft Entra tenant, in Microsoft's global cloud.

    `tenant_id` is the directory's GUID. `audience` is the API's application (client) id, a GUID;
    in version 1 tokens it may be the application id URI (`api://…`) instead, so name both there.

    What is odd about Entra:

    - `version` is the access token's own (its `ver`), which the API's manifest decides
      (`requestedAccessTokenVersion`; null means 1), whatever endpoint the app signs in at. The two
      have different issuers: `https://login.microsoftonline.com/<tenant>/v2.0` and
      `https://sts.windows.net/<tenant>/`.
    - The header always says `typ: JWT`. Delegated scopes are `scp`, one string with spaces; app
      roles are `roles`.
    - A token of an app on its own (client credentials) has `roles` and no `scp`, so nothing marks
      it as an access token, and it is refused.
    - `sub` is different for each app that the same person uses. What names a person across the
      directory is `oid`: `claim("oid")`.
    - The client is `azp` in version 2, and `appid` (in `claims` only) in version 1.
    - An app that asks for no scope of your API gets a token for Microsoft Graph, which nobody else
      can verify.
    - An API with a signing key of its own (claims mapping) publishes it only at
      `metadata_url="…/.well-known/openid-configuration?appid=<client id>"`.

    Raises:
        ConfigurationError: the tenant is not one tenant, or the audience can't be in such a token.
    """
    tenant, names = _entra_tenant(tenant_id), checked_audience(audience)
    _check_entra_audience(names, version)
    preset: VerifierOptions = {
        "token_types": _EITHER_TYPE,
        "scope_claims": ("scp",),
        "role_claims": ("roles",),
    }
    if version == 2:
        issuer = f"https://{_MICROSOFT}/{tenant}/v2.0"
        return OIDCVerifier(issuer, audience=names, **(preset | options))
    preset["metadata_url"] = f"https://{_MICROSOFT}/{tenant}/.well-known/openid-configuration"
    return OIDCVerifier(f"https://sts.windows.net/{tenant}/", audience=names, **(preset | options))


def _text(value: object) -> str:
    """Return a text; of anything else an empty one, which is refused in the argument's words."""
    return value.strip() if isinstance(value, str) else ""


def _auth0_domain(domain: str) -> str:
    # Copied from the browser it comes as a URL, which is as clear.
    name = _text(domain).lower().removeprefix("https://").removesuffix("/")
    if not _DOMAIN.fullmatch(name):
        raise ConfigurationError(
            'auth0: domain must be the tenant\'s whole domain, like "acme.eu.auth0.com", '
            "without http://, port or path"
        )
    return name


def _keycloak_base(base_url: str) -> str:
    base = _text(base_url).rstrip("/")
    if not base.startswith(("https://", "http://")) or {"?", "#"} & {*base}:
        raise ConfigurationError(
            'keycloak: base_url must be an address like "https://sso.acme.com"'
        )
    if "/realms" in base.partition("://")[2]:
        raise ConfigurationError(
            'keycloak: base_url is what stands before "/realms/"; the realm is the second argument'
        )
    return base


def _keycloak_realm(realm: str) -> str:
    if not realm or realm != _text(realm) or "/" in realm or not realm.isprintable():
        raise ConfigurationError('keycloak: realm must be the name of one realm, like "acme"')
    return quote(realm, safe="")


def _entra_tenant(tenant_id: str) -> str:
    tenant = _text(tenant_id).lower()
    if tenant in ("common", "organizations", "consumers"):
        raise ConfigurationError(
            f'entra: "{tenant}" is every tenant there is; name yours by its directory (tenant) id, '
            "or give the gate a list with one entra(…) for each tenant you mean"
        )
    if not _GUID.fullmatch(tenant):
        raise ConfigurationError(
            "entra: tenant_id must be the directory (tenant) id, a GUID, which tokens name as "
            "their issuer; a domain name won't do (Entra admin center ▸ Overview)"
        )
    return tenant


def _check_entra_audience(names: frozenset[str], version: int) -> None:
    if type(version) is not int or version not in (1, 2):
        raise ConfigurationError("entra: version must be 1 or 2, as the API's manifest has it")
    if names & _GRAPH:
        raise ConfigurationError(
            "entra: tokens for Microsoft Graph can't be verified by anybody else; let the app ask "
            "for a scope of your own API, and name that API's application (client) id"
        )
    if version == 2 and any(name.startswith("api://") for name in names):
        raise ConfigurationError(
            "entra: version 2 tokens name the API by its application (client) id, never by "
            "api://…; if its requestedAccessTokenVersion is null or 1: version=1"
        )
