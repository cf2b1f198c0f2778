# Each target sets up its own environment from nothing: Python 3.11 or newer and make are enough.
#   make demo [ARGS=--check]    make test [ARGS="-k keys"]    make proof    make check
#   make test PYTHON=python3.13    make test-each    make test-lowest
#   make bench    make measure    make clean
#   make fuzz [SECONDS=60] [ARGS="header path"]    make fuzz-routers [ARGS="--spellings 1000"]

# The environment is .venv, and .venv-3.13 for a PYTHON of version 3.13 that you name: each has its
# own, so that none is thrown away for another.
PYTHON ?= python3
VERSION_OF = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV := .venv$(if $(filter file,$(origin PYTHON)),,-$(call VERSION_OF,$(PYTHON)))
IN := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: demo test test-each test-lowest proof check bench measure fuzz fuzz-routers clean
.DEFAULT_GOAL := demo
.NOTPARALLEL:

demo: $(READY)-demo
	@$(IN) -m xuna_middleware.demo $(ARGS)

# Two halves of the tests: what each change needs, and what shows that these tests can fail.
JOBS ?= auto
PYTEST := $(IN) -m pytest --numprocesses $(JOBS) --dist worksteal
test: $(READY)-dev
	@$(PYTEST) -m "not proof" $(ARGS)

# The same with each interpreter that this machine has.
EACH := 3.11 3.12 3.13 3.14
test-each:
	@status=0; for version in $(EACH); do \
	  if python$$version --version >/dev/null 2>&1; then \
	    echo "Python $$version"; $(MAKE) --no-print-directory test PYTHON=python$$version || status=1; \
	  else echo "Python $$version: not here"; fi; \
	done; exit $$status

# The same with the lowest versions that pyproject.toml allows, in an environment of its own. Old
# versions use what their own dependencies deprecated since; that is no fault of this package.
LOWEST := $(VENV)-lowest
test-lowest: $(LOWEST)/.ready
	@$(LOWEST)/bin/python -m pytest --numprocesses $(JOBS) --dist worksteal -m "not proof" \
	  --pythonwarnings ignore::DeprecationWarning $(ARGS)

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
	rm -rf .venv .venv-* build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage htmlcov

# One environment, one stamp for each group: installed again only when pyproject.toml changes. The
# demo is for users, so it is an extra, and needs no more than the pip that comes with Python.
$(READY)-demo: pyproject.toml | $(IN)
	@echo "Installing xuna-middleware[demo] into $(VENV) (once; this can take a minute) …"
	@$(IN) -m pip install -qq --disable-pip-version-check --editable '.[demo]'
	@touch $@

# All extras and a dependency group, which pip can read since 25.1.
EXTRAS := cli,demo,fast,redis,relay,sandbox,visitors,webrtc
$(READY)-%: pyproject.toml | $(IN)
	@echo "Installing what $* needs into $(VENV) (once; this can take some minutes) …"
	@$(IN) -m pip install -qq --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(IN) -m pip install -qq --disable-pip-version-check --editable '.[$(EXTRAS)]' --group $*
	@touch $@

# pip resolves to the highest versions only; uv can do the opposite.
$(LOWEST)/.ready: pyproject.toml | $(LOWEST)/bin/python
	@echo "Installing the lowest versions into $(LOWEST) (once; this can take some minutes) …"
	@$(LOWEST)/bin/python -m pip install -qq --disable-pip-version-check 'uv>=0.7'
	@$(LOWEST)/bin/uv pip compile --quiet --python $(LOWEST)/bin/python --resolution lowest-direct \
	  pyproject.toml --all-extras --group test --group bench --output-file $(LOWEST)/lowest.txt
	@$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python -r $(LOWEST)/lowest.txt
	@$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --no-deps --editable .
	@touch $@

$(IN) $(LOWEST)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) says: $$($(PYTHON) --version 2>&1)" >&2; \
	  echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(@D:/bin=) || { rm -rf $(@D:/bin=); \
	  echo "Python's venv module is incomplete here. On Debian: apt install python3-venv" >&2; exit 1; }

.PRECIOUS: $(READY)-%
