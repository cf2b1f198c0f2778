"""The kill table: each broken variant of the package must make the tests fail.

A test that can't fail is worth nothing. This breaks a copy of the package on purpose, one mistake
at a time, and runs the tests that are there for it, in a process of their own.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
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
from .variants import Variant

VARIANTS: Final = {
    name: variant
    for module in (
        variants,
        attacks_on_paths,
        attacks_on_shared_stores,
        attacks_on_store_room,
        attacks_on_frames,
        attacks_on_lifetimes,
        attacks_on_callers,
    )
    for name, variant in module.VARIANTS.items()
}
PACKAGE: Final = Path(xuna_middleware.__file__).parent
TESTS: Final = Path(__file__).parents[1]
#: What pytest says when tests failed, and not that it could not run them.
TESTS_FAILED: Final = 1
SECONDS: Final = 120


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[int, str]]:
    """Run every variant once, two at a time; return each one's exit status and last words."""
    home = tmp_path_factory.mktemp("kill_table")
    with ThreadPoolExecutor(max_workers=2) as pool:
        ran = pool.map(lambda item: ran_on(home, *item), VARIANTS.items())
        return dict(zip(VARIANTS, ran, strict=True))


def ran_on(home: Path, name: str, variant: Variant) -> tuple[int, str]:
    """Break a copy of the package, and run on it what must notice."""
    place = home / name.replace(" ", "_").replace("/", "_")
    copy = place / "xuna_middleware"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "demo"))
    for file, old, new in variant.edits:
        text = (copy / file).read_text(encoding="utf-8")
        if text.count(old) != 1:
            return -1, f"{file} has this text {text.count(old)} times, not once:\n{old}"
        (copy / file).write_text(text.replace(old, new), encoding="utf-8")
    return pytest_on(place, variant.noticed_by.split())


def pytest_on(place: Path, tests: list[str]) -> tuple[int, str]:
    """Run tests with the package that lies in a place, until the first failure."""
    # Safe path (-P): else the working directory, with the unbroken package, would come first.
    command = [sys.executable, "-P", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        [*command, *(str(TESTS.parent / test) for test in tests)],
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    return ran.returncode, ran.stdout[-2000:]


@pytest.mark.parametrize("name", VARIANTS)
def test_broken_variant_is_noticed(name: str, outcomes: Mapping[str, tuple[int, str]]) -> None:
    """Somebody sees it: a test fails, rather than all passing or none running."""
    status, said = outcomes[name]
    assert status == TESTS_FAILED, f"{name}: status {status}\n{said}"


def test_the_unbroken_copy_passes(tmp_path: Path) -> None:
    """The control: the copy itself is not what makes them fail."""
    shutil.copytree(PACKAGE, tmp_path / "xuna_middleware")
    status, said = pytest_on(tmp_path, ["tests/identity/test_claim_rules.py"])
    assert status == 0, said
    where = "import xuna_middleware; print(xuna_middleware.__file__)"
    ran = subprocess.run(
        [sys.executable, "-c", where],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert ran.stdout.startswith(str(tmp_path))
