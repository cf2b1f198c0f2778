"""Broken variants of the relay's frames and of the bounds on readers' work."""

from typing import Final

from .variants import Variant

VARIANTS: Final[dict[str, Variant]] = {}
