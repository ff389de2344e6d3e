#!/usr/bin/env bash
# Renders the chart into the manifests for those who install without Helm: one file
# for each template. hack/manifests.sh [directory]; the default is manifests.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-manifests}
helm=bin/helm
[ -x "$helm" ] || { echo "manifests: $helm is missing, build it with: make helm" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# render NAME KUBE-VERSION HEADER [VALUES…]
render() {
  local name=$1 kube=$2 header=$3
  shift 3
  "$helm" template bucket-access-webhook charts/bucket-access-webhook --namespace bucket-access-system --skip-tests \
    --kube-version "$kube" --output-dir "$work/$name" "$@" >/dev/null
  rm -rf "$target/$name"
  mkdir -p "$target/$name"
  {
    printf '%s\n' "$header"
    printf '%s\n' 'apiVersion: kustomize.config.k8s.io/v1beta1' 'kind: Kustomization' 'resources:' '- namespace.yaml'
  } >"$target/$name/kustomization.yaml"
  cat >"$target/$name/namespace.yaml" <<'NAMESPACE'
apiVersion: v1
kind: Namespace
metadata:
  name: bucket-access-system
  labels:
    app.kubernetes.io/name: bucket-access-webhook
    pod-security.kubernetes.io/enforce: restricted
NAMESPACE
  local file
  for file in "$work/$name"/bucket-access-webhook/templates/*.yaml; do
    # Helm's own marks go: nothing here is managed by it. So do the blank lines and the
    # leading separator that it adds.
    awk '/^# Source: / || /^ +(app\.kubernetes\.io\/managed-by|helm\.sh\/chart): / || /^ *$/ {next}
      /^---$/ {pending = seen; next}
      {if (pending) print "---"; pending = 0; seen = 1; print}' "$file" >"$target/$name/$(basename "$file")"
    echo "- $(basename "$file")" >>"$target/$name/kustomization.yaml"
  done
}

render default 1.37 "# Everything that Kubernetes 1.36 and newer needs: kubectl apply -k manifests/default
# For 1.30 to 1.35: kubectl apply -k manifests/older-kubernetes
# Rendered from charts/bucket-access-webhook by hack/manifests.sh."
render older-kubernetes 1.30 "# For Kubernetes 1.30 to 1.35, which have no MutatingAdmissionPolicy: instead of marking
# Pods of labelled ServiceAccounts, every Pod that no other entry catches is sent to
# the webhook. The call may fail (Ignore, 2 s); the backstop holds what it misses.
# Rendered from charts/bucket-access-webhook by hack/manifests.sh."
render cert-manager 1.37 "# For Kubernetes 1.36 and newer with cert-manager, which issues the serving certificate.
# Rendered from charts/bucket-access-webhook by hack/manifests.sh." --set certificates.mode=certManager
