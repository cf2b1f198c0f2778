"""Broken variants of what gates share in a store, and of what verifiers say of themselves."""

from typing import Final

from .variants import Variant

VARIANTS: Final[dict[str, Variant]] = {}
