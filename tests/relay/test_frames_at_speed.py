"""What is told without parsing a frame is what a strict reading of it says."""

import json
import unicodedata
from collections.abc import Iterable
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xuna_middleware import ANY, RelayRules
from xuna_middleware.relay.close_codes import (
    FRAME_NOT_OPEN,
    INVALID_JSON,
    SECOND_FIRST_FRAME,
    CloseReason,
    ConversationClosedError,
)
from xuna_middleware.relay.frame_filter import FrameFilter
from xuna_middleware.relay.frames import (
    AUDIO,
    FIRST,
    REFRESH,
    FrameNames,
    is_plain_audio,
    is_turn,
    kind_of,
    read_frame,
)

RULES: Final = (
    RelayRules(),
    RelayRules(client_frames=ANY),
    RelayRules(client_frames=("audio",)),
    RelayRules(client_frames=("user_message",)),
    RelayRules(idle_timeout=60),
)
HEADS: Final = (
    '{"user_audio_chunk":"',
    '{"user_audio_chunk": "',
    '{"type":"audio","audio_event":{"audio_base_64":"',
    '{"type": "audio", "audio_event": {"audio_base_64": "',
)
#: What a frame is made of, in the shapes of audio above all, and what could end a string early.
PIECES: Final = st.sampled_from(
    [
        *HEADS,
        *('"}', '"}}', "}", '"', "\\", "\\u0000", "\n", "\x00", "\x7f", "\ufeff", "\ud800", "ä"),
        *("AAAA", "+/==", "=", "_", "-", " ", "AAAA" * 20, ""),
        *(FIRST, REFRESH, f'","type":"{FIRST}', f'"}},"Type":"{FIRST}"', '","user_audio_chunk":"'),
    ]
)
SHAPED: Final = st.tuples(
    st.sampled_from(HEADS),
    st.lists(PIECES, max_size=3).map("".join),
    st.sampled_from(['"}', '"}}']),
).map("".join)
TEXTS: Final = st.one_of(st.lists(PIECES, max_size=6).map("".join), SHAPED, st.text(max_size=20))


def _variants(text: str) -> st.SearchStrategy[str]:
    """Spell a word as a tolerant reader may take it: cases, widths, marks, gaps, look-alikes."""
    spelled = {
        letter: [letter, letter.upper(), _wide(letter), letter + "\u0301", letter + "\u200b"]
        for letter in text
    }
    for letter, more in {"i": "ıİ", "s": "ſ", "t": "𝓽ⓣ"}.items():
        spelled[letter] = [*spelled.get(letter, ()), *more]
    spelled["_"] = ["_", "-", "", " ", "\t", "．"]
    letters = st.tuples(*(st.sampled_from(spelled[letter]) for letter in text)).map("".join)
    gaps = st.sampled_from(["", " ", "\u00a0", "\u3000", "\ufeff", "\u2028"])
    return st.tuples(gaps, letters, gaps).map("".join)


def _wide(letter: str) -> str:
    return chr(ord(letter) + 0xFEE0)


def _json(text: str, escaped: bool) -> str:
    return json.dumps(text, ensure_ascii=escaped)


#: Second first frames as only the most tolerant platform would take them.
DISGUISED: Final = st.builds(
    lambda name, kind, escaped, extra: (
        f'{{{extra}{_json(name, escaped)}:{_json(kind, escaped)},"user_audio_chunk":"AAAA"}}'
    ),
    _variants("type"),
    _variants(FIRST),
    st.booleans(),
    st.sampled_from(["", '"text":"hi",', '"kind":"audio",']),
)


def strictly(text: str) -> tuple[dict[str, Any], FrameNames] | CloseReason:
    """Return what the strict reader finds, or how a conversation ends for want of it."""
    try:
        members = read_frame(text)
        return members, FrameNames(members)
    except ConversationClosedError as error:
        return error.ending


def judge(rules: RelayRules) -> FrameFilter:
    return FrameFilter(rules, lambda: 1000.0)


@given(DISGUISED)
def test_first_frame_in_disguise_is_one(text: str) -> None:
    """Under no rules does it pass, in whatever letters."""
    assert not is_plain_audio(text)
    for rules in RULES:
        assert judge(rules)(text) == SECOND_FIRST_FRAME


@given(st.one_of(TEXTS, DISGUISED))
@example('{"user_audio_chunk":"}')
@example('{"user_audio_chunk":"AA\x00AA"}')
@example('{"user_audio_chunk":"AA\ud800AA"}')
def test_what_passes_unread_would_pass_when_read(text: str) -> None:
    """The quick look takes nothing that the strict reader refuses, or calls anything but audio."""
    if not is_plain_audio(text):
        return
    members = read_frame(text)
    names = FrameNames(members)
    assert kind_of(members) == AUDIO
    assert len(members) in (1, 2)
    assert names.has_audio
    assert not names.is_first
    for rules in RULES:
        read = judge(rules)
        assert read._closely(text) == read(text), "the close reading says the same"


@given(st.one_of(TEXTS, DISGUISED))
def test_what_a_strict_reader_calls_a_first_frame_never_passes(text: str) -> None:
    """Nor does what is for the gate, or what two readers could read differently."""
    read = strictly(text)
    if isinstance(read, CloseReason):
        assert all(judge(rules)(text) == read for rules in RULES)
        return
    members, names = read
    if members.get("type") == FIRST or names.is_first:
        assert all(judge(rules)(text) == SECOND_FIRST_FRAME for rules in RULES)
    elif names.is_refresh:
        assert all(judge(rules)(text) is not None for rules in RULES)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("audio", ["", "AAAA", "+/A=", "A" * 1_000_000])
def test_audio_as_clients_send_it(head: str, audio: str) -> None:
    """Both shapes, with and without spaces, are told without parsing; so is a large frame."""
    text = head + audio + ('"}' if "chunk" in head else '"}}')
    assert is_plain_audio(text)
    assert judge(RelayRules())(text) is None
    assert judge(RelayRules(client_frames=ANY))(text) is None
    assert judge(RelayRules(client_frames=("user_message",)))(text) == FRAME_NOT_OPEN


@given(st.lists(PIECES, max_size=6).map("".join))
def test_audio_is_never_a_turn(text: str) -> None:
    """What begins as audio is none, whatever comes later: a second kind would be no strict JSON."""
    assert not is_turn('{"type":"audio","' + text)
    assert not is_turn('{"type": "audio","type":"agent_response"}')


def test_a_turn_is_one_wherever_its_kind_stands() -> None:
    """Only how a frame begins is taken as a shortcut."""
    assert is_turn('{"audio":"AAAA","type":"agent_response"}')
    assert is_turn('{"type" : "agent_response"}')


def over(names: Iterable[str]) -> dict[str, Any]:
    return dict.fromkeys(names, 0)


def test_names_without_end() -> None:
    """A name that is too long to be looked at is none of a documented frame; neither are many."""
    for rules in RULES:
        padded = {"type": " " * 200 + FIRST}
        assert judge(rules)(json.dumps(padded)) == SECOND_FIRST_FRAME
        assert judge(rules)(json.dumps({"x" * 129: 1, "type": "pong"})) == SECOND_FIRST_FRAME
        many = json.dumps({"type": "pong", **over(f"n{number}" for number in range(64))})
        assert judge(rules)(many) not in (None, INVALID_JSON)


def test_folds_are_supersets() -> None:
    """The letters of this test are what they are said to be."""
    assert unicodedata.normalize("NFKC", _wide("a")) == "a"
    assert "İ".casefold() != "i"
    assert "ı".casefold() != "i"
