package chart

// row is one set of values that people may give.
type row struct {
	name, kube, values string
	host               bool // on the host's network, so not restricted
}

const twoPolicies = `
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

const everything = twoPolicies + `
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

// matrix is what is rendered, by Helm 4 and by Helm 3.
func matrix() []row {
	rows := []row{
		{name: "managed certificates", values: "certificates: {managed: {caDuration: 720h, duration: 24h}}"},
		{name: "cert-manager", values: "certificates: {mode: certManager}"},
		{name: "cert-manager, an issuer that exists", values: issuer},
		{name: "external certificates", values: "certificates: {mode: external}"},
		{name: "external certificates, the CA written by the webhook", values: "certificates: {mode: external, external: {secretName: mine, caKey: ca.crt}}"},
		{name: "external certificates, the CA written by others",
			values: "certificates: {mode: external, external: {annotations: {inject.example/ca: mine}}}"},
		{name: "mode Policy", kube: "1.30", values: "serviceAccountPods: {mode: Policy}"},
		{name: "mode Webhook", values: "serviceAccountPods: {mode: Webhook}"},
		{name: "mode Webhook, fail closed", values: "serviceAccountPods: {mode: Webhook, failurePolicy: Fail, timeoutSeconds: 5}"},
		{name: "policies", values: twoPolicies},
		{name: "policies, and cert-manager", values: twoPolicies + "certificates: {mode: certManager}"},
		{name: "no backstops", values: "backstops: {enabled: false}"},
		{name: "no reader", values: "reader: {enabled: false}"},
		{name: "no viewer", values: "viewer: {enabled: false}"},
		{name: "no metrics", values: "metrics: {enabled: false, serviceMonitor: {enabled: true}, podMonitor: {enabled: true}}\nnetworkPolicy: {enabled: true}"},
		{name: "nothing excluded", values: "excludedNamespaces: []"},
		{name: "one replica", values: "replicas: 1"},
		{name: "a budget by maxUnavailable", values: "podDisruptionBudget: {maxUnavailable: 0}"},
		{name: "no budget", values: "podDisruptionBudget: {enabled: false}"},
		{name: "ServiceMonitor", values: "metrics: {serviceMonitor: {enabled: true}}"},
		{name: "PodMonitor", values: "metrics: {podMonitor: {enabled: true}}"},
		{name: "PrometheusRule", values: "metrics: {prometheusRule: {enabled: true}}"},
		{name: "NetworkPolicy", values: "networkPolicy: {enabled: true}"},
		{name: "the host's network", values: "hostNetwork: true", host: true},
		{name: "the host's network, other ports, old", kube: "1.30", values: "hostNetwork: true\nports: {webhook: 1443, metrics: 1444, health: 1445}", host: true},
		{name: "extra objects", values: "extraObjects: [{apiVersion: v1, kind: Secret, metadata: {name: x}}, {apiVersion: v1, kind: Service, metadata: {name: y}}]"},
		{name: "everything, cert-manager", values: everything + issuer},
		{name: "everything, external", kube: "1.33", values: everything + "certificates: {mode: external, external: {caKey: ca.crt}}"},
	}
	for _, kube := range []string{"1.30", "1.33", "1.36", "1.37"} {
		rows = append(rows, row{name: "defaults on " + kube, kube: kube}, row{name: "everything on " + kube, kube: kube, values: everything})
	}
	for i := range rows {
		if rows[i].kube == "" {
			rows[i].kube = "1.37"
		}
	}
	return rows
}
