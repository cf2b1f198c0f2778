"""`python -m fuzz routers`: the gate beside frameworks' own routers, without atheris.

For each framework, `--spellings` request targets are turned into scopes as each server does it. A
spelling for which the framework alone runs a guarded handler, and which the gate lets through
without credentials, is a leak. The counts that are printed are of what was really run.

The same for apps in mounts in mounts, of four frameworks up to three levels: for each such tree,
one path for each 500 spellings.
"""

import argparse
import asyncio
import random
import sys
import warnings
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
SPELLINGS: Final = 200_000
#: How many leaks are shown for each framework.
_SHOWN: Final = 10


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m fuzz routers", description=__doc__)
    asked.add_argument("--spellings", type=int, default=SPELLINGS, help="for each framework")
    asked.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    said = asked.parse_args()
    sys.path.append(f"{ROOT / 'tests'}")
    warnings.simplefilter("ignore")
    is_whole = asyncio.run(compare_all(said.spellings, said.seed))
    if not asyncio.run(compare_trees(said.spellings // 500, said.seed)) or not is_whole:
        sys.exit(f"a framework runs what the gate lets through; --seed {said.seed} repeats it")


async def compare_all(most: int, seed: int) -> bool:
    """Compare all frameworks, print what was run, and tell whether nothing leaked."""
    from support.differential import compare, guards
    from support.routers import FRAMEWORKS, MOUNTS, open_router
    from support.spellings import spellings

    async with AsyncExitStack() as opened:
        routers = {
            name: await opened.enter_async_context(open_router(name))
            for name in (*FRAMEWORKS, *MOUNTS)
        }
        counts: Mapping = await compare(routers, guards(), spellings(seed), most)
    for name, count in counts.items():
        print(
            f"{name:22} {count.spellings:>9,} spellings, {count.scopes:>9,} scopes, "
            f"{count.reached:>8,} reached a handler beneath /api, {len(count.leaks)} leaks"
        )
        for leak in sorted(count.leaks, key=lambda leak: len(leak.target))[:_SHOWN]:
            print(f"    {leak}")
    print(f"seed {seed}", flush=True)
    return all(count.reached and not count.leaks for count in counts.values())


async def compare_trees(most: int, seed: int) -> bool:
    """Compare apps in mounts with the gate, print what was run, and tell whether nothing leaked."""
    from support.routers import silence
    from support.trees import (
        NAMES,
        guards_of,
        leaks_in,
        leaks_where_names_overlap,
        nestings,
        open_tree,
        paths_in,
    )

    with silence():
        trees, asked, ran, leaks = await leaks_where_names_overlap()
        for levels in range(1, len(NAMES) + 1):
            base = "".join(NAMES[:levels])
            guards, dice = guards_of(base), random.Random(seed)
            for nesting in nestings(levels):
                async with open_tree(nesting) as tree:
                    if tree is not None:
                        paths = paths_in(base, dice.randrange(2**32), most)
                        passed, found = await leaks_in(tree, guards, paths)
                        trees, asked, ran = trees + 1, asked + len(paths), ran + passed
                        leaks += found
    print(
        f"{trees} trees of mounts, {asked:,} paths, {ran:,} of them let through: {len(leaks)} leaks"
    )
    for leak in sorted(leaks, key=len)[:_SHOWN]:
        print(f"    {leak}")
    return bool(trees and ran and not leaks)


if __name__ == "__main__":
    main()
