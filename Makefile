# Sluice. On a fresh Debian 12 with Rust, `make demo` shows it at work and `make test` checks everything;
# each of the two sets the machine up first. As an ordinary user both ask for root by sudo: they make network namespaces.
SHELL := /bin/bash
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin
SUDO  := $(if $(filter 0,$(shell id -u)),,sudo -E)
CARGO := cargo
# What makes namespaces needs root, and / as a mount point; the build stays the user's.
AS_ROOT := $(strip $(SUDO) $(CURDIR)/mounted.sh)
RUNNER  := --config 'target."cfg(unix)".runner="$(AS_ROOT)"'

.PHONY: help setup demo lab test lint soak bench bench-dns fuzz clean
help:           ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup:          ## install the Debian packages of packages.txt that are missing, and nothing else
	@command -v $(CARGO) >/dev/null || { echo 'cargo is not found: install Rust 1.95 or newer (https://rustup.rs) first'; exit 1; }
	@./setup.sh packages.txt

demo: setup     ## about a minute after the build: the whole product on real packets, each line checked
	$(CARGO) build --release --locked
	$(AS_ROOT) target/release/sluice-lab demo

lab: setup      ## the demo's cluster, kept up for you to play with; prints what to try, Ctrl-C removes it
	$(CARGO) build --release --locked
	$(AS_ROOT) target/release/sluice-lab demo --keep

test: setup lint ## lints, every test of every crate, and the dependency policy of deny.toml
	$(CARGO) build --workspace --locked
	$(CARGO) test --workspace --locked --no-fail-fast $(RUNNER)
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --locked --offline check bans licenses sources; fi

lint: setup     ## formatting and clippy; warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

soak: setup     ## ten minutes: a hundred tables a second under flows on real sockets, nothing lost, no memory taken
	$(CARGO) test --release --locked -p sluice-dataplane --test af_xdp $(RUNNER) -- --ignored --nocapture

bench: setup    ## nanoseconds per packet by path and sessions (perf/README.md)
	$(CARGO) run --release --locked -p sluice-perf -- pipeline

bench-dns: setup ## DNS answers on veth, beside Knot DNS in XDP mode
	@./setup.sh packages-bench.txt
	$(CARGO) build --release --locked -p sluice-perf
	$(AS_ROOT) target/release/sluice-bench dns

# Coverage-guided fuzzing on the stable toolchain (facts: libFuzzer wants the compiler's counters and a main of its own).
FUZZ    := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
           -Cllvm-args=-sanitizer-coverage-pc-table --cfg fuzzing -Ccodegen-units=1
TARGET  ?= mesos-state
SECONDS ?= 60

fuzz: setup     ## TARGET (of fuzz/src/bin) over ever other bytes for SECONDS
	cp Cargo.lock fuzz/Cargo.lock   # the workspace's versions; Cargo adds libFuzzer
	cd fuzz && RUSTFLAGS="$(FUZZ)" $(CARGO) build --release --target "$$(rustc -vV | sed -n 's/^host: //p')" --bin $(TARGET)
	mkdir -p fuzz/corpus/$(TARGET) fuzz/artifacts && cp -n control/tests/data/$(firstword $(subst -, ,$(TARGET)))-* fuzz/corpus/$(TARGET)/
	fuzz/target/*/release/$(TARGET) -max_total_time=$(SECONDS) -artifact_prefix=fuzz/artifacts/ fuzz/corpus/$(TARGET)

clean:          ## remove what was built, and labs that were left up
	-$(SUDO) target/release/sluice-lab down --all 2>/dev/null
	$(CARGO) clean
