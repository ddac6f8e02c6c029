# One front door: every verb that people and CI use.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CACHE := $(or $(EXPRESSLANE_CACHE_DIR),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/expresslane)
TOOLS ?= $(CACHE)/tools
SOURCES := $(shell find service scheduler_rs clients/python proto -type f -not -name '*.so' -not -path '*/__pycache__/*' -not -path '*/target/*') \
	Cargo.toml Cargo.lock pyproject.toml constraints.txt
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run serve test test-rust soak fuzz test-python test-contract test-real lint types stubs proto proto-check format audit bench bench-core harm check-figures chaos chaos-session overload soak-service figures wheel clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.service ## Build, start on the simulated backend, send a sample batch, show it, stop
	@$(BIN)/expresslane demo

serve: $(VENV)/.service ## Build and stay up (configured by EXPRESSLANE_* variables)
	@$(BIN)/expresslane serve

test: test-rust test-python ## Everything that needs no real engine

test-rust: ## The scheduling core: unit and property tests
	cargo test --quiet --locked

soak: ## Random traces against the naive model, minutes long (SEED=1 EVENTS=10000000, or one alone: TRACE=7)
	cargo test --release --locked -p expresslane-scheduler --test proofs -- soak --ignored --nocapture --test-threads 1
	PROPTEST_CASES=200000 cargo test --release --locked -p expresslane-scheduler --test fuzz_events

test-python: $(VENV)/.dev ## Unit, integration and end to end, against the installed package
	$(BIN)/python -m pytest

fuzz: $(VENV)/.fuzz ## Coverage-guided fuzzing of parsers and core (FUZZ_SECONDS=60, shared by all targets)
	$(BIN)/python -m tests.fuzz --seconds $(or $(FUZZ_SECONDS),60)
	$(BIN)/python -m tests.fuzz.rpcs --seconds $(or $(FUZZ_SECONDS),60) $(if $(SEED),--seed $(SEED))

test-contract: $(VENV)/.dev ## Stubs of an independent gRPC stack (Node.js) against a running service
	cd tests/contract/node && npm ci --silent --ignore-scripts
	$(BIN)/python -m pytest tests/contract

test-real: $(VENV)/.dev ## A real llama-server and a real trace backend (built once into a cache folder)
	$(BIN)/python tests/real/engines.py build
	$(BIN)/python -m pytest tests/real

lint: $(VENV)/.dev ## ruff, rustfmt, clippy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	cargo fmt --check
	cargo fmt --check --manifest-path scheduler_rs/fuzz/Cargo.toml
	cargo clippy --quiet --locked --workspace --all-targets -- -D warnings

types: $(VENV)/.dev ## mypy strict, pyright on the client's public API
	$(BIN)/python -m mypy
	$(BIN)/pyright --pythonpath $(BIN)/python -p clients/python

stubs: $(VENV)/.dev ## The extension against its hand-written stub
	cd $(VENV) && bin/python -m mypy.stubtest expresslane._scheduler

proto: $(VENV)/.dev ## Generate code from proto/
	$(BIN)/python scripts/gen_protos.py

proto-check: $(VENV)/.dev ## Fail if the generated code is not what proto/ gives
	$(BIN)/python scripts/gen_protos.py --check

format: $(VENV)/.dev ## Format Python and Rust
	$(BIN)/ruff check --fix --quiet || true
	$(BIN)/ruff format
	cargo fmt
	cargo fmt --manifest-path scheduler_rs/fuzz/Cargo.toml

audit: $(VENV)/.audit ## Licences, sources and known vulnerabilities of the dependencies, as far as they can be checked here
	PATH=$(TOOLS)/bin:$$PATH $(BIN)/python scripts/audit.py

bench: $(VENV)/.dev ## Measure the service and the core; one JSON object last
	$(BIN)/python -m tests.bench

chaos: $(VENV)/.dev ## 100,000 prompts through faulty backends; one JSON object last (PROMPTS=100000 SEED=1)
	$(BIN)/python -m tests.chaos --prompts $(or $(PROMPTS),100000) --seed $(or $(SEED),1)

overload: $(VENV)/.dev ## Once and three times what the service can do, open loop; one JSON object last
	$(BIN)/python -m tests.chaos overload --seed $(or $(SEED),1)

chaos-session: $(VENV)/.dev ## Memory under 100,000 prompts through one session; one JSON object last (PROMPTS=100000)
	$(BIN)/python -m tests.chaos session --prompts $(or $(PROMPTS),100000)

soak-service: $(VENV)/.dev ## Memory at 80 % of capacity with faults; one JSON object last (MINUTES=30)
	$(BIN)/python -m tests.chaos soak --minutes $(or $(MINUTES),30) --seed $(or $(SEED),1)

bench-core: ## Measure the core alone: single calls (criterion), then a prompt's whole way by queue and tenants
	cargo bench --quiet --locked -p expresslane-scheduler
	cargo run --quiet --release --locked -p expresslane-sim -- core-bench

# Recorded workloads are not part of the project: TRACES names the folder that holds them.
harm: ## Defaults against pass-through: fails where they do harm; with TRACES=FOLDER on recorded workloads too
	cargo run --quiet --release --locked -p expresslane-sim -- harm $(if $(TRACES),$(sort $(wildcard $(TRACES)/*.csv)))

check-figures: ## The figures of docs/scheduling.md against the simulator; with TRACES=FOLDER those of recorded workloads too
	$(PYTHON) scripts/check_figures.py $(if $(TRACES),--traces $(TRACES))

figures: ## Simulate and draw docs/figures; with TRACES=FOLDER those of recorded workloads too
	cargo run --quiet --release --locked -p expresslane-sim -- report --out docs/figures/synthetic --tenants \
		--title 'Made-up workloads' synthetic:chat synthetic:mixed synthetic:wide
	$(if $(TRACES),cargo run --quiet --release --locked -p expresslane-sim -- report --out docs/figures/recorded \
		--title 'Recorded workloads' $(sort $(wildcard $(TRACES)/*.csv)))

wheel: $(VENV)/.dev ## Build both distributions into dist/
	$(BIN)/maturin build --quiet --release --locked --out dist
	$(PIP) wheel --no-deps --wheel-dir dist ./clients/python

clean: ## Remove everything that was built here
	rm -rf $(VENV) target dist build .bench

$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "expresslane needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@command -v cargo >/dev/null || { echo "expresslane needs a Rust toolchain (cargo) to build its scheduler"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip
	@touch $@

$(VENV)/.service: $(VENV)/.python $(SOURCES)
	@echo "building expresslane into $(VENV) (a minute or two the first time)"
	$(PIP) install --constraint constraints.txt --upgrade ./clients/python .
	@touch $@

$(VENV)/.dev: $(VENV)/.service
	$(PIP) install --constraint constraints.txt $$($(BIN)/python scripts/dev_requirements.py)
	@touch $@

$(VENV)/.fuzz: $(VENV)/.dev
	$(PIP) install --constraint constraints.txt $$($(BIN)/python scripts/dev_requirements.py fuzz)
	@command -v cargo-fuzz >/dev/null || cargo install --quiet --locked --version 0.13.2 --root $(VENV) cargo-fuzz
	@touch $@

$(VENV)/.audit: $(VENV)/.dev
	$(PIP) install --constraint constraints.txt $$($(BIN)/python scripts/dev_requirements.py audit)
	@command -v cargo-deny $(TOOLS)/bin/cargo-deny >/dev/null || { echo "building cargo-deny into $(TOOLS) (minutes, once)"; \
		cargo install --quiet --locked --version 0.20.2 --root $(TOOLS) cargo-deny; }
	@touch $@
