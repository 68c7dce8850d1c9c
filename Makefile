# Start here: `make demo` and `make test` need nothing else first; `make help` lists the rest.

TARGET = x86_64-unknown-linux-musl
prefix = /usr
bindir = $(prefix)/bin
sbindir = $(prefix)/sbin
datadir = $(prefix)/share
mandir = $(datadir)/man
docdir = $(datadir)/doc/going
licensedir = $(docdir)
bashdir = $(datadir)/bash-completion/completions
zshdir = $(datadir)/zsh/site-functions
fishdir = $(datadir)/fish/vendor_completions.d
sysconfdir = /etc
DESTDIR =

CARGO = cargo
# Where cargo builds, and with which flags, is said here and in .cargo/config.toml only.
export CARGO_TARGET_DIR = $(CURDIR)/target
unexport RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET
# The targets that packages are made for.
TARGETS = x86_64-unknown-linux-musl aarch64-unknown-linux-musl
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
PROGRAM = target/$(TARGET)/release/going
LOGGER = $(PROGRAM)log
CONTROL = $(PROGRAM)ctl
# Keeps the paths of the build machine out of the programs.
REMAP = --config 'target.$(TARGET).rustflags = [ "--remap-path-prefix=$(CURDIR)=.", \
	"--remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=cargo" ]'

# What is installed, one "MODE SOURCE DESTINATION" per line. This is the only list, for install,
# uninstall and every package.
define INSTALLED
755 $(PROGRAM) $(sbindir)/going
755 $(LOGGER) $(bindir)/goinglog
644 man/going.1 $(mandir)/man1/going.1
644 man/goinglog.1 $(mandir)/man1/goinglog.1
644 man/going.5 $(mandir)/man5/going.5
644 man/going.8 $(mandir)/man8/going.8
644 README.md $(docdir)/README.md
644 CHANGELOG.md $(docdir)/CHANGELOG.md
644 etc/inittab $(docdir)/inittab
644 etc/going.service $(docdir)/going.service
644 etc/rc $(docdir)/rc
644 etc/Containerfile $(docdir)/Containerfile
644 LICENSE $(licensedir)/LICENSE
755 $(CONTROL) $(bindir)/goingctl
644 man/goingctl.1 $(mandir)/man1/goingctl.1
644 etc/completions/goingctl.bash $(bashdir)/goingctl
644 etc/completions/_goingctl $(zshdir)/_goingctl
644 etc/completions/goingctl.fish $(fishdir)/goingctl.fish
644 etc/status.schema.json $(datadir)/going/status.schema.json
$(foreach file,$(wildcard etc/going.d/*),644 $(file) $(docdir)/examples/$(notdir $(file))
)
endef
export INSTALLED

all: ## build the programs; TARGET=aarch64-unknown-linux-musl for another CPU
	scripts/setup build $(TARGET)
	$(CARGO) build --release --locked --target $(TARGET) $(REMAP)

demo: all ## run it on the example services; Ctrl-C ends it
	scripts/demo $(PROGRAM)

test: all check ## run every test
	scripts/setup test
	$(CARGO) test --locked --doc
	GOING="$(CURDIR)/$(PROGRAM)" $(CARGO) test --locked --test it
	scripts/size $(PROGRAM) $(LOGGER) $(CONTROL)
	scripts/test-reproducible $(PROGRAM) $(LOGGER) $(CONTROL)
	scripts/test-aarch64

check: ## format, lints, documentation, source invariants, manual pages
	scripts/setup build
	scripts/setup check
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --lib
	$(CARGO) test --locked --test it -- sources
	scripts/lint-man

loc: ## count lines of code; fails at 500 for the supervisor's own process, 250 for goinglog
	scripts/setup check
	scripts/loc

size: all ## measure the programs: bytes, and memory; going's with 0, 100 and 256 services
	scripts/size $(PROGRAM) $(LOGGER) $(CONTROL)

# Supervisors write to memory here, as they do below /run: on a disk, the disk would be measured.
# The scripts that start loggers are executed there.
MEMORY = $(if $(TMPDIR),,$(shell [ -d /dev/shm ] && [ -w /dev/shm ] && \
	! grep -qs ' /dev/shm tmpfs .*noexec' /proc/mounts && echo TMPDIR=/dev/shm))

# The benchmark runs on this machine, and needs the paths of two other programs.
BENCH = $(MEMORY) GOING="$(CURDIR)/$(PROGRAM)" \
	SERVICE="$(CURDIR)/target/$(TARGET)/release/examples/bench-service" \
	$(CARGO) bench --quiet --locked --target $(TARGET) $(REMAP) --bench bench --

bench: all ## compare going with its peers, 15 minutes; ONLY='restart lines going runit' for less
	scripts/setup bench
	$(CARGO) build --release --locked --target $(TARGET) $(REMAP) --example bench-service
	$(BENCH) $(ONLY)

bench-report: ## bring README, manual page and chart up to date with the last `make bench`
	$(BENCH) report

man: ## show the manual pages
	man ./man/going.8
	man ./man/going.5
	man ./man/goinglog.1
	man ./man/goingctl.1

# The user who installs need not be the one who built, and may have no cargo.
install: $(if $(shell command -v $(CARGO) 2>/dev/null),all) ## install below $(DESTDIR)$(prefix), with an empty /etc/going.d
	install -d -m 755 "$(DESTDIR)$(sysconfdir)/going.d"
	@set -e; echo "$$INSTALLED" | while read -r mode source destination; do \
		[ -z "$$mode" ] || install -D -m "$$mode" "$$source" "$(DESTDIR)$$destination"; \
	done

# Users of a package get these notices. A user who builds from the sources has them there.
install-notices: ## install the notices of what is linked into the programs, for packages
	@mkdir -p target
	scripts/package/notices $(TARGET) >target/THIRD-PARTY
	install -D -m 644 target/THIRD-PARTY "$(DESTDIR)$(licensedir)/THIRD-PARTY"

uninstall: ## remove what install has installed, but no service files
	@echo "$$INSTALLED" | while read -r mode source destination; do \
		[ -z "$$mode" ] || rm -f "$(DESTDIR)$$destination"; \
	done
	@rm -f "$(DESTDIR)$(licensedir)/THIRD-PARTY"
	@for directory in $(docdir)/examples $(docdir) $(datadir)/going $(sysconfdir)/going.d; do \
		[ ! -d "$(DESTDIR)$$directory" ] || rmdir "$(DESTDIR)$$directory" || true; \
	done

doc: ## render the annotated source: target/doc/source
	scripts/setup doc
	target/venv/bin/python scripts/site/build doc

site: ## write the site: target/site
	scripts/setup doc
	target/venv/bin/python scripts/site/build site

site-check: site ## view the site in a browser, follow its links, validate it
	scripts/setup site
	target/venv/bin/python scripts/site/check

dist: ## pack the sources of the last commit, and the programs; all packages go to target/dist
	scripts/setup packages
	scripts/package/build dist $(TARGETS)

deb: ## make packages for Debian
	scripts/setup packages
	scripts/package/build deb $(TARGETS)

rpm: ## make packages for rpm
	scripts/setup packages
	scripts/package/build rpm $(TARGETS)

arch: ## make packages for Arch Linux
	scripts/setup packages
	scripts/package/build arch $(TARGETS)

oci: ## make container images that contain only going
	scripts/setup packages
	scripts/package/build oci $(TARGETS)

package-check: deb rpm arch oci dist ## make every package, then try-packages
	$(MAKE) try-packages

try-packages: ## install and run each package of target/dist, in a clean root of its own kind
	scripts/setup package-check
	scripts/package/check

release-check: ## do all that scripts/release does, except the tag
	scripts/setup packages
	scripts/test-release
	scripts/release --check $(VERSION)

clean: ## remove what was built
	$(CARGO) clean

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: all demo test check loc size bench bench-report man install install-notices uninstall doc \
	site site-check dist deb rpm arch oci package-check try-packages release-check clean help
