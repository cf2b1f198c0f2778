"""Offers, answers and join requests as text and bytes; what the extra costs who doesn't use it."""

import gzip
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from aiortc.sdp import SessionDescription
from livekit.api import TokenVerifier
from livekit.protocol import rtc
from livekit.protocol.rtc import JoinRequest, WrappedJoinRequest

import xuna_middleware
from xuna_middleware.sandbox.passes import Passes
from xuna_middleware.sandbox.refusals import RefusalError
from xuna_middleware.sandbox.webrtc import joining, sdp
from xuna_middleware.sandbox.webrtc.sdp import Local, OfferError

from .livekit_client import encoded, wrapped
from .offers import AUDIO, DATA, OFFER, SESSION, TRANSPORT

ROOT = Path(xuna_middleware.__file__).parent.parent
LOCAL = Local(
    username="wxyz",
    password="lkjihgfedcba9876543210",
    fingerprints=(("sha-256", "CC:DD"),),
    host="127.0.0.1",
    port=4000,
    sctp_port=5000,
    max_message_size=65536,
)


def answered(offer: str) -> SessionDescription:
    """Return the answer as aiortc's parser understands it."""
    text = sdp.answer(sdp.read(offer), LOCAL, session_id=1, version=1)
    return SessionDescription.parse(text)


def test_an_offer_is_read() -> None:
    """The credentials of its transport, and its data channels; the password shows nowhere."""
    offer = sdp.read(OFFER)
    assert (offer.username, offer.password) == ("abcd", "0123456789abcdefghijkl")
    assert offer.fingerprints == (("sha-256", "AA:BB"),)
    assert (offer.sctp_port, offer.max_message_size) == (5000, 262144)
    assert [section.kind for section in offer.sections] == ["audio", "application"]
    assert offer.password not in repr(offer)
    assert LOCAL.password not in repr(LOCAL)


def test_credentials_may_stand_above_the_sections() -> None:
    """Firefox says once, for all, what Chromium repeats."""
    assert sdp.read(f"{SESSION}{TRANSPORT}{DATA}").fingerprints == (("sha-256", "AA:BB"),)


def test_every_section_is_answered_on_one_transport() -> None:
    """Bundled, with one candidate, on loopback; the client begins no DTLS of its own."""
    answer = answered(OFFER)
    assert answer.group[0].items == ["0", "1"]
    for media in answer.media:
        assert media.ice is not None
        assert media.dtls is not None
        assert (media.ice.usernameFragment, media.ice.password) == (LOCAL.username, LOCAL.password)
        assert [(one.ip, one.port, one.type) for one in media.ice_candidates] == [
            ("127.0.0.1", 4000, "host")
        ]
        assert (media.dtls.role, media.ice_candidates_complete) == ("client", True)
    audio, data = answer.media
    assert [codec.mimeType for codec in audio.rtp.codecs] == ["audio/opus"]
    assert data.sctpCapabilities is not None
    assert (data.sctp_port, data.sctpCapabilities.maxMessageSize) == (5000, 65536)


@pytest.mark.parametrize(
    ("offered", "direction"),
    [
        ("recvonly", "inactive"),
        ("inactive", "inactive"),
        ("sendonly", "recvonly"),
        ("sendrecv", "recvonly"),
        ("mid:0", "recvonly"),
    ],
)
def test_the_client_may_send_and_hears_nothing(offered: str, direction: str) -> None:
    """Without a word on it, a section goes both ways (RFC 8866)."""
    offer = OFFER.replace("a=recvonly", f"a={offered}")
    assert answered(offer).media[0].direction == direction


def test_a_section_that_was_given_up_stays_so() -> None:
    """Port 0 is answered with port 0, outside the bundle; `bundle-only` merely looks like it."""
    gone = answered(OFFER.replace("m=audio 9", "m=audio 0"))
    kept = answered(OFFER.replace("m=audio 9", "m=audio 0").replace("a=recvonly", "a=bundle-only"))
    assert (gone.media[0].port, gone.group[0].items) == (0, ["1"])
    assert (kept.media[0].port, kept.group[0].items) == (4000, ["0", "1"])


@pytest.mark.parametrize(
    ("offer", "wrong"),
    [
        ("", "no section"),
        ("nonsense", "no section"),
        (f"{SESSION}{AUDIO}{TRANSPORT}", "no data channel"),
        (OFFER.replace("m=application 9", "m=application 0"), "no data channel"),
        (OFFER.replace("actpass", "active"), "DTLS roles"),
        (OFFER.replace("a=setup:actpass", ""), "DTLS roles"),
        (OFFER.replace("a=ice-ufrag:abcd", ""), "lacks ice-ufrag"),
        (OFFER.replace("a=ice-pwd:0123456789abcdefghijkl", "a=ice-pwd:"), "lacks ice-pwd"),
        (OFFER.replace("fingerprint", "footprint"), "lacks fingerprint"),
        (OFFER.replace("sha-256 AA:BB", "sha-256"), "lacks fingerprint"),
        (OFFER.replace("sctp-port:5000", "sctp-port:-1"), "number"),
        (OFFER.replace("sctp-port:5000", "sctp-port:٣"), "number"),
        (OFFER.replace("size:262144", f"size:{'9' * 5000}"), "number"),
        (OFFER.replace("m=audio 9 UDP/TLS/RTP/SAVPF 111", "m=audio"), "malformed"),
        (OFFER.replace("a=mid:0", ""), "malformed"),
        (f"{OFFER}{AUDIO * 64}", "too many"),
        (f"{OFFER}a={'x' * sdp.MAX_SDP}", "too large"),
    ],
)
def test_what_can_t_be_answered(offer: str, wrong: str) -> None:
    """Each is refused in words that repeat nothing of the offer."""
    with pytest.raises(OfferError, match=wrong) as refused:
        sdp.read(offer)
    assert len(str(refused.value)) < 60


@pytest.mark.parametrize("packed", [True, False])
def test_a_join_request_is_unwrapped(packed: bool) -> None:
    """Packed, as browsers send it, and as it is."""
    offer = rtc.SessionDescription(type="offer", sdp=OFFER)
    request = JoinRequest(publisher_offer=offer).SerializeToString()
    assert joining.read(wrapped(request, packed=packed)).publisher_offer.sdp == OFFER
    assert joining.read(wrapped(request, packed=packed).rstrip("=")).publisher_offer.sdp == OFFER


GZIP = WrappedJoinRequest.Compression.GZIP


@pytest.mark.parametrize(
    ("parameter", "status"),
    [
        ("A", 400),
        ("====", 400),
        ("+/+/", 400),
        ("ä", 400),
        (encoded(WrappedJoinRequest(compression=GZIP, join_request=b"no gzip")), 400),
        (encoded(WrappedJoinRequest(compression=GZIP)), 400),
        (
            encoded(
                WrappedJoinRequest(compression=GZIP, join_request=gzip.compress(b"", mtime=0)[:-4])
            ),
            400,
        ),
        (wrapped(b"no protobuf"), 400),
        (wrapped(bytes(joining.MAX_JOIN + 1)), 413),
        (wrapped(bytes(joining.MAX_JOIN + 1), packed=False), 413),
        ("A" * 200_000, 413),
    ],
)
def test_a_malformed_join_request(parameter: str, status: int) -> None:
    """Refused, and never unpacked beyond its bound."""
    with pytest.raises(RefusalError) as refused:
        joining.read(parameter)
    assert refused.value.status == status


def test_a_bomb_is_not_unpacked() -> None:
    """Fifty megabytes of nothing cost no more memory than the largest request."""
    bomb = wrapped(bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(RefusalError):
            joining.read(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_importing_the_sandbox_costs_no_webrtc() -> None:
    """What is heavy comes with the first session."""
    heavy = {"aiortc", "av", "aioice", "livekit", "google.protobuf"}
    code = f"import sys, xuna_middleware.sandbox; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_token_is_one_that_livekit_reads() -> None:
    """LiveKit's own library finds the room, the identity and the grants in it."""
    issued, token = Passes(clock=time.time).token("agent_one")
    claims = TokenVerifier("key", "secret").verify(token, verify_signature=False)
    assert claims.video is not None
    assert (claims.video.room, claims.identity) == (issued.conversation_id, issued.participant)
    assert (claims.video.room_join, claims.video.can_publish_data) == (True, True)
