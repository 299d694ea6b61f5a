# Two commands set a fresh machine up: `make demo` and `make test`. Needs Python 3.11+, Node 20+.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
FORGE   = FOUNDRY_DISABLE_NIGHTLY_WARNING=1 node_modules/.bin/forge
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup check test test-desk screenshots test-fuzz test-py test-slow test-sol test-faults demo demo-train demo-dispute desk up down bench bench-smoke bench-load bench-queue bench-ee bench-attacks slither transcripts vectors lock clean help
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# --- set-up: each stamp is redone only when what it depends on changed ---------------------------------------
setup: $(VENV)/.installed node_modules/.installed contracts/out/.built verifier/desk/dist/.built ## install everything, build contracts and desk

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --retries 10 -c constraints.txt 'setuptools>=77' wheel
	$(BIN)/python -m pip install -q --retries 10 --no-compile -c constraints.txt --no-build-isolation -e '.[dev]'
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

# The page that is served, and the same page in one file. It holds texts of the threat model and the contracts' events.
DESK = $(shell find verifier/desk -type f -not -path '*/dist/*' -not -path '*/e2e/*' -not -path '*/test/*')
verifier/desk/dist/.built: node_modules/.installed docs/threat-model.md $(wildcard contracts/abi/*.json) $(DESK)
	node_modules/.bin/vite build verifier/desk --config verifier/desk/vite.config.mts --logLevel warn
	@touch $@

# --- the two commands ------------------------------------------------------------------------------------------
MODEL ?= breast_cancer
demo: setup ## the main job end to end with real processes (MODEL=vit: another zoo model); certificates in demo-out/
	$(BIN)/rexis demo --out demo-out --model $(MODEL)

demo-train: setup ## two parties fine-tune models on a stranger's worker, and an auditor takes its steps again; demo-train-out/
	$(BIN)/rexis demo-train --out demo-train-out

test: setup test-sol test-desk test-py ## all tests: forge, vitest, then pytest (unit, integration, end to end)

test-sol: setup
	FORGE_SNAPSHOT_CHECK=true $(FORGE) test

# REXIS_CHROMIUM names another browser than the packaged one, which is for x86-64 only.
test-desk: setup ## the auditor's desk: its verification against Python's verdicts, then the page in a Chromium
	PYTHON=$(CURDIR)/$(BIN)/python node_modules/.bin/vitest run --root verifier/desk --reporter=dot
	@if test -n "$$REXIS_CHROMIUM" -o "$$(uname -m)" = x86_64; then PYTHON=$(CURDIR)/$(BIN)/python $(BROWSER) --grep-invert @docs; \
		else echo 'no browser tests: REXIS_CHROMIUM names no Chromium, and the packaged one is for x86-64'; fi

BROWSER = node_modules/.bin/playwright test --config verifier/desk/e2e/playwright.config.mts
screenshots: setup ## docs/images, by looking at the desk
	PYTHON=$(CURDIR)/$(BIN)/python $(BROWSER) --grep @docs

# Four processes share the files, also on two cores: the first and long ones (tests/e2e, tests/faults, tests/integration)
# mostly wait for blocks, leases and processes of their own. Each computes with one thread: several that wait for each
# other on two cores take a third more processor time.
TESTERS ?= 4
PYTEST = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder
test-py: setup
	$(PYTEST) -m 'not slow'

test-slow: setup ## tests that take long and of which a smaller one is among the others (marker `slow`), and every vector in the browser
	$(PYTEST) -m slow
	PYTHON=$(CURDIR)/$(BIN)/python REXIS_EVERY_VECTOR=1 $(BROWSER) vectors

test-fuzz: setup ## fuzzing for some minutes: the API (schemathesis), parsers and the scheduler (hypothesis), certificates (atheris)
	REXIS_FUZZ_EXAMPLES=200 REXIS_FUZZ_SECONDS=300 $(BIN)/python -m pytest tests/fuzz --timeout=3600

FAULTS ?= 1000
test-faults: setup ## random kills of everything over a stream of jobs (FAULTS=1000, on each database; about an hour)
	REXIS_FAULTS_KILLS=$(FAULTS) REXIS_FAULTS_COORDINATORS=2 REXIS_FAULTS_DATABASES=postgresql,sqlite $(BIN)/python -m pytest -s -n 0 tests/faults

# --- the rest ----------------------------------------------------------------------------------------------------
check: setup ## ruff, mypy strict, import-linter, forge fmt, vectors and generated files up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(FORGE) fmt --check
	node_modules/.bin/tsc -p verifier/desk
	node_modules/.bin/tsc -p verifier/desk/tsconfig.node.json
	$(BIN)/python tests/vectors/protocol/generate.py --check
	$(BIN)/python -m contracts.export --check
	$(BIN)/python -m coordinator.openapi --check
	$(BIN)/python -m verifier.service.openapi --check
	$(BIN)/python -m coordinator.states --check
	$(BIN)/python -m coordinator.rolepage --check

demo-dispute: setup ## a worker that lied about a record loses its stake on chain, an honest one is vindicated; demo-dispute-out/
	$(BIN)/rexis demo-dispute --out demo-dispute-out

EXAMPLES = $(if $(wildcard demo-out/certificates),demo-out/certificates,tests/vectors/certificates)
desk: setup ## the auditor's desk in a browser, over the demo's certificates (without a demo: over the test vectors)
	@test -d demo-out/certificates || echo 'there is no demo-out: `make demo` makes certificates of a job of your own; here are the test vectors'
	$(BIN)/rexis verifier serve --examples $(EXAMPLES) --allow-development-srs --allow-development-chain --open

up: setup ## the demo's stack, left running: chain, contracts, coordinator, two workers, a registered model
	$(BIN)/rexis up --out stack-out

down: setup ## stop what `make up` started
	$(BIN)/rexis down --out stack-out

bench: setup $(VENV)/.bench ## what proofs cost, as one page (bench/out/costs), then every other measurement
	$(BIN)/rexis bench --out bench/out/costs
	$(BIN)/python -m bench

bench-smoke: setup ## the same in small, in a minute or two: fails on wrong results only
	$(BIN)/rexis bench --smoke --out bench/out/smoke

bench-load: setup ## a coordinator under load on PostgreSQL and SQLite, and the bare databases; LOAD="--quick" or "--soak 600"
	$(BIN)/python -m bench.load $(LOAD)

bench-queue: setup ## what granting a lease costs with up to a million tasks queued in up to 10,000 open jobs; QUEUE="--tasks 1000 100000"
	$(BIN)/python -m bench.load.queue $(QUEUE)

bench-ee: setup $(VENV)/.bench ## EE: inference and training beside the plain model, beside CKKS, the compiler on a large one
	$(BIN)/python -m bench.ee_inference
	$(BIN)/python -m bench.ee_training
	$(BIN)/python -m bench.ee_compile
	$(BIN)/python -m bench.ckks

bench-attacks: setup ## every attack on every zoo model; report in bench/out/attacks
	$(BIN)/python -m bench.attacks

# In an environment of its own: its versions of web3's parts are others than ours. The answers are in docs/slither.md.
SLITHER_OUT = contracts/cache/slither
slither: setup ## slither over the contracts (findings of low impact and above), into contracts/snapshots/slither.md
	@test -x $(VENV)/slither/bin/slither || ($(PYTHON) -m venv $(VENV)/slither && $(VENV)/slither/bin/pip install -q slither-analyzer==0.11.6)
	$(FORGE) build --quiet --force --build-info --skip '*/test/**' -o $(SLITHER_OUT) --cache-path $(SLITHER_OUT)/cache --build-info-path $(SLITHER_OUT)/build-info
	PATH=$(CURDIR)/node_modules/.bin:$$PATH $(VENV)/slither/bin/slither . --ignore-compile --foundry-out-directory $(SLITHER_OUT) \
		--filter-paths 'node_modules|vendor|contracts/test' --exclude-informational --exclude-optimization --fail-none --checklist \
		| sed '/^--ignore-compile/d;/^.forge config/d' > contracts/snapshots/slither.md

transcripts: setup ## docs/transcripts.md, by running what it shows
	$(BIN)/python -m bench.transcripts

vectors: setup ## write the shared protocol vectors and the forged certificates again
	$(BIN)/python tests/vectors/protocol/generate.py
	$(BIN)/python tests/vectors/certificates/generate.py

lock: ## pin the versions that are installed now (run `make bench-ee` first, for its extra)
	$(BIN)/python -m pip freeze --exclude-editable | sed -E 's/\+cpu$$//' | grep -viE '^(rexis|setuptools|wheel|pip)[ =@]' > constraints.txt

clean: ## remove everything that was built or installed
	rm -rf $(VENV) node_modules contracts/out contracts/cache verifier/desk/dist demo-out* demo-train-out* demo-dispute-out* stack-out bench-out bench/out *.egg-info
