"""Firebase Authentication, and Google Cloud Identity Platform."""

import re
from collections.abc import Mapping
from typing import Any, Final, Unpack

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.identity.jwt.claims import TokenKind, find_claim
from xuna_middleware.identity.jwt.verifiers import OIDCVerifier
from xuna_middleware.providers._preset import VerifierOptions, checked_switch, text

_PROJECT: Final = re.compile(r"[a-z][a-z0-9-]{2,28}[a-z0-9]")
_TENANT: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


def firebase(
    project_id: str,
    *,
    tenant: str | None = None,
    anonymous: bool = False,
    **options: Unpack[VerifierOptions],
) -> OIDCVerifier:
    """Verify the ID tokens that Firebase's client libraries send: `firebase("acme-voice")`.

    `project_id` is the project's id (Project settings ▸ General), not its name or number. `tenant`
    is the one Identity Platform tenant whose people are admitted. `anonymous` admits people who
    signed in anonymously.

    Peculiarities of Firebase:

    - `getIdToken()` returns an ID token, which every app sends to its server. There is no access
      token; this preset accepts only the ID token.
    - Everybody on the web can sign up or sign in anonymously, with the keys that every page holds,
      where the project allows it. Anonymous ones are refused here unless you say otherwise.
    - One set of keys signs for all projects of the world: issuer and audience tell them apart.
    - Tenants of one project share issuer and audience. A tenant's token is refused unless that
      tenant is named, and then all others are.
    - `email` is what somebody typed unless `email_verified` says otherwise.
    - Custom claims stand at the top level. `roles` is read; for another name: `role_claims=(…)`.
    - Session cookies, custom tokens and App Check tokens have other issuers and are refused.
    - A token lives an hour. A disabled account's stays good until then.
    - The emulator's tokens are unsigned, and refused: use the sandbox's provider in development.

    Raises:
        ConfigurationError: the project's id is none, or the tenant.
    """
    project = text(project_id)
    if not _PROJECT.fullmatch(project):
        raise ConfigurationError(
            'firebase: project_id must be the project\'s id, like "acme-voice" (Project settings ▸ '
            "General); not its name, its number or a URL"
        )
    if tenant is not None and not _TENANT.fullmatch(text(tenant)):
        raise ConfigurationError("firebase: tenant must be an Identity Platform tenant's id")
    kind = TokenKind(
        refused=(),
        required=(),
        check=_check(tenant, anonymous=checked_switch(anonymous, "firebase: anonymous")),
        always=True,
        clients=(),
    )
    preset: VerifierOptions = {
        "token_types": ("JWT",),
        "algorithms": ("RS256",),
        "scope_claims": (),
        "role_claims": ("roles",),
        "endpoint_hosts": ("www.googleapis.com",),
    }
    issuer = f"https://securetoken.google.com/{project}"
    return OIDCVerifier(issuer, audience=project, kind=kind, **(preset | options))


def _check(tenant: str | None, *, anonymous: bool) -> Any:
    def check(claims: Mapping[str, Any]) -> str | None:
        if find_claim(claims, ("firebase", "tenant")) != tenant:
            return "tenant: the token is of another tenant, or of none; see tenant="
        provider = find_claim(claims, ("firebase", "sign_in_provider"))
        if not isinstance(provider, str):
            return "firebase: sign_in_provider is missing"
        if provider == "anonymous" and not anonymous:
            return "anonymous: nobody signed in; to let them in: anonymous=True"
        return None

    return check
