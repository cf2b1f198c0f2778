"""ZITADEL."""

from collections.abc import Sequence
from typing import Final, Unpack

from xuna_middleware.identity.jwt.claims import TokenKind
from xuna_middleware.identity.jwt.options import checked_audience
from xuna_middleware.identity.jwt.verifiers import OIDCVerifier
from xuna_middleware.providers._preset import ANY_TYPE, ID_TOKEN_MARKS, VerifierOptions, address

#: An ID token has the very audiences of the access token, and `client_id` too.
_KIND: Final = TokenKind(
    refused=(*ID_TOKEN_MARKS, "auth_time", "amr", "acr", "sid"),
    required=("jti", "client_id"),
    always=True,
)
_MEND: Final = (
    'zitadel: domain must be the instance\'s, like "acme-x1y2z3.zitadel.cloud", without a path'
)


def zitadel(
    domain: str, *, audience: str | Sequence[str], **options: Unpack[VerifierOptions]
) -> OIDCVerifier:
    """Verify JWT access tokens: `zitadel("acme.zitadel.cloud", audience="69234237810729019")`.

    `domain` is the instance's, or all of its address. `audience` is the project's id.

    Peculiarities of ZITADEL:

    - Access tokens are opaque unless the app is set to JWT (App ▸ Token settings ▸ Auth Token
      Type); for opaque ones and personal access tokens use `IntrospectionVerifier`.
    - A token for a project is had with the scope `urn:zitadel:iam:org:project:id:<project>:aud`,
      and any app of the instance may ask for it. So the audience shows that somebody has an
      account, and a role shows that they may do something; demand one:
      `require_roles("caller")`, or "Check authorization on authentication" at the project.
    - An ID token has the same audiences as the access token. It is told by `auth_time`, `amr` and
      the like, and refused.
    - Roles are the object `urn:zitadel:iam:org:project:<project>:roles`, with the organizations
      that granted them. They are read for the projects named as audience, whichever organization
      granted them. They are there if the project asserts roles, or the app asks for
      `urn:zitadel:iam:org:projects:roles`.
    - There is no scope in the token. It lives 12 hours by default.
    - The issuer is the domain at which the app signs in.

    Raises:
        ConfigurationError: the domain or the audience can't be meant.
    """
    issuer = address(domain, "zitadel: domain", _MEND)
    projects = sorted(checked_audience(audience))
    preset: VerifierOptions = {
        "token_types": ANY_TYPE,
        "scope_claims": ("scope",),
        "role_claims": tuple(f"urn:zitadel:iam:org:project:{each}:roles" for each in projects),
    }
    return OIDCVerifier(issuer, audience=projects, kind=_KIND, **(preset | options))
