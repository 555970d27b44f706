GO ?= go
export CGO_ENABLED ?= 1

.PHONY: build demo setup test check-model bench bench-sync bench-keep bench-flip lint check soak fuzz clean
build: ## the one binary, bin/mailgate
	CGO_ENABLED=0 $(GO) build -o bin/mailgate ./cmd/mailgate

demo: build ## OLD and NEW in memory, the gateway, a tour; TOUR=only ends behind it
	bin/mailgate demo $(if $(filter only,$(TOUR)),--tour-only)

setup: ## real mail servers and clients for the tests
	scripts/setup.sh

# SQLite as translated from C does not run under the race detector, and its memory is not Go's: it took most of the time of the tests.
# The driver and all of ours does.
UNRACED := -race=false -d=checkptr=0
RACE := -race '-gcflags=modernc.org/sqlite/lib=$(UNRACED)' '-gcflags=modernc.org/libc/...=$(UNRACED)' '-gcflags=modernc.org/memory=$(UNRACED)'

# Those that take longest begin first: two packages run at once, and one that comes last would run alone.
test: setup ## every test
	TMPDIR=$$(scripts/tmp.sh) MAILGATE_REQUIRE_LAB=1 $(GO) test $(RACE) -timeout 30m ./syncer ./cmd/mailgate . ./...

bench: build ## against nginx, Dovecot and a bare relay, ten minutes; ROUNDS=1 takes two
	scripts/setup.sh bench
	$(GO) build -o bin/bench ./mailtest/bench
	bin/bench $(if $(ROUNDS),-rounds $(ROUNDS)) $(BENCH)
	$(MAKE) bench-sync
	$(MAKE) bench-keep
	$(MAKE) bench-flip

bench-sync: build ## syncing beside a raw copy and mbsync, in memory and on disk, five minutes
	scripts/setup.sh
	TMPDIR=/dev/shm MAILGATE_BENCH=$(CURDIR)/bin/mailgate $(GO) test -tags bench ./mailtest/syncbench -count 1 -timeout 30m -run TestSync -v
	MAILGATE_LAB_FSYNC=always MAILGATE_BENCH=$(CURDIR)/bin/mailgate $(GO) test -tags bench ./mailtest/syncbench -count 1 -timeout 30m -run TestSync -v

bench-keep: build ## keeping mailboxes equal: lag, memory and CPU at rest, an ill NEW; ten minutes; PARTS=lag,ill,rest for some
	scripts/setup.sh
	TMPDIR=/dev/shm MAILGATE_BENCH=$(CURDIR)/bin/mailgate MAILGATE_BENCH_PARTS=$(PARTS) $(GO) test -tags bench ./mailtest/keepbench -count 1 -timeout 30m -run TestKeep -v

bench-flip: build ## what clients feel of a flip of 20,000 messages, and how long a wave of 100 takes; five minutes
	scripts/setup.sh
	TMPDIR=/dev/shm MAILGATE_BENCH=$(CURDIR)/bin/mailgate MAILGATE_BENCH_PARTS=flip,wave $(GO) test -tags bench ./mailtest/keepbench -count 1 -timeout 30m -run TestKeep -v

lint:
	@out=$$(gofmt -l .); [ -z "$$out" ] || { echo "gofmt: $$out"; exit 1; }
	$(GO) vet ./...
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

check: lint test

check-model: ## every state of the flip protocol with two nodes and two faults, and what each of its rules is for: five minutes, 2 GB
	MAILGATE_MODEL=whole $(GO) test ./cutover/protocol -count 1 -timeout 1h -v

SEEDS ?= 3000
FLIPS ?= 1000
soak: setup ## random faults and random work, a week of fifty people and a thousand flips of people at work on four pairs of hosts: some hours, SEEDS=10000 and FLIPS=10000 for longer
	MAILGATE_REQUIRE_LAB=1 MAILGATE_SEEDS=$(SEEDS) $(GO) test -timeout 10h -parallel 24 -run 'TestFaults$$|TestFaultsBothSides' ./syncer
	MAILGATE_REQUIRE_LAB=1 MAILGATE_SEEDS=$$(( $(SEEDS) / 10 )) $(GO) test -timeout 10h -run 'TestSeedsOnHosts' ./syncer
	MAILGATE_REQUIRE_LAB=1 MAILGATE_SOAK=1 $(GO) test -timeout 10h -run 'TestBig$$' ./syncer
	MAILGATE_REQUIRE_LAB=1 $(GO) test -timeout 10h -count=$$(( $(SEEDS) / 100 )) -run 'TestKeptUnderWork' ./cmd/mailgate
	MAILGATE_REQUIRE_LAB=1 MAILGATE_SOAK=1 $(GO) test -timeout 10h -v -run 'TestWeek$$' ./cmd/mailgate
	MAILGATE_REQUIRE_LAB=1 MAILGATE_SOAK=1 MAILGATE_FLIPS=$(FLIPS) $(GO) test -timeout 48h -v -run 'TestFlipsLoseNothing$$|TestFlipsOverNodesLoseNothing$$' ./cmd/mailgate
	$(GO) test ./syncer/merge -timeout 10h -run TestConverges -rapid.checks=$$(( $(SEEDS) * 10 ))

fuzz: ## a minute for each parser, FUZZTIME=10m for more
	@set -e; for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
		echo "$$p $$f"; $(GO) test -run xxx -fuzz "^$$f\$$" -fuzztime $(or $(FUZZTIME),60s) $$p; done; done

clean:
	rm -rf bin
