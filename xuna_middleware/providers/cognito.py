"""Amazon Cognito user pools."""

import re
from collections.abc import Sequence
from typing import Final, Unpack

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.identity.jwt.claims import TokenKind
from xuna_middleware.identity.jwt.verifiers import OIDCVerifier
from xuna_middleware.providers._preset import ANY_TYPE, VerifierOptions, text, text_list

_POOL: Final = re.compile(r"([a-z]{2}(-[a-z]+)+-[0-9])_[A-Za-z0-9]+")
_KIND: Final = TokenKind(
    refused=("nonce", "at_hash", "cognito:username"),
    required=(("token_use", "access"),),
    always=True,
)


def cognito(
    user_pool_id: str, *, client_id: str | Sequence[str], **options: Unpack[VerifierOptions]
) -> OIDCVerifier:
    """Verify access tokens of one user pool: `cognito("eu-central-1_AbCdEfGhI", client_id="4fm…")`.

    `client_id` is the app client whose tokens are taken, or several.

    Peculiarities of Cognito:

    - Access tokens have no `aud` unless the app asks for a resource (RFC 8707); `client_id` is what
      says which app they are for, so it stands in the audience's place. An ID token has the app
      client as `aud`, and is refused: send the access token.
    - `token_use` is `access` or `id`; it must be there. The header has no `typ`.
    - Access tokens and ID tokens are signed with different keys of one set.
    - Groups are roles (`cognito:groups`). The scope is `aws.cognito.signin.user.admin` where
      somebody signed in through the API and not the hosted pages: it lets the token's holder
      change their own attributes, so no attribute is good for permissions.
    - A machine's token (client credentials) has its client's id as `sub`, and custom scopes only.
    - A token lives 5 minutes to a day, an hour by default; after a sign-out it stays good.
    - Pools in China have addresses of their own: use `OIDCVerifier`.

    Raises:
        ConfigurationError: the pool's id is none, or no client is named.
    """
    pool = text(user_pool_id)
    named = _POOL.fullmatch(pool)
    if named is None or named[1].startswith("cn-"):
        raise ConfigurationError(
            'cognito: user_pool_id must be the pool\'s id, like "eu-central-1_AbCdEfGhI" '
            "(User pools ▸ Overview); not its name, its ARN or a domain"
        )
    clients = text_list(client_id, "cognito: client_id must name the app clients that are taken")
    preset: VerifierOptions = {
        "token_types": ANY_TYPE,
        "audience_claim": "client_id",
        "scope_claims": ("scope",),
        "role_claims": ("cognito:groups",),
    }
    issuer = f"https://cognito-idp.{named[1]}.amazonaws.com/{pool}"
    return OIDCVerifier(issuer, audience=clients, kind=_KIND, **(preset | options))
