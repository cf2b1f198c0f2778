"""`OIDCVerifier` against a certified OpenID provider that runs beside the tests."""

from contextlib import aclosing

import pytest

from xuna_middleware import Credentials, Identity, InvalidTokenError, OIDCVerifier

from .provider import Provider

AUDIENCE = "voice"
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


async def verified(
    provider: Provider, token: str, *, algorithm: str, audience: str = AUDIENCE
) -> Identity:
    async with aclosing(
        OIDCVerifier(provider.issuer, audience=audience, algorithms=(algorithm,))
    ) as verifier:
        return await verifier.verify(Credentials(scheme="bearer", token=token))


@every_algorithm
async def test_a_service_is_known_by_its_own_name(oidc_provider: Provider, algorithm: str) -> None:
    """A client_credentials token passes; its subject is the client, for nobody signed in."""
    token = oidc_provider.client_credentials(algorithm, AUDIENCE)

    identity = await verified(oidc_provider, token, algorithm=algorithm)

    assert (identity.issuer, identity.subject) == (oidc_provider.issuer, "service")
    assert identity.client_id == "service"
    assert identity.scopes == {"voice:talk"}


@every_algorithm
async def test_a_person_is_known_by_their_name(oidc_provider: Provider, algorithm: str) -> None:
    """A token from a sign-in with code and PKCE passes; its subject is who signed in."""
    token = oidc_provider.code_pkce(
        algorithm, AUDIENCE, user="ada@example.com", scope="voice:talk voice:listen"
    )

    identity = await verified(oidc_provider, token, algorithm=algorithm)

    assert (identity.issuer, identity.subject) == (oidc_provider.issuer, "ada@example.com")
    assert identity.client_id == "app"
    assert identity.scopes == {"voice:talk", "voice:listen"}
    assert identity.expires_at == identity.claims["exp"]


@every_algorithm
async def test_a_token_for_another_audience_is_refused(
    oidc_provider: Provider, algorithm: str
) -> None:
    """The signature holds and the issuer is right, yet the token was meant for somebody else."""
    token = oidc_provider.client_credentials(algorithm, "voice-admin")

    with pytest.raises(InvalidTokenError):
        await verified(oidc_provider, token, algorithm=algorithm)


@pytest.mark.parametrize(("signed", "allowed"), [("PS256", "RS256"), ("Ed25519", "ES256")])
async def test_an_algorithm_that_is_not_allowed_is_refused(
    oidc_provider: Provider, signed: str, allowed: str
) -> None:
    """What the provider can sign with doesn't matter: the operator's list decides."""
    token = oidc_provider.client_credentials(signed, AUDIENCE)

    with pytest.raises(InvalidTokenError):
        await verified(oidc_provider, token, algorithm=allowed)


async def test_one_verifier_takes_every_algorithm_it_was_given(oidc_provider: Provider) -> None:
    """One set of keys serves all five names, two of which share a key (RFC 9864)."""
    tokens = [oidc_provider.client_credentials(each, AUDIENCE) for each in ALGORITHMS]

    async with aclosing(
        OIDCVerifier(oidc_provider.issuer, audience=AUDIENCE, algorithms=ALGORITHMS)
    ) as verifier:
        for token in tokens:
            identity = await verifier.verify(Credentials(scheme="bearer", token=token))
            assert identity.subject == "service"


async def test_an_id_token_is_no_access_token(oidc_provider: Provider) -> None:
    """The ID token of a good sign-in is refused, even where its audience is the one expected."""
    tokens = oidc_provider.sign_in("RS256", AUDIENCE)

    with pytest.raises(InvalidTokenError):
        await verified(
            oidc_provider, tokens.id_token, algorithm="RS256", audience=oidc_provider.app_id
        )


async def test_an_opaque_token_is_refused(oidc_provider: Provider) -> None:
    """A verifier of JWTs has nothing to check in a token that is none."""
    token = oidc_provider.client_credentials("opaque", AUDIENCE)

    with pytest.raises(InvalidTokenError):
        await verified(oidc_provider, token, algorithm="RS256")
