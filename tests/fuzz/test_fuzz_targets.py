"""The fuzz targets themselves: each holds on the corpus and on what Hypothesis makes up."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))

from fuzz.__main__ import TARGETS as NAMES  # noqa: E402
from fuzz.targets import TARGETS  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=200))
def test_target_holds(name: str, data: bytes) -> None:
    """A short run of what `make fuzz` runs for long."""
    TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
def test_target_holds_on_its_corpus(name: str) -> None:
    """What was found once is looked at each time."""
    for seed in sorted((ROOT / "fuzz" / "corpus" / name).glob("*")):
        TARGETS[name](seed.read_bytes())


def test_every_target_is_listed() -> None:
    """The command knows them all without importing them."""
    assert list(NAMES) == list(TARGETS)
