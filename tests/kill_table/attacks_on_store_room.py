"""Broken variants of what refused requests may leave behind, and of outbound calls."""

from typing import Final

from .variants import Variant

VARIANTS: Final[dict[str, Variant]] = {}
