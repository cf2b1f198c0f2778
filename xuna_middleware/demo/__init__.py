"""The whole gate on one page: sandbox provider, sandbox platform, and a small app behind the gate.

`python -m xuna_middleware.demo` opens the page; `--check` walks the same way without a browser.
"""
