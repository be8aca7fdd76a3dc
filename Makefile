# What a person runs: `make demo` and `make test`. Each installs what it needs first, once.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint bench

BIN := .venv/bin
STAMP := .venv/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# pip's hundred lines, shortened to those that show that something is happening; its errors go to stderr untouched.
PROGRESS := sed -un -e 's/^ *Downloading \([^ ]*\) (\([0-9.]* [MG]B\)).*/  downloading \1, \2/p' \
	-e 's/^Collecting \([^ ]*\).*/  \1/p' -e 's/^ *Building wheel for \([^ ]*\).*started$$/  compiling \1/p' \
	-e 's/^Installing collected packages.*/  installing all of them/p'

help:
	@echo "make demo    the whole job on a small synthetic world, from files to an answer over HTTP"
	@echo "make test    lint, types, architecture and tests"
	@echo "make lint    the first three of these"
	@echo "make bench   how fast an artifact is served: ARTIFACT=artifact CHALLENGE=challenge.json DATASET=dataset"
	@echo "make setup   only install, into .venv"

setup: $(STAMP)

# Candidates are run, not only looked up: pyenv puts shims on the PATH that point nowhere.
$(BIN)/python:
	@usable='import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'; \
	for python in python3.12 python3.11 python3; do \
		if "$$python" -c "$$usable" 2>/dev/null; then \
			echo "Making .venv with $$(command -v "$$python"), $$("$$python" --version)"; \
			"$$python" -m venv .venv; \
			exit 0; \
		fi; \
	done; \
	echo "make: expected python3.12 or python3.11 with its venv module on the PATH," \
		"found $$(python3 --version 2>/dev/null || echo 'no python3'). Install one of them (Debian: apt install python3.11-venv) and run make again." >&2; \
	exit 1

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing from constraints.txt; the first time this takes some minutes"
	@$(BIN)/python -m pip install --progress-bar off -c constraints.txt -e '.[test]' | $(PROGRESS)
	@touch $@

demo: setup
	@$(BIN)/segue demo

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest

bench: setup
	@test -n "$(ARTIFACT)" -a -n "$(CHALLENGE)" || { echo "make bench: expected ARTIFACT=… CHALLENGE=… and perhaps DATASET=…, found none" >&2; exit 2; }
	$(if $(DATASET),$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]')
	$(BIN)/python -m benchmarks.serving "$(ARTIFACT)" --challenge "$(CHALLENGE)" $(if $(DATASET),--dataset "$(DATASET)") $(BENCH) --out benchmarks/results/serving.json
	$(BIN)/python benchmarks/tables.py
