#!/usr/bin/env bash
# Builds the module e2e/$2 (kube or kube-oldest) into $1 and shows that it is alive:
# minutes with an empty build cache, seconds with a full one.
set -euo pipefail
out=$1 module=$2
cd "$(dirname "$0")/../e2e/$module"
# Kubernetes before 1.31 links the SDKs of cloud providers without it; newer ones don't know it.
tags=providerless
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
echo "$module: building Kubernetes $version from modules (about 5 minutes on two cores, once)"
minor=${version#v1.}; minor=${minor%%.*}
v=k8s.io/component-base/version
go mod download
total=$(go list -tags "$tags" -deps . | wc -l)
log=$(mktemp); trap 'rm -f "$log"; kill "${ticker:-}" 2>/dev/null || true' EXIT
(
  while sleep 15; do
    echo "$module: $SECONDS s, $(wc -l <"$log") of about $total packages compiled"
  done
) &
ticker=$!
mkdir -p "$(dirname "$out")"
if ! CGO_ENABLED=0 go build -v -trimpath -tags "$tags" -o "$out" -ldflags "-s -w -X $v.gitVersion=$version -X $v.gitMajor=1 -X $v.gitMinor=$minor -X $v.gitTreeState=clean" . 2>"$log"; then
  cat "$log" >&2
  exit 1
fi
echo "$module: built in $SECONDS s"
