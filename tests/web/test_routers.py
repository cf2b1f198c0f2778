"""The gate beside eight frameworks' own routers: what runs there without it was refused by it.

A short run with a fixed seed of what `make fuzz` runs for long, and the spellings that were found.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import islice
from typing import Final

import pytest
from support.differential import Guard, compare, guards, targets_of
from support.routers import FRAMEWORKS, HANDLERS, MOUNTS, Router, open_router, silence
from support.server_scopes import SERVERS, Target, scope_of
from support.spellings import OPEN, Spelling, spellings
from support.trees import (
    NAMES,
    SECRET,
    guards_of,
    leaks_in,
    leaks_where_names_overlap,
    nestings,
    open_tree,
    paths_in,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

#: For each framework; the seed is one that finds each kind on the rule of before.
SPELLINGS: Final = 1_000
SEED: Final = 13

#: What was found, by hand or by the fuzzers, as it is on the wire.
FOUND: Final = (
    # Quart takes urlparse(path).path: control characters, spaces and an authority are left out.
    *(b"%09//x/api/secret", b"http://h/a%09pi/secret", b"%0E//%251A/api/users", b"//x/api/secret"),
    *(b"ws%3a///%09/api/talk", b"%20%20http:/api/secret", b"http:a%0Api/secret", b"/a%0Dpi/secret"),
    # Django's (?i) takes a dotless and a dotted i for an i.
    *(b"/ap%C4%B1/secret", b"/ap%C4%B0/secret", b"/AP%C4%B0/SECRET", b"/api/%C5%BFecret"),
    # Django REST framework's format suffixes.
    *(b"/api/users.json", b"/api/users.json/", b"/api/users.j", b"/api/users/7.json"),
    # Sanic leaves out the first character, whatever it is, and reads raw_path.
    *(b"*api/secret", b"http://a%2Fb@h/api/secret", b"http://h/api/secret"),
    # Litestar cuts at root_path, wherever that stands.
    *(b"/x/p/api/secret", b"/xp/api/secret", b"x/api/secret", b"%/api/secret"),
    # What matches a beginning of the text: BlackSheep's /api/*, sinks and mounts.
    *(b"/apis", b"/apisecret", b"/api*", b"/API-docs", b"/open/../apis", b"/api%41"),
    # Falcon and Litestar leave out slashes.
    *(b"api/secret", b"///api///secret//", b"%2F%2Fapi/secret"),
)


#: The handlers beneath /api.
GUARDED: Final = HANDLERS.keys() - {"open", "elsewhere"}


@pytest.fixture
async def router(framework: str) -> AsyncIterator[Router]:
    async with open_router(framework) as router:
        yield router


each_router = pytest.mark.parametrize("framework", [*FRAMEWORKS, *MOUNTS])
each_framework = pytest.mark.parametrize("framework", FRAMEWORKS)


@each_framework
async def test_the_router_knows_its_addresses(framework: str, router: Router) -> None:
    """Each handler is reached at its address: the oracle says something."""
    for name, path in HANDLERS.items():
        kind = "websocket" if name == "talk" else "http"
        if kind == "websocket" and not router.websockets:
            continue
        scope = scope_of(Target(path, path.encode(), b"", ""), kind)
        assert (await router.reach(scope), await router.whole(scope)) == (name, name)


@each_router
async def test_no_spelling_reaches_what_is_guarded(framework: str, router: Router) -> None:
    """What the framework runs of the guarded handlers, the gate doesn't let through."""
    counts = await compare({framework: router}, guards(), spellings(SEED), SPELLINGS)
    count = counts[framework]
    assert count.spellings == SPELLINGS
    assert count.reached > SPELLINGS // 10, "the spellings reach hardly anything"
    assert count.leaks == []


@each_router
async def test_nothing_that_was_found_reaches_it(framework: str, router: Router) -> None:
    """Each spelling that got through once, on every server, beneath each root path."""
    source = [
        Spelling(target, root, is_websocket)
        for target in FOUND
        for root in ("", "/", "/p", "p", "/x")
        for is_websocket in (False, True)
    ]
    counts = await compare({framework: router}, guards(), source, len(source))
    assert counts[framework].leaks == []


@each_framework
async def test_what_is_open_stays_open(framework: str, router: Router) -> None:
    """An ordinary address on unprotected ground needs no credentials, accents and all."""
    at_api, _, public = guards()
    for target in OPEN:
        for made, _ in targets_of(Spelling(target, "", False), False):
            scope = scope_of(made)
            assert await router.whole(scope) in ("open", "elsewhere"), target
            assert await at_api.lets_through(scope), target
            if target.startswith(b"/open/") or target == b"/open":
                assert await public.lets_through(scope), target


@pytest.mark.parametrize("framework", ["Quart", "Django"])
async def test_the_quick_oracle_misses_nothing(framework: str, router: Router) -> None:
    """What the whole app runs, the router that is asked in its place names."""
    asked = 0
    for spelling in islice(spellings(SEED), 200):
        for target, _ in targets_of(spelling, False):
            scope = scope_of(target)
            ran = await router.whole(scope)
            asked += ran is not None
            assert ran is None or ran == await router.reach(scope), spelling
    assert asked > 50


#: A kind that the seeded run has, by router: how such a target reaches what is guarded.
KINDS: Final = (
    ("Quart", rb"(?i)(?:%0[0-9a-f]|%1[0-9a-f]|%20)[^/]*//"),
    ("Quart", rb"(?i)//.*[a-z]%0[9ad][a-z]"),
    ("Django", rb"(?i)%c4%b[01]"),
    ("Django", rb"users\.[a-z]"),
    ("Sanic", rb"\A\*"),
    ("Litestar", rb"\A[^/].*/api"),
    ("BlackSheep", rb"(?i)/api[^/%;.]"),
)


@pytest.mark.parametrize(("framework", "kind"), KINDS)
async def test_the_short_run_has_each_kind(framework: str, kind: bytes, router: Router) -> None:
    """The seed is a good one: a gate that doesn't know this kind lets something through."""
    written = re.compile(kind)
    found = 0
    for spelling in islice(spellings(SEED), SPELLINGS):
        if written.search(spelling.target):
            as_websocket = spelling.is_websocket and router.websockets
            scopes = [
                scope_of(target, "websocket" if as_websocket else "http")
                for target, _ in targets_of(spelling, as_websocket)
            ]
            found += sum([await router.reach(scope) in GUARDED for scope in scopes])
    assert found


#: How many nestings with a mount of Litestar's work, by their levels.
TREES: Final = {2: 15, 3: 34}


#: How many nestings with overlapping names and a mount that matches by text work.
OVERLAPPING_TREES: Final = 108


@pytest.mark.parametrize("levels", TREES)
async def test_no_path_in_mounts_reaches_what_is_guarded(levels: int) -> None:
    """A mount's name is a root path for what is within, and Litestar removes it anywhere."""
    trees = 0
    leaks: list[str] = []
    with silence():
        base = "".join(NAMES[:levels])
        guards, paths = guards_of(base), paths_in(base, SEED, 50)
        for nesting in nestings(levels, ("Litestar", "Falcon")):
            if "Litestar" in nesting.mounts:
                async with open_tree(nesting) as tree:
                    if tree is not None:
                        passed, found = await leaks_in(tree, guards, paths)
                        assert passed > len(paths) // 3
                        trees, leaks = trees + 1, leaks + found
    assert trees == TREES[levels]
    assert leaks == []


#: How many nestings with a mount of Litestar's around one of two leaves work, by their names.
REPEATED: Final[dict[tuple[str, ...], int]] = {("/files", "/api"): 18, ("/files", "/files"): 18}


@pytest.mark.parametrize("names", REPEATED)
async def test_no_public_path_that_repeats_a_mounts_name_is_another(names: tuple[str, ...]) -> None:
    """Litestar may remove all up to a mount's name, which stands in the public path once more."""
    base, trees = "".join(names), 0
    opened = [base + "/files", base + "/files" + SECRET[1:]]
    paths = [path + more for path in opened for more in ("", "/", SECRET, f"{names[-1]}{SECRET}")]
    leaks: list[str] = []
    with silence():
        guards = [Guard(["secret"], public=[path]) for path in opened]
        for nesting in nestings(2, ("Starlette", "Litestar")):
            if "Litestar" in nesting.mounts:
                async with open_tree(replace(nesting, names=names)) as tree:
                    if tree is not None:
                        _, found = await leaks_in(tree, guards, paths)
                        trees, leaks = trees + 1, leaks + found
    assert trees == REPEATED[names]
    assert leaks == []


async def test_no_part_of_a_path_in_mounts_that_match_by_text_reaches_it() -> None:
    """A mount at /s takes /secret for its own, and may leave it whole: it is /s/secret then."""
    with silence():
        trees, _, _, leaks = await leaks_where_names_overlap()
    assert trees == OVERLAPPING_TREES
    assert leaks == []


def test_the_servers_differ() -> None:
    """A model for each server, and each has a target that another sees in another way."""
    made = [server(b"http://h/a%20b?c", "/p", False) for server in SERVERS.values()]
    assert len(set(made)) > 3
    assert Guard(["secret"], protect=["/api"]).name == "protect=['/api']"
