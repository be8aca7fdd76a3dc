# What a person runs: `make demo` and `make test`. Each installs what it needs first, once.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test quick lint bench fresh sbom

BIN := .venv/bin
STAMP := .venv/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# pip's hundred lines, shortened to those that show that something is happening; its errors go to stderr untouched.
PROGRESS := sed -un -e 's/^ *Downloading \([^ ]*\) (\([0-9.]* [MG]B\)).*/  downloading \1, \2/p' \
	-e 's/^Collecting \([^ ]*\).*/  \1/p' -e 's/^ *Building wheel for \([^ ]*\).*started$$/  compiling \1/p' \
	-e 's/^Installing collected packages.*/  installing all of them/p'

# The installation of torch on Linux.
GPU := torch from PyPI brings GPU libraries on Linux, 5 to 6 GB installed. To use a CPU build instead, stop now: see Installing in README.md

help:
	@echo "make demo    the whole job on a small synthetic world, from files to an answer over HTTP"
	@echo "make test    lint, types, architecture and tests"
	@echo "make quick   the tests that need no Ray cluster and no long time"
	@echo "make lint    lint, types and architecture"
	@echo "make bench   how fast an artifact is served: ARTIFACT=artifact CHALLENGE=challenge.json DATASET=dataset"
	@echo "make setup   only install, into .venv"
	@echo "make sbom    sbom.json: what is installed, with versions and licences (CycloneDX)"
	@echo "make fresh   as root: demo and test on a new Debian 13 and Debian testing: DIST=trixie FRESH=demo"

setup: $(STAMP)

$(BIN)/python:
	@python=$$(scripts/find-python); \
	echo "Making .venv with $$python, $$("$$python" --version)"; \
	"$$python" -m venv .venv

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@$(BIN)/python -c 'import torch' 2>/dev/null || echo "$(GPU)"
	@echo "Installing from constraints.txt; the first time this takes some minutes"
	@$(BIN)/python -m pip install --progress-bar off -c constraints.txt -e '.[train,test]' | $(PROGRESS)
	@touch $@

demo: setup
	@$(BIN)/segue demo

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest --durations=15

# Two processes, for the machine has at least two cores; each compiles what it needs the first time.
quick: setup
	$(BIN)/pytest -n 2 -m "not cluster and not slow"

fresh:
	@scripts/fresh

sbom: setup
	$(BIN)/python docs/licences.py --sbom sbom.json

bench: setup
	@test -n "$(ARTIFACT)" -a -n "$(CHALLENGE)" || { echo "make bench: expected ARTIFACT=… CHALLENGE=… and perhaps DATASET=…, found none" >&2; exit 2; }
	$(if $(DATASET),$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]')
	$(BIN)/python -m benchmarks.serving "$(ARTIFACT)" --challenge "$(CHALLENGE)" $(if $(DATASET),--dataset "$(DATASET)") $(BENCH) --out benchmarks/results/serving.json
	$(BIN)/python benchmarks/tables.py
