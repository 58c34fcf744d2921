# Development of falcotune.fleet. `make help` lists the targets; CI runs `make test`, `make matrix` and `make docs`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

ROOT := $(abspath $(dir $(lastword $(MAKEFILE_LIST))))
VENV := $(ROOT)/.venv
BIN := $(VENV)/bin
BUILD := $(ROOT)/build
COLLECTIONS := $(BUILD)/collections
JOBS ?= 2
PYTEST_ARGS ?=
CAMPAIGN_ARGS ?=
STAGES := lint unit faults browser conformance parity integration molecule

# The first of these that runs and that the locked ansible-core supports on a controller.
PYTHON ?= $(shell for p in python3 python3.12 python3.13 python3.11 /usr/bin/python3; do \
	"$$p" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& { echo "$$p"; break; }; done)

# The collection's files. A change of any of them builds and installs it again.
SOURCES := $(shell find galaxy.yml *.md docs extensions meta plugins roles playbooks changelogs -type f \
	-not -name '*.pyc' 2>/dev/null)

export PATH := $(BIN):$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(COLLECTIONS)
export ANSIBLE_LOCALHOST_WARNING := False
export ANSIBLE_INVENTORY_UNPARSED_WARNING := False
export ANSIBLE_DEPRECATION_WARNINGS := False
export ANSIBLE_HOME := $(BUILD)/ansible
export ANSIBLE_NOCOWS := 1
export PYTHONDONTWRITEBYTECODE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport ANSIBLE_CONFIG

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## /\1\t/' \
	| awk -F '\t' '{printf "  %-14s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(VENV)/.stamp $(COLLECTIONS)/.stamp ## tools into .venv, the built collection into build/collections

$(VENV)/.stamp: requirements/dev.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 to 3.13 with venv found: install one or set PYTHON=" >&2; exit 1; }
	@echo "setup: $$($(PYTHON) --version), requirements/dev.txt"
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements/dev.txt 2> >(grep -v 'is ignored: it is neither' >&2)
	touch $@

$(COLLECTIONS)/.stamp: $(VENV)/.stamp $(SOURCES)
	@mkdir -p $(BUILD)/dist $(COLLECTIONS)
	@rm -f $(BUILD)/dist/falcotune-fleet-*.tar.gz
	@$(BIN)/ansible-galaxy collection build --force --output-path $(BUILD)/dist . >$(BUILD)/dist/build.log 2>&1 \
		|| { cat $(BUILD)/dist/build.log; exit 1; }
	@$(BIN)/ansible-galaxy collection install --offline --force --collections-path $(COLLECTIONS) \
		$(BUILD)/dist/falcotune-fleet-*.tar.gz >$(BUILD)/dist/install.log 2>&1 \
		|| { cat $(BUILD)/dist/install.log; exit 1; }
	@echo "setup: built and installed $$(basename $(BUILD)/dist/falcotune-fleet-*.tar.gz)"
	@touch $@

.PHONY: lint
lint: setup ## ruff, mypy, ansible-lint with yamllint, documentation, changelog, ansible-test sanity
	ruff check .
	ruff format --check .
	ansible-lint --offline --profile production playbooks roles molecule
	antsibull-docs lint-collection-docs --plugin-docs .
	antsibull-changelog lint
	$(BIN)/python tests/tools/types
	$(BIN)/python tests/tools/sanity

.PHONY: unit
unit: setup ## the decisions and the modules, without hosts
	@[ -d /usr/lib/postgresql ] || tests/machines/packages postgresql
	@$(call pytest,tests/unit,-n $(JOBS))

.PHONY: faults
faults: setup ## faults, power cuts and edits at any call of a change, on virtual time; FALCOTUNE_FAULTS=1000 runs more
	@$(call pytest,tests/faults,-n $(JOBS))

.PHONY: browser
browser: setup ## the HTML report in a headless Chromium, which apt-get installs if root runs this
	@tests/tools/browser_packages
	@$(call pytest,tests/browser,)

.PHONY: conformance
conformance: setup ## the simulator against recordings of Falco; FALCO_BIN=/usr/bin/falco tests a real one
	@$(call pytest,tests/conformance,-n $(JOBS))

.PHONY: parity
parity: setup ## what a real Falco loses under a narrowed selection was named before; FALCO_BIN=/usr/bin/falco, as root
	@$(call pytest,tests/parity,-s)

.PHONY: load
load: setup ## verdicts and whole tunes of a real Falco under loads whose bottleneck is known; FALCO_BIN=/usr/bin/falco, as root
	@$(call pytest,tests/load,-s)

.PHONY: integration
integration: setup ## playbooks and roles on directory hosts, and on containers with systemd
	@tests/machines/packages prometheus
	@$(call pytest,tests/integration,-n $(JOBS) --dist loadfile)

.PHONY: molecule
molecule: setup ## every Molecule scenario, on containers with systemd; SCENARIO=name runs one
	@JOBS=$(JOBS) tests/tools/molecule $(SCENARIO)

.PHONY: test
test: setup ## all of the above, in order, with a summary
	@tests/tools/stages $(STAGES)

.PHONY: demo
demo: setup ## start twelve simulated hosts in .demo, tune and audit them
	@$(BIN)/python tests/fleet/demo

.PHONY: demo-stop
demo-stop: ## stop the demo's hosts and remove .demo
	@if [ -d .demo ]; then $(PYTHON) tests/fleet/fleet stop --dir .demo; else echo "no demo is running"; fi

.PHONY: matrix
matrix: setup ## sanity, unit and smoke tests on every supported ansible-core and Python; CORES="2.16 2.21" runs some
	@$(BIN)/python tests/tools/matrix $(CORES)

.PHONY: docs
docs: setup $(BUILD)/docs/.venv/.stamp ## the documentation as HTML in build/docs/html; a warning fails it
	@tests/tools/docs

$(BUILD)/docs/.venv/.stamp: requirements/docs.txt
	@rm -rf $(BUILD)/docs/.venv && mkdir -p $(BUILD)/docs
	@$(BIN)/python -m venv $(BUILD)/docs/.venv
	@$(BUILD)/docs/.venv/bin/python -m pip install --quiet --requirement requirements/docs.txt
	@touch $@

.PHONY: bench
bench: setup ## what tuning costs, as ratios and counts
	@$(BIN)/python tests/benchmarks/run.py

.PHONY: campaign
campaign: setup ## simulated fleets tuned by the collection, the guide and the largest buffers, and thirty days of one run a day
	@$(BIN)/python tests/benchmarks/campaign.py $(CAMPAIGN_ARGS)

.PHONY: requirements
requirements: ## resolve requirements/dev.in into requirements/dev.txt, on Python 3.11
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "set PYTHON to a Python 3.11" >&2; exit 1; }
	rm -rf $(BUILD)/lock && $(PYTHON) -m venv $(BUILD)/lock
	$(BUILD)/lock/bin/python -m pip install --quiet --requirement requirements/dev.in
	@{ sed -n '/^#/p' requirements/dev.txt; \
		$(BUILD)/lock/bin/python -m pip freeze | tr '[:upper:]_' '[:lower:]-'; } >$(BUILD)/lock/dev.txt
	mv $(BUILD)/lock/dev.txt requirements/dev.txt

.PHONY: clean
clean: demo-stop ## remove everything that was built or installed here
	-@[ ! -d $(BUILD)/machines ] || $(PYTHON) tests/machines/machines clean
	rm -rf $(VENV) $(BUILD) .ansible .cache .hypothesis .pytest_cache .ruff_cache tests/output

# $(call pytest,folder,options): a missing folder is reported and is not a failure.
define pytest
if [ -d $(1) ]; then $(BIN)/python -m pytest $(1) $(2) $(PYTEST_ARGS); else echo "$(1): not there"; fi
endef
