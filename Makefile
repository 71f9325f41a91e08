# make demo    installs what it needs and shows the whole road on this machine
# make test    installs what it needs, OS packages included; then format, lint, types, tests
# make setup   prepares .venv alone        make bench   measured ratios
# make fuzz    property tests for longer   make lock    renew the locks (needs uv)
#              (EXAMPLES=20000: longer still)
# make clean   removes what these made
#
# Works from any folder, one with spaces in its name too: no path here is absolute, and tools
# run as `.venv/bin/python -m TOOL`. uv is used where it is on PATH, venv and pip otherwise.

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
.PHONY: help setup system test check demo bench fuzz lock clean

PY := .venv/bin/python
# What the tests use beyond Python: real fw_setenv, PostgreSQL, brokers, sshd, firmware, false clocks.
APT := faketime iproute2 libubootenv-tool mosquitto openssh-server openssl postgresql python3-venv seabios softhsm2 strace stunnel4
JOBS ?= 2
EXAMPLES ?= 2000

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

setup: .venv/.stamp

.venv/.stamp: requirements.lock pyproject.toml .ci/venv
	@.ci/venv .venv
	@.ci/install .venv --require-hashes -r requirements.lock
	@.ci/install .venv --no-deps --no-build-isolation -e .
	@touch .venv/.stamp

system:
	@.ci/system $(APT)

# AWS for the tests is an emulator; its libraries do not fit beside ours.
.venv-ministack/.stamp: tests/simulators/ministack.lock .ci/venv
	@.ci/venv .venv-ministack
	@.ci/install .venv-ministack --require-hashes -r tests/simulators/ministack.lock
	@touch .venv-ministack/.stamp

test: setup system .venv-ministack/.stamp
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(PY) -m pytest -q -n $(JOBS) --dist loadgroup

check: test

# The demo runs from an installed wheel, in an environment of its own, outside of the tree's code.
.venv-demo/.stamp: .venv/.stamp $(shell git ls-files -- ota signing repo-metadata playbooks 2>/dev/null | sed 's/ /\\ /g')
	@rm -rf dist
	@$(PY) -m build --wheel --no-isolation --outdir dist . >/dev/null
	@.ci/venv .venv-demo
	@sed -e 's/ *\\$$//' -e '/--hash=/d' requirements.lock >.venv-demo/constraints.txt
	@.ci/install .venv-demo -c .venv-demo/constraints.txt "$$(echo dist/*.whl)[ops]"
	@touch .venv-demo/.stamp

demo: .venv-demo/.stamp
	@cd .venv-demo && bin/ota quickstart

bench: setup
	@for file in tests/benchmarks/bench_*.py; do echo "== $$file"; $(PY) "$$file"; done

fuzz: setup
	@EXAMPLES=$(EXAMPLES) $(PY) -m pytest -q -n $(JOBS) -m hypothesis --hypothesis-profile=fuzz --timeout 0

lock:
	@uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --quiet --upgrade -o requirements.lock
	@printf 'cryptography\nministack\n' | uv pip compile - --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet --upgrade \
	  -o tests/simulators/ministack.lock

clean:
	@rm -rf .venv .venv-demo .venv-ministack dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
