# Every command sets up what it needs, in .venv, from the package registries.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONPATH := $(CURDIR)

.PHONY: setup run check test lint bench chaos docs clean

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; $$($(PYTHON) --version) is here. Try: make PYTHON=python3.12 run"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up in $(VENV) (the first time takes about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.ready
	@echo "Setting up what the tests need ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.txt
	@touch $@

# The example webhook is on this machine, which destinations may not reach unless it is named.
run check: export WATERSMEET_OUTBOUND_ALLOW ?= 127.0.0.0/8,::1/128

run: $(VENV)/.ready
	@exec $(BIN)/faust --quiet -A app worker

check: $(VENV)/.ready
	@$(BIN)/faust -A app check

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n 2

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports
	@$(BIN)/mypy

bench: $(VENV)/.dev
	@$(BIN)/python -m bench

chaos: $(VENV)/.dev
	@$(BIN)/python -m $(if $(filter kafka,$(BROKER)),tests.cluster.chaos,tests.chaos) $(if $(ROUNDS),--rounds $(ROUNDS))

docs: $(VENV)/.ready
	@$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) data
