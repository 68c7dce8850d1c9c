# The front door. `make demo` and `make test` need nothing else typed; `make help` lists the rest.

TARGET = x86_64-unknown-linux-musl
prefix = /usr
sbindir = $(prefix)/sbin
mandir = $(prefix)/share/man
sysconfdir = /etc
DESTDIR =

CARGO = cargo
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
PROGRAM = target/$(TARGET)/release/going
# No path of the machine that it was built on goes into the program.
REMAP = --config 'target.$(TARGET).rustflags = [ \
	"--remap-path-prefix=$(CURDIR)=.", "--remap-path-prefix=$(HOME)/.cargo=cargo" ]'

all: ## build the program; TARGET=aarch64-unknown-linux-musl for another machine
	scripts/setup build $(TARGET)
	$(CARGO) build --release --locked --target $(TARGET) $(REMAP)

demo: all ## run it on the example services; Ctrl-C ends it
	scripts/demo $(PROGRAM)

test: all check ## run every test
	scripts/setup test
	$(CARGO) test --locked --doc
	GOING=$(CURDIR)/$(PROGRAM) $(CARGO) test --locked --test it
	scripts/size $(PROGRAM)
	scripts/test-reproducible $(PROGRAM)
	scripts/test-aarch64

check: ## format, lints, documentation, source invariants, manual pages
	scripts/setup build
	scripts/setup check
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --lib
	$(CARGO) test --locked --test it -- sources
	scripts/lint-man

loc: ## count lines of code; fails at 500 in the supervisor's own process
	scripts/setup check
	scripts/loc

size: all ## measure the program: bytes, and memory with no, 100 and 256 services
	scripts/size $(PROGRAM)

man: ## show the manual pages
	man ./man/going.8
	man ./man/going.5

install: all ## install below $(DESTDIR)$(prefix), with an empty /etc/going.d
	install -d $(DESTDIR)$(sbindir) $(DESTDIR)$(sysconfdir)/going.d \
		$(DESTDIR)$(mandir)/man1 $(DESTDIR)$(mandir)/man5 $(DESTDIR)$(mandir)/man8
	install -m 755 $(PROGRAM) $(DESTDIR)$(sbindir)/going
	install -m 644 man/going.1 $(DESTDIR)$(mandir)/man1
	install -m 644 man/going.5 $(DESTDIR)$(mandir)/man5
	install -m 644 man/going.8 $(DESTDIR)$(mandir)/man8

uninstall: ## remove what install has installed, but no service file
	rm -f $(DESTDIR)$(sbindir)/going $(DESTDIR)$(mandir)/man1/going.1 \
		$(DESTDIR)$(mandir)/man5/going.5 $(DESTDIR)$(mandir)/man8/going.8
	-rmdir $(DESTDIR)$(sysconfdir)/going.d

dist: ## pack the sources of the last commit
	mkdir -p target/dist
	git archive --prefix=going-$(VERSION)/ -o target/dist/going-$(VERSION).tar.gz HEAD

clean: ## remove what was built
	$(CARGO) clean

help: ## show this
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

.PHONY: all demo test check loc size man install uninstall dist clean help
