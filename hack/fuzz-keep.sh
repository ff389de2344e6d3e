#!/usr/bin/env bash
# Copies the inputs that fuzzing on this machine found to reach something new, which Go keeps
# in its build cache, to the targets' testdata/fuzz. Inputs above LARGEST bytes stay where they
# are: they are slow to replay, and what is in them is in small ones too.
set -euo pipefail
cd "$(dirname "$0")/.."
LARGEST=${LARGEST:-4096}
module=$(go list -m)
cache=$(go env GOCACHE)/fuzz/$module
[ -d "$cache" ] || { echo "fuzz-keep: nothing was fuzzed here yet: make fuzz" >&2; exit 1; }
find "$cache" -mindepth 1 -type d -name 'Fuzz*' | sort | while read -r from; do
  to=${from#"$cache"/}
  to=$(dirname "$to")/testdata/fuzz/$(basename "$to")
  mkdir -p "$to"
  find "$from" -type f -size -$((LARGEST + 1))c -exec cp -n -t "$to" {} +
  echo "fuzz-keep: $to has $(find "$to" -type f | wc -l) inputs"
done
