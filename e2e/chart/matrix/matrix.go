// Package matrix holds the values by which the chart is tried: rendered, and by the API
// server's dry run.
package matrix

// Row is one set of values that people may give.
type Row struct {
	Name, Kube, Values string
	Host               bool // on the host's network, so not restricted
}

// TwoPolicies are values that bring policies.
const TwoPolicies = `
policies:
  orders:
    bucket: orders-data
    region: eu-west-1
    roleARN: arn:aws:iam::222222222222:role/s3-reader-role
    subjects: [{namespace: default, serviceAccount: api-sa}]
    tokenExpirationSeconds: 86400
  "123":
    apiVersion: bucket-access.io/v1alpha1
    kind: BucketAccessPolicy
    bucket: other
    region: us-east-1
    roleARN: arn:aws:iam::222222222222:role/other
    subjects: [{namespace: shop, serviceAccount: "*"}]
`

// Everything sets every value to another one than the default, but the certificates'.
const Everything = TwoPolicies + `
clusterRegion: eu-west-1
excludedNamespaces: [kube-system, "123", "on", bucket-access-system]
image: {repository: registry.example/webhook, tag: v1, digest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", pullPolicy: Always}
imagePullSecrets: [{name: pull}]
reader:
  image: {repository: registry.example/reader, tag: v2}
  resources: {requests: {cpu: 20m, memory: 40Mi}, limits: {memory: 80Mi}}
serviceAccountPods: {failurePolicy: Ignore, timeoutSeconds: 3}
admission:
  pods: {failurePolicy: Ignore, timeoutSeconds: 1}
  namespacedPods: {failurePolicy: Ignore, timeoutSeconds: 30}
  ephemeralContainers: {failurePolicy: Fail, timeoutSeconds: 2}
  serviceAccounts: {failurePolicy: Fail, timeoutSeconds: 3}
  policies: {failurePolicy: Fail, timeoutSeconds: 4}
  workloads: {failurePolicy: Fail, timeoutSeconds: 5}
  namespaces: {failurePolicy: Fail, timeoutSeconds: 6}
replicas: 3
podDisruptionBudget: {minAvailable: 50%}
shutdownDelaySeconds: 20
preStopSleepSeconds: 5
priorityClassName: ""
resources: {requests: {cpu: "1", memory: 1Gi}, limits: {memory: 1Gi}}
ports: {webhook: 10250, metrics: 10251, health: 10252}
commonLabels: {team: platform, tier: all, release: all}
podLabels: {tier: admission}
podAnnotations: {note: "yes"}
serviceAccount: {annotations: {note: "1"}}
nodeSelector: {kubernetes.io/os: linux}
affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [
  {weight: 1, preference: {matchExpressions: [{key: system, operator: Exists}]}}]}}
tolerations: [{key: CriticalAddonsOnly, operator: Exists}]
extraArgs: [--max-in-flight=128]
extraEnv: [{name: GODEBUG, value: "x=1"}]
extraVolumes: [{name: extra, emptyDir: {}}]
extraVolumeMounts: [{name: extra, mountPath: /extra}]
extraObjects: [{apiVersion: v1, kind: ConfigMap, metadata: {name: extra, namespace: "{{ .Release.Namespace }}"}}]
log: {level: debug, format: text}
viewer: {subjects: [{kind: Group, name: dev, apiGroup: rbac.authorization.k8s.io}], clusterSubjects: [{kind: ServiceAccount, name: bot, namespace: ci}]}
networkPolicy: {enabled: true, webhookFrom: [{ipBlock: {cidr: 10.0.0.0/8}}], metricsFrom: [{namespaceSelector: {}}]}
metrics:
  serviceMonitor: {enabled: true, labels: {release: prometheus}, interval: 30s}
  podMonitor: {enabled: true, labels: {release: prometheus}, interval: 1m}
  prometheusRule: {enabled: true, labels: {release: prometheus}, certificateHours: 12}
tests: {namespace: "456"}
`

const issuer = "certificates: {mode: certManager, certManager: {issuerRef: {name: corporate, kind: ClusterIssuer}, duration: 48h, renewBefore: 12h}}"

// Rows are all of them.
func Rows() []Row {
	rows := []Row{
		{Name: "managed certificates", Values: "certificates: {managed: {caDuration: 720h, duration: 24h}}"},
		{Name: "cert-manager", Values: "certificates: {mode: certManager}"},
		{Name: "cert-manager, an issuer that exists", Values: issuer},
		{Name: "external certificates", Values: "certificates: {mode: external}"},
		{Name: "external certificates, the CA written by the webhook", Values: "certificates: {mode: external, external: {secretName: mine, caKey: ca.crt}}"},
		{Name: "external certificates, the CA written by others",
			Values: "certificates: {mode: external, external: {annotations: {inject.example/ca: mine}}}"},
		{Name: "mode Policy", Kube: "1.30", Values: "serviceAccountPods: {mode: Policy}"},
		{Name: "mode Webhook", Values: "serviceAccountPods: {mode: Webhook}"},
		{Name: "mode Webhook, fail closed", Values: "serviceAccountPods: {mode: Webhook, failurePolicy: Fail, timeoutSeconds: 5}"},
		{Name: "policies", Values: TwoPolicies},
		{Name: "policies, and cert-manager", Values: TwoPolicies + "certificates: {mode: certManager}"},
		{Name: "no backstops", Values: "backstops: {enabled: false}"},
		{Name: "no reader", Values: "reader: {enabled: false}"},
		{Name: "no viewer", Values: "viewer: {enabled: false}"},
		{Name: "no metrics", Values: "metrics: {enabled: false, serviceMonitor: {enabled: true}, podMonitor: {enabled: true}}\nnetworkPolicy: {enabled: true}"},
		{Name: "nothing excluded", Values: "excludedNamespaces: []"},
		{Name: "one replica", Values: "replicas: 1"},
		{Name: "a budget by maxUnavailable", Values: "podDisruptionBudget: {maxUnavailable: 0}"},
		{Name: "no budget", Values: "podDisruptionBudget: {enabled: false}"},
		{Name: "ServiceMonitor", Values: "metrics: {serviceMonitor: {enabled: true}}"},
		{Name: "PodMonitor", Values: "metrics: {podMonitor: {enabled: true}}"},
		{Name: "PrometheusRule", Values: "metrics: {prometheusRule: {enabled: true}}"},
		{Name: "NetworkPolicy", Values: "networkPolicy: {enabled: true}"},
		{Name: "the host's network", Values: "hostNetwork: true", Host: true},
		{Name: "the host's network, other ports, old", Kube: "1.30", Values: "hostNetwork: true\nports: {webhook: 1443, metrics: 1444, health: 1445}", Host: true},
		{Name: "extra objects",
			Values: "extraObjects: [{apiVersion: v1, kind: Secret, metadata: {name: x}}, {apiVersion: v1, kind: ConfigMap, metadata: {name: 'y'}}]"},
		{Name: "everything, cert-manager", Values: Everything + issuer},
		{Name: "everything, external", Kube: "1.33", Values: Everything + "certificates: {mode: external, external: {caKey: ca.crt}}"},
	}
	for _, kube := range []string{"1.30", "1.33", "1.36", "1.37"} {
		rows = append(rows, Row{Name: "defaults on " + kube, Kube: kube}, Row{Name: "everything on " + kube, Kube: kube, Values: Everything})
	}
	for i := range rows {
		if rows[i].Kube == "" {
			rows[i].Kube = "1.37"
		}
	}
	return rows
}
