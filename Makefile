# `make run` serves API, admin and workers on http://127.0.0.1:8080; `make test` tests. `make help` lists the rest.
.DEFAULT_GOAL := help
.PHONY: help run test test-all lint format bench chaos lock clean

DATABASES := sqlite postgres
PYTHON := .venv/bin/python
RUNTIME := .venv/.installed
DEV := .venv/.installed-dev
PEERS := .venv-peers/.installed
PIP := $(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

run: $(RUNTIME)  ## serve the API, the admin and the workers; Ctrl-C stops
	@exec $(PYTHON) manage.py serve

test: $(DEV) pgbouncer.deb bindfs.deb node.deb go.deb promtool.deb  ## run the tests that are not marked slow, on SQLite and on PostgreSQL
	$(call on-each-database,-m "not slow")

test-all: $(DEV) pgbouncer.deb bindfs.deb node.deb go.deb promtool.deb chromium.deb  ## run every test
	$(call on-each-database)

# Whatever the shell says of a database is not the tests' affair. REPORTS: a folder for JUnit's XML.
define on-each-database
	@failed=; for database in $(DATABASES); do \
	  echo "--- on $$database"; \
	  env -u DATABASE_URL -u DB_PATH TEST_DATABASE=$$database $(PYTHON) -m pytest -n auto $(1) \
	    $(if $(REPORTS),--junitxml=$(REPORTS)/$$database.xml) $(ARGS) || failed="$$failed $$database"; \
	done; [ -z "$$failed" ] || { echo "Failed on:$$failed" >&2; exit 1; }
endef

# Programs that some tests drive; where one is missing and cannot be installed, those are skipped and say so.
PACKAGE_node = nodejs
PACKAGE_go = golang-go
PACKAGE_promtool = prometheus
%.deb:
	@command -v $* >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(or $(PACKAGE_$*),$*); }

lint: $(DEV)  ## check style, types, migrations, scripts and the Dockerfile
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	DB_PATH=unused.db .venv/bin/mypy .  # it ends without cleaning up: no temporary folder for it
	$(PYTHON) manage.py makemigrations --check --settings tasks.tests.settings
	.venv/bin/shellcheck .ci/run
	.venv/bin/hadolint Dockerfile

format: $(DEV)  ## put the code into its form
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: $(DEV) $(PEERS)  ## measure it on both databases, beside others: ARGS="--help"
	$(PYTHON) -m bench $(ARGS)

chaos: $(DEV)  ## harm processes, database and disk by a seed, and check each promise: ARGS="--help"
	$(PYTHON) -m bench.chaos $(ARGS)

lock: $(DEV)  ## resolve the requirements anew and write the lock files
	.venv/bin/uv pip compile --quiet --no-header --no-emit-index-url --upgrade --universal \
	  --python-version 3.12 --generate-hashes requirements.in --output-file requirements.txt
	.venv/bin/uv pip compile --quiet --no-header --no-emit-index-url --upgrade --universal \
	  --python-version 3.12 --generate-hashes requirements-dev.in --output-file requirements-dev.txt
	.venv/bin/uv pip compile --quiet --no-header --no-emit-index-url --upgrade --universal \
	  --python-version 3.12 --generate-hashes requirements-otel.in --output-file requirements-otel.txt
	.venv/bin/uv pip compile --quiet --no-header --no-emit-index-url --upgrade --universal \
	  --python-version 3.12 --generate-hashes bench/peers/requirements.in --output-file bench/peers/requirements.txt

clean:  ## remove the virtual environments and the caches, but no data
	rm -rf .venv .venv-peers .pytest_cache .mypy_cache .ruff_cache

# The first Python that is new enough; where pyenv lacks the version asked for, its python3 may be an older one.
.venv/.made:
	@for python in python3 python3.14 python3.13 python3.12 /usr/local/bin/python3 /usr/bin/python3; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then \
	    echo "Making a virtual environment in .venv with $$($$python --version)"; \
	    $$python -m venv --clear .venv && touch $@; exit $$?; \
	  fi; \
	done; \
	echo "Python 3.12 or newer is needed, and neither python3 nor python3.12 to python3.14 is one." >&2; exit 1

$(RUNTIME): requirements.txt .venv/.made
	@echo "Installing requirements.txt"
	@$(PIP) -r requirements.txt
	@touch $@

$(DEV): requirements-dev.txt $(RUNTIME)
	@echo "Installing requirements-dev.txt"
	@$(PIP) -r requirements-dev.txt
	@touch $@

# What the service is compared with has requirements of its own, which must not decide ours.
$(PEERS): bench/peers/requirements.txt .venv/.made
	@echo "Installing bench/peers/requirements.txt"
	@$(PYTHON) -m venv --clear .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@
