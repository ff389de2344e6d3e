#!/usr/bin/env bash
# Packs webhook, reader and the tests' own images for this machine into $2, with the
# version $1, which is then in $2/version.
set -euo pipefail
version=$1
mkdir -p "$2"
out=$(cd "$2" && pwd)
cd "$(dirname "$0")/images"
go run . -version "$version" -platforms "linux/$(go env GOARCH)" -out "$out" >/dev/null
go run ./testimages "$out"
printf %s "$version" >"$out/version"
