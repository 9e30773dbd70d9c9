# make demo, make test: each makes .venv from constraints.txt if there is none. make docs: docs/_build/html.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= out/demo
RECEIVERS ?= deepjscc,inverse-jscc,commin-fast,one-step

.PHONY: demo test docs lint types check clean

demo: .venv/ready
	$(BIN)/commin transmit examples/astronaut.png --bcr 1/48 --snr -5,0,5 --receiver $(RECEIVERS) -o $(OUT)

test: .venv/ready
	$(BIN)/python -m pytest

docs: .venv/docs-ready
	rm -rf docs/_api docs/_tour
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

check: test lint types

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,lint]"
	touch $@

.venv/docs-ready: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf .venv out dist docs/_api docs/_build docs/_tour
