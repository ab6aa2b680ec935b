# Two commands: `make demo` shows hilum at work, `make test` proves it. Everything they need they install themselves.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# One target folder outside the checkout, so that a fresh clone does not build the world again.
export CARGO_TARGET_DIR ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/hilum/target
TOOLS := $(CARGO_TARGET_DIR)/tools
DENY_VERSION := 0.20

.PHONY: help demo test tools lint unit deny fuzz docs-check clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 14

demo: ## build hilum and run it with a simulated hospital; prints the address to open
	cargo build --release --package hilum
	exec "$(CARGO_TARGET_DIR)/release/hilum" demo

test: tools lint unit deny ## everything: tools, lints, all tests on real engines, licences

tools: ## install what the tests need (PostgreSQL, Kafka, Keycloak, Chromium and its driver, fonts)
	./scripts/install-tools

lint: ## formatting and clippy, warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

unit: ## every test of the workspace, on the real engines
	cargo test --workspace --locked --no-fail-fast

deny: ## licences, bans and sources of what is linked
	@test -x "$(TOOLS)/bin/cargo-deny" || cargo install --locked --debug --quiet --root "$(TOOLS)" --version "^$(DENY_VERSION)" cargo-deny
	"$(TOOLS)/bin/cargo-deny" --locked check --hide-inclusion-graph licenses bans sources

fuzz: ## one minute of each fuzz target (needs cargo-fuzz)
	for target in $$(ls fuzz/fuzz_targets | sed 's/\.rs$$//'); do cargo fuzz run -s none "$$target" -- -max_total_time=60; done
