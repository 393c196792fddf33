# Each target sets up what it needs in .venv; PYTHON chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint base arm64 cortex-m clean

## The whole path on the shipped example: compress, eval, export, bench, one table.
demo: .venv/demo-installed
	$(BIN)/python examples/digits/demo.py demo-out

## The tests.
test: .venv/dev-installed
	$(BIN)/python -m pytest --numprocesses auto $(PYTEST_OPTIONS)

## Linter, formatter, types of the public API, imports between rooms.
lint: .venv/dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

## The base install in a fresh environment: size, import times, every command of a board.
base: .venv/dev-installed
	$(BIN)/python tools/base_install.py

## The same on an emulated ARM board, and outputs against this machine's; skipped without qemu.
arm64: .venv/dev-installed
	$(BIN)/python tools/arm64/run.py --skip-unable

## C on emulated microcontrollers: outputs, instructions, flash, RAM, stack; skipped without qemu.
cortex-m: .venv/dev-installed
	$(BIN)/python tools/cortex_m/run.py --skip-unable

clean:
	rm -rf .venv .arm64 demo-out build *.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo-installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[toolchain,examples]"
	touch $@

.venv/dev-installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@
