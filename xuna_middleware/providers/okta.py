"""Okta."""

import re
from collections.abc import Sequence
from typing import Final, Unpack

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.identity.jwt.claims import TokenKind
from xuna_middleware.identity.jwt.options import checked_audience
from xuna_middleware.identity.jwt.verifiers import OIDCVerifier
from xuna_middleware.providers._preset import (
    ANY_TYPE,
    ID_TOKEN_MARKS,
    VerifierOptions,
    domain_name,
    text,
)

_SERVER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KIND: Final = TokenKind(refused=ID_TOKEN_MARKS, required=("cid",), always=True, clients=("cid",))


def okta(
    domain: str,
    *,
    audience: str | Sequence[str],
    server: str = "default",
    **options: Unpack[VerifierOptions],
) -> OIDCVerifier:
    """Verify access tokens of an Okta authorization server: `okta("acme.okta.com", audience="…")`.

    `domain` is the org's, or its custom domain where the app signs in there: tokens name the one
    they were asked for at. `server` is the id of a custom authorization server (Security ▸ API),
    whose audience (`api://default` at first) is `audience`.

    Peculiarities of Okta:

    - The org itself is an authorization server too, with the bare domain as issuer. Its access
      tokens are for Okta alone, and Okta says that nobody else can rely on them: they are refused.
      Custom ones, `default` among them, need the API Access Management product.
    - `sub` is the login name of a person, which can change and go to somebody else; what stays is
      `uid`: `claim("uid")`. A machine's token has no `uid`, and its client's id as `sub`.
    - The client is `cid`, scopes are the list `scp`, and there is no `typ` in the header.
    - Groups are there where a claim `groups` was set up for access tokens; they count as roles.
    - A token lives an hour by default, up to a day. Keys change four times a year.

    Raises:
        ConfigurationError: the domain, the server or the audience can't be meant.
    """
    host, names = _domain(domain), checked_audience(audience)
    if {f"https://{host}", f"https://{host}/"} & names:
        raise ConfigurationError(
            "okta: this audience is the org's own, of tokens that only Okta can rely on; name the "
            "audience of a custom authorization server (Security ▸ API)"
        )
    preset: VerifierOptions = {
        "token_types": ANY_TYPE,
        "scope_claims": ("scp",),
        "role_claims": ("groups",),
    }
    issuer = f"https://{host}/oauth2/{_server(server)}"
    return OIDCVerifier(issuer, audience=names, kind=_KIND, **(preset | options))


def _domain(domain: str) -> str:
    name = domain_name(domain)
    if name is None:
        raise ConfigurationError(
            'okta: domain must be the org\'s whole domain, like "acme.okta.com", '
            "without http://, port or path; the authorization server goes to server="
        )
    if name.endswith(("-admin.okta.com", "-admin.oktapreview.com", "-admin.okta-emea.com")):
        raise ConfigurationError(
            "okta: this is the address of the admin console; leave out -admin, since tokens name "
            "the org's own domain as their issuer"
        )
    return name


def _server(server: str) -> str:
    if not _SERVER.fullmatch(text(server)):
        raise ConfigurationError(
            'okta: server must be the id of a custom authorization server, like "default" or '
            '"aus9o8wzjhckw9TLa0h7z"; tokens of the org itself are for Okta alone'
        )
    return text(server)
