"""The sdist and the wheel: built from this tree, installed into a fresh environment, used."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.parser import BytesParser
from pathlib import Path
from typing import Final

import pytest

from xuna_middleware import __version__

PROJECT: Final = Path(__file__).parents[2]
PACKAGE: Final = PROJECT / "xuna_middleware"


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist."""
    place = tmp_path_factory.mktemp("sdist")
    _run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(place), cwd=PROJECT)
    (built,) = place.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the sdist, as a release does."""
    place = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(place / "source", filter="data")
    (source,) = (place / "source").iterdir()
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place), cwd=source)
    (built,) = place.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a fresh environment that sees this one's packages; its `bin`."""
    place = tmp_path_factory.mktemp("fresh")
    _run(sys.executable, "-m", "venv", "--without-pip", str(place))
    python = place / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check")
    _run(*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel))
    # A path in a .pth file: packages of this environment are found there, editable ones aren't.
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "outer.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return place / "bin"


@pytest.mark.proof
def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    """Each file of the package is in, `py.typed` and the demo's page too; no tests, no caches."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = f"xuna_middleware-{__version__}.dist-info/"
    ours = {
        path.relative_to(PROJECT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if not name.startswith(info)} == ours
    assert "xuna_middleware/py.typed" in names
    assert info + "licenses/LICENSE" in names


@pytest.mark.proof
def test_the_wheels_metadata_names_users_extras_only(wheel: Path) -> None:
    """A package index shows these."""
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"xuna_middleware-{__version__}.dist-info/METADATA")
    metadata = BytesParser().parsebytes(text)
    assert metadata["Version"] == __version__
    assert metadata["Author"]
    assert set(metadata.get_all("Provides-Extra", [])) == {
        *("cli", "demo", "fast", "redis", "relay", "sandbox", "visitors", "webrtc")
    }


@pytest.mark.proof
def test_the_sdist_has_what_its_tests_need(sdist: Path) -> None:
    """Packagers run them from it."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {
        *("Makefile", ".ci/run", "hatch_build.py", "pyproject.toml", "LICENSE", "CONTRIBUTING.md"),
        *("tests/conftest.py", "examples/fastapi_app.py", "benchmarks/__init__.py"),
        *("fuzz/__init__.py", ".github/workflows/ci.yml", ".pre-commit-config.yaml"),
    }
    assert needed - names == set()
    assert [name for name in names if "__pycache__" in name or "node_modules" in name] == []


@pytest.mark.proof
def test_the_installed_wheel_is_imported_from_where_it_was_installed(installed: Path) -> None:
    """Its modules and `py.typed` lie in the fresh environment, not in this tree."""
    code = (
        "import importlib.resources as r, xuna_middleware as x;"
        "print(x.__file__, x.__version__, r.files(x).joinpath('py.typed').is_file())"
    )
    place, version, typed = _run(str(installed / "python"), "-c", code).split()
    assert Path(place).is_relative_to(installed.parent)
    assert (version, typed) == (__version__, "True")


@pytest.mark.proof
def test_the_installed_command_runs(installed: Path) -> None:
    """`xuna-gate --help` names its commands."""
    assert "api-key" in _run(str(installed / "xuna-gate"), "--help")


def _run(*command: str, cwd: Path | None = None) -> str:
    """Run a command away from this tree, so that nothing is imported from it by chance."""
    place = cwd or Path(command[0]).parent
    done = subprocess.run(
        command,
        cwd=place,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
