# make demo    sets up .venv and runs the demonstration on real data that ships inside the package
# make test    sets up .venv, lint, types, and the whole suite
# make coverage    the suite once more, with what it does not reach (twice as slow)
# make flower  the tests that need Flower, in a .venv-flower of its own: its pins and ours differ
# make lint types check format clean     what they say

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test lint types check coverage flower format clean setup

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

# What waits for clocks, sockets and processes has the machine to itself; all else runs on two cores.
TIMED := tests/cli tests/deploy tests/exchange tests/faults tests/protocol tests/scenario/live tests/serving tests/vault tests/worlds
check: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(addprefix --ignore=,$(TIMED))
	$(BIN)/python -m pytest $(TIMED)

coverage: $(STAMP)
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report --skip-covered --sort=cover | tail -n 40

FLOWER := .venv-flower
flower: $(FLOWER)/.installed
	$(FLOWER)/bin/python -m pytest tests/serving/flower

# Whatever certifi an index has is new enough: nothing is fetched here.
$(FLOWER)/.installed: pyproject.toml
	$(PYTHON) -m venv $(FLOWER)
	$(FLOWER)/bin/pip install --quiet --editable . pytest hypothesis
	$(FLOWER)/bin/pip install --quiet --no-deps flwr==1.42.0
	$(FLOWER)/bin/python -c "from importlib.metadata import requires; \
	  print(*(r for r in requires('flwr') if 'extra ==' not in r and r.split('>')[0] not in ('certifi', 'uv')), sep='\n')" > $(FLOWER)/needs.txt
	$(FLOWER)/bin/pip install --quiet certifi -r $(FLOWER)/needs.txt
	touch $@

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(FLOWER) runs build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
