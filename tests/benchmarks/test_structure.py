"""The figures on how the code is built are read as their definitions say."""

import asyncio
from textwrap import dedent

import pytest

from benchmarks.structure import begins_with_participle, file_switches, functions_in

SOURCE = dedent(
    '''
    async def fetched(url):
        """Say what it does.

        In more than one line.
        """
        # A comment doesn't count.
        for _ in range(3):
            if url:
                await url

        def inner():
            return [each for each in url if each] if url else None

        return inner
    '''
)


def test_functions_are_measured() -> None:
    """Docstrings, comments and blank lines are no code; a function's branches are its own."""
    fetched, inner = functions_in(SOURCE)
    assert (fetched.lines, fetched.complexity, fetched.awaits) == (7, 3, True)
    assert (inner.lines, inner.complexity, inner.awaits) == (2, 3, False)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("_asked", True), ("told", True), ("read_body", False), ("token", False), ("open", False)],
)
def test_participles(name: str, is_one: bool) -> None:
    """Of a name the first word counts."""
    assert begins_with_participle(name) is is_one


def test_switches_are_counted() -> None:
    """A warm request and a whole conversation go through the real gate."""
    warm, relayed = asyncio.run(file_switches())
    assert 10 < warm < relayed
