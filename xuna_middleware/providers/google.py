"""Google accounts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Unpack

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.identity.jwt.claims import TokenKind
from xuna_middleware.identity.jwt.verifiers import OIDCVerifier
from xuna_middleware.providers._preset import VerifierOptions, domain_name, text_list

_ISSUER: Final = "https://accounts.google.com"
_CLIENT: Final = ".apps.googleusercontent.com"
_CLIENT_MEND: Final = (
    f'google: client_id must be an OAuth client\'s id, like "1008719970978-hb2…{_CLIENT}"'
)


def google(
    *,
    client_id: str | Sequence[str],
    hosted_domain: str | None = None,
    authorized_parties: str | Iterable[str] = (),
    **options: Unpack[VerifierOptions],
) -> OIDCVerifier:
    """Verify Google's ID tokens: `google(client_id="1008719970978-….apps.googleusercontent.com")`.

    `hosted_domain` is the one Google Workspace domain whose people are let in, as the token's `hd`
    says; without it everybody with a Google account is. `authorized_parties` are further client ids
    that may ask for tokens for `client_id`: those of Android apps.

    Peculiarities of Google:

    - Its access tokens are opaque and only for Google's own APIs. Browsers send the ID token
      (`credential`), so this preset, unlike others, accepts only that.
    - A service account, of anybody, gets ID tokens for any audience that it asks for, yours
      included, with the same issuer and keys. They differ in `azp`, which must therefore be there
      and be a client of yours.
    - `sub` is the person; an address in `email` may change, or be another provider's.
    - An address that ends in the domain is no proof of belonging to it; `hd` is.
    - There are no scopes and no roles. A token lives an hour.
    - The issuer was once written `accounts.google.com`; such a token is refused.

    Raises:
        ConfigurationError: no client is named, one is no client's id, or the domain is none.
    """
    clients = _client_ids(client_id)
    parties = {*clients, *_authorized(authorized_parties)}
    domain = _domain(hosted_domain)

    def check(claims: Mapping[str, Any]) -> str | None:
        if claims.get("azp") not in parties:
            return "azp: not asked for by a client of yours; Android: authorized_parties=(…)"
        if domain is not None and claims.get("hd") != domain:
            return "hd: the account is not of the hosted domain"
        return None

    preset: VerifierOptions = {
        "token_types": ("JWT",),
        "algorithms": ("RS256",),
        "scope_claims": (),
        "role_claims": (),
        "endpoint_hosts": ("www.googleapis.com",),
    }
    kind = TokenKind(refused=(), required=(), check=check, always=True, clients=("azp",))
    return OIDCVerifier(_ISSUER, audience=clients, kind=kind, **(preset | options))


def _client_ids(client_id: str | Iterable[str]) -> tuple[str, ...]:
    names = text_list(client_id, _CLIENT_MEND)
    if not all(name.endswith(_CLIENT) for name in names):
        raise ConfigurationError(_CLIENT_MEND)
    return names


def _authorized(parties: str | Iterable[str]) -> tuple[str, ...]:
    return _client_ids(parties) if parties != () else ()


def _domain(hosted_domain: str | None) -> str | None:
    domain = None if hosted_domain is None else domain_name(hosted_domain)
    if hosted_domain is not None and (domain is None or domain == "gmail.com"):
        raise ConfigurationError(
            'google: hosted_domain must be a Google Workspace domain, like "acme.com"; accounts '
            "at gmail.com have none"
        )
    return domain
