#!/usr/bin/env bash
# Runs the benchmarks $1 times and prints medians. The raw figures stay in
# out/bench.txt, for a comparison with benchstat.
set -euo pipefail
cd "$(dirname "$0")/.."
count=${1:-5}
mkdir -p out
echo "bench: $count runs of each; medians follow, the raw figures are in out/bench.txt"
go test -run '^$' -bench . -benchmem -benchtime 0.5s -count "$count" ./pkg/admission ./pkg/policy ./pkg/watch ./pkg/reconcile | tee out/bench.txt | grep -c '^Benchmark' | sed 's/^/bench: measurements: /'
awk '/^Benchmark/ {
  n[$1]++; v[$1, n[$1]] = $3; for (i = 4; i <= NF; i++) { if ($i == "allocs/op") a[$1] = $(i-1); if ($i == "B/op") b[$1] = $(i-1) }
  if (n[$1] == 1) order[++m] = $1
}
END {
  printf "%-40s %14s %12s %10s\n", "median of '"$count"'", "time", "bytes", "allocs"
  for (k = 1; k <= m; k++) {
    name = order[k]; c = n[name]
    for (i = 1; i <= c; i++) s[i] = v[name, i] + 0
    for (i = 2; i <= c; i++) { x = s[i]; for (j = i - 1; j > 0 && s[j] > x; j--) s[j+1] = s[j]; s[j+1] = x }
    t = s[int((c + 1) / 2)]
    printf "%-40s %11.2f us %12s %10s\n", substr(name, 10), t / 1000, b[name], a[name]
  }
}' out/bench.txt

echo
echo "bench: one object of 1 GiB by the AWS SDK, over a bare TCP relay, and through the reader, $count times in turns"
go test ./e2e/suite -count 1 -run '^$' -bench Transfer -benchtime "${count}x" | tee -a out/bench.txt |
  awk '/^BenchmarkTransfer/ {print ($1 ~ /Pace/ ? " with S3 at the pace of one connection to AWS, 5 Gbit/s:" : " as fast as the shared cores go:"); for (i = 3; i < NF; i += 2) printf "  %-12s %s\n", $(i+1), $i}'
