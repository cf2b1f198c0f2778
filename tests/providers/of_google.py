"""Google: https://developers.google.com/identity/openid-connect/openid-connect, the payload."""

from typing import Any, Final

from documented import HOUR, JWT, OTHER_KEY, Accepted, Provider, Token, public, published, reach
from support.signing import LEFT_OUT

from xuna_middleware import OIDCVerifier, providers

ISSUER: Final = "https://accounts.google.com"
WEB: Final = "1008719970978-hb24n2dstb40o45d4feuo2ukqmcc6381.apps.googleusercontent.com"
ANDROID: Final = "1008719970978-android.apps.googleusercontent.com"
DOCUMENTS: Final = published(
    ISSUER,
    "https://www.googleapis.com/oauth2/v3/certs",
    public(alg="RS256"),
    public(OTHER_KEY, alg="RS256"),
)


def tokens(**options: Any) -> OIDCVerifier:
    return providers.google(client_id=WEB, **reach(DOCUMENTS), **options)


def tokens_of_acme(**options: Any) -> OIDCVerifier:
    return providers.google(
        client_id=[WEB], hosted_domain="acme.com", **reach(DOCUMENTS), **options
    )


def tokens_of_an_app(**options: Any) -> OIDCVerifier:
    return providers.google(
        client_id=WEB, authorized_parties=ANDROID, **reach(DOCUMENTS), **options
    )


ID_TOKEN: Final = Token(
    preset=tokens,
    header=JWT,
    claims={
        **HOUR,
        "iss": ISSUER,
        "azp": WEB,
        "aud": WEB,
        "sub": "110169484474386276334",
        "email": "ada@acme.com",
        "email_verified": True,
        "hd": "acme.com",
        "at_hash": "HK6E_P6Dh8Y93mRNtsDB1Q",
        "nonce": "0394852-3190485-2490358",
        "jti": "161a39dd0b8b0a1e",
    },
)
OF_ACME: Final = Token(preset=tokens_of_acme, claims=ID_TOKEN.claims, header=JWT)
OF_AN_APP: Final = Token(preset=tokens_of_an_app, claims=ID_TOKEN.claims, header=JWT)
SERVICE_ACCOUNT: Final = ID_TOKEN.but(
    azp="105968131561582364890",
    sub="105968131561582364890",
    email="evil@elsewhere.iam.gserviceaccount.com",
    hd=LEFT_OUT,
    nonce=LEFT_OUT,
    at_hash=LEFT_OUT,
)

PROVIDER: Final = Provider(
    accepted={
        "person": Accepted(ID_TOKEN, WEB),
        "without profile": Accepted(
            ID_TOKEN.but(email=LEFT_OUT, hd=LEFT_OUT, nonce=LEFT_OUT, at_hash=LEFT_OUT), WEB
        ),
        "of the domain": Accepted(OF_ACME, WEB),
        "asked for by the Android app": Accepted(OF_AN_APP.but(azp=ANDROID), ANDROID),
    },
    refused={
        "somebody's service account": SERVICE_ACCOUNT,
        "no azp": ID_TOKEN.but(azp=LEFT_OUT),
        "an app that isn't named": ID_TOKEN.but(azp=ANDROID),
        "another client": ID_TOKEN.but(aud=ANDROID, azp=ANDROID),
        "another domain": OF_ACME.but(hd="evil.com"),
        "gmail, with an address of the domain": OF_ACME.but(hd=LEFT_OUT),
        "the older issuer": ID_TOKEN.but(iss="accounts.google.com"),
        "Firebase's issuer": ID_TOKEN.but(iss="https://securetoken.google.com/acme-voice"),
        "no type": ID_TOKEN.but(header={}),
        "an access token": ID_TOKEN.but(header={"typ": "at+jwt"}, scope="openid"),
    },
    pasted=(
        (lambda: providers.google(client_id=WEB), ISSUER),
        (lambda: providers.google(client_id=f" {WEB} ", hosted_domain="ACME.com"), ISSUER),
    ),
    hints=(
        (lambda: providers.google(client_id=""), "client_id"),
        (lambda: providers.google(client_id=[]), "client_id"),
        (lambda: providers.google(client_id="acme-voice"), "googleusercontent"),
        (
            lambda: providers.google(client_id=WEB, authorized_parties=["android"]),
            "googleusercontent",
        ),
        (lambda: providers.google(client_id=WEB, hosted_domain=""), "hosted_domain"),
        (lambda: providers.google(client_id=WEB, hosted_domain="acme"), "hosted_domain"),
        (lambda: providers.google(client_id=WEB, hosted_domain="gmail.com"), "gmail.com"),
    ),
)
