# Two commands for a new user: make demo, make test. Both make .venv on first use.
PYTHON ?= python3
BIN := .venv/bin
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: demo test test-all check verified clean

demo: .venv/installed
	$(BIN)/testbed run experiments/quickstart.yaml

test: .venv/installed-dev
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
	rm -rf .venv build dist runs .testbed *.egg-info
