"""What others are told of a live conversation, and what its lease carries for that."""

import json
from typing import Final

import pytest

from xuna_middleware import MemoryStore
from xuna_middleware.relay.live import LiveConversation, LiveSession
from xuna_middleware.stores.protocol import RevocationCheck

SESSION: Final = LiveSession(
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
    live = LiveConversation(
        SESSION, MemoryStore(), (), RevocationCheck("p", 1.0), lease_required=True
    )
    if name is not None:
        live.set_conversation_id(name)
    read = LiveSession(**json.loads(live.lease.about))
    assert read == live.session
    assert read.conversation_id == name
