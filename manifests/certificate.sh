#!/usr/bin/env bash
# Makes a throw-away CA and a serving certificate, puts the pair into the Secret that
# the Deployment mounts, and writes the CA into the webhook configurations. Needs
# openssl and kubectl; run it again before the certificate ends (one year).
set -euo pipefail
namespace=bucket-access-system name=bucket-access-webhook
kubectl=${KUBECTL:-kubectl}
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$name CA" -keyout ca.key -out ca.crt 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout tls.key -out tls.csr 2>/dev/null
printf 'subjectAltName=DNS:%s.%s.svc\nextendedKeyUsage=serverAuth\n' "$name" "$namespace" >extensions
openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -extfile extensions -out tls.crt 2>/dev/null
"$kubectl" -n "$namespace" create secret tls "$name-tls" --cert=tls.crt --key=tls.key --dry-run=client -o yaml | "$kubectl" apply -f -
bundle=$(base64 -w0 <ca.crt)
for resource in mutatingwebhookconfiguration validatingwebhookconfiguration; do
  count=$("$kubectl" get "$resource" "$name" -o jsonpath='{.webhooks[*].name}' | wc -w)
  patch='['
  for ((i = 0; i < count; i++)); do
    [ "$i" = 0 ] || patch+=','
    patch+="{\"op\":\"add\",\"path\":\"/webhooks/$i/clientConfig/caBundle\",\"value\":\"$bundle\"}"
  done
  "$kubectl" patch "$resource" "$name" --type=json -p "$patch]"
done
