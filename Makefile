# `make` lists the targets. Each target installs what it needs: a virtual environment in .venv, and for
# `demo`, `test` and `shots` real engines (dev/README.md).

PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest --numprocesses=auto --dist=loadgroup

.PHONY: help demo test check bench fuzz soak fmt docs shots lint types unit lab lab-down lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/ready: requirements.lock pyproject.toml
	@echo "installing the development environment into .venv (about a minute the first time)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --require-hashes --requirement requirements.lock
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: .venv/ready  ## build, deploy and rebuild an image on real engines (about ten minutes the first time)
	@$(BIN)/python -m dev.demo

test: .venv/ready lint types  ## all checks: lint, types, unit tests, and tests on real engines
	@$(PYTEST)

check: .venv/ready lint types unit  ## lint, types and unit tests, without Docker

lint: .venv/ready
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: .venv/ready
	@$(BIN)/mypy

unit: .venv/ready
	@$(PYTEST) -m "not engine"

bench: .venv/ready  ## compare the proxy with a Go proxy, and measure the page's frames (four minutes)
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks.page

FUZZ_EXAMPLES ?= 12000
fuzz: .venv/ready  ## send hostile requests (ten minutes)
	@AUTOREGISTRY_FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest tests/proxy/http/test_hostile.py -q

AUTOREGISTRY_SOAK_MOMENTS ?= 200
AUTOREGISTRY_RESTARTS ?= 10
soak: .venv/ready  ## cause faults at random moments, and restart Docker ten times (45 minutes)
	@AUTOREGISTRY_SOAK_MOMENTS=$(AUTOREGISTRY_SOAK_MOMENTS) AUTOREGISTRY_RESTARTS=$(AUTOREGISTRY_RESTARTS) \
		$(BIN)/python -m pytest tests/integration/proxy/test_faults.py tests/integration/cluster/test_cluster_routes.py \
		-k "fault_at or restarts_of_docker" -q -s

fmt: .venv/ready  ## format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: .venv/ready  ## generate docs/cli.md from the commands
	@$(BIN)/python -m dev.docs

shots: .venv/ready  ## take the picture of the README, docs/images/page.png, on real engines (a minute)
	@$(BIN)/python -m dev.shots

lab: .venv/ready  ## start the real engines
	@$(BIN)/python -m dev.lab up

lab-down: .venv/ready  ## stop the real engines
	@$(BIN)/python -m dev.lab down

lock: .venv/ready  ## update requirements.lock and templates/requirements.txt
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --group dev pyproject.toml --output-file requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --constraint requirements.lock pyproject.toml --output-file templates/requirements.txt

clean:  ## remove the virtual environment and caches (not the lab: make lab-down)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache dist
