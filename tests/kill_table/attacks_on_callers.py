"""Broken variants of who counts as which caller, and of the audit log."""

from typing import Final

from .variants import Variant

VARIANTS: Final[dict[str, Variant]] = {}
