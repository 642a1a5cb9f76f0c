# `make` says what there is. Everything a target needs, it installs: a virtual environment in .venv, and for
# `demo` and `test` real engines (dev/README.md).

PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest --numprocesses=auto --dist=loadgroup

.PHONY: help demo test check bench fuzz soak fmt docs lint types unit lab lab-down lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/ready: requirements.lock pyproject.toml
	@echo "installing the development environment into .venv (about a minute the first time)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --require-hashes --requirement requirements.lock
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: .venv/ready  ## the whole story on real engines, set-up included
	@$(BIN)/python -m dev.demo

test: .venv/ready lint types  ## everything: lint, types, unit tests, and tests on real engines
	@$(PYTEST)

check: .venv/ready lint types unit  ## lint, types and unit tests: needs no Docker, under a minute

lint: .venv/ready
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: .venv/ready
	@$(BIN)/mypy

unit: .venv/ready
	@$(PYTEST) -m "not engine"

bench: .venv/ready  ## the proxy beside a Go one, on real engines, and the page's frames: four minutes
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks.page

FUZZ_EXAMPLES ?= 12000
fuzz: .venv/ready  ## hostile requests, about ten minutes of them
	@AUTOREGISTRY_FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest tests/proxy/http/test_hostile.py -q

AUTOREGISTRY_SOAK_MOMENTS ?= 100
AUTOREGISTRY_RESTARTS ?= 10
soak: .venv/ready  ## everybody killed at random moments, Docker restarted ten times, on real engines: ten minutes
	@AUTOREGISTRY_SOAK_MOMENTS=$(AUTOREGISTRY_SOAK_MOMENTS) AUTOREGISTRY_RESTARTS=$(AUTOREGISTRY_RESTARTS) \
		$(BIN)/python -m pytest tests/integration/proxy/test_faults.py tests/integration/cluster/test_cluster_routes.py \
		-k "killed_at or restarts_of_docker" -q -s

fmt: .venv/ready  ## format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: .venv/ready  ## docs/cli.md anew, from the commands
	@$(BIN)/python -m dev.docs

lab: .venv/ready  ## bring the real engines up by hand
	@$(BIN)/python -m dev.lab up

lab-down: .venv/ready  ## and down again
	@$(BIN)/python -m dev.lab down

lock: .venv/ready  ## resolve the development environment anew
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --group dev pyproject.toml --output-file requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --constraint requirements.lock pyproject.toml --output-file templates/requirements.txt

clean:  ## remove what make made here (not the lab: make lab-down)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache dist
