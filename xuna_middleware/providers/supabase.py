"""Supabase Auth."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Unpack

from xuna_middleware.identity.jwt.claims import TokenKind
from xuna_middleware.identity.jwt.verifiers import OIDCVerifier
from xuna_middleware.providers._preset import (
    VerifierOptions,
    address,
    checked_switch,
    text,
    text_list,
)

_REF: Final = re.compile(r"[a-z0-9]{20}")
_MEND: Final = (
    "supabase: project must be the project's reference id (20 letters) or its URL, like "
    '"https://abcdefghijklmnopqrst.supabase.co"'
)


def supabase(
    project: str,
    *,
    anonymous: bool = False,
    oauth_clients: str | Iterable[str] = (),
    **options: Unpack[VerifierOptions],
) -> OIDCVerifier:
    """Verify access tokens of a project's users: `supabase("abcdefghijklmnopqrst")`.

    `project` is the project's reference id, its URL, or its custom domain; where it runs locally,
    `http://127.0.0.1:54321`. `anonymous` lets in who signed in anonymously. `oauth_clients` are the
    ids of OAuth apps that may act for a user here.

    Peculiarities of Supabase:

    - The project must sign with asymmetric keys (Settings ▸ JWT keys), as new ones do. The older
      HS256 secret also makes tokens, of any role, so whoever verifies with it could forge them: its
      tokens are refused. So are the `anon` and `service_role` API keys, which are such tokens.
    - The audience is `authenticated` for everybody who is signed in, and so is `role`, which is a
      role in the database and not one of your app's.
    - Everybody can sign up or sign in anonymously where the project allows it; `is_anonymous` is
      refused unless you say otherwise.
    - An OAuth app that a user let in gets a token with the same audience; `client_id` tells, and is
      refused unless it is in `oauth_clients`.
    - A user writes their own `user_metadata`: never decide by it. Roles are read from
      `app_metadata.roles`, which only the project writes.
    - There are no scopes. `aal` is `aal2` after a second factor: `claim("aal")`.
    - A token lives an hour by default. After a sign-out it stays good until then.
    - On a custom domain the issuer changes with the address at which the app signs in.

    Raises:
        ConfigurationError: the project is neither an id nor a domain, or a client is none.
    """
    clients = _clients(oauth_clients)
    kind = TokenKind(
        refused=("nonce", "at_hash"),
        required=("session_id",),
        check=_check(clients, anonymous=checked_switch(anonymous, "supabase: anonymous")),
        always=True,
        clients=("client_id",),
    )
    preset: VerifierOptions = {
        "token_types": ("JWT",),
        "scope_claims": (),
        "role_claims": (("app_metadata", "roles"),),
    }
    return OIDCVerifier(
        f"{_base(project)}/auth/v1", audience="authenticated", kind=kind, **(preset | options)
    )


def _base(project: str) -> str:
    given = text(project)
    if _REF.fullmatch(given):
        return f"https://{given}.supabase.co"
    return address(given.removesuffix("/").removesuffix("/auth/v1"), "supabase: project", _MEND)


def _clients(oauth_clients: str | Iterable[str]) -> frozenset[str]:
    if oauth_clients == ():
        return frozenset()
    return frozenset(text_list(oauth_clients, "supabase: oauth_clients must list OAuth apps' ids"))


def _check(clients: frozenset[str], *, anonymous: bool) -> Any:
    def check(claims: Mapping[str, Any]) -> str | None:
        if claims.get("role") != "authenticated":
            return "role: not a signed-in user's"
        if "client_id" in claims and claims["client_id"] not in clients:
            return "client_id: an OAuth app acts for the user; to let it: oauth_clients=(…)"
        if claims.get("is_anonymous", False) is not False and not anonymous:
            return "is_anonymous: nobody signed in; to let them in: anonymous=True"
        return None

    return check
