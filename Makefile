# Each goal installs what it needs by itself (scripts/setup); what is there already costs nothing.

CARGO ?= cargo
RELEASE := target/release
PREFIX ?= /usr

.PHONY: build demo test bench lint install clean

build: ## target/release/{offsite,offsited,vchanger}
	scripts/setup build
	$(CARGO) build --locked --release -p offsite

demo: build ## the main job on real parts, in a virtual machine with drives that are really plugged
	scripts/setup vm
	$(CARGO) run --locked --release -p offsite-tests --bin demo

lint: ## formatting, lints, documentation, dependencies
	scripts/setup lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
	scripts/check-dependencies

test: lint build ## every check and test, unit to VM
	scripts/setup test
	scripts/setup vm
	scripts/fuzz
	scripts/run-tests

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
