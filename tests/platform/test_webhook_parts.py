"""The webhook's pure parts: its header, its signature, what it says, and its options."""

import copy
import hmac
import json
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.datastructures import Headers
from support.deliveries import SECRET, digest, signature, transcript
from support.signing import CANARY, NOW

import xuna_middleware
from xuna_middleware import ConfigurationError, PostCallWebhook
from xuna_middleware.errors import InvalidSignatureError
from xuna_middleware.platform.rest.responses import Invalid
from xuna_middleware.platform.webhooks import Finished, read_finished, read_signature

PACKAGE: Final = str(Path(xuna_middleware.__file__).parent)
HEX: Final = "0123456789abcdef" * 4
OTHER: Final = "fedcba9876543210" * 4


def hook(secret: Any = SECRET, **options: Any) -> PostCallWebhook:
    return PostCallWebhook(secret, **{"clock": lambda: NOW, **options})


def accepts(webhook: PostCallWebhook, value: str, body: bytes, name: str) -> bool:
    """Tell whether a delivery with this one header is the platform's."""
    try:
        webhook.verify(webhook.claimed(Headers({name: value})), body)
    except InvalidSignatureError:
        return False
    return True


@pytest.mark.parametrize(
    ("value", "time", "digests"),
    [
        (f"t=1,v0={HEX}", "1", (HEX,)),
        (f"t=1800000000,v0={HEX},v0={OTHER}", "1800000000", (HEX, OTHER)),
        (f"t=0017,v0={HEX}", "0017", (HEX,)),
        ("t=1" + f",v0={HEX}" * 8, "1", (HEX,) * 8),
    ],
)
def test_header(value: str, time: str, digests: tuple[str, ...]) -> None:
    """The time to the letter, since its letters are signed, and up to eight digests."""
    read = read_signature([value])
    assert (read.time, read.digests) == (time, digests)
    assert HEX not in repr(read)


@pytest.mark.parametrize(
    "value",
    [
        *("", "t=1", f"v0={HEX}", "t=1,", "t=1,v0=", f"t=,v0={HEX}", f"t=1,v0={HEX},"),
        *(f"t=1,v0={HEX[:-1]}", f"t=1,v0={HEX}0", f"t=1,v0={HEX.upper()}", f"t=1,v0={HEX[:-1]}g"),
        *(f"t=1, v0={HEX}", f" t=1,v0={HEX}", f"t=1,v0={HEX} ", f"t=1,v0={HEX}\n", f"t=1;v0={HEX}"),
        *(f"v0={HEX},t=1", f"t=1,t=2,v0={HEX}", f"t=1,v1={HEX}", f"t=1,v0={HEX},v1={HEX}"),
        *(f"t=-1,v0={HEX}", f"t=+1,v0={HEX}", f"t=1.0,v0={HEX}", f"t=1e3,v0={HEX}"),
        *(f"t=0x1,v0={HEX}", f"t=١,v0={HEX}", f"t=²,v0={HEX}", f"t=1_0,v0={HEX}"),
        *(f"t={'9' * 13},v0={HEX}", f"T=1,v0={HEX}", f"t=1,V0={HEX}", HEX, f"sha256={HEX}"),
        *("t=1" + f",v0={HEX}" * 9, "t=1" + f",v0={HEX}" * 1000, "t=1\0,v0=" + HEX),
    ],
    ids=lambda each: ascii(each)[:40],
)
def test_header_of_another_form(value: str) -> None:
    """There is one spelling, and it is bounded."""
    with pytest.raises(InvalidSignatureError):
        read_signature([value])


@pytest.mark.parametrize("count", [0, 2, 3])
def test_header_is_there_once(count: int) -> None:
    """None, or two, however good each is."""
    with pytest.raises(InvalidSignatureError):
        read_signature([f"t=1,v0={HEX}"] * count)


@pytest.mark.parametrize(
    ("seconds", "is_taken"),
    [(0, True), (-1800, True), (1800, True), (-1801, False), (1801, False), (-(10**9), False)],
)
def test_window_has_two_sides(seconds: int, is_taken: bool) -> None:
    """To the second, before now and after."""
    body, time = transcript(), int(NOW) + seconds
    webhook = hook(clock=lambda: float(int(NOW)))
    assert accepts(webhook, signature(body, time), body, "elevenlabs-signature") is is_taken


def test_window_is_an_option() -> None:
    """With its clock between two seconds."""
    body = transcript()
    webhook = hook(tolerance=2.5, clock=lambda: int(NOW) + 0.5)
    taken = [
        seconds
        for seconds in range(-5, 6)
        if accepts(webhook, signature(body, int(NOW) + seconds), body, "elevenlabs-signature")
    ]
    assert taken == [-2, -1, 0, 1, 2, 3]
    assert webhook.remembered > 2 * 2.5


def test_a_delivery_is_remembered_longer_than_it_can_be_sent_again() -> None:
    """Half an hour before its time and half an hour after, and a minute: 61 minutes."""
    assert hook().remembered == 61 * 60


@pytest.mark.parametrize(
    "bent",
    [
        lambda body: body + b" ",
        lambda body: body[:-1],
        lambda body: b"",
        lambda body: body.replace(b"7", b"0"),
        lambda body: body.swapcase(),
        lambda body: b"." + body,
    ],
)
def test_any_other_body(bent: Callable[[bytes], bytes]) -> None:
    """Every octet of it is signed."""
    body = transcript()
    assert accepts(hook(), signature(body), body, "elevenlabs-signature")
    assert not accepts(hook(), signature(body), bent(body), "elevenlabs-signature")


def test_the_time_is_signed() -> None:
    """A later one can't be put in its place."""
    body = transcript()
    value = f"t={int(NOW) + 1},v0={digest(body)}"
    assert not accepts(hook(), value, body, "elevenlabs-signature")


def test_several_secrets_and_digests() -> None:
    """While one secret replaces another, any that both sides know will do."""
    body, old, new = transcript(), "an-old-secret-of-ours", "the-new-secret-of-ours"
    olds, news = digest(body, secret=old), digest(body, secret=new)
    for secret, digests, is_taken in [
        (old, [olds], True),
        ([new, old], [olds], True),
        ((new, old), [news], True),
        ([new, old], [news, olds], True),
        (new, [olds, news], True),
        (new, [olds], False),
        ([new, SECRET], [olds, HEX], False),
    ]:
        value = f"t={int(NOW)}" + "".join(f",v0={each}" for each in digests)
        assert accepts(hook(secret), value, body, "elevenlabs-signature") is is_taken


def test_each_digest_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With each secret's, whichever matches: how long it takes tells nothing of what is right."""
    compared: list[tuple[Any, Any]] = []
    compare = hmac.compare_digest

    def watched(one: Any, other: Any) -> bool:
        compared.append((one, other))
        return compare(one, other)

    body, other = transcript(), "another-secret-of-ours"
    monkeypatch.setattr(hmac, "compare_digest", watched)
    value = f"{signature(body)},v0={HEX}"
    assert accepts(hook([SECRET, other]), value, body, "elevenlabs-signature")
    right, wrong = digest(body), digest(body, secret=other)
    assert compared == [(right, right), (right, HEX), (wrong, right), (wrong, HEX)]


def test_header_is_an_option() -> None:
    """XUNA AI may call it otherwise; then the usual one is nothing."""
    body = transcript()
    webhook = hook(header="XUNA-Signature")
    assert accepts(webhook, signature(body), body, "xuna-signature")
    assert not accepts(webhook, signature(body), body, "elevenlabs-signature")


@pytest.mark.parametrize("seconds", [0, 7, 7.5, 604_800])
def test_what_a_transcript_says(seconds: float) -> None:
    """Which conversation, and how long it was."""
    said = read_finished(transcript("conv_x", seconds))
    assert said == Finished(conversation_id="conv_x", seconds=seconds)


WITHOUT_EFFECT: Final[dict[str, bytes]] = {
    "nothing": b"",
    "no JSON": b"conv_1 lasted 7 seconds",
    "a list": b"[" + transcript() + b"]",
    "two of one member": transcript()[:-1] + b', "type": "post_call_transcription"}',
    "UTF-16": transcript().decode().encode("utf-16"),
    "deep": b'{"data":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "no type": json.dumps({"data": json.loads(transcript())["data"]}).encode(),
    "audio": transcript(type="post_call_audio"),
    "a type nobody knows": transcript(type="post_call_poem"),
    "a type that is a list": transcript(type=["post_call_transcription"]),
    "no data": transcript(data=None),
    "data that is a list": transcript(data=[json.loads(transcript())["data"]]),
    "no conversation": transcript(None),
    "a conversation of another shape": transcript("agent_1"),
    "a conversation with a line break": transcript("conv_1\nrefused 401"),
    "a number for a conversation": transcript(1),
    "a text for a length": transcript(seconds="7"),
    "no length": transcript(seconds=None),
    "true for a length": transcript(seconds=True),
    "less than nothing": transcript(seconds=-1),
    "more than a week": transcript(seconds=604_801),
    "metadata that is a list": transcript(data={"conversation_id": "conv_1", "metadata": [7]}),
}


@pytest.mark.parametrize("body", WITHOUT_EFFECT.values(), ids=WITHOUT_EFFECT.keys())
def test_what_proves_nothing(body: bytes) -> None:
    """Told why, in no words of the body."""
    said = read_finished(body)
    assert isinstance(said, Invalid)
    assert said.reason.isprintable()
    assert "conv_" not in said.reason


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"secret": ""}, "visible ASCII"),
        ({"secret": "short"}, "16 characters"),
        ({"secret": []}, "secret"),
        ({"secret": [SECRET, "short"]}, "16 characters"),
        ({"secret": SECRET + "\n"}, "visible ASCII"),
        ({"secret": "ä" * 40}, "visible ASCII"),
        ({"secret": 7}, "visible ASCII"),
        ({"secret": SECRET.encode()}, "visible ASCII"),
        *(({"header": bad}, "header") for bad in ("", "a b", "a:b", "ä", "a\n", None, 7)),
        *(
            ({"tolerance": bad}, "tolerance")
            for bad in (0, -1, True, "1", None, float("nan"), float("inf"), 86_401)
        ),
    ],
    ids=lambda each: ascii(each)[:40],
)
def test_options_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    """Refused where they are written, with the fix and without the secret."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        PostCallWebhook(**{"secret": SECRET, **options})
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [frame for frame in report.stack if frame.filename.startswith(PACKAGE)]
    assert frames
    assert CANARY not in str(caught.value) + repr([frame.locals for frame in frames])


def test_secret_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read when it is needed, and kept from then on."""
    monkeypatch.delenv("XUNA_AI_WEBHOOK_SECRET", raising=False)
    webhook = PostCallWebhook(clock=lambda: NOW)
    with pytest.raises(ConfigurationError, match="XUNA_AI_WEBHOOK_SECRET"):
        webhook.check()
    monkeypatch.setenv("XUNA_AI_WEBHOOK_SECRET", "short")
    with pytest.raises(ConfigurationError, match=r"XUNA_AI_WEBHOOK_SECRET: .* 16 characters"):
        webhook.check()
    monkeypatch.setenv("XUNA_AI_WEBHOOK_SECRET", SECRET)
    webhook.check()
    monkeypatch.delenv("XUNA_AI_WEBHOOK_SECRET")
    body = transcript()
    assert accepts(webhook, signature(body), body, "elevenlabs-signature")


def test_elsewhere_it_has_another_secret() -> None:
    """And all the rest stays; the one it came from stays, too."""
    body, other = transcript(), "another-secret-of-ours"
    webhook = hook(header="x-signature", tolerance=5)
    moved = webhook.moved(secret=other)
    for seconds, is_taken in [(5, True), (6, False)]:
        value = signature(body, int(NOW) + seconds, other)
        assert accepts(moved, value, body, "x-signature") is is_taken
    assert not accepts(moved, signature(body), body, "x-signature")
    assert accepts(webhook, signature(body), body, "x-signature")


def test_no_rendering_shows_the_secret() -> None:
    """Nor does a copy, and pickling it is refused."""
    webhook = hook([SECRET, SECRET[::-1]])
    shown = f"{webhook!r} {webhook} {vars(webhook)} {copy.deepcopy(webhook)!r}"
    assert CANARY not in shown
    assert CANARY[::-1] not in shown
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)) as caught:
        pickle.dumps(PostCallWebhook(SECRET))
    assert CANARY not in str(caught.value)
