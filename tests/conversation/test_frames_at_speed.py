"""What is looked for in a frame is found wherever it stands, though most of a frame isn't read."""

from hypothesis import given
from hypothesis import strategies as st

from xuna_middleware.conversation.frames import FIRST, REFRESH, hides_nothing, is_turn

PIECES = st.sampled_from(
    [
        *(FIRST, REFRESH, FIRST[:-1], REFRESH[1:], "_", "\\", "AAAA" * 20, "x", '"', "", "ä", "😀"),
        *('{"user_audio_chunk":"', '"}', '{"type":"', '"agent_response"'),
    ]
)
TEXTS = st.lists(PIECES, max_size=6).map("".join)


@given(TEXTS)
def test_nothing_hides_where_nothing_is_read(text: str) -> None:
    """The short way says what a search of the whole frame says."""
    assert hides_nothing(text) == all(word not in text for word in ("\\", FIRST, REFRESH))


@given(TEXTS)
def test_audio_is_never_a_turn(text: str) -> None:
    """What begins as audio is none, whatever comes later: a second kind would be no strict JSON."""
    assert not is_turn('{"type":"audio","' + text)
    assert not is_turn('{"type": "audio","type":"agent_response"}')


def test_a_turn_is_one_wherever_its_kind_stands() -> None:
    """Only how a frame begins is taken as a shortcut."""
    assert is_turn('{"audio":"AAAA","type":"agent_response"}')
    assert is_turn('{"type" : "agent_response"}')
