"""Run one target under atheris; the rest of the command line is libFuzzer's."""

import logging
import sys

import atheris

with atheris.instrument_imports(include=["xuna_middleware"]):
    from fuzz.targets import TARGETS, bounded


def main() -> None:
    logging.disable()  # refusals by the million
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, lambda data: bounded(target, data))
    atheris.Fuzz()


main()
