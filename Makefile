# Two commands for a new user: make demo, make test. Both make .venv on first use.
PYTHON ?= python3
BIN := .venv/bin
DIST := dist
# What an editor reads for the first line of each example grid; written, never in git.
SCHEMAS := experiments/grid.schema.json experiments/stream.schema.json
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: demo test test-all check verified schemas wheel clean

demo: .venv/installed $(SCHEMAS)
	$(BIN)/testbed run experiments/quickstart.yaml

test: .venv/installed-dev $(SCHEMAS)
	$(BIN)/python -m pytest -q -m "not slow and not ray" -n 2 --dist loadfile
	$(BIN)/python -m pytest -q -m "ray and not slow" -n 0

test-all: .venv/installed-dev
	$(BIN)/python -m pytest -q -m slow -n 0

verified: .venv/installed-dev
	$(BIN)/python tests/attacks/verified.py

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

schemas: $(SCHEMAS)

experiments/%.schema.json: .venv/installed $(shell find testbed attacks shifts -name '*.py')
	$(BIN)/testbed schema $* --out $@

# In an environment that has installed it, the schemas lie in share/testbed.
wheel: .venv/installed-dev $(SCHEMAS)
	rm -rf build
	$(BIN)/python -m build -q --wheel --no-isolation --outdir $(DIST)

.venv/pip:
	$(PYTHON) -m venv .venv
	touch $@

.venv/installed: .venv/pip pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install -q -c constraints.txt -e '.[dev,s3]'
	touch $@

clean:
	rm -rf .venv build dist runs .testbed *.egg-info $(SCHEMAS)
