# The only door: what a person runs, what CI runs. `make` alone tells what there is.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Any Python from 3.11 on; looked for only when the environment has to be made.
PYTHON ?= $(shell for python in python3.11 python3; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; break; fi; done)
ARGS ?=
PART ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# A stamp says what is installed, so it lives and dies with the folder that it speaks of.
STAMPS := $(VENV)/.stamps
KAFKA := .cache/kafka
# A peer that is measured beside Rejse. It pins what Rejse needs in other versions, so it lives apart.
QUIX := .cache/quixstreams
TESTS_OF_THE_TREE := $(wildcard tests/architecture tests/deploy)

.PHONY: help run test check check-deploy bench faults faults-full lock clean java promtool fault-tools

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(STAMPS)/project ## Run all of Rejse on this machine (ARGS="..." are passed on to `rejse run`)
	@exec $(BIN)/rejse run $(ARGS)

test: $(STAMPS)/test $(STAMPS)/data java $(KAFKA)/classes.jsa promtool ## Run every test, on a real broker and a real PostgreSQL (ARGS="..." are pytest's)
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(STAMPS)/test ## Check format, lint, types, imports and the deploy files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	@$(MAKE) --no-print-directory check-deploy

check-deploy: $(STAMPS)/test java $(KAFKA)/stamp promtool
	$(if $(TESTS_OF_THE_TREE),$(BIN)/pytest -q $(TESTS_OF_THE_TREE))

bench: $(STAMPS)/test $(STAMPS)/data $(QUIX)/stamp java $(KAFKA)/classes.jsa ## Measure against the named baselines (PART=... picks one part)
	$(BIN)/python -m tests.bench $(PART)

faults: $(STAMPS)/test java $(KAFKA)/classes.jsa fault-tools ## Break everything around Rejse and check what it promises (PART=... picks one part)
	$(BIN)/python -m tests.faults $(ARGS) $(PART)

faults-full: $(STAMPS)/test java $(KAFKA)/classes.jsa fault-tools ## The same, as much as a release shows: takes hours
	$(BIN)/python -m tests.faults --full $(ARGS) $(PART)

lock: $(STAMPS)/test ## Lock requirements/*.in again, with hashes, for every platform
	$(call compile,run,)
	$(call compile,test,-c requirements/run.txt)
	$(call compile,bench,)

clean: ## Remove everything that make has made
	rm -rf $(VENV) .cache build dist

define compile
$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	requirements/$(1).in -o requirements/$(1).txt $(2)
endef

$(STAMPS)/venv:
	@if [[ -z "$(PYTHON)" ]]; then echo >&2 "Rejse needs Python 3.11 or newer; name one: make PYTHON=..."; exit 1; fi
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(@D) && touch $@

$(STAMPS)/run: requirements/run.txt $(STAMPS)/venv
	$(PIP) install --require-hashes -r $<
	@touch $@

$(STAMPS)/project: pyproject.toml $(STAMPS)/run
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(STAMPS)/test: requirements/test.txt $(STAMPS)/project
	$(PIP) install --require-hashes -r $<
	@touch $@

$(STAMPS)/data: requirements/data.txt $(STAMPS)/test
	$(PIP) install --no-deps --require-hashes -r $<
	@touch $@

$(QUIX)/stamp: requirements/bench.txt $(STAMPS)/venv
	rm -rf $(QUIX)
	$(BIN)/python -m venv $(QUIX)
	$(QUIX)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r $<
	@touch $@

java:
	@deploy/kafka/provide java

fault-tools:
	@tests/faults/provide

promtool:
	@deploy/prometheus/provide .cache/prometheus

$(KAFKA)/stamp: deploy/kafka/pom.xml
	@deploy/kafka/provide java mvn
	rm -rf $(KAFKA)
	mvn --batch-mode --quiet --strict-checksums -f $< dependency:copy-dependencies \
		-DoutputDirectory=$(CURDIR)/$(KAFKA)/libs
	@touch $@

$(KAFKA)/classes.jsa: $(KAFKA)/stamp | $(STAMPS)/test java
	@$(BIN)/python -m tests.support.broker_classes $@
