# The two commands: `make demo` and `make test`. Each sets up the virtual environment .venv first: `make demo` with what
# the demo needs, `make test` with all the rest too. `make PYTHON=/path/to/python demo` makes it with that Python.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.demo
READY := $(VENV)/.ready
PINNED := --constraint constraints.txt
FOR_DEMO := --editable '.[torch,plots,view]' scikit-learn
FOR_TESTS := --editable '.[dev]'

# Tests start many interpreters, and each would compile the sources again.
unexport PYTHONDONTWRITEBYTECODE

# Takes seconds with uv, minutes with pip, which only does it where uv can't (say, it wasn't told of your package index).
define install
@$(BIN)/uv pip install --quiet --python $(BIN)/python $(PINNED) $(1) || \
	{ echo "uv failed, trying pip"; $(BIN)/python -m pip install -qq --no-compile $(PINNED) $(1); }
endef

.PHONY: demo frontend frontend-check dist test check check-tests lint lowest torture bench gpu peers docs setup clean

setup: $(READY)

$(DEMO): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ridgepole needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	@echo "setting up $(VENV) for the demo"
	@$(PYTHON) -m venv $(VENV)
	@# torch by its pinned version and by pip: a range, or uv, may bring a build with gigabytes of CUDA packages
	@$(BIN)/python -m pip install -qq --no-compile --no-deps $(PINNED) uv torch
	$(call install,$(FOR_DEMO))
	@touch $@

$(READY): $(DEMO)
	@echo "adding to $(VENV) what the tests need"
	$(call install,$(FOR_TESTS))
	@# W&B's controller of sweeps judges ours; it asks for numpy 1. Tests that need it are skipped without it
	-@$(BIN)/python -m pip install -qq --no-compile --no-deps $(PINNED) sweeps jsonref
	@touch $@

demo: $(DEMO)
	$(BIN)/ridgepole run examples/digits/digits.toml
	@echo
	$(BIN)/ridgepole runs show latest --runs-dir examples/digits/runs
	@echo
	@echo "see it in the browser: $(BIN)/ridgepole view --runs-dir examples/digits/runs"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

# the page of `ridgepole view`; installing builds it too, and this builds it again where its sources changed
frontend: $(READY)
	-@$(BIN)/python frontend/build_page.py # without it, the tests that open the page are skipped

# types, lint and unit tests of the page's sources; installs their tools below frontend/
frontend-check: frontend
	$(BIN)/python frontend/build_page.py --check

# for those who work on it: lint, types, and the tests that start no process and no server, side by side
check: $(READY)
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint check-tests

check-tests: $(READY)
	$(BIN)/python -m pytest -n 0 -q -m 'not process and not slow and not gpu'

test: lint frontend-check
	$(BIN)/python -m pytest -n 3 --rerun-show-tracebacks # many tests wait for other processes: three keep two cores busy

lowest: $(READY)
	tests/lowest.sh

# the sdist and the wheel, checked, and the wheel tried in a fresh environment
dist: $(READY)
	tests/dist.sh

torture: $(READY)
	RIDGEPOLE_TORTURE=1 PYTHONPATH=tests $(BIN)/python -m pytest -n 2 -p fault_table -m 'torture or fault' --timeout 3600

bench: $(READY)
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

gpu:
	tests/gpu/run.sh

# tests with packages that don't fit the pins: each has an environment of its own, on top of .venv
peers: $(READY)
	tests/peers/run.sh

docs: $(READY)
	$(BIN)/zensical build --clean

clean:
	rm -rf $(VENV) site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
