# make serve, make test: all that a fresh machine with Python 3.11 needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := constraints.txt
# Compiled at install, where there is a C compiler.
KERNEL := $(wildcard models/kernel/*.c models/kernel/*.h)

# Files of tests at a time, also on two cores: those with processes of their own wait a lot, and
# come first. Files that share what is expensive go together (tests/conftest.py).
PARALLEL := -n 4 --dist loadfile --no-loadscope-reorder

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Nothing is compiled to bytecode before it is imported, and then once.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: serve test coverage check bench lock clean

serve: $(VENV)/serve.installed
	$(if $(HOST),DROPCAST_HOST=$(HOST)) $(if $(PORT),DROPCAST_PORT=$(PORT)) $(BIN)/dropcast serve

# The checks fill the time in which tests wait; what they find stands below.
test: $(VENV)/dev.installed
	@$(MAKE) --no-print-directory check > $(VENV)/check.txt 2>&1 & check=$$!; \
	$(BIN)/python -m pytest $(PARALLEL) $(TESTS); tests=$$?; \
	if wait $$check; then echo "all checks passed"; else cat $(VENV)/check.txt; exit 1; fi; \
	exit $$tests

# What the tests of this process run through; it makes them a third slower.
coverage: check
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term $(TESTS)

check: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Every target of speed with its verdict; other benchmarks by name: python -m benchmarks NAME.
bench: $(VENV)/dev.installed
	$(BIN)/python -m benchmarks table

# Resolves the newest versions that pyproject.toml allows, and writes down all of them.
lock:
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet torch==2.13.0 '.[dev]'
	$(VENV)-lock/bin/pip freeze --all --exclude pip --exclude dropcast --exclude-editable | sed 's/+cpu$$//' > $(LOCK)
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) build *.egg-info models/kernel/*.so .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

INSTALL = $(BIN)/pip install --no-compile --constraint $(LOCK) --editable

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/serve.installed: pyproject.toml $(LOCK) $(KERNEL) | $(BIN)/python
	@echo "installing Dropcast and what it needs (a few minutes the first time) …"
	@$(INSTALL) .
	@touch $@

$(VENV)/dev.installed: pyproject.toml $(LOCK) $(KERNEL) | $(BIN)/python
	@echo "installing Dropcast, what it needs and what its tests need (a few minutes) …"
	@$(INSTALL) '.[dev]'
	@touch $(VENV)/serve.installed $@
