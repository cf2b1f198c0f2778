"""Keep `docs/security-rows.md` true: whatever test a row names is there, and each row names one."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

PROJECT: Final = Path(__file__).parents[2]
PAGE: Final = PROJECT / "docs" / "security-rows.md"
NAMED: Final = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
PARTS: Final = ("Tokens and keys", "Key sources and discovery", "HTTP and ASGI", "Issuing")


def rows_of(page: str) -> dict[str, list[str]]:
    """Return the rows of the table beneath each heading."""
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)[1:]
    return {
        heading: re.findall(r"^\| .+ \|$", text, flags=re.MULTILINE)[1:]
        for heading, text in zip(parts[::2], parts[1::2], strict=True)
    }


ROWS: Final = rows_of(PAGE.read_text(encoding="utf-8"))


@cache
def names_in(path: Path) -> frozenset[str]:
    """Return the names of a module's functions and tables."""
    names = set[str]()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return frozenset(names)


def faults(row: str) -> list[str]:
    """Return what is wrong with a row: a name that is nowhere, or no test at all."""
    named = NAMED.findall(row)
    found = [
        f"there is no {file}::{name}"
        for file, name in named
        if not (PROJECT / file).is_file() or name not in names_in(PROJECT / file)
    ]
    if row.count("::") != len(named):
        found.append("a name is not written as `tests/….py::name`")
    if not any(name.startswith("test_") for _, name in named) and "not built yet" not in row:
        found.append("no test is named")
    return found


@pytest.mark.parametrize("row", [row for rows in ROWS.values() for row in rows])
def test_row_names_tests_that_are_there(row: str) -> None:
    """Rename or drop a test, and its row says so."""
    assert faults(row) == []


def test_each_part_has_its_rows() -> None:
    """No part of the list is forgotten."""
    assert tuple(ROWS) == PARTS
    assert all(ROWS.values())


@pytest.mark.parametrize(
    "row",
    [
        "| a row | |",
        "| a row | `tests/support/bad_tokens.py::HEADERS` |",
        "| a row | `tests/docs/test_security_rows.py::test_that_is_not_there` |",
        "| a row | `tests/test_nowhere.py::test_row_names_tests_that_are_there` |",
        "| a row | test_security_rows.py::test_each_part_has_its_rows |",
    ],
)
def test_a_bad_row_would_be_seen(row: str) -> None:
    """The control of the above."""
    assert faults(row)
