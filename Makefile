# Two commands do everything on a machine with Python >= 3.11 and make:
#   make demo   compares harmonizers on an embedded simulated cohort and ends with the path of a report
#   make test   runs every test
#   make docs   builds the documentation with its gallery
# Both make their own environment in .venv, pinned by constraints.txt, and use it again while it is up to date.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.up-to-date
OUT ?= results/demo

.DEFAULT_GOAL := help
.PHONY: help demo test docs lint format bench clean

help:
	@sed -n 's/^#   //p' Makefile

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "xray_harmonize needs Python 3.11 or newer; this is %d.%d. Name another with make PYTHON=..." % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lint,bench,docs]'
	touch $@

# One thread: on networks this small a second one gains little, and loses much on a machine that is busy.
demo: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/xray-harmonize compare --demo --image-size 64 --max-epochs 16 --seeds 1 --out $(OUT)

# One thread a worker: two processes on two cores finish sooner than two threads in one.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --junitxml=.pytest_cache/results.xml

# Warnings are errors: a broken link or an example that fails does not go unseen.
docs: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -b html docs build/docs

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	for script in benchmarks/*_speed.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) build docs/gallery docs/generated docs/sg_execution_times.rst .pytest_cache .mypy_cache .ruff_cache *.egg-info
