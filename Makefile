# make help lists the targets.
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
BIN      := $(CURDIR)/bin
KUBE     := $(BIN)/kube
# The components of Kubernetes that are linked to the one binary, e2e/kube.
KUBE_COMPONENTS := kube-apiserver etcd kubectl kube-controller-manager kube-scheduler kube-proxy kubelet
FUZZTIME ?= 20s
BENCHCOUNT ?= 5

export CGO_ENABLED ?= 0
export KUBEBUILDER_ASSETS ?= $(KUBE)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / {printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST) | if [ -t 1 ] && [ -z "$${NO_COLOR:-}" ]; then cat; else sed 's/\x1b\[[0-9;]*m//g'; fi

.PHONY: demo
demo: kube account-b build helm node-images $(if $(filter 0,$(shell id -u)),node-packages) ## show the main job on a real Kubernetes (DEMO_KEEP=1 leaves it running)
	@go run ./e2e/demo

.PHONY: test
test: unit control-plane e2e kind-test browser images-test ## run all tests
	@echo; echo "make test: unit and property tests, the control-plane lane on a real kube-apiserver, S3, IAM and STS, the end-to-end suite on real Pods, what of kind can run without Docker, the page in Chromium, and the images, passed."

.PHONY: unit
unit: $(BIN)/gotestsum ## unit and property tests, in seconds
	@$(BIN)/gotestsum --format pkgname --format-hide-empty-pkg -- ./pkg/... ./cmd/...

.PHONY: race
race: $(BIN)/gotestsum ## the same under the race detector, with fewer random Pods (needs a C compiler)
	@CGO_ENABLED=1 $(BIN)/gotestsum --format pkgname --format-hide-empty-pkg -- -race -short ./pkg/... ./cmd/...

.PHONY: control-plane
control-plane: kube account-b build tofu helm cert-manager krew awscli $(BIN)/monitoring-crds $(BIN)/gotestsum ## what needs no Pods: the chart, Account B's documents, the plugin's packages, and the webhook as a process on a real kube-apiserver
	@$(BIN)/gotestsum --format testname --hide-summary=skipped -- -count=1 -timeout 45m -p 1 ./e2e/lab ./e2e/load ./e2e/scale ./e2e/chaos ./e2e/chart ./e2e/terraform ./e2e/plugin ./e2e/suite

# How much is done at least, and how long it may take; a CHAOS_SEED repeats the order of the faults.
chaos: export CHAOS_PODS ?= 10000
chaos: export CHAOS_CHANGES ?= 1000
chaos: export CHAOS_TIME ?= 30m
soak: export CHAOS_PODS ?= 100000
soak: export CHAOS_CHANGES ?= 10000
soak: export CHAOS_TIME ?= 4h

.PHONY: chaos soak
chaos: kube build ## faults under load, about 10 minutes (CHAOS_SEED, CHAOS_PODS, CHAOS_CHANGES, CHAOS_TIME, CHAOS_MODE)
	@go test ./e2e/chaos -run TestChaos -count=1 -v -timeout 60m

soak: kube build ## the same for longer, about 2 hours
	@go test ./e2e/chaos -run TestChaos -count=1 -v -timeout 5h

# What differs between API servers: all of the suite but the transfer of large objects, and what waits for
# certificates that expire, minutes for each test.
OLDEST_SKIPS := Transfer|Gibibyte|Renewal|Replacing|Changing|ANewKey|Damage|ACA|LargeCluster|EveryRight|BrokenLink|EachFault|Jobs|TestS3

.PHONY: oldest
oldest: kube-oldest account-b build helm cert-manager $(BIN)/monitoring-crds $(BIN)/gotestsum ## the suite of the control plane on the oldest Kubernetes, without its longest tests: 6 minutes (OLDEST_SKIPS= is all)
	@KUBEBUILDER_ASSETS=$(BIN)/kube-oldest $(BIN)/gotestsum --format testname -- -count=1 -timeout 45m $(if $(OLDEST_SKIPS),-skip '$(OLDEST_SKIPS)') ./e2e/suite

# The cluster that make e2e runs on: node (this machine, as root), kind (Docker) or existing (KUBECONFIG). See e2e/README.md.
PROVIDER ?= node
E2E_NEEDS := $(if $(filter node,$(PROVIDER)),node-packages) $(if $(filter kind,$(PROVIDER)),kind) $(if $(filter-out existing,$(PROVIDER)),node-images account-b)

.PHONY: e2e
e2e: kube helm cert-manager $(E2E_NEEDS) $(BIN)/gotestsum ## the end-to-end suite on real Pods, about 12 minutes (PROVIDER=node|kind|existing)
	@PROVIDER=$(PROVIDER) $(BIN)/gotestsum --format testname --hide-summary=skipped -- -count=1 -timeout 40m -p 1 $(if $(filter node,$(PROVIDER)),./e2e/node) ./e2e/pods

.PHONY: node-packages
node-packages: ## install what runs Pods on this machine from Debian's packages, where it is missing (as root)
	@if ! { command -v containerd && command -v runc && command -v iptables && command -v conntrack && test -x /usr/lib/cni/ptp; } >/dev/null; then \
	  echo "installing Debian's containerd, runc, containernetworking-plugins, iptables and conntrack (once)"; \
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends containerd runc containernetworking-plugins iptables conntrack >/dev/null; fi

.PHONY: node-images
node-images: ## pack the images for this machine's node into out/node-images
	@hack/node-images.sh "$(VERSION)" out/node-images

.PHONY: kind-test
kind-test: kind kube account-b node-images node-packages $(BIN)/gotestsum ## the kind provider without its containers, and kind's own code on its configuration and images (as root)
	@$(BIN)/gotestsum --format testname -- -count=1 -timeout 10m ./e2e/cluster
	@cd e2e/kind && $(BIN)/gotestsum --format testname -- -count=1 -timeout 5m ./...

.PHONY: browser
browser: kube account-b build chromium $(BIN)/gotestsum ## the reader's page in headless Chromium; screenshots in out/screenshots
	@cd e2e/browser && $(BIN)/gotestsum --format testname -- -count=1 -parallel 8 -timeout 10m ./...

.PHONY: chromium
chromium: ## install Debian's Chromium, where there is none (as root)
	@test -x /usr/bin/chromium || { echo "installing Debian's chromium (a minute, once)"; \
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends chromium fonts-dejavu-core >/dev/null; }

.PHONY: awscli
awscli: ## install Debian's AWS CLI, where there is none (as root)
	@test -x /usr/bin/aws || { echo "installing Debian's awscli (half a minute, once)"; \
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends awscli >/dev/null; }

.PHONY: bench
bench: kube account-b build ## measure; medians of BENCHCOUNT runs
	@hack/bench.sh $(BENCHCOUNT)

.PHONY: scale
scale: kube build ## 100,000 ServiceAccounts, 10,000 Namespaces and policies, 50,000 Pods: memory and times (a quarter of an hour; SCALE=0.1 is a tenth)
	@SCALE=$(or $(SCALE),1) go test ./e2e/scale -count=1 -timeout 90m -v

.PHONY: bill
bill: kube build ## CPU of API server and webhook for each created Pod, injected and bystander, beside a cluster without us (BILL_ROUNDS, 5; minutes)
	@BILL_ROUNDS=$(or $(BILL_ROUNDS),5) go test ./e2e/bill -run '^$$' -bench WholeBill -benchtime 1x -timeout 60m

.PHONY: bystanders
bystanders: kube build ## CPU of a Pod that asks for nothing, beside a cluster without us, by containers and labelled ServiceAccounts (BYSTANDER_ROUNDS, 20; 20 minutes)
	@BYSTANDER_ROUNDS=$(or $(BYSTANDER_ROUNDS),20) go test ./e2e/bill -run '^$$' -bench Bystanders -benchtime 1x -timeout 90m

.PHONY: load
load: kube build ## requests a second, CPU and latencies up to saturation and beyond, beside a constant answer; 10,000 connections (LOAD_SECONDS each, 5)
	@LOAD_SECONDS=$(or $(LOAD_SECONDS),5) go test ./e2e/load -count=1 -bench . -benchtime 1x -timeout 60m

.PHONY: fuzz
fuzz: ## fuzz every target for FUZZTIME each (20s, or 5000x by count)
	@grep -rn --include='*_test.go' -o '^func Fuzz[A-Za-z]*' pkg | sed -E 's|^(.*)/[^/]*:.*:func (.*)$$|\1 \2|' | sort | while read -r package target; do \
	  echo "== $$package $$target"; go test "./$$package" -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) | grep -v '^fuzz: elapsed'; \
	done

.PHONY: fuzz-keep
fuzz-keep: ## keep what fuzzing has found worth trying (Go's build cache has it) as seeds, which every go test replays
	@hack/fuzz-keep.sh

.PHONY: lint
lint: $(BIN)/golangci-lint ## golangci-lint with the strict configuration
	@$(BIN)/golangci-lint run ./...
	@cd e2e/browser && $(BIN)/golangci-lint run ./...
	@cd e2e/kind && $(BIN)/golangci-lint run ./...
	@cd e2e/certmanager && GOFLAGS=-trimpath $(BIN)/golangci-lint run ./... # as it was built, which is most of the time
	@cd hack/images && $(BIN)/golangci-lint run ./...

.PHONY: vuln
vuln: $(BIN)/govulncheck ## known vulnerabilities in what the programs call (needs https://vuln.go.dev)
	@$(BIN)/govulncheck ./cmd/... || { code=$$?; [ $$code = 3 ] || echo "make vuln: nothing was looked for: govulncheck could not run, or its database at https://vuln.go.dev could not be reached" >&2; exit $$code; }

.PHONY: manifests
manifests: $(BIN)/helm ## render the chart into manifests/
	@hack/manifests.sh

.PHONY: verify
verify: $(BIN)/helm ## what is generated or formatted is as it would be made anew
	@hack/verify.sh

.PHONY: build
build: ## build the webhook, the reader and the kubectl plugin into bin/
	@go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $(BIN)/ ./cmd/...

.PHONY: images
images: ## pack both images for amd64 and arm64, with SBOMs, into out/images (no container engine)
	@cd hack/images && go run . -version "$(VERSION)"

.PHONY: krew-release
krew-release: ## pack the kubectl plugin for krew into out/krew, with its manifest (VERSION=v1.2.3)
	@hack/krew.sh "$(VERSION)" out/krew

.PHONY: images-test
images-test: $(BIN)/gotestsum ## two builds of the images are the same bytes; the Dockerfile is in step
	@cd hack/images && $(BIN)/gotestsum --format testname -- -count=1 -timeout 5m ./...

.PHONY: kube
kube: $(KUBE)/kube ## build Kubernetes and etcd from their modules, once (minutes)
	@for component in $(KUBE_COMPONENTS); do ln -sf kube $(KUBE)/$$component; done

$(KUBE)/kube: e2e/kube/main.go e2e/kube/go.mod e2e/kube/go.sum hack/build-kube.sh
	@hack/build-kube.sh $@ kube

.PHONY: kube-oldest
kube-oldest: kube $(BIN)/kube-oldest/kube-apiserver ## build the kube-apiserver of the oldest Kubernetes that the chart supports, once (minutes)
	@for component in etcd kubectl; do ln -sf ../kube/kube $(BIN)/kube-oldest/$$component; done

$(BIN)/kube-oldest/kube-apiserver: e2e/kube-oldest/main.go e2e/kube-oldest/go.mod e2e/kube-oldest/go.sum hack/build-kube.sh
	@hack/build-kube.sh $@ kube-oldest

.PHONY: account-b
account-b: $(BIN)/versitygw ## build the S3, IAM and STS of the tests' Account B, once (a minute)

$(BIN)/versitygw: e2e/accountb/go.mod e2e/accountb/go.sum
	@echo "building versitygw, the tests' S3, IAM and STS (a minute, once)"
	@cd e2e/accountb && go build -trimpath -ldflags "-s -w" -o $@ github.com/versity/versitygw/cmd/versitygw

.PHONY: tofu
tofu: $(BIN)/tofu ## build OpenTofu from its module, once (four minutes)

$(BIN)/tofu: e2e/tofu/go.mod e2e/tofu/go.sum
	@echo "building OpenTofu (four minutes, once)"
	@cd e2e/tofu && go build -trimpath -ldflags "-s -w" -o $@ github.com/opentofu/opentofu/cmd/tofu

.PHONY: helm
helm: $(BIN)/helm $(BIN)/helm3 ## build Helm 4 and Helm 3 from their modules, once (five minutes)

$(BIN)/helm: e2e/helm/go.mod e2e/helm/go.sum
	@echo "building Helm 4 (two minutes, once)"
	@cd e2e/helm && go build -trimpath -ldflags "-s -w" -o $@ helm.sh/helm/v4/cmd/helm

$(BIN)/helm3: e2e/helm3/go.mod e2e/helm3/go.sum
	@echo "building Helm 3 (two minutes, once)"
	@cd e2e/helm3 && go build -trimpath -ldflags "-s -w" -o $@ helm.sh/helm/v3/cmd/helm

.PHONY: krew
krew: $(BIN)/krew $(BIN)/validate-krew-manifest ## build krew from its module, once

$(BIN)/krew $(BIN)/validate-krew-manifest &: e2e/krew/go.mod e2e/krew/go.sum
	@echo "building krew (half a minute, once)"
	@cd e2e/krew && go build -trimpath -ldflags "-s -w" -o $(BIN)/ sigs.k8s.io/krew/cmd/krew sigs.k8s.io/krew/cmd/validate-krew-manifest

.PHONY: cert-manager
cert-manager: $(BIN)/cert-manager ## build cert-manager's controllers from their module, once (two minutes)

$(BIN)/cert-manager: e2e/certmanager/main.go e2e/certmanager/registered.go e2e/certmanager/go.mod e2e/certmanager/go.sum
	@echo "building cert-manager's controllers (two minutes, once)"
	@cd e2e/certmanager && go build -trimpath -ldflags "-s -w" -o $@ .
	@rm -rf $@-crds && cp -r "$$(cd e2e/certmanager && go list -m -f '{{.Dir}}' github.com/cert-manager/cert-manager)/deploy/crds" $@-crds && chmod -R u+w $@-crds

# The definitions of the Prometheus operator's kinds, which the chart can render.
MONITORING := github.com/prometheus-operator/prometheus-operator@v0.85.0

$(BIN)/monitoring-crds:
	@mkdir -p $@ && cp "$$(go mod download -json $(MONITORING) | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')"/example/prometheus-operator-crd/monitoring.coreos.com_{podmonitors,servicemonitors,prometheusrules}.yaml $@
	@chmod -R u+w $@

.PHONY: kind
kind: $(BIN)/kind ## build kind from its module, once

$(BIN)/kind: e2e/kind/go.mod e2e/kind/go.sum
	@echo "building kind (once)"
	@cd e2e/kind && go build -trimpath -ldflags "-s -w" -o $@ sigs.k8s.io/kind

$(BIN)/golangci-lint: tools/go.mod
	@echo "building golangci-lint (two minutes, once)"
	@cd tools && go build -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(BIN)/gotestsum: tools/go.mod
	@cd tools && go build -o $@ gotest.tools/gotestsum

$(BIN)/govulncheck: tools/go.mod
	@cd tools && go build -o $@ golang.org/x/vuln/cmd/govulncheck

$(BIN)/benchstat: tools/go.mod
	@cd tools && go build -o $@ golang.org/x/perf/cmd/benchstat

.PHONY: clean
clean: ## remove what was built
	@rm -rf $(BIN) out
