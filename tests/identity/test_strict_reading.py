"""The pure readings beneath a token: JSON, base64url, segments, and how they fail."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.signing import CANARY, RSA, b64, good_claims

from xuna_middleware._core.strict_json import StrictJSONError, strict_object
from xuna_middleware.identity.jwt._jose import (
    JOSEError,
    decode_base64url,
    read_compact,
    read_object,
)


@pytest.mark.parametrize(
    "text",
    [
        *("{}", '{"a":1}', ' {"a" : [1, 2.5e3, -0, true, null, "x"]} ', '{"a":{"a":{"a":1}}}'),
        *('{"é":"ß🎻"}', '{"a":"\\ud83c\\udfbb"}', '{"a":"\\u00e9\\n"}', '{"":0}', '{"a":1e308}'),
        *('{"a":' + "[" * 31 + "]" * 31 + "}", '{"a":"\\\\u0000"}', '{"a":"[[[[{{{{"}'),
        '{"a":"' + "[" * 5000 + '"}',
        '{"a":"\\\\\\\\u0000 \\\\ud800"}',
        '{"a":' + "9" * 64 + "}",
    ],
    ids=lambda text: text[:20],
)
def test_strict_json_reads_what_json_reads(text: str) -> None:
    """For a proper object it is `json.loads`, and nothing else."""
    assert strict_object(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b" ", b"[]", b"1", b"null", b'"{}"', b"{}{}", b"{}x", b"{", b"{'a':1}", b"{a:1}"),
        *(b'{"a":1,"a":1}', b'{"a":1,"\\u0061":2}', b'{"x":{"a":1,"a":2}}', b'[{"a":1,"a":2}]'),
        *(b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}', b'{"a":1e400}', b'{"a":-1e999}'),
        *(b'{"a":01}', b'{"a":+1}', b'{"a":.5}', b'{"a":1.}', b'{"a":0x1}', b'{"a":1,}', b"{,}"),
        *(b'{"a":"\n"}', b'{"a":"\0"}', b'{"a":"\\u0000"}', b'{"\\u0000":1}', b'{"a":"\\x41"}'),
        *(b'{"a":"\\ud800"}', b'{"\\udc00":1}', b'{"a":"\\udc00\\ud800"}', b'{"a":["\\ud800x"]}'),
        *(
            b'{"a":"\xff"}',
            b'{"a":"\xc0\x80"}',
            b'{"a":"\xed\xa0\x80"}',
            b"\xef\xbb\xbf{}",
            b"\0{}",
        ),
        *("{}".encode("utf-16"), "{}".encode("utf-16-le"), "{}".encode("utf-32"), b"{}\0"),
        *(b'{"a":' + b"9" * 5000 + b"}", b'{"a":' + b"[" * 32 + b"]" * 32 + b"}", b"[" * 100_000),
        *(b'{"a":' * 33 + b"1" + b"}" * 33, b'{"a":' * 100_000, b"\xa0{}", b"\x0b{}", b"//x\n{}"),
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_strict_json_refuses(raw: bytes) -> None:
    """Everything with a second reading, with one exception that holds nothing of the text."""
    with pytest.raises(StrictJSONError) as caught:
        strict_object(raw)
    assert caught.value.__cause__ is None
    assert str(caught.value) == "not a strict JSON object"
    with pytest.raises(JOSEError):
        read_object(raw)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=12,
)


@given(members=st.dictionaries(st.text(), json_values), ascii_only=st.booleans())
def test_strict_json_agrees_with_json(members: dict[str, Any], ascii_only: bool) -> None:
    """What `json` writes is read back, unless one of the refusals is in it."""
    text = json.dumps(members, ensure_ascii=ascii_only)
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        return
    try:
        assert strict_object(raw) == members
    except StrictJSONError:
        assert "Infinity" in text or "\\u0000" in text or "\\ud" in text or len(text) > 30


@given(raw=st.binary(max_size=200))
def test_strict_json_raises_nothing_else(raw: bytes) -> None:
    """Any octets: an object, or the one error."""
    with suppress(StrictJSONError):
        assert isinstance(strict_object(raw), dict)


@given(raw=st.binary(max_size=200))
def test_base64url_has_one_spelling(raw: bytes) -> None:
    """What is encoded is decoded; with its last letter changed it is refused, or something else."""
    segment = b64(raw).encode()
    assert decode_base64url(segment) == raw
    for letter in b"ABCDEFGHQgwcko048_-":
        other = segment[:-1] + bytes([letter])
        if segment and other != segment:
            with suppress(JOSEError):
                assert decode_base64url(other) != raw


@pytest.mark.parametrize("segment", [b"A", b"AAAAA", b"AB", b"AAB", b"Ag" + b"A", b"__", b"___"])
def test_base64url_refuses_unused_bits_and_odd_lengths(segment: bytes) -> None:
    """RFC 4648 section 3.5: bits that decode to nothing must be zero."""
    if segment == b"AgA":
        assert decode_base64url(segment) == b"\x02\x00"
        return
    with pytest.raises(JOSEError):
        decode_base64url(segment)


def test_token_is_read_into_its_parts() -> None:
    """The octets that are signed are those that were sent."""
    token = RSA.token()
    parts = read_compact(token)
    assert parts.signing_input.decode() == token.rpartition(".")[0]
    assert json.loads(parts.payload) == good_claims()
    assert parts.header.kid == "rsa"


def test_parts_show_nothing() -> None:
    """No rendering of a half-read token shows any of it."""
    token = RSA.token(good_claims(sub=CANARY), RSA.header(x=CANARY))
    parts = read_compact(token)
    text = f"{parts!r} {parts.header!r} {parts} {parts.header}"
    assert CANARY not in text
    assert not [part for part in token.split(".") if part in text]


@given(token=st.one_of(st.text(max_size=120), st.text("AaZz09-_.=", max_size=120)))
def test_reading_raises_nothing_else(token: str) -> None:
    """Any text: parts, or the one error."""
    with suppress(JOSEError):
        assert read_compact(token).payload is not None


def test_token_of_16_kb_is_read_and_one_more_letter_is_not() -> None:
    """The limit is in letters, and comes before anything is split."""
    head, _, signature = RSA.token(good_claims()).rpartition(".")
    room = 16 * 1024 - len(head) - 1
    longest = f"{head}.{'A' * (room - room % 4)}"
    assert 16 * 1024 - 4 < len(longest) <= 16 * 1024
    assert read_compact(longest)
    with pytest.raises(JOSEError, match="too long"):
        read_compact(longest + "A" * (16 * 1024 - len(longest)) + "A")
    assert signature
