# Two commands are enough: `make run` and `make test`. README.md says what the others are for.
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
PY := $(BIN)/python
PORT ?= 8000
# Of pytest: while one waits for a worker or a server to answer, the other two keep two cores busy.
PROCESSES ?= 3
# Five processes start at once: without cached bytecode each would compile every library anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install services stop reset run test test-serializable soak check bench journey screenshots requirements shell

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name what; do printf '%-19s%s\n' "$$name" "$$what"; done

install: ## Make .venv with what requirements/dev.txt pins
	@dev/bootstrap

services: install ## Start Postgres and Valkey, unless DATABASE_URL and REDIS_URL name others
	@$(PY) -m dev.services start

stop: ## Stop Postgres and Valkey; their data stays in var/
	@if [ -x $(PY) ]; then $(PY) -m dev.services stop; fi

reset: stop ## Remove the data of Postgres, Valkey, the sandbox bank and the demo for good
	@if [ -x $(PY) ]; then $(PY) -m dev.services reset; fi
	@rm -f var/demo.json var/sandbox.sqlite3*
	@rm -rf var/metrics var/mail

run: install ## Run Kassa with its demo organization: web, workers, beat, sandbox bank
	@$(PY) -m dev.run --port $(PORT)

test: services ## Run every test; T="tests/ledger -k race" chooses
	$(BIN)/pytest -n $(PROCESSES) --dist worksteal $(T)

test-serializable: services ## The ledger's tests, every transaction SERIALIZABLE
	KASSA_ISOLATION=serializable $(BIN)/pytest -n $(PROCESSES) --dist worksteal $(or $(T),tests/ledger)

soak: services ## Long runs under load, and properties on more examples: some minutes
	KASSA_SOAK=1 $(BIN)/pytest -n 2 --dist worksteal -o faulthandler_timeout=900 -m soak $(T)
	KASSA_SOAK=1 $(BIN)/pytest -n $(PROCESSES) --dist worksteal -o faulthandler_timeout=900 -m "hypothesis and not soak" $(T)

check: services ## Lint, types, import contracts, tasks, migrations, drift of documents, deploy settings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy apps config
	$(BIN)/lint-imports --no-logo
	$(PY) -m dev.check_tasks
	$(PY) manage.py check
	$(PY) manage.py makemigrations --check --dry-run
	$(PY) manage.py openapi --check
	$(PY) manage.py event_catalogue --check
	$(PY) manage.py alert_rules --check
	$(PY) -m dev.check_deploy

bench: services ## Measure beside references; ONLY=<name> runs one
	$(PY) -m bench $(ONLY)

journey: services ## The main job from a statement to the trial balance; STATEMENT=<file> takes a real one
	@$(PY) manage.py migrate --verbosity 0
	@$(PY) manage.py journey $(if $(STATEMENT),--statement "$(STATEMENT)")

screenshots: services ## Take the README's pictures of the back office
	$(PY) -m tests.browser.screenshots

requirements: install ## Compile requirements/*.in; UPGRADE=1 takes newer versions
	@dev/compile_requirements $(if $(UPGRADE),--upgrade)

shell: services ## A Python shell on the local database
	@$(PY) manage.py shell
