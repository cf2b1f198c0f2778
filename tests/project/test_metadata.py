"""pyproject.toml: what a package index shows, and what only contributors need."""

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

from hatch_build import resolve_links
from xuna_middleware import __version__

PROJECT: Final = Path(__file__).parents[2]
PYPROJECT: Final[dict[str, Any]] = tomllib.loads(
    (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
)
EXTRAS: Final[dict[str, list[str]]] = PYPROJECT["project"]["optional-dependencies"]
GROUPS: Final[dict[str, list[Any]]] = PYPROJECT["dependency-groups"]
BASE: Final = "https://host.example/xuna_middleware/blob/v1"


def test_extras_are_the_users_and_groups_the_contributors() -> None:
    """No name is both, and no group asks an index for this package."""
    assert not {"bench", "dev", "fuzz", "lint", "test"} & EXTRAS.keys()
    assert not EXTRAS.keys() & GROUPS.keys()
    named = [each for group in GROUPS.values() for each in group if isinstance(each, str)]
    assert [each for each in named if each.startswith(PYPROJECT["project"]["name"])] == []


def test_the_makefile_installs_every_extra_for_contributors() -> None:
    """An extra that it left out would have no tests that run."""
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^EXTRAS := (.*)$", makefile, flags=re.MULTILINE)
    assert listed.split(",") == sorted(EXTRAS)


def test_the_readme_lists_every_extra() -> None:
    """And none that isn't there."""
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^Extras: (.*)$", readme, flags=re.MULTILINE)
    names = re.findall(r"(?:^|, )`([a-z]+)`", line)
    assert sorted(names) == sorted(EXTRAS)


def test_every_requirement_has_a_lower_bound() -> None:
    """`make test-lowest` installs exactly these versions."""
    lists = [PYPROJECT["project"]["dependencies"], *EXTRAS.values(), *GROUPS.values()]
    named = [each for listed in lists for each in listed if isinstance(each, str)]
    ours = PYPROJECT["project"]["name"]
    assert [each for each in named if ">=" not in each and not each.startswith(ours)] == []


def test_commands_in_documents_name_extras_that_exist() -> None:
    """Whoever copies `pip install "xuna-middleware[…]"` gets what it says."""
    paths = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("examples/*")]
    paths += PROJECT.glob("xuna_middleware/**/*.py")
    texts = [path.read_text(encoding="utf-8") for path in paths if path.is_file()]
    lists = [each for text in texts for each in re.findall(r"xuna-middleware\[([\w,]+)\]", text)]
    named = {extra for listed in lists for extra in listed.split(",")}
    assert named
    assert named <= EXTRAS.keys()


def test_the_readme_of_a_package_index_has_no_relative_link() -> None:
    """There they would lead to pages of the index that don't exist."""
    description = _metadata().core.readme
    links = re.findall(r"\]\(([^)]*)\)", description)
    assert [each for each in links if not re.match(r"https?://|#", each)] == []
    assert "XunaGate" in description


def test_the_metadata_is_complete() -> None:
    """Who made it, under which license, for which Python, in which version."""
    core = _metadata().core
    assert core.authors
    assert core.license_expression == "Apache-2.0"
    assert core.requires_python == ">=3.11"
    assert core.readme_content_type == "text/markdown"
    assert "Typing :: Typed" in core.classifiers
    assert _metadata().version == __version__


@pytest.mark.parametrize(
    ("markdown", "base", "resolved"),
    [
        ("see [a](docs/a.md)", BASE, f"see [a]({BASE}/docs/a.md)"),
        ("see [a](docs/a.md#b)", BASE, f"see [a]({BASE}/docs/a.md#b)"),
        ("see [a](docs/a.md), [b](c)", None, "see a, b"),
        ("see [a](https://a.example/b)", BASE, "see [a](https://a.example/b)"),
        ("see [a](https://a.example/b)", None, "see [a](https://a.example/b)"),
        ("see [a](#below)", None, "see [a](#below)"),
        ("```python\nrules[0](caller)\n```\n", BASE, "```python\nrules[0](caller)\n```\n"),
    ],
)
def test_relative_links(markdown: str, base: str | None, resolved: str) -> None:
    """They become absolute, or their text while the repository's address isn't known."""
    assert resolve_links(markdown, base) == resolved


def _metadata() -> ProjectMetadata[Any]:
    return ProjectMetadata(str(PROJECT), PluginManager())
