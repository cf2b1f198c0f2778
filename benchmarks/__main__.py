"""Run all benchmarks and print their tables: `python -m benchmarks`."""

import asyncio
import logging
import sys
import time

from benchmarks import report
from benchmarks.harness import Contender, Rounds, measure, status
from benchmarks.identity import longest_wait, strangers_and_proofs
from benchmarks.imports import imports
from benchmarks.memory import growth
from benchmarks.ours import ours
from benchmarks.peers import peers
from benchmarks.readers import readings
from benchmarks.relay import ROUNDS as RELAY_ROUNDS
from benchmarks.relay import carried
from benchmarks.reservations import in_memory, in_redis
from benchmarks.tokens import Mint, tampered

ROUNDS = 60
FRESH = 100
BEFORE = 4500
IMPORT_ROUNDS = 15
CALLERS = 1000


def main() -> None:
    started = time.monotonic()
    logging.getLogger("xuna_middleware").addHandler(logging.NullHandler())
    print(report.machine(), end="\n\n")
    _tell(f"imports: {IMPORT_ROUNDS} rounds …")
    print(report.importing(imports(rounds=IMPORT_ROUNDS)), end="\n\n")
    _tell("memory: 100,000 bad tokens …")
    print(report.memory(growth()), end="\n\n")
    _tell(f"CPU: {ROUNDS} rounds …")
    contenders, rounds = asyncio.run(side_by_side(Mint()))
    print(report.cpu(contenders, rounds), end="\n\n")
    _tell("readers: the worst input of each …")
    print(report.reading(*readings()), end="\n\n")
    _tell("reservations in Redis …")
    print(report.in_redis(asyncio.run(in_redis())), end="\n\n")
    _tell(f"a provider that hangs: {CALLERS:,} callers …")
    print(report.waiting(*asyncio.run(longest_wait(Mint(), callers=CALLERS)), CALLERS), end="\n\n")
    _tell(f"a relayed conversation: {RELAY_ROUNDS} rounds, then a thousand …")
    print(report.relayed(carried()), end="\n\n")
    few = f"{IMPORT_ROUNDS} for imports, {RELAY_ROUNDS} for the relay"
    print(f"Medians of {ROUNDS} rounds ({few}), all contenders in each;")
    print("“adds” is the row less the no-op wrapper's, or less the row it names, round by round.")
    print(f"The whole run took {time.monotonic() - started:.0f} s.")


async def side_by_side(mint: Mint) -> tuple[list[Contender], Rounds]:
    """Show that each contender decides, then measure all of them."""
    contenders = [*peers(mint), *ours(mint), *strangers_and_proofs(mint), *in_memory()]
    for contender in contenders:
        await _decides(contender, mint.token(-1))
    counter = iter(range(1, sys.maxsize))

    def fresh(count: int) -> list[str]:
        return [mint.token(next(counter)) for _ in range(count)]

    return contenders, await measure(contenders, fresh, rounds=ROUNDS, fresh=FRESH, before=BEFORE)


async def _decides(contender: Contender, token: str) -> None:
    """Fail unless a good token is let through and a forged one is not: cheap is not enough."""
    if contender.app is None:
        return
    good = await status(contender.app, "/api/me", token)
    forged = await status(contender.app, "/api/me", tampered(token))
    if good != 200 or forged not in (400, 401):
        raise SystemExit(f"{contender.name}: {good} to a good token, {forged} to a forged one")


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
