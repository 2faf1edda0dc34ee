# The two commands: `make demo` and `make test`. Each sets up a virtual environment of its own in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint torture bench gpu docs setup clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ridgepole needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	# torch by its pinned version first: a range would bring a build with gigabytes of CUDA packages
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch numpy
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/ridgepole run examples/digits/digits.toml
	@echo
	$(BIN)/ridgepole runs show latest --run-dir examples/digits/runs

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n 2

torture: $(READY)
	RIDGEPOLE_TORTURE=1 PYTHONPATH=tests $(BIN)/python -m pytest -n 2 -p fault_table -m 'torture or fault' --timeout 3600

bench: $(READY)
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

gpu:
	tests/gpu/run.sh

docs: $(READY)
	$(BIN)/zensical build --clean

clean:
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .hypothesis
