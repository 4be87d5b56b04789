# `make` alone lists the commands. Each of them sets up .venv by itself when pyproject.toml or constraints.txt changed.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RESOLVE := .cache/resolve

# Processes that run tests; torch computes in one thread of each.
WORKERS ?= 2

# The first of these that is Python 3.11 to 3.14 makes the environment; `make PYTHON=/path/to/python` overrules it.
PYTHONS := $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3 python)
USABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
FIND_PYTHON = python=; for p in $(PYTHONS); do \
	if "$$p" -c '$(USABLE)' >/dev/null 2>&1; then python="$$p"; break; fi; done; \
	if [ -z "$$python" ]; then \
	echo "ALP needs Python 3.11 to 3.14 with its venv module (Debian: apt-get install python3-venv); found none as: $(PYTHONS)." >&2; \
	echo "Name one with: make PYTHON=/path/to/python3.11" >&2; exit 1; fi

# torch stands in a step of its own, before all that depends on it: docs/decisions/0001-pins.md.
TORCH := torch==2.13.0
PIP_OPTIONS := -qq --disable-pip-version-check --no-input
PINNED := -c constraints.txt --build-constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test e2e faults check bench bench-quality bench-calibration bench-scale docs constraints clean

help: ## list these commands
	@echo "ALP: from a plant's zip of recordings to a calibrated alarm"
	@echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(READY) ## onboard a toy customer's package and name the report it wrote
	@$(BIN)/alp demo

test: $(READY) ## run every test, a file in one process (make test ARGS="-k metrics" runs some)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

e2e: $(READY) ## run the whole platform end to end, 12 minutes: two plants on a schedule, from the first package to the purge
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
		[ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
		echo "chromium is not here and cannot be installed: no pictures are taken" >&2
	$(BIN)/python -m pytest -m e2e tests/e2e -s $(ARGS)

faults: $(READY) ## kill workers, servers and disks under runs, and type every command of docs/operations.md, 15 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m faults tests/faults -n $(WORKERS) --dist load --maxschedchunk 1 $(ARGS)

check: $(READY) ## format, lint, types, import rule, dependencies and advisories: what must hold before a change lands
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pip --disable-pip-version-check check
	$(BIN)/python .ci/audit.py

bench: $(READY) ## measure the gate beside a plain librosa loop, what Prefect costs and what a second worker brings, 40 minutes (ARGS="--quick": a few clips)
	$(BIN)/python -m benchmarks.throughput $(ARGS)
	$(BIN)/python -m benchmarks.overhead $(ARGS)
	$(BIN)/python -m benchmarks.scaling $(ARGS)

bench-quality: $(READY) ## measure detection beside peers, 35 minutes (ARGS="--quick" for a few): benchmarks/quality.md
	@$(BIN)/python -m pip install $(PIP_OPTIONS) $(PINNED) --group bench
	$(BIN)/python -m benchmarks.quality $(ARGS)

bench-calibration: $(READY) ## hold observed against claimed false-alarm rates, 15 minutes (ARGS="--quick" for a few): benchmarks/calibration.md
	$(BIN)/python -m benchmarks.calibration $(ARGS)

bench-scale: $(READY) ## measure what looks, deployments and a library cost, 15 minutes (ARGS="--quick" for a few): docs/scale.md
	$(BIN)/python -m benchmarks.scale $(ARGS)

docs: $(READY) ## write docs/quality.md afresh from the rule table
	$(BIN)/python -m tasks.report.rule_page > docs/quality.md

constraints: ## resolve every dependency afresh and rewrite constraints.txt
	@rm -rf $(RESOLVE) && mkdir -p .cache
	@$(FIND_PYTHON); "$$python" -m venv $(RESOLVE)
	$(RESOLVE)/bin/python -m pip install $(PIP_OPTIONS) --upgrade pip
	$(RESOLVE)/bin/python -m pip install $(PIP_OPTIONS) $(TORCH)
	$(RESOLVE)/bin/python -m pip install $(PIP_OPTIONS) . --group dev --group bench
	@grep '^#' constraints.txt > $(RESOLVE)/constraints.txt
	@$(RESOLVE)/bin/python -m pip freeze --all --exclude alp \
		| sed 's/^\(torch==[0-9.]*\)+.*/\1/' >> $(RESOLVE)/constraints.txt
	@mv $(RESOLVE)/constraints.txt constraints.txt && rm -rf $(RESOLVE)

clean: ## remove the environment, caches and build outputs; alp-data stays
	rm -rf $(VENV) .cache build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/pip:
	@$(FIND_PYTHON); echo "Setting up $(VENV) with $$python: a few minutes, once."; "$$python" -m venv --clear $(VENV)

$(READY): pyproject.toml constraints.txt | $(BIN)/pip
	@echo "[1/3] pip"
	@$(BIN)/python -m pip install $(PIP_OPTIONS) -c constraints.txt --upgrade pip
	@echo "[2/3] torch"
	@$(BIN)/python -m pip install $(PIP_OPTIONS) $(PINNED) $(TORCH)
	@echo "[3/3] alp and everything else"
	@$(BIN)/python -m pip install $(PIP_OPTIONS) $(PINNED) --editable . --group dev
	@touch $@
