"""How what a store in Redis keeps is written: short, and so that it can be read again."""

import pytest

from xuna_middleware.stores import Charge, PendingSettlement
from xuna_middleware.stores.redis import encoding as notation


@pytest.mark.parametrize(
    "name", ["conv_", "conv_01j", "conv_/01j", "/", "/conv_01j", "01j", "conv", "", "conv_conv_1"]
)
def test_listed_names_are_read_again(name: str) -> None:
    """Each is one word, and no two are alike."""
    listed = notation.listed(name)
    assert notation.unlisted(listed) == name
    assert listed
    assert len(listed) <= len(name) + 1


def test_usual_names_are_listed_short() -> None:
    """Without what they all begin with."""
    assert notation.listed("conv_01jabc") == "01jabc"


def test_note_holds_what_may_come_back() -> None:
    """A line for each principal; slots and time, in base 36; of rates nothing comes back."""
    parts = (
        Charge("anna", "slots", 1_700_000_000_000, 1, "slot"),
        Charge("all:", "talk", 35, 180_000, "time"),
        Charge("anna", "rate", 36, 1, "rate"),
        Charge("anna", "talk", 36, 0, "time"),
    )
    text = notation.note_text(PendingSettlement("conv_1", parts, "about", 60)).split("\n")
    anna, everybody = notation.digest("anna"), notation.digest("all:")
    assert text == ["about", f"{anna} slots/loyw3v28/1 talk:10:0", f"{everybody} talk:z:3uw0"]
    assert int("loyw3v28", 36) == 1_700_000_000_000


def test_notes_and_principals_of_one_name_are_apart() -> None:
    """A conversation that is called as somebody is isn't them."""
    keys = notation.Keys("{xuna}:")
    assert keys.note("anna") != keys.principal("anna")
    assert keys.note("conv_" + "x" * 26) == "{xuna}:~" + "x" * 26
