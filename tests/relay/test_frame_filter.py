"""What a client may send once a conversation runs."""

from typing import Any, Final

import pytest

from xuna_middleware import ANY, RelayRules
from xuna_middleware.relay.close_codes import (
    FRAME_NOT_OPEN,
    INVALID_JSON,
    NON_AUDIO_FRAME_TOO_LARGE,
    SECOND_FIRST_FRAME,
    TOO_MANY_FRAMES,
)
from xuna_middleware.relay.frame_filter import ODD_TEXT, Dropped, FrameFilter, Refresh
from xuna_middleware.relay.frames import FIRST, REFRESH

HELLO: Final = '{"type":"user_message","text":"hello"}'
PONG: Final = '{"type":"pong","event_id":1}'
SOUND: Final = '{"user_audio_chunk":"AAAA"}'
TEXT_ONLY: Final = RelayRules(client_frames=("user_message", "user_activity"))
FREE: Final = RelayRules(client_frames=ANY)
RULES: Final = (
    *(FREE, TEXT_ONLY, RelayRules(), RelayRules(idle_timeout=60)),
    *(RelayRules(frames_per_second=9), RelayRules(client_frames=ANY, idle_timeout=60)),
)


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def judge(rules: RelayRules = FREE) -> FrameFilter:
    return FrameFilter(rules, Clock())


SECOND_FIRST_FRAMES: Final = (
    f'{{"type":"{FIRST}"}}',
    f' {{ "type" :\t"{FIRST}" }}\n',
    f'{{"text":"hi","type":"{FIRST}"}}',
    f'{{"typ\\u0065":"{FIRST}"}}',
    '{"type":"convers\\u0061tion_initiation_client_data"}',
    '{"type":"\\u0063onversation_initiation_client_data","user_audio_chunk":"AA"}',
    '{"\\u0074\\u0079\\u0070\\u0065":"conversation_initiation_client_dat\\u0061"}',
    # What readers take for `type` that don't mind case, or white space.
    f'{{"Type":"{FIRST}","type":"user_message"}}',
    f'{{" type ":"{FIRST}"}}',
    f'{{"type":" {FIRST}"}}',
    # Other letters for the same word.
    '{"type":"CONVERSATION_INITIATION_CLIENT_DATA"}',
    '{"type":"Conversation_Initiation_Client_Data","dynamic_variables":{"plan":"gold"}}',
    '{"type":"conversationInitiationClientData"}',
    '{"type":"conversation-initiation-client-data"}',
    '{"type":"conversat\u0131on_initiation_client_data"}',
    '{"type":"CONVERSAT\u0130ON_INITIATION_CLIENT_DATA"}',
    '{"type":"conver\u017fation_initiation_client_data"}',
    '{"type":"\uff43onversation_initiation_client_data"}',
    '{"type":"conversation_initiation_client_data\u200b"}',
    '{"type":["conversation\u200b_initiation_client_data"]}',
    '{"type":{"x":["conversation\\u0001_initiation","_client_data"]}}',
    '{"\uff54ype":"conversation_initiation_client_data"}',
    f'{{"TYPE":"{FIRST.upper()}","user_audio_chunk":"AAAA"}}',
    # What only a first frame has.
    '{"type":"user_message","text":"hi","dynamic_variables":{"plan":"gold"}}',
    '{"type":"user_activity","Conversation_Config_Override":{"agent":{}}}',
    '{"type":"user_activity","customLlmExtraBody":{}}',
    f'{{"{FIRST}":{{"dynamic_variables":{{}}}}}}',
    f'{{"type":["{FIRST}"]}}',
    f'{{"type":{{"name":"{FIRST}"}}}}',
    f'{{"type":"{FIRST}_v2"}}',
    f'{{"type":"pong","event_id":1,"Type":"{FIRST}"}}',
)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("text", SECOND_FIRST_FRAMES)
def test_second_first_frame_in_any_spelling(text: str, rules: RelayRules) -> None:
    """Under no rules does a client set variables anew."""
    assert judge(rules)(text) == SECOND_FIRST_FRAME


@pytest.mark.parametrize(
    "text",
    [
        f'{{"type":"user_message","type":"{FIRST}"}}',
        f'{{"type":"{FIRST}","type":"user_message"}}',
        f'{{"type":"user_message","typ\\u0065":"{FIRST}"}}',
        f'[{{"type":"{FIRST}"}}]',
        f'{HELLO}{{"type":"{FIRST}"}}',
        f'{{"type":"{FIRST}"',
        f'\ufeff{{"type":"{FIRST}"}}',
        f'{{"type":"{FIRST}","a":NaN}}',
    ],
)
def test_what_two_readers_could_read_differently(text: str) -> None:
    """Which `type` counts is nothing to guess."""
    assert judge()(text) == INVALID_JSON


@pytest.mark.parametrize(
    "text",
    [
        f'{{"type":"user_message","text":"{FIRST}"}}',
        f'{{"type":"user_message","nested":{{"type":"{FIRST}"}}}}',
        f'{{"type":"user_message","text":"\\"type\\":\\"{FIRST}\\""}}',
        f'{{"kind":"{FIRST}","type":"user_message"}}',
        HELLO,
        SOUND,
        PONG,
    ],
)
@pytest.mark.parametrize("rules", [FREE, RelayRules()])
def test_what_only_looks_like_one(text: str, rules: RelayRules) -> None:
    """A user may say these words."""
    assert judge(rules)(text) is None


HALVES: Final = (
    '{"type":"user_message","text":"hi \\ud83d"}',
    '{"type":"user_message","text":"\\ude00 there"}',
    '{"type":"user_message","text":"a\\u0000b"}',
    '{"type":"contextual_update","text":["\\uD800"]}',
    # Whatever else it says, it goes to nobody.
    f'{{"type":"{FIRST}\\u0000"}}',
    f'{{"type":"{FIRST}","text":"\\ud83d"}}',
    f'{{"type":"{REFRESH}","token":"abc\\ud83d"}}',
    '{"type\\udfff":"user_message"}',
)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("text", HALVES)
def test_half_a_character(text: str, rules: RelayRules) -> None:
    """Is what an honest client sends that cuts texts; the frame is lost, and nothing else."""
    judged = judge(rules)
    assert judged(text) == ODD_TEXT
    assert judged('{"type":"user_message","text":"\\ud83d\\ude00"}') is None


@pytest.mark.parametrize("rules", [FREE, RelayRules()])
@pytest.mark.parametrize(
    "text",
    [
        '{"type":"user_message","text":"\\ud83d"',
        '{"type":"user_message","type":"\\ud83d"}',
        '["\\ud83d"]',
        '{"text":"\\ud83d","a":' + "[" * 32 + "]" * 32 + "}",
        '{"text":"\\ud83d","a":[' + "0," * 5000 + "0]}",
    ],
)
def test_half_a_character_and_another_fault(text: str, rules: RelayRules) -> None:
    """Ends the conversation, as the other fault does alone."""
    assert judge(rules)(text) == INVALID_JSON


@pytest.mark.parametrize("rules", [FREE, RelayRules()])
@pytest.mark.parametrize("text", ["hello", "[]", '"pong"', "", '{"type":"pong"', "\ufeff" + PONG])
def test_what_is_no_frame(text: str, rules: RelayRules) -> None:
    """Each frame has one reading, whatever the rules."""
    assert judge(rules)(text) == INVALID_JSON


#: What npm's `@elevenlabs/client` 1.25 and PyPI's `elevenlabs` 2.78 send once they have begun.
OF_REAL_CLIENTS: Final = (
    '{"user_audio_chunk":"AAAA"}',
    '{"user_audio_chunk": "AAAA"}',
    '{"type":"client_tool_result","tool_call_id":"t","result":"{\\"a\\": [1]}","is_error":false}',
    '{"type":"pong","event_id":7}',
    '{"type": "pong", "event_id": 7}',
    '{"type":"feedback","score":null,"event_id":3}',
    '{"type":"contextual_update","text":"ä","context_id":"c"}',
    '{"type":"user_message","text":"hi","rich_content_id":"r"}',
    '{"type": "user_message", "text": null}',
    '{"type":"user_activity"}',
    '{"type":"mcp_tool_approval_result","tool_call_id":"t","is_approved":true}',
    '{"type":"multimodal_message","text":{"type":"user_message","text":"hi"},'
    '"file":{"type":"file_input","file_id":"f"},"files":[{"type":"file_input","file_id":"f"}]}',
    '{"type":"audio","audio_event":{"audio_base_64":"AAAA","event_id":1}}',
    '{"audio_event":{"audio_base_64":"AAAA"},"type":"audio"}',
)


@pytest.mark.parametrize("text", OF_REAL_CLIENTS)
def test_frames_of_real_clients_pass_by_default(text: str) -> None:
    """The list is of what is documented, and sent."""
    assert judge(RelayRules())(text) is None


UNDOCUMENTED: Final = (
    ('{"type":"client_wave","hand":"left"}', "of the type 'client_wave'"),
    ('{"type":"AUDIO","audio_event":{"audio_base_64":"AAAA"}}', "of the type 'AUDIO'"),
    ('{"type":"Pong","event_id":1}', "of the type 'Pong'"),
    ('{"type":"user message"}', "of an odd type"),
    ('{"type":"\\u0000"}'.replace("\\u0000", "\\n"), "of an odd type"),
    ('{"user_image_chunk":"AAAA"}', "without a type"),
    ("{}", "without a type"),
)


@pytest.mark.parametrize(("text", "kind"), UNDOCUMENTED)
def test_frames_that_no_documentation_has(text: str, kind: str) -> None:
    """They are dropped, so that a newer client keeps working; `ANY` passes them on."""
    assert judge(RelayRules())(text) == Dropped(kind)
    assert judge(TEXT_ONLY)(text) in (Dropped(kind), FRAME_NOT_OPEN)
    assert judge(FREE)(text) is None


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"user_message","Type":"audio"}',
        '{"type":"user_message","ty\\u0070e ":"audio"}',
        '{"type":null}',
        '{"type":["user_message"]}',
        '{"type":7}',
        '{"Type":"user_message"}',
    ],
)
def test_which_kind_counts_is_nothing_to_guess(text: str) -> None:
    """A second member that could be taken for the kind, or a kind that is no text, ends it."""
    assert judge(RelayRules())(text) == FRAME_NOT_OPEN


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"XUNA_GATE_REFRESH","token":"t"}',
        '{"Type":"xuna_gate_refresh","token":"t"}',
        '{"type":"user_message","Type":"xuna_gate_refresh","token":"t"}',
        '{"type":"xuna_gate_refresh ","token":"t"}',
    ],
)
@pytest.mark.parametrize("rules", RULES)
def test_refresh_in_other_letters_goes_to_nobody(text: str, rules: RelayRules) -> None:
    """There is a token in it."""
    assert judge(rules)(text) == INVALID_JSON


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('{"type":"user_message","text":"' + "a" * 65_000 + '"}', None),
        ('{"type":"user_message","text":"' + "a" * 65_536 + '"}', NON_AUDIO_FRAME_TOO_LARGE),
        ('{"type":"user_message","text":"' + "ä" * 32_768 + '"}', NON_AUDIO_FRAME_TOO_LARGE),
        ('{"type":"user_message","text":"' + "[{," * 20_000 + '"}', None),
        ('{"type":"user_message","text":"' + '\\",[' * 13_000 + '"}', None),
        ('{"type":"user_message","text":[' + "0," * 3_000 + "0]}", None),
        ('{"type":"user_message","text":[' + "0," * 4_000 + "0]}", INVALID_JSON),
        ('{"type":"user_message","text":[' + "[]," * 900 + "0]}", None),
        ('{"type":"user_message","text":[' + "[]," * 1_000 + "0]}", INVALID_JSON),
        ('{"type":"user_message","text":[' + "{}," * 1_000 + "0]}", INVALID_JSON),
        ('{"type":"user_message","text":' + "[" * 31 + "]" * 31 + "}", None),
        ('{"type":"user_message","text":' + "[" * 32 + "]" * 32 + "}", INVALID_JSON),
        ('{"type":"user_message","text":' + "9" * 64 + "}", None),
        ('{"type":"user_message","text":' + "9" * 65 + "}", INVALID_JSON),
        ('{"user_audio_chunk":"' + "A" * 1_000_000 + '"}', None),
        ('{"user_audio_chunk":"' + "A" * 1_000_000 + '","a":1}', NON_AUDIO_FRAME_TOO_LARGE),
        ("[" * 1_000_000, NON_AUDIO_FRAME_TOO_LARGE),
    ],
)
@pytest.mark.parametrize("rules", [RelayRules(), FREE])
def test_work_of_one_frame_is_bounded(text: str, verdict: Any, rules: RelayRules) -> None:
    """By what is in it, not by its bytes alone; brackets in a string are text."""
    found = judge(rules)(text)
    assert found == verdict
    assert getattr(found, "option", "") == getattr(verdict, "option", "")


def test_larger_frames_where_the_agent_says_so() -> None:
    """The bytes are an option, the number of values is none."""
    wide = judge(RelayRules(max_non_audio_frame=200_000))
    assert wide('{"type":"user_message","text":"' + "a" * 190_000 + '"}') is None
    assert wide('{"type":"user_message","text":[' + "0," * 4_000 + "0]}") == INVALID_JSON


@pytest.mark.parametrize("rules", RULES)
def test_refresh_is_for_the_gate(rules: RelayRules) -> None:
    """Its token is in no rendering."""
    verdict = judge(rules)(f'{{"type":"{REFRESH}","token":"cAnArY"}}')
    assert verdict == Refresh("cAnArY")
    assert "cAnArY" not in repr(verdict)


@pytest.mark.parametrize("token", ["", ',"token":7', ',"token":null', ',"token":["a"]'])
def test_refresh_without_a_token(token: str) -> None:
    """It goes to nobody."""
    assert judge()(f'{{"type":"{REFRESH}"{token}}}') == INVALID_JSON


@pytest.mark.parametrize(
    ("frames", "text", "verdict"),
    [
        (("user_message",), HELLO, None),
        (("user_message",), PONG, None),
        (("user_message",), SOUND, FRAME_NOT_OPEN),
        (("user_message",), '{"type":"audio","audio_event":{}}', FRAME_NOT_OPEN),
        (("user_message",), HELLO[:-1] + ',"user_audio_chunk":"AA"}', FRAME_NOT_OPEN),
        (("user_message",), PONG[:-1] + ',"user_audio_chunk":"AA"}', FRAME_NOT_OPEN),
        (("user_message",), '{"type":"client_tool_result"}', FRAME_NOT_OPEN),
        (("user_message",), '{"type":"something_new"}', Dropped("of the type 'something_new'")),
        (("user_message",), HELLO[:-1] + ',"User_Audio_Chunk":"AA"}', FRAME_NOT_OPEN),
        (("user_message",), HELLO[:-1] + ',"audio_event":{}}', FRAME_NOT_OPEN),
        (("user_message",), '{"type":["user_message"]}', FRAME_NOT_OPEN),
        (("user_message",), '{"type":null}', FRAME_NOT_OPEN),
        (("user_message",), "{}", Dropped("without a type")),
        (("user_message",), "hello", INVALID_JSON),
        (("audio",), SOUND, None),
        (("audio",), '{"type":"audio","audio_event":{}}', None),
        (("audio",), HELLO, FRAME_NOT_OPEN),
        ((), PONG, None),
        ((), HELLO, FRAME_NOT_OPEN),
    ],
)
def test_frames_that_the_agent_opens(frames: Any, text: str, verdict: Any) -> None:
    """Whichever member tells the platform what it is."""
    assert judge(RelayRules(client_frames=frames))(text) == verdict


def test_rate_in_each_second() -> None:
    """So many a second, and then as many again."""
    clock = Clock()
    judged = FrameFilter(RelayRules(frames_per_second=3), clock)
    for second in (1000.0, 1001.5, 1007.9):
        clock.now = second
        assert [judged(HELLO) for _ in range(4)] == [None, None, None, TOO_MANY_FRAMES]
        clock.now = int(second) + 0.999
        assert judged(HELLO) == TOO_MANY_FRAMES


@pytest.mark.parametrize("rules", [RelayRules(idle_timeout=60), TEXT_ONLY])
def test_a_pong_is_no_sign_of_life(rules: RelayRules) -> None:
    """A client answers pings by itself, while nobody speaks."""
    clock = Clock()
    judged = FrameFilter(rules, clock)
    clock.now += 5
    judged(PONG)
    judged('{"typ\\u0065":"pong"}')
    assert judged.heard_at == 1000.0
    judged('{"type":"user_message","text":"pong"}')
    assert judged.heard_at == 1005.0
    clock.now += 5
    judged(HELLO)
    assert judged.heard_at == 1010.0


@pytest.mark.parametrize(("escapes", "verdict"), [(65_536, None), (65_537, INVALID_JSON)])
def test_backslashes_of_a_large_frame(escapes: int, verdict: object) -> None:
    """As docs/relay.md says it: JSON within a text has one for each quote."""
    frame = '{"type":"client_tool_result","tool_call_id":"x","result":"' + '\\"' * escapes + '"}'
    assert judge(RelayRules(max_non_audio_frame=1024 * 1024))(frame) == verdict
