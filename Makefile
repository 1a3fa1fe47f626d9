# What a newcomer needs: make run, make test. `make help` lists the rest.

GO      ?= go
NPM     ?= npm
TOOLS   := $(CURDIR)/bin/tools
TIMEOUT ?= 60m
FUZZ    ?= 10s
SOAK    ?= 200000
SOAK_LOAD ?= 30m
SOAK_CLUSTER ?= 20
FIVE_SITES ?= 10
BENCH   ?= direct --users 1000 --window 8

# The race detector needs a C compiler; without one the tests run all the same.
RACE := $(if $(filter 1,$(shell $(GO) env CGO_ENABLED)),-race)

# These tests play so many random schedules that -short plays a sixteenth of them. So make test runs everything
# with -short under the race detector, which is several times slower, and these once more without it.
MANY_FILES = $(shell grep -rl --include='*_test.go' 'seeds[.]Many' .)
MANY       = $(sort $(dir $(MANY_FILES)))
MANY_TESTS = $(shell awk '/^func / { name = $$2; sub(/[^A-Za-z0-9_].*/, "", name) } /seeds[.]Many/ && !/^\/\// { print name }' $(MANY_FILES) | sort -u | paste -sd'|')

# Tests without vet, which make lint runs, and without what only a debugger reads. Garbage is collected less often than
# by default: the tests' heaps are small, and a tenth of their time went there.
GO_TEST := GOGC=400 $(GO) test -vet=off -ldflags=-w -timeout $(TIMEOUT)

# Three packages at a time, since some of them mostly wait for processes and sockets.
RACE_TEST     := $(GO_TEST) -p 3 $(if $(RACE),$(RACE) -short)
ALL_SCHEDULES  = $(if $(RACE),$(GO_TEST) -run '^($(MANY_TESTS))$$' -skip '$(CASES)' $(MANY)) # make conformance has run the cases

# The Go tests that run the cases which all SDKs are held to.
CASES = ^(TestWorkedCases|TestClockIsSet|TestFoldCases|TestCommandCases|TestVectors|TestReading|TestScenarios|TestWriteTranscripts)$$

# Go files that people write.
SOURCES := git ls-files -co --exclude-standard '*.go' ':!*pb/*'

# What the chat page is built from.
PAGE = $(shell find web/src web/scripts sdk/ts/src -type f) sdk/ts/scripts/browsers.mjs web/index.html web/vite.config.js web/package.json web/package-lock.json

# Folders with what .proto files give; each has a template in tools.
GENERATED := wire/wirepb content/contentpb bus/link/linkpb route/routepb home/homepb sdk/ts/src/wire/pb sdk/ts/src/content/pb

# Writes what the .proto files give to the folder that follows, which stands for tools.
BUF := for template in buf.gen.yaml buf.content.yaml buf.link.yaml buf.route.yaml buf.home.yaml buf.ts.yaml buf.ts.content.yaml; do npx --no-install buf generate --template $$template -o

.PHONY: help build run cluster test test-embedded test-page conformance lint fmt generate fuzz soak soak-load soak-cluster five-sites bench bench-cluster storm check-go check-vet check-wire check-tidy check-deploy check-ts clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: web/dist/index.html ## build bin/pim, with the chat page in it if this machine has Node
	$(GO) build -o bin/pim ./cmd/pim

run: build ## start a server on ./pim-data, 127.0.0.1:7400 and :7401
	./bin/pim serve --data ./pim-data --dev-login

# Without Node, or without the packages and a registry, pim is built all the same; its page says what is missing.
web/dist/index.html: $(PAGE)
	@if ! command -v $(NPM) >/dev/null; then echo "no Node on this machine: pim has no chat page"; \
	elif ! $(MAKE) -s web/node_modules/.stamp; then echo "npm cannot fetch what the chat page is built with: pim has no chat page, or the one it had"; \
	else cd web && $(NPM) run -s build; fi

cluster: build ## three nodes of pim and three of Cassandra on this machine, until Ctrl-C
	@tools/cluster.sh

test: conformance test-page ## run all tests, with the race detector, and all random schedules without it; starts a node of Cassandra meanwhile
	@test -n "$(RACE)" || echo "no C compiler: testing without the race detector"
	$(RACE_TEST) ./store/cql ./... # the slowest one first: it mostly waits, and is not left alone at the end
	$(ALL_SCHEDULES)

test-embedded: conformance test-page ## run all tests but those that need a node of Cassandra
	$(RACE_TEST) $$($(GO) list ./... | grep -vE '/(store/cql|store/migrate|imtest/cluster)$$')
	$(ALL_SCHEDULES)

test-page: build web/node_modules/.stamp ## the chat page in Debian's Chromium, against a real server; leaves screenshots in web/shots
	web/scripts/test.sh

# Each test notes which cases of the common files it has run.
conformance: sdk/ts/node_modules/.stamp ## run the cases that all SDKs are held to, in Go and TypeScript, and the TypeScript SDK's other tests; fails if a language leaves a case out
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && export PIM_CONFORMANCE="$$tmp" PIM_TRANSCRIPTS="$$tmp/transcripts.jsonl" && \
	  $(GO) test -count 1 -run '$(CASES)' . ./wire ./content ./imtest/sim && \
	  (cd sdk/ts && $(NPM) test --silent) && \
	  node --test --test-reporter=dot tools/*.test.mjs && \
	  node tools/conformance.mjs "$$tmp"

# make -j2 lint does two things at a time. What compiles much waits for each other: side by side, two runs of go compile
# the same packages twice. And nothing looks at package web while check-ts writes what it embeds.
lint: $(TOOLS)/.stamp check-ts check-go check-wire check-tidy check-deploy ## formatting, vet, staticcheck, generated files
	$(GO) test -vet=off -run 'TestConfigurationDoc|TestImports|TestEveryPackage|TestFolders|TestFiles' . ./cmd/pim

check-go: check-vet
	@out=$$($(TOOLS)/gofumpt -l $$($(SOURCES))); \
	  test -z "$$out" || { echo "not formatted, run make fmt:"; echo "$$out"; exit 1; }
	$(TOOLS)/staticcheck ./...

check-vet: $(TOOLS)/.stamp check-ts
	$(GO) vet ./...

fmt: $(TOOLS)/.stamp sdk/ts/node_modules/.stamp web/node_modules/.stamp ## format every Go and TypeScript file
	$(TOOLS)/gofumpt -w $$($(SOURCES))
	cd sdk/ts && $(NPM) run -s format
	cd web && $(NPM) run -s format

generate: tools/node_modules/.stamp sdk/ts/node_modules/.stamp ## write what is generated from .proto files, and docs/configuration.md
	cd tools && $(BUF) . || exit 1; done
	PIM_UPDATE=1 $(GO) test -count 1 -run TestConfigurationDoc ./cmd/pim

# The generated code must be what the .proto files give.
check-wire: $(TOOLS)/.stamp tools/node_modules/.stamp sdk/ts/node_modules/.stamp
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	  (cd tools && $(BUF) "$$tmp/tools" || exit 1; done) && \
	  for f in $(GENERATED); do \
	    diff -q -x '*.proto' "$$tmp/$$f" $$f || { echo "run make generate"; exit 1; }; \
	  done

check-tidy: check-ts
	$(GO) mod tidy -diff
	@! grep -l '"resolved"' tools/package-lock.json sdk/ts/package-lock.json web/package-lock.json || \
	  { echo "names a registry: npm config set omit-lockfile-registry-resolved true"; exit 1; }

check-ts: sdk/ts/node_modules/.stamp web/node_modules/.stamp ## check types, formatting and the bundles' sizes of the TypeScript SDK and the chat page
	cd sdk/ts && $(NPM) run -s check && $(NPM) run -s build
	cd web && $(NPM) run -s check && $(NPM) run -s build

# -count 1: the go command does not see that a file outside the module has changed.
check-deploy: $(TOOLS)/.stamp ## check deploy/ against the schemas and parsers of what reads it
	cd tools/deploycheck && $(GO) vet ./... && $(GO) test -count 1 ./...

soak: ## random schedules of faults, many of them: SOAK=200000 virtual ones, SOAK/100 on real sockets
	PIM_SCHEDULES=$(SOAK) $(GO) test $(RACE) -count 1 -timeout 4h -run TestSchedules -v ./imtest/sim
	PIM_REAL_SCHEDULES=$$(( $(SOAK) / 100 )) $(GO) test $(RACE) -count 1 -timeout 4h -v ./imtest/real

soak-load: ## real clients under load for SOAK_LOAD (30m), and a server that is killed again and again
	PIM_SOAK_LOAD=$(SOAK_LOAD) PIM_SOAK_RATE=$${PIM_SOAK_RATE:-1000} $(GO) test -count 1 -timeout 24h -run 'TestSoak$$' -v ./imtest/soak

soak-cluster: ## three nodes over three of Cassandra, and SOAK_CLUSTER (20) random schedules of faults that last up to 15 s; a snapshot that is put back
	PIM_CLUSTER_SCHEDULES=$(SOAK_CLUSTER) $(GO) test -count 1 -timeout 24h -run TestLongSchedules -v ./imtest/cluster
	PIM_SNAPSHOT=1 $(GO) test -count 1 -run TestSnapshotIsPutBack -v ./store/cql

# The whole of it takes as long as the pairs of sites need to start again.
five-sites: ## five sites, 30 ms apart, of which two die at a time: FIVE_SITES (10) pairs; prints the table of docs/cluster.md
	PIM_FIVE_SITES=$(FIVE_SITES) $(GO) test -count 1 -timeout 4h -run TestFiveSites -v ./imtest/sites

# A process has at most 20,000 open files on many systems, so the clients are in several, and a gateway takes at most 19,000.
storm: ## five gateways, STORM_CONNECTIONS (50000) clients, messages that flow, and SIGKILL of one gateway and a minute later of another: what becomes of the others. STORM_UNPROTECTED=1: without accept rates and LBS. Other settings: imtest/storm/storm_test.go
	STORM_CONNECTIONS=$${STORM_CONNECTIONS:-50000} CASSANDRA_JVM=-XX:+UseSerialGC $(GO) test -vet=off -count 1 -timeout 3h -run 'TestStorm$$' -v ./imtest/storm

fuzz: ## run every fuzz target for FUZZ (10s)
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZ) $$pkg; \
	  done; \
	done

# A server of its own, on other ports than make run, with new data.
bench: build ## measure: make bench BENCH='group --users 200'
	@set -e; data=$$(mktemp -d); url=http://127.0.0.1:7410; \
	  ./bin/pim serve --data $$data --listen 127.0.0.1:7410 --listen-tcp 127.0.0.1:7411 --log-level warn --drain-window 0s --no-consent >/dev/null & pid=$$!; \
	  trap 'kill $$pid; wait $$pid || true; rm -rf "$$data"' EXIT; \
	  until ./bin/pim send --server $$url --data $$data --as bench --to bench ready >/dev/null 2>&1; do kill -0 $$pid; sleep 0.2; done; \
	  ./bin/pim bench $(BENCH) --server $$url --data $$data

# The JVM compiles as it does in production, see CASSANDRA_JVM in tools/cassandra.sh.
bench-cluster: ## measure one, two and three nodes over one and three of Cassandra; prints the table of docs/benchmarks.md
	CASSANDRA_JVM=-XX:+UseSerialGC PIM_BENCH_CLUSTER=1 $(GO) test -count 1 -timeout 1h -run TestCosts -v ./imtest/sites

clean: ## remove what was built; the data stays
	rm -rf bin tools/node_modules sdk/ts/node_modules sdk/ts/build sdk/ts/dist web/node_modules web/dist web/shots

# Tools live in a module of their own, so that what they need is not what pim needs.
$(TOOLS)/.stamp: tools/go.mod tools/go.sum
	cd tools && GOBIN=$(TOOLS) $(GO) install tool
	@touch $@

tools/node_modules/.stamp: tools/package.json tools/package-lock.json
	cd tools && $(NPM) ci --no-audit --no-fund --loglevel=error
	@touch $@

web/node_modules/.stamp: web/package.json web/package-lock.json
	cd web && $(NPM) ci --no-audit --no-fund --loglevel=error
	@touch $@

sdk/ts/node_modules/.stamp: sdk/ts/package.json sdk/ts/package-lock.json
	cd sdk/ts && $(NPM) ci --no-audit --no-fund --loglevel=error
	@touch $@
