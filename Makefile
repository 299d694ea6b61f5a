# Two commands set a fresh machine up: `make demo` and `make test`. Needs Python 3.11+, Node 20+.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
FORGE   = FOUNDRY_DISABLE_NIGHTLY_WARNING=1 node_modules/.bin/forge
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup check test test-py test-sol demo up down bench bench-smoke bench-ee bench-attacks vectors lock clean help
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# --- set-up: each stamp is redone only when what it depends on changed ---------------------------------------
setup: $(VENV)/.installed node_modules/.installed contracts/out/.built ## install everything, build the contracts

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --retries 10 -c constraints.txt 'setuptools>=77' wheel
	$(BIN)/python -m pip install -q --retries 10 -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.installed
	@$(BIN)/python -m pip install -q --retries 10 -c constraints.txt --no-build-isolation -e '.[bench]' && touch $@ \
		|| echo 'the extra rexis[bench] did not install here: bench.ckks will be skipped'

node_modules/.installed: package.json package-lock.json
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

contracts/out/.built: node_modules/.installed foundry.toml $(wildcard contracts/src/*.sol contracts/src/**/*.sol)
	$(FORGE) build --quiet
	@touch $@

# --- the two commands ------------------------------------------------------------------------------------------
MODEL ?= breast_cancer
demo: setup ## the main job end to end with real processes (MODEL=vit: another zoo model); certificates in demo-out/
	$(BIN)/rexis demo --out demo-out --model $(MODEL)

test: setup test-sol test-py ## all tests: forge, then pytest (unit, integration, end to end)

test-sol: setup
	FORGE_SNAPSHOT_CHECK=true $(FORGE) test

test-py: setup
	$(BIN)/python -m pytest

# --- the rest ----------------------------------------------------------------------------------------------------
check: setup ## ruff, mypy strict, import-linter, forge fmt, vectors and generated files up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(FORGE) fmt --check
	$(BIN)/python tests/vectors/protocol/generate.py --check
	$(BIN)/python -m contracts.export --check

up: setup ## the demo's stack, left running: chain, contracts, coordinator, two workers, a registered model
	$(BIN)/rexis up --out stack-out

down: setup ## stop what `make up` started
	$(BIN)/rexis down --out stack-out

bench: setup $(VENV)/.bench ## what proofs cost, as one page (bench/out/costs), then every other measurement
	$(BIN)/rexis bench --out bench/out/costs
	$(BIN)/python -m bench

bench-smoke: setup ## the same in small, in a minute or two: fails on wrong results only
	$(BIN)/rexis bench --smoke --out bench/out/smoke

bench-ee: setup $(VENV)/.bench ## EE: inference and training beside the plain model, beside CKKS, the compiler on a large one
	$(BIN)/python -m bench.ee_inference
	$(BIN)/python -m bench.ee_training
	$(BIN)/python -m bench.ee_compile
	$(BIN)/python -m bench.ckks

bench-attacks: setup ## every attack on every zoo model; report in bench/out/attacks
	$(BIN)/python -m bench.attacks

vectors: setup ## write the shared protocol vectors and the forged certificates again
	$(BIN)/python tests/vectors/protocol/generate.py
	$(BIN)/python tests/vectors/certificates/generate.py

lock: ## pin the versions that are installed now (run `make bench-ee` first, for its extra)
	$(BIN)/python -m pip freeze --exclude-editable | sed -E 's/\+cpu$$//' | grep -viE '^(rexis|setuptools|wheel|pip)[ =@]' > constraints.txt

clean: ## remove everything that was built or installed
	rm -rf $(VENV) node_modules contracts/out contracts/cache demo-out* stack-out bench-out bench/out *.egg-info
