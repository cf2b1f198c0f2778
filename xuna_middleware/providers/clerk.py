"""Clerk."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Unpack

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.identity.jwt.claims import TokenKind
from xuna_middleware.identity.jwt.verifiers import OIDCVerifier
from xuna_middleware.providers._preset import VerifierOptions, address, domain_name, text_list

_ORIGINS: Final = (
    "clerk: authorized_parties must list the origins of your own pages, like "
    '"https://app.acme.com", without a path'
)


def clerk(
    frontend_api: str,
    *,
    authorized_parties: str | Sequence[str],
    **options: Unpack[VerifierOptions],
) -> OIDCVerifier:
    """Verify session tokens: `clerk("clerk.acme.com", authorized_parties="https://app.acme.com")`.

    `frontend_api` is the instance's Frontend API URL (API keys ▸ Show API URLs);
    `https://your-site.clerk.accounts.dev` in development.

    Peculiarities of Clerk:

    - A session token has no `aud`. Its `azp` is the origin of the page that asked for it, so that
      is checked in the audience's place; without it, a page on any subdomain could pass on a token.
      A token without `azp` (asked for by something that sends no `Origin`) is refused.
    - It lives one minute, and its holder renews it: fetch a new one for each request.
    - A token of a JWT template looks alike and is made for somebody else, so it is refused; only
      session tokens have `sid`.
    - A session may be `pending` (`sts`), with a task such as choosing an organization to be done;
      it is refused, as Clerk's own middleware does.
    - `act` says that an administrator is acting as this person; see `claim("act")`.
    - The active organization's role is `o.rol` in version 2 of the claims and `org_role`, with
      `org:` before it, in version 1. Both count as roles: they are roles in that organization
      (`o.id`), not in your app. There are no scopes.
    - Tokens of OAuth apps and of machines have no `sid` and are refused.

    Raises:
        ConfigurationError: the address or an origin is none.
    """
    host = domain_name(frontend_api)
    if host is None:
        raise ConfigurationError(
            'clerk: frontend_api must be the Frontend API URL, like "https://clerk.acme.com" '
            "(API keys ▸ Show API URLs); not a publishable key"
        )
    origins = [
        address(each, "clerk: each of authorized_parties", _ORIGINS)
        for each in text_list(authorized_parties, _ORIGINS)
    ]
    kind = TokenKind(
        refused=("nonce", "at_hash", "scope", "client_id"),
        required=("sid",),
        check=_check_session,
        always=True,
        clients=(),
    )
    preset: VerifierOptions = {
        "token_types": ("JWT",),
        "audience_claim": "azp",
        "scope_claims": (),
        "role_claims": (("o", "rol"), "org_role"),
    }
    return OIDCVerifier(f"https://{host}", audience=origins, kind=kind, **(preset | options))


def _check_session(claims: Mapping[str, Any]) -> str | None:
    if claims.get("sts", "active") != "active":
        return "sts: the session is pending; its task must be done first"
    return None
