# make demo    sets up .venv and runs the demonstration on real data that ships inside the package
# make test    sets up .venv, lint, types, and the whole suite
# make coverage    the suite once more, with what it does not reach (twice as slow)
# make lint types check format clean     what they say

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test lint types check coverage format clean setup

setup: $(STAMP)

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "kuberml needs Python 3.11 or newer: make PYTHON=python3 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[torch,sklearn,report,s3,privacy,onnx,openvino,dev]'
	$(BIN)/pip install --quiet --no-build-isolation --no-deps --editable examples/my_paradigm
	touch $@

demo: $(STAMP)
	$(BIN)/kuberml demo

test: lint types check

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

check: $(STAMP)
	$(BIN)/python -m pytest

coverage: $(STAMP)
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report --skip-covered --sort=cover | tail -n 40

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
