"""Keep `docs/budgets.md` true: its figures are the code's, and nothing that writes is missing."""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any, Final

import pytest

import xuna_middleware
from xuna_middleware.stores import Region

PACKAGE: Final = Path(xuna_middleware.__file__).parent
PAGE: Final = (Path(__file__).parents[2] / "docs" / "budgets.md").read_text(encoding="utf-8")
ROWS: Final[list[str]] = re.findall(r"^\| .+ \|$", PAGE, flags=re.MULTILINE)
FIGURE: Final = re.compile(r"\*\*([^*]+)\*\*")
WITH_FIGURES: Final = [row for row in ROWS if FIGURE.search(row)]
NAMED: Final = re.compile(r"`([\w.\[\]]+(?:\(\w+\))?)`")
#: Verbs of a store that leave something in it.
WRITES: Final = re.compile(r"\.(put|reserve|move|remember|hold|revoke)\(")
OUTBOUND: Final = re.compile(r"\bOutbound\(|\bQuestions(\[.*\])?\(|[^.]outbound\.request\(")
#: Parts that stand on the core's public names, and what says what a store and a client is.
ELSEWHERE: Final = ("sandbox", "demo", "testing", "telemetry", "cli", "stores")


def value_of(name: str) -> Any:
    """Return what a name of the last column stands for: a module's value, or a default."""
    parts = name.partition("(")[0].split(".")
    for cut in range(len(parts) - 1, 0, -1):
        path = PACKAGE.joinpath(*parts[:cut])
        if path.with_suffix(".py").is_file():
            found: Any = importlib.import_module(f"xuna_middleware.{'.'.join(parts[:cut])}")
            break
    else:
        raise AssertionError(f"{name} is in no module")
    for part in parts[cut:]:
        attribute, *places = re.findall(r"\w+", part)
        found = getattr(found, attribute)
        for place in places:
            found = found[int(place)]
    parameter = name.partition("(")[2].rstrip(")")
    return inspect.signature(found).parameters[parameter].default if parameter else found


def cells_of(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("| ").split(" | ")]


@pytest.mark.parametrize("row", WITH_FIGURES)
def test_figures_are_the_codes(row: str) -> None:
    """Change one, and the page says so."""
    names = NAMED.findall(cells_of(row)[-1])
    assert FIGURE.findall(row) == [str(value_of(name)) for name in names]


def test_every_region_has_its_row() -> None:
    """A new one is told of, and what may fill it."""
    firsts = {cells_of(row)[0] for row in ROWS}
    assert [region for region in Region if f"`{region.value}`" not in firsts] == []


def modules_with(pattern: re.Pattern[str]) -> set[str]:
    """Return the modules of the core whose source has a pattern."""
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in ELSEWHERE
        and path.name not in ("_http.py", "_asking.py")
        and pattern.search(path.read_text(encoding="utf-8"))
    }


@pytest.mark.parametrize("pattern", [WRITES, OUTBOUND])
def test_every_module_is_named(pattern: re.Pattern[str]) -> None:
    """Whoever adds a write to the store or an outbound call says who can cause it, and how much."""
    found = modules_with(pattern)
    assert found
    assert [name for name in sorted(found) if f"`{name}`" not in PAGE] == []


def test_the_reader_reads() -> None:
    """A figure that differs would be seen, and a name that is nowhere."""
    assert value_of("anonymous.admission.CHALLENGES") == 8
    assert f"{value_of('stores.memory.store.MOST'):,} entries" in PAGE
    assert f"{value_of('stores.memory.store.MOST_OF_REQUESTS'):,}" in PAGE
    assert f"{value_of('stores.redis.bulkhead.MOST_REFUSED_LATER'):,} of a use" in PAGE
    assert value_of("access.limits.budgets.TICKETS.counted[1].limit.rate") == "3000/minute"
    assert len(WITH_FIGURES) >= 12
    with pytest.raises(AssertionError, match="no module"):
        value_of("nowhere.AT_ALL")
