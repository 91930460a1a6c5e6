# kbisect. `make` builds; `make help` lists the rest.

SHELL := /bin/bash
.DEFAULT_GOAL := build

GO       ?= go
BIN      := bin
EMBEDDED := vmimage/embedded
TOOLS    := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kbisect-tools
GOLANGCI := $(TOOLS)/golangci-lint-v2.15.0
GOVULNCHECK := $(TOOLS)/govulncheck-v1.9.0
BUSYBOX  ?= $(shell command -v busybox)
GOFILES  := $(shell find cmd internal kconfigs vmimage -name '*.go' -not -name '*_test.go')
REPRO    := $(wildcard vmimage/reproducers/*.c vmimage/reproducers/*.h vmimage/reproducers/build.sh)

.PHONY: help build deps browser test unit lint fuzz vuln refute e2e demo bench simulate versions ladder mutants clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

build: $(BIN)/orchestrator ## build bin/orchestrator, one file with the guest image inside

$(BIN)/orchestrator: $(GOFILES) go.mod go.sum $(EMBEDDED)/image.cpio.zst $(wildcard kconfigs/*.config internal/store/migrations/*.sql internal/report/templates/*)
	$(GO) build -trimpath -o $@ ./cmd/orchestrator

$(BIN)/guest-agent: $(wildcard cmd/guest-agent/*.go internal/agent/*.go internal/agentproto/*.go) go.mod
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w -buildid=' -o $@ ./cmd/guest-agent

$(BIN)/repro: $(REPRO)
	@mkdir -p $(BIN)
	sh vmimage/reproducers/build.sh $@

$(EMBEDDED)/image.cpio.zst: $(BIN)/guest-agent $(BIN)/repro $(wildcard vmimage/*.go vmimage/mkimage/*.go)
	@test -n "$(BUSYBOX)" || { echo "make: busybox is missing: run deploy/install-deps" >&2; exit 1; }
	$(GO) run ./vmimage/mkimage -agent $(BIN)/guest-agent -repro $(BIN)/repro -busybox $(BUSYBOX) -out $(EMBEDDED)

deps: ## install what is missing (as root; otherwise print the command)
	@deploy/install-deps

browser: deps
	@deploy/install-deps --tests || echo "make: no browser; the test that needs one is skipped" >&2

test: deps browser build ## everything: gofmt, vet, lint, unit tests with -race, e2e on real kernels
	@tests/run-all

unit: ## unit tests only: no root, no network, no QEMU
	$(GO) test -race -gcflags="modernc.org/...=-race=false" ./...

lint: $(GOLANGCI) ## gofmt, go vet and golangci-lint
	@out=$$(gofmt -l cmd internal kconfigs vmimage tests); test -z "$$out" || { echo "gofmt: $$out" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags e2e ./tests/...
	$(GOLANGCI) run --allow-parallel-runners ./...

fuzz: ## every fuzz target for FUZZ executions each (500)
	@tests/fuzz $(FUZZ)

refute: build ## take out the defences of SECURITY.md one by one, and see that their tests fail (15 minutes)
	$(GO) run ./tests/refute

vuln: $(GOVULNCHECK) ## known vulnerabilities of the modules used; needs the Go vulnerability database, or VULNDB=file:///A-COPY
	@out=$$($(GOVULNCHECK) $(VULNDB:%=-db=%) ./... 2>&1); status=$$?; case $$out in \
	*"fetching vulnerabilities"*) echo "make: nothing was checked: the Go vulnerability database cannot be reached; VULNDB=file:///DIR takes a copy" >&2;; \
	*) echo "$$out";; esac; exit $$status

$(GOVULNCHECK):
	@mkdir -p $(TOOLS)
	GOFLAGS= GOBIN=$(TOOLS) $(GO) install golang.org/x/vuln/cmd/govulncheck@v1.9.0
	mv $(TOOLS)/govulncheck $@

$(GOLANGCI):
	@mkdir -p $(TOOLS)
	GOFLAGS= GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	mv $(TOOLS)/golangci-lint $@

e2e: build ## real git, real kernels, real QEMU
	$(GO) test -tags e2e -count=1 -timeout 80m -v ./tests

versions: build ## build and boot the profiles on 5.10, 6.1, 6.12 and 7.3 (an hour)
	@tests/versions

ladder: build ## all tests on Debian's kernels from 5.10 on, beside what is predicted (tests/ladder.md)
	@tests/ladder

mutants: build ## build and test every mutant of 6.1 and 6.12 and print who notices it (hours)
	@tests/mutants/run

simulate: ## the search engine in simulated worlds (tests/simulation/README.md; 10 minutes)
	@$(GO) run ./tests/simulation > $(BIN)/simulation.md; status=$$?; cp $(BIN)/simulation.md tests/simulation/README.md; exit $$status

bench: build ## time it beside git bisect run, a loop over a series and booted guests (tests/bench; 40 minutes)
	@$(GO) run ./tests/bench

demo: deps build ## the main job: a planted series tested and bisected on a real kernel
	@tests/demo

clean: ## remove what make built; caches stay
	rm -rf $(BIN) $(EMBEDDED)/*.cpio.zst $(EMBEDDED)/tests.json
