"""What a conversation took."""

import pytest

from xuna_middleware.relay.usage import Meter, size_of


@pytest.mark.parametrize(
    ("text", "size"), [("", 0), ("abc", 3), ("é", 2), ("€", 3), ("😀", 4), ("\ud800", 3)]
)
def test_sizes_are_those_of_utf8(text: str, size: int) -> None:
    """As a WebSocket carries it; what can't be carried has a size, too."""
    assert size_of(text) == size


def test_seconds() -> None:
    """Up to now while it runs, up to its end afterwards, and never less than none."""
    meter = Meter(began=10.0)
    assert meter.seconds(12.5) == 2.5
    meter.ended = 11.0
    assert meter.seconds(99.0) == 1.0
    assert Meter(began=10.0).seconds(9.0) == 0.0
