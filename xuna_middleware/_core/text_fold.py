"""Fold texts so that any two that a router or the platform treats as equal become equal."""

import unicodedata
from typing import Final


def fold(text: str) -> str:
    """Return a text's fold.

    Compatibility forms (Unicode Standard Annex 15), letter case (Unicode Standard, section 3.13),
    the dotless and the dotted i, and the digits of all scripts are unified; combining marks and
    invisible characters are dropped. It works character by character: parts fold as the whole does.

    Does not bound its cost: up to 20 µs a character, since normalizing a run of marks takes
    quadratic time. The caller must bound the characters outside ASCII.
    """
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    return unicodedata.normalize("NFKD", decomposed).translate(_FOLDED)


class _Folded(dict[int, str]):
    """Map a decomposed character in lower case to its fold; up to 4,096 of them are cached."""

    def __missing__(self, code: int) -> str:
        folded = _fold_character(chr(code))
        if len(self) < 4096:
            self[code] = folded
        return folded


def _fold_character(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] == "M" or category == "Cf":
        return ""
    return str(unicodedata.digit(character)) if category == "Nd" else character


_FOLDED: Final = _Folded({ord("ı"): "i"})
