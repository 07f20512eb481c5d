# Two commands do all the set-up: `make demo` and `make test`. See README.md.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test check fuzz bench bench-imap docs lock clean coverage interop crash slow

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): requirements/dev.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Postroad needs Python 3.11 or newer: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: $(READY)  ## two servers, real messages between them, every step shown
	@$(BIN)/python -m postroad.lab.demo

test: $(READY)  ## the fast tests
	$(BIN)/python -m pytest

interop: $(READY)  ## real clients and peers (Debian packages: tools/install-test-packages)
	$(BIN)/python -m pytest -m interop

crash: $(READY)  ## kill -9 under load
	$(BIN)/python -m pytest -m crash

slow: $(READY)  ## the real-mail corpus and other long tests
	$(BIN)/python -m pytest -m slow

check: $(READY)  ## ruff, mypy --strict, the floors test, the docs build
	$(BIN)/ruff check src tests bench fuzz tools
	$(BIN)/ruff format --check src tests bench fuzz tools
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/project
	$(MAKE) docs

docs: $(READY)  ## builds site/ from docs/
	$(BIN)/python tools/generate_docs.py --check
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet

$(VENV)/.fuzz: $(READY) requirements/fuzz.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/fuzz.lock
	@touch $(VENV)/.fuzz

FUZZ_SECONDS ?= 120
fuzz: $(VENV)/.fuzz  ## coverage-guided fuzzing, some minutes (FUZZ_SECONDS=3600 for hours)
	$(BIN)/python -m fuzz imap-commands $(FUZZ_SECONDS) >fuzz-imap.log 2>&1 & one=$$!; \
	$(BIN)/python -m fuzz mime $(FUZZ_SECONDS) || { kill $$one; exit 1; }; \
	wait $$one || { tail -50 fuzz-imap.log; exit 1; }; rm -f fuzz-imap.log
	$(BIN)/python -m fuzz headers $$(($(FUZZ_SECONDS) / 4))
	$(BIN)/python -m fuzz names $$(($(FUZZ_SECONDS) / 4))

bench: $(READY)  ## side by side with Debian's postfix and dovecot
	$(BIN)/python -m bench

bench-imap: $(READY)  ## what IMAP clients do, beside dovecot (maildir and mdbox)
	$(BIN)/python -m bench.imap

coverage: $(READY)  ## the fast tests with a coverage report
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report

lock: $(READY)  ## pins the dependencies anew
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile -q pyproject.toml --group dev --generate-hashes --no-emit-index-url \
	  --no-header --universal --python-version 3.11 -o requirements/dev.lock
	$(BIN)/uv pip compile -q pyproject.toml --extra uvloop --generate-hashes --no-emit-index-url \
	  --no-header --universal --python-version 3.11 -o requirements/run.lock
	$(BIN)/uv pip compile -q --group pyproject.toml:fuzz --generate-hashes --no-emit-index-url \
	  --no-header --universal --python-version 3.11 -o requirements/fuzz.lock

clean:  ## removes everything that make made
	rm -rf $(VENV) site dist .coverage htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis
