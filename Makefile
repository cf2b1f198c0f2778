# Each target sets up its own .venv from nothing: Python 3.11 or newer and make are enough.
#   make demo [ARGS=--check]    make test [ARGS="-k keys"]    make proof    make check
#   make bench    make measure    make clean
#   make fuzz [SECONDS=60] [ARGS="header path"]    make fuzz-routers [ARGS="--spellings 1000"]

PYTHON ?= python3
VENV := .venv
IN := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: demo test proof check bench measure fuzz fuzz-routers clean
.DEFAULT_GOAL := demo
.NOTPARALLEL:

demo: $(READY)-demo
	@$(IN) -m xuna_middleware.demo $(ARGS)

# Two halves of the tests: what each change needs, and what shows that these tests can fail.
JOBS ?= auto
PYTEST := $(IN) -m pytest --numprocesses $(JOBS) --dist worksteal
test: $(READY)-dev
	@$(PYTEST) -m "not proof" $(ARGS)

proof: $(READY)-dev
	@$(PYTEST) -m proof $(ARGS)

check: $(READY)-dev
	@$(IN) -m ruff format --check .
	@$(IN) -m ruff check .
	@$(IN) -m mypy

bench: $(READY)-dev
	@$(IN) -m benchmarks $(ARGS)

# How the code is built: sizes, layers, the files that a request goes through.
measure: $(READY)-dev
	@$(IN) -m benchmarks.structure

SECONDS ?= 60
fuzz: $(READY)-fuzz
	@$(IN) -m fuzz $(ARGS) --seconds $(SECONDS)

# A part of `make fuzz` that needs no atheris.
fuzz-routers: $(READY)-dev
	@$(IN) -m fuzz routers $(ARGS)

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage htmlcov

# One environment, one stamp for each extra: installed again only when pyproject.toml changes.
$(READY)-%: pyproject.toml | $(IN)
	@echo "Installing xuna-middleware[$*] into $(VENV) (once; this can take a minute) …"
	@$(IN) -m pip install -qq --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(IN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) says: $$($(PYTHON) --version 2>&1)" >&2; \
	  echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Python's venv module is incomplete here. On Debian: apt install python3-venv" >&2; exit 1; }

.PRECIOUS: $(READY)-%
