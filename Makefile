# The verbs of this tree; `make` alone prints them. What an environment needs is locked, with hashes, in requirements/.

VENV := .venv
REALMODEL := .venv-realmodel
AUDIT := .venv-audit
PYTHON ?=
DEMO_ARGS ?= $(if $(ONCE),--once)
SERVE_ARGS ?=
TEST_ARGS ?=
FUZZ_ARGS ?=
API_ARGS ?=
SIMULATE_ARGS ?=
TORTURE_ARGS ?=
SOAK_ARGS ?=
BENCH_ARGS ?=
GROWTH_ARGS ?=

# The environment is good for one lock, in one place: a copied folder has the old place in its scripts.
ENV_KEY = $(shell { pwd; cat requirements/dev.txt; } | cksum)
REALMODEL_KEY = $(shell { pwd; cat requirements/realmodel.txt; } | cksum)
AUDIT_KEY = $(shell { pwd; cat requirements/audit.txt; } | cksum)
SELF_KEY = $(shell cksum < pyproject.toml)
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check --quiet install

.PHONY: help demo serve migrate test test-long test-api test-realmodel check lock fuzz simulate torture soak soak-short growth bench bench-peers \
  audit sbom clean env env-realmodel env-audit
.DEFAULT_GOAL := help

help: ## print these verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: env ## run the tour on embedded engines, then keep serving (ONCE=1: exit after the tour)
	$(VENV)/bin/farebox demo $(DEMO_ARGS)

serve: env ## run the gateway (settings: FAREBOX_… or farebox.toml)
	$(VENV)/bin/farebox serve $(SERVE_ARGS)

migrate: env ## bring the database's schema up to this release
	$(VENV)/bin/farebox migrate up

test: env ## run the tests, except those marked long, torture or realmodel (TEST_ARGS: handed to pytest)
	$(VENV)/bin/python -m pytest -m "not long and not torture and not realmodel" -n logical --maxprocesses 4 --dist worksteal $(TEST_ARGS)

test-long: env ## run those that take whole houses for many seconds each
	$(VENV)/bin/python -m pytest -m long -n logical --maxprocesses 4 --dist worksteal $(TEST_ARGS)

test-api: env ## schemathesis over the admin API's document, in every role (API_ARGS="--seconds 20 --seed 1")
	$(VENV)/bin/python -m tests.admin_api.fuzz $(API_ARGS)

test-realmodel: env env-realmodel ## chat through Farebox with llama.cpp's own server and hold the ledger against its counts
	$(VENV)/bin/python -m pytest -m realmodel -s tests/realmodel $(TEST_ARGS)

fuzz: env ## a million spoilt replies through every reader of streams and usage (FUZZ_ARGS="-n 10000": fewer)
	$(VENV)/bin/python -m tests.fuzz.run $(FUZZ_ARGS)

simulate: env ## ten thousand runs of the money protocol through all faults, in virtual time (SIMULATE_ARGS)
	$(VENV)/bin/farebox simulate --seeds 10000 --faults all $(SIMULATE_ARGS)

torture: env ## real processes killed, frozen, cut off and compared (TORTURE_ARGS="-k killed --torture-seed 7")
	$(VENV)/bin/python -m pytest -m torture -s tests/torture $(TORTURE_ARGS)

soak: env ## two replicas under a steady crowd for two hours, and whether anything grows (SOAK_ARGS)
	$(VENV)/bin/python -m tests.torture.soak $(SOAK_ARGS)

soak-short: env ## the ten-minute form, for every night
	$(VENV)/bin/python -m tests.torture.soak --minutes 10 $(SOAK_ARGS)

bench: env ## measure Farebox on engines of its own (BENCH_ARGS="--only calls,paced")
	$(VENV)/bin/farebox bench $(BENCH_ARGS)

bench-peers: env ## the same with LiteLLM, Portkey and nginx in the same rounds (BENCH_ARGS)
	$(VENV)/bin/python -m bench.peers $(BENCH_ARGS)

growth: env ## every step of the schema down and up on five million charges, under load (GROWTH_ARGS)
	$(VENV)/bin/python -m tests.migrations.under_load $(GROWTH_ARGS)

sbom: env ## write sbom.json, the bill of materials of the runtime's lock (CycloneDX)
	$(VENV)/bin/python requirements/sbom.py > sbom.json

audit: env-audit ## ask the vulnerability service about every locked package
	@for lock in runtime dev; do \
	  $(AUDIT)/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off -r requirements/$$lock.txt || { \
	    echo "make audit: a hole was found, or not every package could be asked about (see above)." >&2; exit 1; }; \
	done

check: env ## lint, formatting and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

lock: ## resolve the dependencies anew into requirements/ (needs uv)
	$(call compile,runtime,--extra embedded --extra tokenizers)
	$(call compile,dev,--extra embedded --extra tokenizers --group dev --constraint requirements/runtime.txt)
	$(call compile,realmodel,,requirements/realmodel.in)
	$(call compile,audit,,requirements/audit.in)

define compile
uv pip compile $(or $(3),pyproject.toml) $(2) --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
  --no-emit-index-url --no-emit-find-links --quiet --upgrade --output-file requirements/$(1).txt
endef

clean: ## remove the environment and caches (never farebox-data: that is money)
	rm -rf $(VENV) $(REALMODEL) $(AUDIT) .bench-peers sbom.json dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Needs the network only when the lock changed. The key is written last: an interrupted install is begun anew.
env:
	@if [ "$$(cat $(VENV)/env.key 2>/dev/null)" != "$(ENV_KEY)" ] || ! $(VENV)/bin/python -c '' 2>/dev/null; then \
	  set -e; \
	  $(find_python); \
	  echo "Making $(VENV) with $$python from requirements/dev.txt …"; \
	  rm -rf $(VENV); \
	  $$python -m venv $(VENV); \
	  $(PIP) --require-hashes -r requirements/dev.txt; \
	  echo "$(ENV_KEY)" > $(VENV)/env.key; \
	fi
	@if [ "$$(cat $(VENV)/self.key 2>/dev/null)" != "$(SELF_KEY)" ]; then \
	  set -e; \
	  $(PIP) --no-index --no-deps --no-build-isolation --editable .; \
	  echo "$(SELF_KEY)" > $(VENV)/self.key; \
	fi

# Wheels only: nothing is compiled, and nothing of it is ever part of Farebox.
env-realmodel: env
	@if [ "$$(cat $(REALMODEL)/env.key 2>/dev/null)" != "$(REALMODEL_KEY)" ]; then \
	  set -e; \
	  echo "Making $(REALMODEL) from requirements/realmodel.txt …"; \
	  rm -rf $(REALMODEL); \
	  $(VENV)/bin/python -m venv $(REALMODEL); \
	  $(REALMODEL)/bin/python -m pip --disable-pip-version-check --quiet install \
	    --require-hashes --only-binary :all: -r requirements/realmodel.txt; \
	  echo "$(REALMODEL_KEY)" > $(REALMODEL)/env.key; \
	fi

# Apart from what it judges.
env-audit: env
	@if [ "$$(cat $(AUDIT)/env.key 2>/dev/null)" != "$(AUDIT_KEY)" ]; then \
	  set -e; \
	  echo "Making $(AUDIT) from requirements/audit.txt …"; \
	  rm -rf $(AUDIT); \
	  $(VENV)/bin/python -m venv $(AUDIT); \
	  $(AUDIT)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/audit.txt; \
	  echo "$(AUDIT_KEY)" > $(AUDIT)/env.key; \
	fi

# The first Python that is new enough and can make an environment. Each is run: a name on the path may be an empty shim.
define find_python
python=; \
for name in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
  if $$name -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then \
    python=$$name; break; \
  fi; \
done; \
if [ -z "$$python" ]; then \
  echo "Farebox needs Python 3.11, 3.12, 3.13 or 3.14 with the modules venv and ensurepip (Debian: python3-venv);" >&2; \
  echo "found none as $(or $(PYTHON),python3 or python3.11 to python3.14). Name one: make PYTHON=/path/to/python …" >&2; \
  exit 1; \
fi
endef
