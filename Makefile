# Each goal installs what it needs by itself (scripts/setup); what is there already costs nothing.

CARGO ?= cargo
RELEASE := target/release
PREFIX ?= /usr

.PHONY: help build demo lint lint-code test test-quick test-all check bench install clean
.DEFAULT_GOAL := build

help: ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 14

build: ## target/release/{offsite,offsited,vchanger}
	scripts/setup build
	$(CARGO) build --locked --release -p offsite

demo: build ## the main job on real parts, in a virtual machine with drives that are really plugged
	scripts/setup vm
	$(CARGO) run --locked --release -p offsite-tests --bin demo

lint: lint-code ## formatting, lints, documentation, dependencies
	scripts/check-dependencies

lint-code: ## the same without the dependencies, which need cargo-deny
	scripts/setup build
	$(CARGO) fmt --all --check
	$(CARGO) run -q --locked -p rooms
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps

test-quick: ## between two edits: unit, property and file tests; no root, no Bacula, no VM
	scripts/setup build
	scripts/run-tests --quick

test: ## every check and test of the product, unit to VM
	$(MAKE) check

test-all: ## the same, and the tests of the harness and of what stock programs do by themselves
	$(MAKE) check RUN_TESTS=--all

check: build
	scripts/check-dependencies --prepare
	$(MAKE) lint-code
	scripts/setup test
	scripts/setup vm
	scripts/fuzz
	scripts/run-tests $(RUN_TESTS)
	scripts/check-dependencies

bench: build ## side by side with the peers; writes target/bench/figures.json
	scripts/setup test
	scripts/setup vm
	scripts/setup bench
	$(CARGO) run --locked --release -p offsite-tests --bin bench

install: build ## programs, units, manual pages and completions below $(DESTDIR)$(PREFIX)
	install -Dm755 -t $(DESTDIR)$(PREFIX)/bin $(RELEASE)/offsite $(RELEASE)/offsited $(RELEASE)/vchanger
	install -Dm644 -t $(DESTDIR)/lib/systemd/system bins/dist/offsited.service bins/dist/offsited-lock.service
	install -Dm755 bins/dist/offsited.openrc $(DESTDIR)$(PREFIX)/share/offsite/offsited.openrc
	$(RELEASE)/offsite generate target/generated
	install -Dm644 -t $(DESTDIR)$(PREFIX)/share/man/man1 target/generated/*.1
	install -Dm644 target/generated/offsite.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/offsite

clean:
	$(CARGO) clean
