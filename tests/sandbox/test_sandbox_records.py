"""Records have a number: the memory doesn't grow with what is said."""

from xuna_middleware.sandbox import Conversation, Line
from xuna_middleware.sandbox.records import MAX_LINES, Records


def record(number: int, *, live: bool = False) -> Conversation:
    return Conversation(
        id=f"conv_{number}",
        agent_id="agent_x",
        agent_name="X",
        admitted_by="public",
        started_at=number,
        ended_at=None if live else number + 1,
    )


def test_the_oldest_that_ended_goes_first() -> None:
    """One that still runs is never dropped."""
    records = Records(limit=3)
    for number in range(5):
        records.add(record(number, live=number == 0))
    assert [kept.id for kept in records] == ["conv_0", "conv_3", "conv_4"]


def test_full_of_running_ones() -> None:
    """Then no more can start."""
    records = Records(limit=2)
    assert not records.full()
    for number in range(2):
        records.add(record(number, live=True))
    assert records.full()
    assert records.live("agent_x") == 2


def test_a_transcript_keeps_its_end() -> None:
    """A talk without end keeps the last lines."""
    talk = record(1)
    for number in range(MAX_LINES + 1):
        talk.transcript.append(Line(role="user", text=str(number), time=0))
    assert (len(talk.transcript), talk.transcript[0].text) == (MAX_LINES, "1")


def test_the_repr_of_a_record_tells_nothing_personal() -> None:
    """Neither words nor variables."""
    record = Conversation(
        id="conv_x",
        agent_id="agent_x",
        agent_name="X",
        admitted_by="public",
        started_at=0,
        dynamic_variables={"user_name": "Moreau"},
        user_id="moreau@example.com",
    )
    assert "moreau" not in repr(record).lower()
