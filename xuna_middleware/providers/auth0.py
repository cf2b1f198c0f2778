"""Auth0."""

from collections.abc import Sequence
from typing import Unpack

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.identity.jwt.options import checked_audience
from xuna_middleware.identity.jwt.verifiers import OIDCVerifier
from xuna_middleware.providers._preset import EITHER_TYPE, VerifierOptions, domain_name


def auth0(
    domain: str, *, audience: str | Sequence[str], **options: Unpack[VerifierOptions]
) -> OIDCVerifier:
    """Verify access tokens of one Auth0 tenant: `auth0("acme.eu.auth0.com", audience="https://…")`.

    `domain` is the tenant's, or the custom domain that the app signs in at: tokens name the one
    they were asked for at. `https://acme.eu.auth0.com/` is taken too. `audience` is the API's
    identifier (Applications ▸ APIs).

    Peculiarities of Auth0:

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
    host, names = _domain(domain), checked_audience(audience)
    if {f"https://{host}/userinfo", f"https://{host}/api/v2/"} & names:
        raise ConfigurationError(
            "auth0: this audience is Auth0's own and stands in tokens for any app of the tenant; "
            "name your API's identifier (Applications ▸ APIs)"
        )
    preset: VerifierOptions = {
        "token_types": EITHER_TYPE,
        "scope_claims": ("scope",),
        "role_claims": ("permissions",),
    }
    return OIDCVerifier(f"https://{host}/", audience=names, **(preset | options))


def _domain(domain: str) -> str:
    name = domain_name(domain)
    if name is None:
        raise ConfigurationError(
            'auth0: domain must be the tenant\'s whole domain, like "acme.eu.auth0.com", '
            "without http://, port or path"
        )
    return name
