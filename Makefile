# make run   build and serve a demo image (IMAGE=disk.img SIZE=10G ARGS="--tcp '[::1]:10809'")
# make test  install what the tests need, check the format, run every test
# make help  the rest

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

# With the backtracer on, a crashed test can hang and keep pipes open.
export SWIFT_BACKTRACE := enable=no
export DEBIAN_FRONTEND := noninteractive

IMAGE ?= demo.img
SIZE ?= 1G
ARGS ?=

# The C and C++ headers that the toolchain compiles against, and git, which fetches the dependencies.
BUILD_PACKAGES := binutils ca-certificates git libc6-dev libstdc++-12-dev liburing-dev
# Real clients and file systems. nbdinfo runs file, which it does not depend on.
TEST_PACKAGES := $(BUILD_PACKAGES) strace procps \
  libnbd-dev libnbd-bin file nbdfuse nbdkit qemu-utils fio systemd mandoc \
  fuse3 xfsprogs e2fsprogs btrfs-progs curl netcat-openbsd prometheus

# The servers that holdfast is compared with, and their clients.
BENCH_PACKAGES := $(BUILD_PACKAGES) nbdkit qemu-utils libnbd-bin nbd-server procps util-linux xfsprogs

# A Debian package, and a Debian to install it into.
DEB_PACKAGES := $(BUILD_PACKAGES) dpkg-dev xz-utils lintian
CONTAINER_PACKAGES := debootstrap systemd-container systemd

# A guest under QEMU, for test-guest.
GUEST_PACKAGES := $(BUILD_PACKAGES) qemu-system-x86 nbd-client busybox-static e2fsprogs cpio

# The daemon under test; tests find it in the environment.
export HOLDFAST_BINARY := $(CURDIR)/.build/release/holdfast
TEST_FLAGS := -Xswiftc -warnings-as-errors --disable-xctest
TEST_LOG := .build/test.log

# Where `make install` puts things, below DESTDIR. BINARY: what is installed; else a static one is built.
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
BINARY ?= .build-static/release/holdfast
ZSHDIR := $(PREFIX)/share/zsh/$(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)
DOCDIR := $(PREFIX)/share/doc/holdfast

# $(call install,PACKAGES): only what is missing, so that root is needed at most once.
define install
missing=()
for package in $(1); do
  [[ "$$(dpkg-query -W -f '$${db:Status-Status}' $$package 2>/dev/null)" == installed ]] || missing+=($$package)
done
if (( $${#missing[@]} )); then
  if (( $$(id -u) )); then echo "missing packages; run as root: apt-get install $${missing[*]}" >&2; exit 1; fi
  apt-get -q update
  apt-get -q install -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$${missing[@]}"
fi
endef

# $(call install-idle,PACKAGE,PACKAGES): PACKAGES, among them PACKAGE, which starts a service when it is installed, and at every boot:
# a policy that says no and update-rc.d prevent both.
define install-idle
if [[ "$$(dpkg-query -W -f '$${db:Status-Status}' $(1) 2>/dev/null)" != installed && "$$(id -u)" == 0 ]]; then
  if [[ ! -e /usr/sbin/policy-rc.d ]]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
  fi
  isNew=yes
fi
$(call install,$(2))
[[ -z "$${isNew:-}" ]] || update-rc.d $(1) disable
endef

# $(call sanitized,SANITIZER,FOLDER,ENVIRONMENT): every test but those of texts and of the bench, on ext4 and on XFS, with the
# sanitized daemon where one is needed. Sanitized code is slow: the oracle judges fewer operations. What it weighs is its own:
# anIdleChannelIsSmall is left out.
define sanitized
export HOLDFAST_SANITIZED=1
swift build --build-tests --sanitize=$(1) --scratch-path $(2)
for kind in ext4 xfs; do
  echo "make: $(1) sanitizer on $$kind"
  env $(3) HOLDFAST_BINARY=$(CURDIR)/$(2)/debug/holdfast HOLDFAST_ATOMICITY_OPERATIONS=10000 \
    scripts/on-filesystem $$kind swift test --skip-build --disable-xctest --sanitize=$(1) --scratch-path $(2) \
    --filter '$(or $(FILTER),.)' --skip 'anIdleChannelIsSmall|TidyTests' 2>&1 | tee $(2)/test.log \
    || { echo "make: FAILED under the $(1) sanitizer on $$kind"; scripts/failed-tests $(2)/test.log; failed=yes; }
done
[[ -z "$${failed:-}" ]]
endef

.PHONY: help run build install uninstall static deb test-deb test-systemd deb-packages container-packages test test-guest lint release build-packages test-packages bench bench-disturbance bench-curves bench-growth bench-snapshot allocations bench-packages guards sim sim-exhaustive sim-guards mutants torture torture-kill torture-stories torture-peers torture-build tsan asan fuzz soak clean browser-packages test-browser screenshots

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: build ## build and serve IMAGE, made sparse with SIZE bytes when it is not there
	@exec .build/release/holdfast serve $(if $(wildcard $(IMAGE)),,--create --size $(SIZE)) $(ARGS) $(IMAGE)

build: build-packages release ## install what the build needs and build the daemon in release mode

# The Swift runtime is part of this binary: it runs where there is no toolchain. BINARY=... says that there is one already.
static: build-packages
	@swift build -c release --product holdfast --static-swift-stdlib --scratch-path .build-static

install: $(if $(filter file,$(origin BINARY)),static) ## the daemon, units, manual pages, completions; DESTDIR= PREFIX=/usr/local SYSCONFDIR=/etc
	@umask 022
	at='$(DESTDIR)'
	install -D -m755 '$(BINARY)' "$$at$(PREFIX)/bin/holdfast"
	for page in man/*.[1-9]; do install -D -m644 $$page "$$at$(PREFIX)/share/man/man$${page##*.}/$${page##*/}"; done
	for unit in systemd/*.service systemd/*.socket; do
	  install -d "$$at$(PREFIX)/lib/systemd/system"
	  sed -e 's#/usr/bin/#$(PREFIX)/bin/#' -e 's#/etc/holdfast#$(SYSCONFDIR)/holdfast#' $$unit >"$$at$(PREFIX)/lib/systemd/system/$${unit##*/}"
	done
	install -D -m644 systemd/sysusers.d/holdfast.conf "$$at$(PREFIX)/lib/sysusers.d/holdfast.conf"
	install -d "$$at$(PREFIX)/share/bash-completion/completions" "$$at$(ZSHDIR)" "$$at$(PREFIX)/share/fish/vendor_completions.d"
	'$(BINARY)' completions bash | sed '1{/^#!/d}' >"$$at$(PREFIX)/share/bash-completion/completions/holdfast"
	'$(BINARY)' completions zsh >"$$at$(ZSHDIR)/_holdfast"
	'$(BINARY)' completions fish >"$$at$(PREFIX)/share/fish/vendor_completions.d/holdfast.fish"
	install -d "$$at$(DOCDIR)/docs" "$$at$(DOCDIR)/examples" "$$at$(SYSCONFDIR)/holdfast/conf.d"
	install -m644 README.md CHANGELOG.md LICENSE "$$at$(DOCDIR)"
	install -m644 docs/*.md "$$at$(DOCDIR)/docs"
	install -m644 config/*.toml "$$at$(DOCDIR)/examples"
	[[ -e "$$at$(SYSCONFDIR)/holdfast/holdfast.toml" ]] || install -m644 config/holdfast.toml "$$at$(SYSCONFDIR)/holdfast/holdfast.toml"

uninstall: ## take away what install put there; the configuration stays
	@at='$(DESTDIR)'
	rm -f "$$at$(PREFIX)/bin/holdfast" "$$at$(PREFIX)/lib/sysusers.d/holdfast.conf" "$$at$(ZSHDIR)/_holdfast" \
	  "$$at$(PREFIX)/share/bash-completion/completions/holdfast" "$$at$(PREFIX)/share/fish/vendor_completions.d/holdfast.fish"
	for page in man/*.[1-9]; do rm -f "$$at$(PREFIX)/share/man/man$${page##*.}/$${page##*/}"; done
	for unit in systemd/*.service systemd/*.socket; do rm -f "$$at$(PREFIX)/lib/systemd/system/$${unit##*/}"; done
	rm -rf "$$at$(DOCDIR)"

deb: deb-packages static ## a Debian package in .build/deb, checked by lintian
	@scripts/package-deb .build-static/release/holdfast .build/deb

test-deb: deb container-packages ## the Debian package in a fresh Debian: installed, started, upgraded, purged
	@scripts/test-deb .build/deb/*.deb

test-systemd: static container-packages ## the units under Debian's systemd: activation, reload, watchdog, stop
	@swift build --product holdfast
	scripts/test-systemd .build-static/release/holdfast .build/debug/holdfast

deb-packages:
	@$(call install,$(DEB_PACKAGES))

container-packages:
	@$(call install,$(CONTAINER_PACKAGES))

test: test-packages lint release ## every test but those that need their own target
	@mkdir -p .build
	swift test $(TEST_FLAGS) 2>&1 | tee $(TEST_LOG) || { echo "make test: FAILED"; scripts/failed-tests $(TEST_LOG); exit 1; }
	tests=$$(sed -nE 's/.*Test run with ([0-9]+) tests?.* passed.*/\1/p' $(TEST_LOG) | tail -n 1)
	if (( $${tests:-0} == 0 )); then echo "make test: no test was run" >&2; exit 1; fi
	echo "make test: $$tests tests passed"

lint: ## the format check
	@swift format lint --strict --recursive Package.swift Sources Tests Fuzz

release:
	@swift build -c release --product holdfast

build-packages:
	@$(call install,$(BUILD_PACKAGES))

test-packages:
	@$(call install-idle,prometheus,$(TEST_PACKAGES))

# A browser, for what `make test` skips without one.
browser-packages: test-packages
	@$(call install,chromium fonts-dejavu-core)

test-browser: browser-packages ## the dashboard in Chromium
	@swift test $(TEST_FLAGS) --filter DashboardTests

screenshots: browser-packages release ## the pictures of docs/
	@scripts/screenshots

guest-packages:
	@$(call install,$(GUEST_PACKAGES))

test-guest: guest-packages release ## a Linux guest whose own nbd.ko uses an export
	@scripts/test-guest

bench-packages:
	@$(call install-idle,nbd-server,$(BENCH_PACKAGES))

bench: bench-packages release ## holdfast beside other servers; ROUNDS=5 SECONDS_EACH=0.5 QUIET=10 CASES=qd16,fua SERVERS=holdfast,nbdkit ONE_CPU=1
	@swift build -c release --product holdfast-bench
	.build/release/holdfast-bench run --rounds $(or $(ROUNDS),5) \
	  $(if $(SECONDS_EACH),--seconds $(SECONDS_EACH)) $(if $(ALL),--all) $(if $(QUIET),--quiet $(QUIET)) $(if $(ONE_CPU),--one-cpu) \
	  $(if $(CASES),--cases '$(CASES)') $(if $(SERVERS),--servers '$(SERVERS)')
	$(if $(CASES)$(SERVERS)$(ONE_CPU),,.build/release/holdfast-bench curves $(if $(SECONDS_EACH),--seconds $(SECONDS_EACH)))

bench-disturbance: bench-packages release ## latency beside clients that make trouble; ROUNDS=5 SECONDS_EACH=0.4 SERVERS=holdfast,nbdkit NO_XFS=1 ELSEWHERE=1
	@swift build -c release --product holdfast-bench
	.build/release/holdfast-bench disturbance --rounds $(or $(ROUNDS),5) $(if $(SECONDS_EACH),--seconds $(SECONDS_EACH)) \
	  $(if $(SERVERS),--servers '$(SERVERS)') $(if $(NO_XFS),--no-xfs) $(if $(ELSEWHERE),--elsewhere)

bench-curves: bench-packages release ## throughput over queue depth and connections, latency over load; ROUNDS=3 SERVERS=holdfast,nbdkit
	@swift build -c release --product holdfast-bench
	.build/release/holdfast-bench curves --rounds $(or $(ROUNDS),3) $(if $(SECONDS_EACH),--seconds $(SECONDS_EACH)) \
	  $(if $(SERVERS),--servers '$(SERVERS)')

bench-growth: bench-packages release ## what grows with depth, connections, size, extents, locks; ROUNDS=3 ONLY=depth,size SERVERS=holdfast,nbdkit
	@swift build -c release --product holdfast-bench
	swift build -c release --product holdfast-bench-locks
	.build/release/holdfast-bench growth --rounds $(or $(ROUNDS),3) $(if $(SECONDS_EACH),--seconds $(SECONDS_EACH)) \
	  $(if $(ONLY),--only '$(ONLY)') $(if $(SERVERS),--servers '$(SERVERS)')

bench-snapshot: test-packages release ## how long writers wait for a snapshot of 10 GiB, on XFS and btrfs; ROUNDS=5 EXTENTS=9000 KINDS=xfs,btrfs
	@swift build -c release --product holdfast-bench
	.build/release/holdfast-bench snapshot --rounds $(or $(ROUNDS),5) $(if $(EXTENTS),--extents $(EXTENTS)) \
	  $(if $(KINDS),--kinds $(KINDS))

allocations: build-packages release ## the server's allocations per request; CASES=read STACKS=3 shows where
	@swift build -c release --product holdfast-bench
	swift build -c release --product CountAllocations
	.build/release/holdfast-bench allocations $(if $(CASES),--cases '$(CASES)') $(if $(STACKS),--stacks $(STACKS))

bench-locks: build-packages ## the figures of docs/range-locks.md
	@swift run -c release holdfast-bench-locks

syscalls: test-packages release ## system calls per 4k read, beside nbdkit
	@scripts/syscalls-per-read

guards: test-packages ## each guard of the invariants: 100 runs with it, up to 10 without
	@HOLDFAST_GUARD_RUNS=100 swift test $(TEST_FLAGS) --filter 'GuardTests|trimIsRoundedInward|shortWriteIsContinued|probeBetweenPositionAndRead'

torture-build: test-packages release
	@swift build -c release --product holdfast-torture
	swift build -c release --product TortureFaults

# $(call torture,EXTRA ARGUMENTS): Holdfast on a new file system at /tmp, judged strictly.
TORTURE_SERVER := $(CURDIR)/.build/release/holdfast serve --create --size 1G --unix /tmp/torture.sock --log-level error /tmp/torture.img >/dev/null
define torture
for kind in $(or $(KINDS),ext4 xfs); do
  echo "make: torture on $$kind"
  scripts/on-filesystem $$kind .build/release/holdfast-torture 'nbd+unix:///?socket=/tmp/torture.sock' --strict \
    --region 1M --length 16K --connections $(or $(CONNECTIONS),16) $(if $(SEED),--seed $(SEED)) $(1) \
    --server-command '$(TORTURE_SERVER)'
done
endef

torture: torture-build ## overlapping requests at holdfast, judged, on ext4 and XFS; OPERATIONS=10000000 CONNECTIONS=16 SEED=1 KINDS=xfs
	@$(call torture,--operations $(or $(OPERATIONS),10000000))

torture-kill: torture-build ## the same with SIGKILLs of the daemon; KILLS=20 OPERATIONS=2000000
	@$(call torture,--operations $(or $(OPERATIONS),2000000) --kills $(or $(KILLS),20))

torture-stories: test-packages ## the scenarios, each with its guard and without it, on ext4 and XFS; RUNS=100
	@swift build --product holdfast
	swift build --product holdfast-torture
	swift build --product TortureFaults
	for kind in $(or $(KINDS),ext4 xfs); do
	  echo "make: scenarios on $$kind"
	  scripts/on-filesystem $$kind scripts/torture-stories $(or $(RUNS),100)
	done

torture-peers: bench-packages torture-build ## what holdfast-torture finds in nbdkit, qemu-nbd and nbd-server; SECONDS_EACH=10
	@for kind in $(or $(KINDS),ext4 xfs); do
	  echo "make: peers on $$kind"
	  scripts/on-filesystem $$kind scripts/torture-peers $(or $(SECONDS_EACH),10)
	done

mutants: test-packages ## each bug of Mutants/ has to be caught by the test that it names; ONLY=core- UNDER=nice
	@UNDER='$(UNDER)' scripts/mutants '$(ONLY)'

tsan: test-packages ## the tests under ThreadSanitizer, cold reads by threads; on ext4 and XFS; FILTER=ColdReadTests
	@$(call sanitized,thread,.build-tsan,HOLDFAST_COLD_READS=threads TSAN_OPTIONS=halt_on_error=1:suppressions=$(CURDIR)/scripts/tsan.suppressions)

# The Swift runtime keeps what it never frees (metadata): leaks are not looked for.
asan: test-packages ## the tests under AddressSanitizer, cold reads by io_uring; on ext4 and XFS; FILTER=ColdReadTests
	@$(call sanitized,address,.build-asan,ASAN_OPTIONS=detect_leaks=0)

fuzz: build-packages ## the four fuzz targets with AddressSanitizer, and what they cover; SECONDS=60 for each, TARGETS='options server'
	@scripts/fuzz $(if $(filter command line,$(origin SECONDS)),$(SECONDS),60) $(TARGETS)

soak: build-packages release ## daemons under load, bad clients and faults; memory, descriptors and threads stay flat; SECONDS=1800
	@swift build -c release --product holdfast-soak
	.build/release/holdfast-soak --seconds $(if $(filter command line,$(origin SECONDS)),$(SECONDS),1800)

sim: build-packages ## deterministic simulation: seeds, then power cuts; SEEDS=10000 FROM=1 POWER_CUT_SEEDS=1000 JOBS=2
	@swift build -c release --product holdfast-sim
	.build/release/holdfast-sim --seeds $(or $(SEEDS),10000) --from $(or $(FROM),1) $(if $(JOBS),--jobs $(JOBS))
	.build/release/holdfast-sim --power-cuts --seeds $(or $(POWER_CUT_SEEDS),1000) --from $(or $(FROM),1) $(if $(JOBS),--jobs $(JOBS))

sim-exhaustive: build-packages ## all workloads of up to three requests on three blocks, in every order, with every crash
	@swift build -c release --product holdfast-sim
	.build/release/holdfast-sim --exhaustive $(if $(JOBS),--jobs $(JOBS))

sim-guards: build-packages ## each guard taken out: the first seed that notices, run twice
	@swift build --product holdfast-sim
	scripts/sim-guards .build/debug/holdfast-sim

clean: ## remove everything that was built
	@rm -rf .build .build-static .build-tsan .build-asan .build-fuzz
