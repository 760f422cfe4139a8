# Tegami. `make` lists what there is to do; each target says what it does.

SHELL := bash
.SHELLFLAGS := -e -u -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules

GO ?= go
GOFLAGS ?=
# Arguments for `make run` and `make figures`, as in:
# make run ARGS="--listen 127.0.0.1:7500"
ARGS ?=
# Suites for `make suite`, as in: make suite NAME="e2e crash"
NAME ?= unit

# Servers for `make stack` and `make stack-down`, as in:
# make stack SERVICES="redis kafka"
SERVICES ?= redis hbase kafka etcd
# WIPE=1 has `make stack-down` and `make cluster-down` remove data, GRACEFUL=1 has
# `make stack-down` ask servers to end.
export WIPE ?=
export GRACEFUL ?=
# The node for `make node-up` and `make node-down`, as in:
# make node-down NODE=talk-2
NODE ?=

# Everything is built alike, so that it is built once: static, and without the
# paths of this machine. What the race detector needs is set where it is used.
export CGO_ENABLED := 0
export GOFLAGS := $(strip $(GOFLAGS) -trimpath)

SUITES := $(GO) run -C tools ./suites -C ..

# Go decides what has to be built again.
.PHONY: bin/tegami

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-zA-Z_-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: bin/tegami ## Build the server and run it on 127.0.0.1:7400 with its data in ./data
	@exec bin/tegami serve --data data $(ARGS)

.PHONY: build
build: bin/tegami ## Build bin/tegami: one static binary

bin/tegami: | requirements
	@$(GO) build -o $@ ./cmd/tegami

.PHONY: check
check: requirements ## For the working day: build, vet, lint and unit tests, within 3 minutes once built
	@$(SUITES) check

.PHONY: test
test: requirements-test ## Every test once, real processes included: a good half hour
	@$(SUITES) test

.PHONY: suite
suite: requirements-test ## Chosen suites only: make suite NAME="e2e crash"
	@$(SUITES) $(NAME)

.PHONY: unit lint e2e crash power hostile stores hybrid events correct worker fleet planted test-cluster deploy
unit lint: requirements
	@$(SUITES) $@
e2e crash power hostile stores hybrid events correct worker fleet planted: requirements-test
	@$(SUITES) $@
deploy: requirements
	@$(SUITES) $@
test-cluster: requirements-test
	@$(SUITES) cluster

.PHONY: soak
SOAK ?= 1h
soak: requirements-test ## The faults of `make hybrid`, at random and as long as they may be, for SOAK (1h), talk nodes restarted in turn for as long, and the faults of the cluster at full length
	@scripts/requirements.sh redis kafka hbase etcd
	@TEGAMI_TEST_SOAK=$(SOAK) $(GO) test -tags=soak -count=1 -timeout=0 -v -run=TestSoak -p=1 ./test/hybrid ./test/cluster
	@$(GO) test -tags=soak -count=1 -timeout=0 -v -run='TestNothingIsLost|TestTwoOwners' ./test/cluster

.PHONY: fuzz
FUZZTIME ?= 60s
fuzz: requirements ## Each fuzz target for FUZZTIME (60s)
	@$(SUITES) -fuzztime $(FUZZTIME) fuzz

.PHONY: format
format: requirements ## Format the sources as lint wants them
	@$(GO) build -C tools/lint -o ../../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@bin/golangci-lint fmt ./...

.PHONY: generate
generate: requirements ## Write the generated code again
	@$(GO) run -C tools ./protogen ..

.PHONY: checkgenerate
checkgenerate: requirements ## Fail when generated code is stale; writes nothing
	@$(GO) run -C tools ./protogen -check ..

.PHONY: stack stack-down
stack: ## Start Redis, HBase, Kafka and etcd as local processes in .stack, or SERVICES="redis" only
	@scripts/stack/up.sh $(SERVICES)
stack-down: ## Stop them; WIPE=1 removes their data, GRACEFUL=1 lets each end by itself
	@scripts/stack/down.sh $(SERVICES)

.PHONY: cluster cluster-down node-up node-down
cluster: bin/tegami ## Start 2 gateways, 3 talk nodes, a worker and their servers in .cluster
	@scripts/cluster/up.sh
cluster-down: ## Stop them, and the servers that were started for them; WIPE=1 removes their data
	@scripts/cluster/down.sh
node-up: bin/tegami ## Start one node of it, also a further one: make node-up NODE=talk-4
	@scripts/cluster/up.sh "$(NODE)"
node-down: ## Stop one node of it by SIGTERM: make node-down NODE=talk-2
	@scripts/cluster/down.sh "$(NODE)"

.PHONY: corpus
corpus: ## Fetch the real conversations that `tegami replay` plays, to ./corpus
	@scripts/corpus.sh

.PHONY: figures
figures: bin/tegami ## Measure what docs/performance.md reports, three runs of everything
	@scripts/figures.sh --strict $(ARGS)

.PHONY: figures-hybrid
figures-hybrid: bin/tegami ## Measure it on Kafka, HBase and Redis; ARGS="pages rate" measures some of it
	@scripts/requirements.sh redis kafka hbase
	@scripts/figures-hybrid.sh $(ARGS)

.PHONY: clean
clean: ## Remove what was built; ./data stays
	@rm -rf bin coverage.out
	@find . -name '*.test' -type f -not -path './.git/*' -delete

# What the targets need beside Go. As root, and in CI, it is installed;
# otherwise the one command to type is printed.
.PHONY: requirements requirements-test
requirements:
	@scripts/requirements.sh build
requirements-test:
	@scripts/requirements.sh test
