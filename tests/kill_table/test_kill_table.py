"""The kill table: each broken variant of the package must make the tests fail.

A test that can't fail is worth nothing. This breaks a copy of the package on purpose, one mistake
at a time, and runs the tests that are there for it, in a process of their own.
"""

import atexit
import compileall
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

import pytest

import xuna_middleware

from . import (
    attacks_on_callers,
    attacks_on_frames,
    attacks_on_lifetimes,
    attacks_on_paths,
    attacks_on_shared_stores,
    attacks_on_store_room,
    variants,
)
from .running import run_forked
from .variants import Variant

MODULES: Final = (
    variants,
    attacks_on_paths,
    attacks_on_shared_stores,
    attacks_on_store_room,
    attacks_on_frames,
    attacks_on_lifetimes,
    attacks_on_callers,
)
VARIANTS: Final = {name: variant for module in MODULES for name, variant in module.VARIANTS.items()}
PACKAGE: Final = Path(xuna_middleware.__file__).parent
TESTS: Final = Path(__file__).parents[1]
#: What pytest says when tests failed, and not that it could not run them.
TESTS_FAILED: Final = 1

pytestmark = pytest.mark.proof


def break_package(place: Path, variant: Variant) -> None:
    """Write a copy of the package with the variant's mistake."""
    copy_package(place)
    for file, old, new in variant.edits:
        path = place / "xuna_middleware" / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{file} has this text {text.count(old)} times:\n{old}"
        path.write_text(text.replace(old, new), encoding="utf-8")


@cache
def compiled_package() -> Path:
    """Return a copy of the package whose modules are compiled: a broken one costs one of them."""
    home = Path(tempfile.mkdtemp(prefix="kill_table_"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "demo")
    copy = shutil.copytree(PACKAGE, home / PACKAGE.name, ignore=ignored)
    assert compileall.compile_dir(copy, quiet=2)
    return copy


def copy_package(place: Path) -> None:
    shutil.copytree(compiled_package(), place / PACKAGE.name)


@pytest.mark.parametrize("name", VARIANTS)
def test_broken_variant_is_noticed(name: str, tmp_path: Path) -> None:
    """Somebody sees it: a test fails, rather than all passing or none running."""
    variant = VARIANTS[name]
    break_package(tmp_path, variant)
    status, said = run_forked(TESTS.parent, tmp_path, variant.noticed_by.split())
    assert status == TESTS_FAILED, f"{name}: status {status}\n{said}"


def test_the_unbroken_copy_passes(tmp_path: Path) -> None:
    """The control: the copy itself is not what makes them fail, and it is what they run on."""
    copy_package(tmp_path)
    (tmp_path / "test_place.py").write_text(
        "import xuna_middleware\n\n\ndef test_place():\n"
        f"    assert xuna_middleware.__file__.startswith({str(tmp_path)!r})\n"
    )
    tests = ["tests/identity/test_claims.py", str(tmp_path / "test_place.py")]
    status, said = run_forked(TESTS.parent, tmp_path, tests)
    assert status == 0, said


def test_every_variant_is_run() -> None:
    """No name stands for two of them."""
    assert len(VARIANTS) == sum(len(module.VARIANTS) for module in MODULES)


def test_the_docs_say_how_many() -> None:
    """The page about testing has the number of variants."""
    page = (TESTS.parent / "docs" / "security-testing.md").read_text(encoding="utf-8")
    assert f"holds {len(VARIANTS)} deliberately broken variants" in page
