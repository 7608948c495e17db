# Everything sets itself up; all that is needed is make, git and Python 3.11 or later.
PYTHON ?= python3
BIN := .venv/bin
SYNCED := .venv/.synced
SYNC := UV_HTTP_TIMEOUT=180 UV_SYSTEM_CERTS=1 UV_PROJECT_ENVIRONMENT=.venv \
	UV_PYTHON_DOWNLOADS=never $(BIN)/uv sync --frozen --quiet
# How long `make fuzz` looks.
SECONDS ?= 1800
# So many processes run the tests, each on servers of its own.
PROCESSES ?= 2

.PHONY: help up test check check-beside-servers bench bench-parts bench-gateways bench-memory \
	bench-closing faults fuzz money periods zones fmt browser node nginx

help:
	@echo "make up      run everything here until Ctrl-C (data is kept in ./var)"
	@echo "make test    check, then run all tests, on servers of their own"
	@echo "make check   formatting, lint, types, imports, migrations"
	@echo "make fmt     format and mend what can be mended"
	@echo "make faults  kill and cut everything, in full: an hour (make test runs a sample)"
	@echo "make fuzz    look for bytes that break the readers of streams and requests: half an hour"
	@echo "make money   a million tiny charges through store and recorder: the sum is exact"
	@echo "make periods every zone, day by day over two decades: no gap, no overlap; ten minutes"
	@echo "make zones   the days of reports in every time zone: they are the total"
	@echo "make bench   what a request costs here, beside nginx and LiteLLM: some fifteen minutes"
	@echo "             (bench-parts, bench-gateways: a part; bench-memory: after many requests;"
	@echo "             bench-closing: 100,000 books at one midnight)"

up: $(SYNCED)
	@exec $(BIN)/costplatform up

test: check browser node
	$(BIN)/pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

check: $(SYNCED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	@$(BIN)/python -m costplatform.servers run -- $(MAKE) --no-print-directory check-beside-servers

# These load the settings, which keep secrets in the data directory: here a throw-away one.
check-beside-servers:
	$(BIN)/mypy .
	$(BIN)/python manage.py check --fail-level WARNING
	$(BIN)/python manage.py makemigrations --check --dry-run

bench: bench-parts bench-gateways

bench-parts: $(SYNCED)
	$(BIN)/python -m bench.pricing
	$(BIN)/python -m bench.scripts
	$(BIN)/python -m bench.store
	$(BIN)/python -m bench.upstream
	$(BIN)/python -m bench.doors

# BENCH="--quick" and the like are handed on; --help says which there are.
bench-gateways: $(SYNCED) nginx
	$(BIN)/python -m bench.gateways $(BENCH)

bench-memory: $(SYNCED) nginx
	$(BIN)/python -m bench.gateways --soak $(BENCH)

bench-closing: $(SYNCED)
	$(BIN)/python -m bench.closing $(BENCH)

money: $(SYNCED)
	MONEY=full $(BIN)/pytest tests/spend/test_many_charges.py -s

periods: $(SYNCED)
	PERIODS=full $(BIN)/pytest tests/budgets/test_periods.py

zones: $(SYNCED)
	ZONES=full $(BIN)/pytest tests/spend/test_reporting_zones.py

faults: $(SYNCED)
	FAULTS=full $(BIN)/pytest tests/faults tests/budgets/test_livestore_machine.py \
		tests/gateway/test_no_answer_strays.py

fuzz: $(SYNCED)
	$(SYNC) --group fuzz
	@$(BIN)/python -m costplatform.servers run -- $(BIN)/python -m tests.fuzz --seconds $(SECONDS)

fmt: $(SYNCED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Done again only when the lock file or the project file has changed.
$(SYNCED): uv.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is missing or older than 3.11: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "venv is missing: apt-get install -y python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --timeout 180 uv
	$(SYNC)
	@touch $@

browser:
	@test -x /usr/bin/chromium || .ci/apt-get-install chromium || \
		{ echo "The browser tests need /usr/bin/chromium: apt-get install -y chromium"; exit 1; }

# Without it the others are compared all the same.
nginx:
	@command -v nginx >/dev/null || test -x /usr/sbin/nginx || .ci/apt-get-install nginx-light || \
		echo "nginx is not measured: apt-get install -y nginx-light"

node:
	@command -v npm >/dev/null || .ci/apt-get-install nodejs npm || \
		{ echo "The tests with aimock need npm: apt-get install -y nodejs npm"; exit 1; }
