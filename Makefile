# Each target sets up what it needs in .venv; PYTHON chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint clean

## The whole path on the shipped example: compress, eval, export, bench, one table.
demo: .venv/demo-installed
	$(BIN)/python examples/digits/demo.py demo-out

## The tests.
test: .venv/dev-installed
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

## Linter, formatter, types of the public API.
lint: .venv/dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv demo-out build *.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo-installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[toolchain,examples]"
	touch $@

.venv/dev-installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@
