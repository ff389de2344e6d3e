#!/usr/bin/env bash
# Packs the kubectl plugin for krew as a release does: version $1 into $2, an archive for
# each platform of plugins/krew/bucket-access.yaml, and that manifest with the version and
# the archives' sums. Programs that are built already, named as the archives, are in $3.
set -euo pipefail
version=$1
[[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] || {
  echo "krew: the version is \"$version\"; it must be a semantic one: make krew-release VERSION=v1.2.3" >&2; exit 2; }
mkdir -p "$2"
out=$(cd "$2" && pwd)
programs=${3:+$(cd "$3" && pwd)}
cd "$(dirname "$0")/.."
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)} # two builds are the same bytes
manifest=$out/bucket-access.yaml
sed -e '/^#/d' -e "s/v0\.0\.0/$version/" plugins/krew/bucket-access.yaml >"$manifest"
stage=$(mktemp -d); trap 'rm -rf "$stage"' EXIT
for name in $(grep -o 'kubectl-bucket_access_[a-z0-9]*_[a-z0-9]*' "$manifest"); do
  if [ -n "$programs" ]; then
    cp "$programs/$name" "$stage/kubectl-bucket_access"
  else
    platform=${name#kubectl-bucket_access_}
    echo "krew: building the plugin for $platform"
    CGO_ENABLED=0 GOOS=${platform%_*} GOARCH=${platform#*_} \
      go build -trimpath -ldflags "-s -w -X main.version=$version" -o "$stage/kubectl-bucket_access" ./cmd/kubectl-bucket_access
  fi
  cp LICENSE plugins/kubectl_complete-bucket_access "$stage" # krew's index wants the license inside
  chmod 755 "$stage"/kubectl*; chmod 644 "$stage/LICENSE"
  tar -C "$stage" --owner=0 --group=0 --numeric-owner --mtime="@$epoch" -cf - LICENSE kubectl-bucket_access kubectl_complete-bucket_access | gzip -n >"$out/$name.tar.gz"
  sum=$(sha256sum "$out/$name.tar.gz" | cut -d ' ' -f 1)
  sed -i "/$name\.tar\.gz/{n;s/0\{64\}/$sum/}" "$manifest" # the sum's line follows the address's
done
if grep -q '0\{64\}' "$manifest"; then echo "krew: a sum was not filled in" >&2; exit 1; fi
