"""Broken variants of how long a decision lasts."""

from typing import Final

from .variants import Variant

VARIANTS: Final[dict[str, Variant]] = {}
