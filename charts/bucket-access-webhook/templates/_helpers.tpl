{{- /* Labels of every object. */}}
{{- define "labels" -}}
app.kubernetes.io/name: bucket-access-webhook
app.kubernetes.io/version: {{ regexReplaceAll "[^A-Za-z0-9._-]" (.Chart.AppVersion | toString) "_" | trunc 63 | quote | replace "\"devel\"" "devel" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* A name in a YAML flow list: bare, unless YAML would read it as something else. */}}
{{- define "bare" -}}
{{- if or (regexMatch "^[0-9]" .) (has . (list "true" "false" "null" "yes" "no" "on" "off" "y" "n")) }}{{ quote . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{- /* The namespaces that every entry and backstop leaves alone. */}}
{{- define "excluded" -}}
{{- $names := list }}
{{- range append .Values.excludedNamespaces .Release.Namespace | uniq }}{{ $names = append $names (include "bare" .) }}{{ end -}}
[{{ join ", " $names }}]
{{- end }}

{{- define "outside-excluded" -}}
{key: kubernetes.io/metadata.name, operator: NotIn, values: {{ include "excluded" . }}}
{{- end }}

{{- /* The same as CEL. */}}
{{- define "is-outside-excluded" -}}
"!(request.namespace in ['{{ append .Values.excludedNamespaces .Release.Namespace | uniq | join "', '" }}'])"
{{- end }}

{{- /* An image, by digest before tag before appVersion: (dict "image" … "chart" .Chart). */}}
{{- define "image" -}}
{{- if .image.digest }}{{ .image.repository }}@{{ .image.digest }}{{ else }}{{ .image.repository }}:{{ .image.tag | default .chart.AppVersion }}{{ end }}
{{- end }}

{{- /* 90 % of the memory limit, as GOMEMLIMIT is written. */}}
{{- define "gomemlimit" -}}
{{- $limit := .Values.resources.limits.memory }}
{{- $number := regexFind "^[0-9]+" $limit | int64 }}
{{- if hasSuffix "Gi" $limit }}{{ div (mul $number 1024 90) 100 }}MiB
{{- else }}{{ div (mul $number 90) 100 }}{{ trimPrefix (toString $number) $limit }}B
{{- end }}
{{- end }}

{{- /* Policy or Webhook: how Pods of labelled ServiceAccounts are found. */}}
{{- define "serviceaccount-mode" -}}
{{- if .Values.serviceAccountPods.mode }}{{ .Values.serviceAccountPods.mode }}
{{- else if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" }}Policy
{{- else if semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version }}Policy
{{- else }}Webhook
{{- end }}
{{- end }}

{{- /* Whether the webhook itself writes the CA into the webhook configurations. */}}
{{- define "writes-ca" -}}
{{- if or (eq .Values.certificates.mode "managed") (and (eq .Values.certificates.mode "external") .Values.certificates.external.caKey) }}yes{{ end }}
{{- end }}

{{- define "tls-secret" -}}
{{- if eq .Values.certificates.mode "external" }}{{ .Values.certificates.external.secretName }}{{ else }}bucket-access-webhook-tls{{ end }}
{{- end }}

{{- /* Annotations of the webhook configurations. */}}
{{- define "ca-annotations" -}}
{{- if eq .Values.certificates.mode "certManager" }}
  annotations: {cert-manager.io/inject-ca-from: {{ .Release.Namespace }}/bucket-access-webhook}
{{- else if and (eq .Values.certificates.mode "external") .Values.certificates.external.annotations }}
  annotations:
    {{- toYaml .Values.certificates.external.annotations | nindent 4 }}
{{- end }}
{{- end }}

{{- define "namespace" -}}
{{ include "bare" .Release.Namespace }}
{{- end }}

{{- define "ca-writer" -}}
{{- if include "writes-ca" . }}the webhook{{ else if eq .Values.certificates.mode "certManager" }}cert-manager{{ else }}who owns the certificate{{ end }}
{{- end }}

{{- define "grace" -}}
{{ add (int .Values.preStopSleepSeconds) (int .Values.shutdownDelaySeconds) 25 }}
{{- end }}

{{- /* The webhook's flags, one a line. */}}
{{- define "args" }}
{{- $certificates := .Values.certificates }}
{{- if eq $certificates.mode "managed" }}
--certificates=managed
--ca-secret=bucket-access-webhook-ca
--service-name=bucket-access-webhook
--webhook-configuration=bucket-access-webhook
--ca-duration={{ $certificates.managed.caDuration }}
--certificate-duration={{ $certificates.managed.duration }}
{{- else }}
--certificates=files
--cert-dir=/etc/bucket-access-webhook/tls
{{- if include "writes-ca" . }}
--ca-name={{ $certificates.external.caKey }}
--webhook-configuration=bucket-access-webhook
{{- end }}
{{- end }}
--exclude-namespaces={{ join "," .Values.excludedNamespaces }}
{{- with .Values.clusterRegion }}
--cluster-region={{ . }}
{{- end }}
{{- if .Values.reader.enabled }}
--reader-image={{ include "image" (dict "image" .Values.reader.image "chart" .Chart) }}
{{- with .Values.reader.resources.requests.cpu }}
--reader-cpu-request={{ . }}
{{- end }}
{{- with .Values.reader.resources.requests.memory }}
--reader-memory-request={{ . }}
{{- end }}
{{- with .Values.reader.resources.limits.memory }}
--reader-memory-limit={{ . }}
{{- end }}
{{- end }}
--port={{ .Values.ports.webhook }}
--metrics-bind-address={{ if .Values.metrics.enabled }}:{{ .Values.ports.metrics }}{{ else }}0{{ end }}
--health-probe-bind-address=:{{ .Values.ports.health }}
--shutdown-delay={{ .Values.shutdownDelaySeconds }}s
--log-level={{ .Values.log.level }}
--log-format={{ .Values.log.format }}
{{- end }}
