.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
SITE := scripts/docs/site
# Three workers for two cores: a test waits for about half of its time, for Ray's processes, the stores' disk, clients and timers.
# One of the workers has the tests that share a system.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder
# A system is some thirty processes; without caches each of them compiles whatever it imports.
unexport PYTHONDONTWRITEBYTECODE

help: ## This list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## Virtual environment with everything (the other targets call it)
	@scripts/setup.sh

demo: setup ## Start the control plane, run one real deliberation, print the decision, stop
	@$(BIN)/aragora-cp demo

up: setup ## Start the control plane and keep it in the foreground until Ctrl-C
	@$(BIN)/aragora-cp up

down: setup ## Stop one that was left behind
	@$(BIN)/aragora-cp down

reset: setup ## Stop it and throw its state away
	@$(BIN)/aragora-cp down --delete-data

test: setup ## All tests
	@$(PYTEST)

lint: setup ## Style and layers
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-cache

types: setup ## mypy, and what bandit finds that is at least of medium severity and confidence
	@$(BIN)/mypy
	@$(BIN)/mypy --config-file clients/python/pyproject.toml
	@$(BIN)/bandit --quiet --recursive -ll -ii actors clients cluster regions scripts serve_app

audit-dependencies: setup ## Known vulnerabilities of the pinned packages, where the service that knows them answers
	@$(BIN)/python -m scripts.audit_dependencies requirements.lock

chaos: setup ## 100 faults and an outage of 5 min under load, 100 kills amid deliberations, checked (40 min; SEED=n repeats a run)
	@rm -f .bench/chaos.json .bench/chaos-deliberations.json
	@options="--kills $(or $(KILLS),100) --seconds 1500 $(if $(SEED),--seed $(SEED))"; \
	$(BIN)/python -m tests.chaos.run $$options $(if $(KILLS),,--outage 300) --json .bench/chaos.json; faults=$$?; \
	$(BIN)/python -m tests.chaos.deliberations $$options --json .bench/chaos-deliberations.json; kills=$$?; \
	$(if $(KILLS),,$(BIN)/python -m tests.chaos.page docs/robustness.md .bench/chaos.json .bench/chaos-deliberations.json &&) \
	[ $$faults -eq 0 ] && [ $$kills -eq 0 ]

regions: setup ## The regions' machines in a simulation for MINUTES (10) from SEED (1), then each of its mutants
	@$(BIN)/python -m tests.regions.simulation.run --mutants --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1)

chaos-regions: setup ## Faults against three regions for MINUTES (10), drawn from SEED, then what clients saw is checked
	@$(BIN)/python -m tests.regions.chaos --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED)) --json .bench/chaos-regions.json

fuzz: setup ## CALLS (20,000) calls drawn from the OpenAPI document with every role; SEED (1) draws others
	@$(BIN)/python -m tests.support.fuzzing $(or $(CALLS),20000) $(or $(SEED),1)

soak: setup ## A steady mixed load for MINUTES (30); fails if memory, files, threads, tasks, connections or disk grow
	@$(BIN)/python -m tests.chaos.soak --minutes $(or $(MINUTES),30) --json .bench/soak.json

check: lint types ## The fast checks
	@$(PYTEST) -m "not slow"

verify: setup ## What .ci/run has no time for, at most an hour: its tests, 20 faults, 20 kills amid deliberations, every bench once
	@$(PYTEST) --longer -m longer
	@$(MAKE) --no-print-directory chaos KILLS=20
	@$(BIN)/python -m bench --quick --runs 1
	@$(MAKE) --no-print-directory audit-dependencies

bench: setup ## Measure it beside its peers; ONLY=scheduler runs a part, ARGS=--quick only proves that it works
	@$(BIN)/python -m bench $(ONLY) $(ARGS)

docs: setup ## Write the generated pages
	@$(BIN)/python -m scripts.docs.settings_page > docs/configuration.md
	@$(BIN)/python -m scripts.docs.cli_page > docs/cli.md
	@$(BIN)/python -m scripts.docs.api_page > docs/api.md
	@$(BIN)/python -m scripts.docs.tasks_page docs/tasks.md
	@$(BIN)/python -m scripts.docs.deliberations_page > docs/deliberations.md
	@$(BIN)/python -m scripts.docs.regions_page docs/regions.md
	@$(BIN)/python -m scripts.docs.machines_page docs/architecture.md
	@$(BIN)/python -m scripts.docs.alerts_manifest > kuberay/alerts.yaml
	@$(BIN)/python -m scripts.docs.metrics_page > docs/metrics.md
	@$(BIN)/python -m scripts.docs.typescript_client > clients/typescript/src/api.ts

page: setup ## Build the web page into serve_app/ui/bundle, which is committed
	@$(BIN)/python -m scripts.web_page

site: setup ## The docs as a site in .site/html; a broken link or a page outside of its menu fails it
	@[ "$$(cat .site/installed 2>/dev/null)" = "$$(sha256sum < $(SITE)/requirements.txt)" ] || { \
	    $(BIN)/python -m venv --clear --without-pip .site/venv && \
	    $(BIN)/uv pip install --quiet --python .site/venv/bin/python --no-deps --require-hashes --requirement $(SITE)/requirements.txt && \
	    sha256sum < $(SITE)/requirements.txt > .site/installed; }
	@NO_MKDOCS_2_WARNING=1 .site/venv/bin/mkdocs build --quiet --config-file $(SITE)/mkdocs.yml

lock: setup ## Write requirements.lock anew
	@$(BIN)/uv export --quiet --no-emit-project --no-emit-package aragora-worker --all-extras --all-groups --no-header --no-annotate --format requirements.txt > requirements.lock

clean: ## Remove the environment and caches
	@rm -rf .venv .site .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: help setup demo up down reset test verify bench chaos chaos-regions regions fuzz soak lint types audit-dependencies check docs page site lock clean
