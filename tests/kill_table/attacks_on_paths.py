"""Broken variants of path matching and preflights."""

from typing import Final

from .variants import Variant

VARIANTS: Final[dict[str, Variant]] = {}
