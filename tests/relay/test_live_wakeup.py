"""What others are told of a live conversation, and what its lease carries for that."""

import json
from typing import Final

import pytest

from xuna_middleware import MemoryStore
from xuna_middleware.relay.live import Live, Session
from xuna_middleware.stores.protocol import Standing

SESSION: Final = Session(
    id="ses_1", issuer="https://login.example", subject="ünï", agent="support", started_at=1.5
)


def test_what_is_not_known_is_not_told() -> None:
    """The name that the platform gives may come later."""
    assert SESSION.to_dict() == {
        "id": "ses_1",
        "issuer": "https://login.example",
        "subject": "ünï",
        "agent": "support",
        "started_at": 1.5,
    }


@pytest.mark.parametrize("name", [None, "conv_1"])
async def test_a_lease_carries_the_whole_session(name: str | None) -> None:
    """Any process reads it back as it was, the platform's name included once that is known."""
    live = Live(SESSION, MemoryStore(), (), Standing("p", 1.0), must_hold=True)
    if name is not None:
        live.told(name)
    read = Session(**json.loads(live.lease.about))
    assert read == live.session
    assert read.conversation_id == name
