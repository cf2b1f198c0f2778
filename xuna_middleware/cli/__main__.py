"""`python -m xuna_middleware.cli`."""

from xuna_middleware.cli import main

main()
