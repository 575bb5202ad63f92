# `make help` lists the targets. Needs Python 3.11 to 3.13 and make; everything else is set up by them.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo up down setup test torture reliability bench pr lint format docs lock manifest clean

# Each task of Airflow, and each worker of the tests, is a process: without bytecode it compiles our modules again.
unexport PYTHONDONTWRITEBYTECODE

UV := 0.13.8
TORTURE ?= tests
SCALE ?= small
ONLY ?=
BASE ?= origin/main

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/installed ## Set up, run the demo through Airflow, show the certified marts
	@.venv/bin/lake demo

up: .venv/installed ## Start the stack in the foreground
	@.venv/bin/lake up

down: .venv/installed ## Stop the stack
	@.venv/bin/lake down

setup: .venv/installed ## Databases, environment and manifest, without starting Airflow
	@.venv/bin/lake setup

manifest: .venv/installed ## Parse the dbt project anew
	@.venv/bin/lake manifest

test: .venv/installed-dev ## The tests, on real engines
	@.venv/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

torture: .venv/installed-dev ## What takes longer: faults, backfills, histories; TORTURE=tests/faults for a part
	@.venv/bin/python -m pytest -n 2 --dist loadgroup -m torture $(TORTURE)

reliability: .venv/installed-dev ## Everything that goes wrong, on purpose; writes docs/reliability.md
	@.venv/bin/python -m pytest -n 2 --dist loadgroup -m fault tests/faults
	@.venv/bin/python -m tests.faults.matrix

bench: .venv/installed-dev ## Speed against bounds; SCALE=full, ONLY=publish,pin; RECORD=yes writes docs/performance.md
	@.venv/bin/python -m tests.bench --scale "$(SCALE)" --only "$(ONLY)" $(if $(RECORD),--record) $(if $(AGAIN),--again)

pr: .venv/installed-dev ## What this change does to the pipeline, against BASE (origin/main): runs it, writes a report
	@.venv/bin/python -m tools.pull_request --base "$(BASE)"

lint: .venv/installed-dev ## Style of Python and SQL
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/sqlfluff lint --processes 2 dbt/models

format: .venv/installed-dev ## Mend style
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

docs: .venv/installed manifest ## Write docs/dags.md and docs/models.md anew
	@AIRFLOW__LOGGING__LOGGING_LEVEL=ERROR AIRFLOW_HOME=$(CURDIR)/.lakehouse/airflow .venv/bin/python -m include.orchestration.catalogue

lock: .venv/installed ## Resolve requirements.txt and requirements-dev.txt into their locks
	@.venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --quiet requirements.txt --output-file requirements.lock
	@.venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --quiet requirements-dev.txt --output-file requirements-dev.lock

clean: ## Stop the stack and delete all that it wrote; asks first
	@printf 'Delete .lakehouse with all data? [y/N] '; read answer; [ "$$answer" = y ]
	@if [ -x .venv/bin/lake ]; then .venv/bin/lake down; fi
	@rm -rf .lakehouse

.venv/installed: requirements.lock pyproject.toml
	@sh include/local/bootstrap.sh $(UV) requirements.lock
	@touch $@

.venv/installed-dev: requirements-dev.lock .venv/installed
	@.venv/bin/uv pip install --quiet --compile-bytecode --require-hashes -r requirements-dev.lock
	@touch $@
