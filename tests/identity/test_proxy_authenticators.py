"""Proxies that sign in: their options, and a load balancer's keys under whatever strangers send."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from support.doubles import in_fast_time, seconds
from support.proxies import (
    ALB,
    ALB_SIGNER,
    AUD,
    CLIENT,
    IAP_AUDIENCE,
    IDP,
    KID,
    REGION,
    Published,
    alb_token,
    key_url,
    pem_of,
    published,
)
from support.signing import Signer, ec_signer

from xuna_middleware import ConfigurationError, Credentials, InvalidTokenError
from xuna_middleware._core.http import Outbound
from xuna_middleware.errors import UnavailableError
from xuna_middleware.identity import JWKSRefresh
from xuna_middleware.identity.jwt._jose import JOSEError
from xuna_middleware.identity.proxies.authenticators import (
    ProxyAuthenticator,
    aws_alb,
    cloudflare_access,
    google_iap,
)
from xuna_middleware.identity.proxies.aws_alb import key_address
from xuna_middleware.identity.proxies.aws_alb_keys import KeysByAddress, import_pem

ADDRESS: Final = key_url("")


def amazon(region: Any = REGION, **options: Any) -> ProxyAuthenticator:
    return aws_alb(region, **{"signer": ALB, "issuer": IDP, "client_id": CLIENT, **options})


@pytest.mark.parametrize(
    "make",
    [
        lambda: cloudflare_access("", audience=AUD),
        lambda: cloudflare_access("voice.acme.com", audience=AUD),
        lambda: cloudflare_access("acme.cloudflareaccess.com.evil.com", audience=AUD),
        lambda: cloudflare_access("acme/", audience=()),
        lambda: cloudflare_access("a/../b", audience=AUD),
        lambda: cloudflare_access(None, audience=AUD),  # type: ignore[arg-type]
        lambda: cloudflare_access("acme", audience=AUD, leeway=-1),
        lambda: cloudflare_access("acme", audience=AUD, freshness=3),  # type: ignore[arg-type]
        lambda: google_iap(audience=""),
        lambda: google_iap(audience="my-project"),
        lambda: google_iap(audience="/projects/my-project/apps/my-project"),
        lambda: google_iap(audience=[IAP_AUDIENCE, "another"]),
        lambda: amazon("eu-central-1.evil.com/"),
        lambda: amazon("EU-CENTRAL-1"),
        lambda: amazon(None),
        lambda: amazon("cn-north-1", signer=ALB.replace("eu-central-1", "cn-north-1")),
        lambda: amazon("us-east-1"),
        lambda: amazon(signer="front"),
        lambda: amazon(signer=None),
        lambda: amazon(signer=ALB.replace("/app/", "/net/")),
        lambda: amazon(issuer=""),
        lambda: amazon(client_id=""),
        lambda: amazon(client_id=None),
        lambda: amazon(leeway=3600),
        lambda: amazon(role_claims="roles"),
        lambda: amazon(clock=7),
        lambda: amazon(http_transport=7),
        lambda: amazon(freshness=7),
    ],
)
def test_mistakes_are_told_at_once(make: Callable[[], object]) -> None:
    """A team, an audience or a load balancer that can't be meant stops the start."""
    with pytest.raises(ConfigurationError):
        make()


@pytest.mark.parametrize(
    "team", ["acme", "acme.cloudflareaccess.com", "https://acme.cloudflareaccess.com/"]
)
def test_team_in_three_spellings(team: str) -> None:
    """As the dashboard says it, as a domain, as an address: one issuer, without a slash."""
    assert "'https://acme.cloudflareaccess.com'" in repr(cloudflare_access(team, audience=AUD))


@pytest.mark.parametrize(
    ("region", "address"),
    [
        ("eu-central-1", "https://public-keys.auth.elb.eu-central-1.amazonaws.com/"),
        (
            "us-gov-west-1",
            "https://s3-us-gov-west-1.amazonaws.com/aws-elb-public-keys-prod-us-gov-west-1/",
        ),
        (
            "us-gov-east-1",
            "https://s3-us-gov-east-1.amazonaws.com/aws-elb-public-keys-prod-us-gov-east-1/",
        ),
    ],
)
def test_where_a_region_keeps_its_keys(region: str, address: str) -> None:
    """GovCloud's two are in S3."""
    assert key_address(region) == address


def test_govcloud_has_its_own_partition() -> None:
    """Its load balancers' names begin otherwise."""
    arn = ALB.replace("arn:aws:", "arn:aws-us-gov:").replace(REGION, "us-gov-west-1")
    assert arn in repr(amazon("us-gov-west-1", signer=arn))


def other_pems() -> Iterator[bytes]:
    spki = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    yield ec.generate_private_key(ec.SECP384R1()).public_key().public_bytes(*spki)
    yield ec.generate_private_key(ec.SECP256K1()).public_key().public_bytes(*spki)
    yield rsa.generate_private_key(65537, 2048).public_key().public_bytes(*spki)
    yield b"<html>"
    yield b""
    yield pem_of(ALB_SIGNER)[:-40]


@pytest.mark.parametrize("pem", list(other_pems()))
def test_only_p_256_keys_are_imported(pem: bytes) -> None:
    """Another curve, another kind, a page of HTML: none is a load balancer's key."""
    with pytest.raises(JOSEError):
        import_pem(pem, KID)


def kid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def keys_of(published: Published, **freshness: float) -> KeysByAddress:
    """Return a source in fast time."""
    kept = JWKSRefresh(**freshness) if freshness else None
    outbound = Outbound(http_transport=published.transport)
    return KeysByAddress("the load balancer", ADDRESS, outbound, kept, monotonic=seconds)


def publish(keys: Published, signer: Signer) -> None:
    keys.answers[key_url(signer.kid)] = httpx.Response(200, content=pem_of(signer))


def made_up_ones(keys: Published) -> int:
    return sum(each != key_url() for each in keys.asked)


def asked_for(keys: Published, number: int) -> int:
    return keys.asked.count(key_url(kid(number)))


def test_a_key_is_fetched_once_for_all() -> None:
    """A hundred callers at once share one fetch, and whoever comes later needs none."""

    async def story() -> None:
        published_keys = published()
        keys = keys_of(published_keys)
        found = await asyncio.gather(*(keys.find(KID) for _ in range(100)))
        assert {each.kid for each in found} == {KID}
        await keys.find(KID)
        assert published_keys.asked == [key_url()]
        keys.stop()

    in_fast_time(story())


def test_made_up_kids_cost_eight_fetches_a_cooldown() -> None:
    """A thousand of them at once: the first is asked for, eight when the cooldown ends, and the
    key in use is never late.
    """

    async def story() -> None:
        published_keys = published()
        keys = keys_of(published_keys)
        await keys.find(KID)
        keys.proven(KID)
        refusals = [await refusal(keys, kid(number)) for number in range(1000)]
        assert refusals == [InvalidTokenError, *[UnavailableError] * 999]
        assert made_up_ones(published_keys) == 1
        await asyncio.sleep(1.5)
        assert made_up_ones(published_keys) == 9
        assert (await keys.find(KID)).kid == KID
        keys.stop()

    in_fast_time(story())


def test_a_kid_that_is_not_there_is_a_401_without_io_for_ten_seconds() -> None:
    """Once it was asked for it is known to be made up; S3 says 404 or 403."""

    async def story(status: int) -> None:
        published_keys = Published(absent=status)
        keys = keys_of(published_keys)
        assert await refusal(keys, kid(1)) is InvalidTokenError
        await asyncio.sleep(9)
        assert await refusal(keys, kid(1)) is InvalidTokenError
        assert asked_for(published_keys, 1) == 1
        await asyncio.sleep(2)
        assert await refusal(keys, kid(1)) is InvalidTokenError
        assert asked_for(published_keys, 1) == 2
        keys.stop()

    for status in (403, 404):
        in_fast_time(story(status))


def test_a_new_key_is_late_by_one_cooldown_at_most() -> None:
    """Right after another was looked up it is a 503 with Retry-After, and then it is there."""

    async def story() -> None:
        published_keys = published()
        newer = ec_signer(kid(1))
        publish(published_keys, newer)
        keys = keys_of(published_keys, cooldown=10)
        keys.start()
        await asyncio.sleep(0.1)
        assert keys.ready
        await keys.find(KID)
        with pytest.raises(UnavailableError) as caught:
            await keys.find(newer.kid)
        assert (caught.value.headers or {})["Retry-After"] == "10"
        await asyncio.sleep(11)
        assert (await keys.find(newer.kid)).kid == newer.kid
        keys.stop()

    in_fast_time(story())


def test_a_fetch_that_fails_keeps_what_was_there() -> None:
    """An outage: the key in use serves until it is too old, new ones are a 503; then all is well.

    A page of HTML with status 200 is an outage, too.
    """

    async def story(failing: httpx.Response | Exception) -> None:
        published_keys = published()
        good = dict(published_keys.answers)
        keys = keys_of(published_keys, refresh_after=100, max_stale=1000)
        await keys.find(KID)
        keys.proven(KID)
        published_keys.answers = {key_url(): failing}
        await asyncio.sleep(200)
        assert (await keys.find(KID)).kid == KID
        assert await refusal(keys, kid(1)) is UnavailableError
        await asyncio.sleep(1000)
        assert not keys.ready
        assert await refusal(keys, KID) is UnavailableError
        published_keys.answers = good
        await asyncio.sleep(31)
        assert (await keys.find(KID)).kid == KID
        keys.stop()

    in_fast_time(story(httpx.Response(503, content=pem_of(ALB_SIGNER))))
    in_fast_time(story(httpx.Response(200, content=b"<html>")))
    in_fast_time(story(httpx.ConnectError("refused")))


def test_a_withdrawn_key_is_refused_within_the_stated_time() -> None:
    """`refresh_after`, and the time of one fetch. Then nobody asks for it any more."""

    async def story() -> None:
        published_keys = published()
        keys = keys_of(published_keys, refresh_after=100, max_stale=1000)
        await keys.find(KID)
        keys.proven(KID)
        published_keys.answers.clear()
        await asyncio.sleep(101)
        assert await refusal(keys, KID) is InvalidTokenError
        published_keys.asked.clear()
        await asyncio.sleep(300)
        assert published_keys.asked == []
        keys.stop()

    in_fast_time(story())


def test_keys_that_proved_nothing_are_forgotten() -> None:
    """Another load balancer's key is there for whoever names it, and takes no place for long."""

    async def story() -> None:
        published_keys = published()
        publish(published_keys, ec_signer(kid(1)))
        keys = keys_of(published_keys, refresh_after=100, max_stale=1000)
        await keys.find(KID)
        keys.proven(KID)
        await asyncio.sleep(2)
        await keys.find(kid(1))
        await asyncio.sleep(250)
        assert asked_for(published_keys, 1) == 1
        assert published_keys.asked.count(key_url()) > 2
        keys.stop()

    in_fast_time(story())


def test_eight_proven_keys_are_kept() -> None:
    """More than a load balancer ever has; the earliest goes first."""

    async def story() -> None:
        published_keys = Published()
        signers = [ec_signer(kid(number)) for number in range(9)]
        keys = keys_of(published_keys, refresh_after=100, max_stale=1000, cooldown=1)
        for signer in signers:
            publish(published_keys, signer)
            await keys.find(signer.kid)
            keys.proven(signer.kid)
            keys.proven(signer.kid)
            await asyncio.sleep(2)
        published_keys.asked.clear()
        await asyncio.sleep(110)
        assert set(published_keys.asked) == {key_url(each.kid) for each in signers[1:]}
        keys.stop()

    in_fast_time(story())


async def test_key_of_another_load_balancer_proves_nothing() -> None:
    """All of a region share an address: the signature holds, and the signer is not ours."""
    foreign = ec_signer(kid(7))
    keys = published()
    publish(keys, foreign)
    caller = amazon(http_transport=keys.transport)
    theirs = alb_token({"kid": foreign.kid, "signer": ALB[:-1] + "d"}, by=foreign)
    with pytest.raises(InvalidTokenError) as caught:
        await caller._verifier.verify(Credentials(scheme="bearer", token=theirs))
    assert caught.value.cause.startswith("signer:")
    assert keys.asked == []
    await caller.aclose()


async def refusal(keys: KeysByAddress, named: str) -> type[Exception]:
    try:
        await keys.find(named)
    except (InvalidTokenError, UnavailableError) as error:
        return type(error)
    raise AssertionError("found")
