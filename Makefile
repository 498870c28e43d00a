# The commands of README.md. Each does all the set-up it needs; run them as root.

export CARGO_TARGET_DIR ?= $(CURDIR)/target
export KILTER := $(CARGO_TARGET_DIR)/release/kilter
export KUBECTL := $(CURDIR)/.venv/bin/kubectl

.PHONY: help setup build test witnesses demo bench clean-machine

help:
	@echo 'make demo            build Kilter, bring up the example shop, change a policy, watch the traffic change'
	@echo 'make test            build, and run every test (kernel tests included)'
	@echo 'make witnesses       a million random questions to the rules, the rows and the kernel (TRIPLES=, SEED=)'
	@echo 'make build           install what building needs, and build'
	@echo 'make bench           the figures of this machine, with peers in the same run'
	@echo 'make setup           only install what building and testing need (Debian 12)'
	@echo 'make clean-machine   remove every twin from this machine'

setup:
	@scripts/setup

build: setup
	cargo build --release --workspace

test: build
	@scripts/test

TRIPLES ?= 1000000
SEED ?= 1
witnesses: setup
	KILTER_WITNESS_TRIPLES=$(TRIPLES) KILTER_WITNESS_SEED=$(SEED) \
		cargo test --release -p kilter-datapath --lib witnesses::rules -- --nocapture

demo: build
	@scripts/demo

bench: build
	$(KILTER) bench datapath
	$(KILTER) bench services
	$(KILTER) bench cni
	$(KILTER) bench twin -f examples/shop

clean-machine: build
	$(KILTER) down --all
