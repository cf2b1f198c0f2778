"""Microsoft Entra ID, for one tenant and for several."""

import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal, Unpack

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.identity.jwt.claims import TokenKind
from xuna_middleware.identity.jwt.options import checked_audience
from xuna_middleware.identity.jwt.verifiers import OIDCVerifier
from xuna_middleware.identity.protocols import merge_traits
from xuna_middleware.identity.tenants import TenantVerifiers
from xuna_middleware.providers._preset import (
    EITHER_TYPE,
    ID_TOKEN_MARKS,
    VerifierOptions,
    text,
    text_list,
)

_MICROSOFT: Final = "login.microsoftonline.com"
_GRAPH: Final = {
    "https://graph.microsoft.com",
    "https://graph.microsoft.com/",
    "00000003-0000-0000-c000-000000000000",
}
_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: An app on its own has no `scp`, so it is known by the optional claim.
_KIND: Final = TokenKind(
    refused=ID_TOKEN_MARKS, required=("scp", ("idtyp", "app")), clients=("azp", "appid")
)


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

    Peculiarities of Entra:

    - `version` is the access token's own (its `ver`), which the API's manifest decides
      (`requestedAccessTokenVersion`; null means 1), whatever endpoint the app signs in at. The two
      have different issuers: `https://login.microsoftonline.com/<tenant>/v2.0` and
      `https://sts.windows.net/<tenant>/`.
    - The header always says `typ: JWT`. Delegated scopes are `scp`, one string with spaces; app
      roles are `roles`.
    - A token of an app on its own (client credentials) has `roles` and no `scp`, so nothing marks
      it as an access token, and it is refused, unless the API asks for the optional claim `idtyp`
      (App registrations ▸ Token configuration), which then says `app`.
    - `sub` is different for each app that the same person uses. What names a person across the
      directory is `oid`: `claim("oid")`.
    - The client is `azp` in version 2, and `appid` in version 1.
    - All tenants' tokens are signed with the same keys: the issuer alone tells them apart.
    - An app that asks for no scope of your API gets a token for Microsoft Graph, which nobody else
      can verify.
    - An API with a signing key of its own (claims mapping) publishes it only at
      `metadata_url="…/.well-known/openid-configuration?appid=<client id>"`.

    Raises:
        ConfigurationError: the tenant is not one tenant, or the audience can't be in such a token.
    """
    tenant, names = _tenant(tenant_id), checked_audience(audience)
    _check_audience(names, version)
    preset: VerifierOptions = {
        "token_types": EITHER_TYPE,
        "scope_claims": ("scp",),
        "role_claims": ("roles",),
    }
    if version == 1:
        preset["metadata_url"] = f"https://{_MICROSOFT}/{tenant}/.well-known/openid-configuration"
    issuer = _issuer(tenant, version)
    return OIDCVerifier(issuer, audience=names, kind=_KIND, **(preset | options))


def entra_multitenant(
    *,
    tenants: Iterable[str],
    audience: str | Sequence[str],
    version: Literal[1, 2] = 2,
    **options: Unpack[VerifierOptions],
) -> TenantVerifiers:
    """Verify access tokens of several Entra tenants: `entra_multitenant(tenants=[…], audience=…)`.

    `tenants` are the directories' GUIDs; people in none of them are refused. For tenants that come
    and go, look them up: `TenantVerifiers(lambda issuer: …)`, returning `entra(…)`.

    Peculiarities of several tenants, in addition to those of `entra`:

    - An app that is registered as multi-tenant gives a token for your API to anybody with an
      account of any directory, so the audience shows nothing about who they are.
    - A guest's token names the directory that they are a guest of, as issuer and `tid`.
    - Personal accounts (Outlook, Xbox) are all of one directory of Microsoft's,
      `9188040d-6c67-4c5b-b112-36a304b66dad`: to name it is to take everybody.
    - `sub` and `oid` mean nothing without the issuer. `Identity` has both.
    - A tenant's keys are fetched when its first caller comes.

    Raises:
        ConfigurationError: no tenant is named, one is not one tenant, or as `entra`.
    """
    if isinstance(tenants, str):
        tenants = (tenants,)
    named = text_list(tenants, "entra_multitenant: tenants must list the directory (tenant) ids")
    verifiers = [entra(t, audience=audience, version=version, **options) for t in named]
    by_issuer = {each.issuer: each for each in verifiers}
    traits = merge_traits(each.traits for each in verifiers)
    return TenantVerifiers(by_issuer.get, max_entries=len(by_issuer), traits=traits)


def _issuer(tenant: str, version: int) -> str:
    if version == 1:
        return f"https://sts.windows.net/{tenant}/"
    return f"https://{_MICROSOFT}/{tenant}/v2.0"


def _tenant(tenant_id: str) -> str:
    tenant = text(tenant_id).lower()
    if tenant in ("common", "organizations", "consumers"):
        raise ConfigurationError(
            f'entra: "{tenant}" is every tenant there is; name yours by its directory (tenant) id, '
            "or several: entra_multitenant(tenants=[…])"
        )
    if not _GUID.fullmatch(tenant):
        raise ConfigurationError(
            "entra: tenant_id must be the directory (tenant) id, a GUID, which tokens name as "
            "their issuer; a domain name won't do (Entra admin center ▸ Overview)"
        )
    return tenant


def _check_audience(names: frozenset[str], version: int) -> None:
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
