#!/usr/bin/env bash
# Fails where something that is generated or formatted is not as it would be made
# anew. Nothing is written.
set -euo pipefail
cd "$(dirname "$0")/.."
fail=0
complain() { echo "verify: $*" >&2; fail=1; }

unformatted=$(git ls-files '*.go' | xargs gofmt -l)
[ -z "$unformatted" ] || complain "not formatted, run gofmt -w: $unformatted"
for module in . tools e2e/kube e2e/kube-oldest e2e/accountb e2e/tofu e2e/helm e2e/helm3 e2e/certmanager e2e/kind e2e/krew e2e/browser hack/images; do
  (cd "$module" && go mod tidy -diff >/dev/null) || complain "$module/go.mod is not tidy, run: cd $module && go mod tidy"
done
for module in . e2e/browser e2e/certmanager e2e/kind hack/images; do
  (cd "$module" && go vet ./...) || complain "go vet has findings in $module"
done
rendered=$(mktemp -d); trap 'rm -rf "$rendered"' EXIT
hack/manifests.sh "$rendered"
for directory in default older-kubernetes cert-manager; do
  diff -r "$rendered/$directory" "manifests/$directory" >/dev/null || complain "manifests/$directory is not as the chart renders it, run: make manifests"
done
long=$(git ls-files '*.go' | grep -v _test.go | xargs wc -l | awk '$2 != "total" && $1 > 300 {print $2}')
[ -z "$long" ] || complain "longer than 300 lines: $long"
[ "$fail" = 0 ] && echo "verify: everything is as it would be made anew"
exit "$fail"
