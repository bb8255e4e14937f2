# make run and make test need only Python, git and make; see deploy/setup.sh.
PYTHON ?=
export PYTHON

.PHONY: help run learn prove-exercises vendor screenshots wheel test test-matrix coverage compose-test chaos chaos-full check format bench bench-quick docs lock schema reset clean

help: ## list all targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' Makefile

run: ## prepare everything, then run the whole system until Ctrl-C
	@deploy/setup.sh run
	@echo "starting .venv/bin/fastcommerce; the commands for another terminal: .venv/bin/fastcommerce --help"
	@.venv/bin/fastcommerce

learn: ## prepare everything, then work through the exercises; ARGS="list" and the like
	@deploy/setup.sh run
	@.venv/bin/fastcommerce learn $(ARGS)

prove-exercises: ## prove every exercise, with all solutions and wrong solutions; takes about 10 minutes
	@deploy/setup.sh test
	@.venv/bin/fastcommerce learn dev check $(ARGS)

test: ## prepare everything, then run all tests against real RabbitMQ
	@deploy/setup.sh test
	@.venv/bin/python -m pytest -n 4 --dist loadgroup $(ARGS)

test-matrix: ## run the tests on Debian releases with RabbitMQ 3.10, 4.0 and 4.3, and `make run` on fresh ones, as root; ARGS="--help"
	@deploy/setup.sh matrix
	@.venv/bin/python -m tests.matrix $(ARGS)

coverage: ## measure the share of lines and branches that unit and integration tests run, child processes included; ARGS="FILES" of tests
	@deploy/setup.sh test
	@rm -rf var/coverage && mkdir -p var/coverage
	@.venv/bin/python -m coverage run -m pytest -n 2 --dist loadgroup $(or $(ARGS),tests/unit tests/integration); \
		code=$$?; .venv/bin/python -m coverage combine -q && .venv/bin/python -m coverage report && exit $$code

compose-test: ## build the image and run the containers of compose.yaml in namespaces, without an engine; as root
	@deploy/setup.sh compose
	@.venv/bin/python -m tests.compose

chaos: ## inject faults for 10 minutes on a private broker, and print a report; ARGS="--help" lists options
	@deploy/setup.sh test
	@.venv/bin/python -m tests.chaos $(ARGS)

chaos-full: ## run every proof in full, then chaos on SQLite, PostgreSQL and a cluster; takes about two hours
	@deploy/setup.sh test
	@FASTCOMMERCE_PROOF=full .venv/bin/python -m pytest -n 2 --dist loadgroup tests/unit/test_simulation.py \
		tests/unit/test_apply_properties.py tests/acceptance/test_failpoints.py tests/acceptance/test_mutants.py \
		tests/integration/test_chaos_parts.py tests/integration/test_publisher.py tests/acceptance/test_drain.py
	@FASTCOMMERCE_PROOF=full .venv/bin/python -m pytest -s tests/integration/test_endurance.py \
		tests/acceptance/test_killed_runner.py tests/acceptance/test_no_connection_is_refused.py \
		tests/acceptance/test_retries.py tests/acceptance/test_inbox.py tests/acceptance/test_outbox.py \
		tests/acceptance/test_edits.py tests/acceptance/test_order_history.py tests/acceptance/test_nothing_is_lost.py \
		tests/acceptance/test_consumer_timeout.py tests/acceptance/test_hostile_messages.py \
		tests/integration/test_interrupted_dead_letter_commands.py tests/integration/ledger/test_ledger_without_audit.py
	@.venv/bin/python -m tests.chaos
	@.venv/bin/python -m tests.chaos --store postgresql
	@.venv/bin/python -m tests.chaos --cluster

check: ## formatting, lint, types, import contracts, unique names, and the words of all texts
	@deploy/setup.sh tools
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache
	@.venv/bin/python -m pytest -q tests/unit/test_names.py
	@.venv/bin/python -m tests.words

format: ## format the code
	@deploy/setup.sh tools
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

bench: ## measure FastCommerce beside other programs on a private broker, in about 15 minutes; ARGS="--help" lists options
	@deploy/setup.sh bench
	@.venv/bin/python -m bench $(ARGS)

bench-quick: ## run a short form of the benchmarks as a test; takes under 2 minutes
	@deploy/setup.sh bench
	@.venv/bin/python -m bench --quick $(ARGS)

docs: ## build the pages of docs/ as a site in site/, which needs no server and no network
	@deploy/setup.sh docs
	@.venv/bin/python -m deploy.documentation_site

lock: ## update the locked packages from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links --upgrade -o requirements.txt
	uv pip compile pyproject.toml --extra test --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links -c requirements.txt --upgrade -o requirements-test.txt
	uv pip compile pyproject.toml --extra test --extra bench --universal --python-version 3.11 --generate-hashes \
		--no-header --no-emit-index-url --no-emit-find-links -c requirements-test.txt --upgrade -o bench/requirements.txt
	sed -n 's/^requires = \["\(.*\)"\]$$/\1/p' pyproject.toml | uv pip compile - --universal --python-version 3.11 \
		--generate-hashes --no-header --no-emit-index-url --no-emit-find-links -c requirements-test.txt --upgrade \
		-o requirements-build.txt
	uv pip compile pyproject.toml --extra docs --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links -c requirements.txt --upgrade -o docs/site/requirements.txt

screenshots: ## write docs/images/ from the dashboard of a running system with traffic
	@deploy/setup.sh test
	@.venv/bin/python -m tests.screenshots

vendor: ## write the dashboard's foreign files, as VENDORED.toml lists them (needs npm); ARGS="--update" after a change of a version
	@deploy/setup.sh tools
	@.venv/bin/python -m deploy.vendor $(ARGS)

wheel: ## build the wheel, dist/fastcommerce-….whl, for pip install
	@deploy/setup.sh tools
	@.venv/bin/python -m pip --disable-pip-version-check wheel -q --no-index --no-deps --no-build-isolation -w dist .
	@ls dist/*.whl

schema: ## write the JSON Schemas that editors use, docs/configuration.md, docs/cli.md, docs/exercises.md, and the pictures of the topology and of a delivery
	@.venv/bin/fastcommerce schema config > docs/schema/config.json
	@.venv/bin/fastcommerce schema topology > docs/schema/topology.json
	@.venv/bin/fastcommerce schema config --format markdown > docs/configuration.md
	@.venv/bin/fastcommerce graph --format svg > docs/topology.svg
	@.venv/bin/python -m tests.diagram
	@.venv/bin/python -m tests.command_page
	@.venv/bin/python -m tests.exercise_page
	@.venv/bin/python -m tests.learning_page

reset: ## delete var/ with the private broker, its messages, and the database
	@if [ -f var/runner.lock ] && ! flock -n var/runner.lock true; then echo "reset: a runner is running here, pid $$(cat var/runner.lock); stop it first"; exit 1; fi
	rm -rf var

clean: ## delete .venv, dist and caches; var/ with the broker's data stays
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
