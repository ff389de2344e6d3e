#!/usr/bin/env bash
# Builds e2e/kube into $1 and shows that it is alive: minutes with an empty build
# cache, seconds with a full one.
set -euo pipefail
out=$1
cd "$(dirname "$0")/../e2e/kube"
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
echo "kube: building Kubernetes $version from modules (about 5 minutes on two cores, once)"
minor=${version#v1.}; minor=${minor%%.*}
v=k8s.io/component-base/version
go mod download
total=$(go list -deps . | wc -l)
log=$(mktemp); trap 'rm -f "$log"; kill "${ticker:-}" 2>/dev/null || true' EXIT
(
  while sleep 15; do
    echo "kube: $SECONDS s, $(wc -l <"$log") of about $total packages compiled"
  done
) &
ticker=$!
mkdir -p "$(dirname "$out")"
if ! CGO_ENABLED=0 go build -v -trimpath -o "$out" -ldflags "-s -w -X $v.gitVersion=$version -X $v.gitMajor=1 -X $v.gitMinor=$minor -X $v.gitTreeState=clean" . 2>"$log"; then
  cat "$log" >&2
  exit 1
fi
echo "kube: built in $SECONDS s"
