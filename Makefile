# Two commands on a bare machine: `make run` (the demo office) and `make test`. `make help` lists the rest.
# Variables reach the programs: make run PORT=9000, make test DATABASE_URL=postgres://... ARGS="-k workflow".
PY = .venv/bin/python
WORKERS ?= 2
# Own cleared pip settings: a machine's find-links or extra index must never land in the lock files.
COMPILE = CUSTOM_COMPILE_COMMAND="make lock" PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= PIP_EXTRA_INDEX_URL= \
	.venv/bin/pip-compile --quiet --no-config --generate-hashes --strip-extras --allow-unsafe \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.PHONY: help run test bench faults lock lint setup setup-dev clean

help:
	@echo "make run    the demo office on this machine: set-up, data, web and worker"
	@echo "make test   the whole test suite (DATABASE_URL=postgres://... for PostgreSQL, ARGS=... for pytest)"
	@echo "make bench  the benchmarks; prints a table"
	@echo "make faults breaks on purpose what breaks by itself, and counts what was lost or doubled (DATABASE_URL=, ARGS=\"--quick\")"
	@echo "make lint   ruff: check and format --check"
	@echo "make lock   requirements.txt and requirements-dev.txt anew from pyproject.toml (UPGRADE=1: newest versions)"
	@echo "make clean  remove .venv, caches and collected static files; never data/.env or a database"

setup:
	@sh project/setup.sh requirements.txt

setup-dev:
	@sh project/setup.sh requirements.txt requirements-dev.txt

run: setup
	@$(PY) -m project.run

# A file a process: what a file's tests share (a clone, a running office) is made once. In the order of crm/tests/conftest.py:
# left to itself, xdist begins with the files of most tests, and a few long ones are waited for at the end.
test: setup-dev
	@$(PY) -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

bench: setup-dev
	@$(PY) -m project.env
	@$(PY) -m crm.bench $(ARGS)

faults: setup-dev
	@$(PY) -m crm.faults $(ARGS)

lint: setup-dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .

lock: setup-dev
	$(COMPILE) $(if $(UPGRADE),--upgrade) --output-file requirements.txt pyproject.toml
	$(COMPILE) $(if $(UPGRADE),--upgrade) --extra dev --constraint requirements.txt --output-file requirements-dev.txt pyproject.toml

clean:
	rm -rf .venv .uv .pytest_cache .ruff_cache .hypothesis .coverage htmlcov data/static
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
