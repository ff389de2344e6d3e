package admission

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

const webhookNamespace = "bucket-access-system"

const ordersPolicy = `
apiVersion: bucket-access.io/v1alpha1
kind: BucketAccessPolicy
bucket: orders-data
region: eu-west-1
roleARN: arn:aws:iam::222222222222:role/s3-reader-role
subjects:
- {namespace: default, serviceAccount: api-sa}
- {namespace: default, serviceAccount: default}
- {namespace: payments-secret-team, serviceAccount: ledger}
`

// fakeCluster answers from maps; what is only in the live maps has not reached the
// cache yet.
type fakeCluster struct {
	facts                      decide.Cluster
	namespaces, liveNamespaces map[string]decide.Label
	accounts, liveAccounts     map[string]inject.ServiceAccountView
	liveError                  error
	liveNamespace, liveAccount int
	podsOfAccount              int
	podsOfNamespace            int
	morePods                   bool
}

func (c *fakeCluster) PodsWithout(_ context.Context, _, serviceAccount, _ string) (int, bool, error) {
	if serviceAccount == "" {
		return c.podsOfNamespace, c.morePods, c.liveError
	}
	return c.podsOfAccount, c.morePods, c.liveError
}

func (c *fakeCluster) Facts() decide.Cluster { return c.facts }

func (c *fakeCluster) NamespaceLabel(_ context.Context, name string) (decide.Label, bool, error) {
	label, ok := c.namespaces[name]
	return label, ok, nil
}

func (c *fakeCluster) LiveNamespaceLabel(_ context.Context, name string) (decide.Label, bool, error) {
	c.liveNamespace++
	label, ok := c.liveNamespaces[name]
	return label, ok, c.liveError
}

func (c *fakeCluster) ServiceAccount(_ context.Context, namespace, name string) (inject.ServiceAccountView, bool, error) {
	account, ok := c.accounts[namespace+"/"+name]
	return account, ok, nil
}

func (c *fakeCluster) LiveServiceAccount(_ context.Context, namespace, name string) (inject.ServiceAccountView, bool, error) {
	c.liveAccount++
	account, ok := c.liveAccounts[namespace+"/"+name]
	return account, ok, c.liveError
}

type fakePolicies struct {
	snapshot, live *policy.Snapshot
	liveError      error
	onLive         func() // what happens while the API server is asked
}

func (p *fakePolicies) Snapshot() *policy.Snapshot { return p.snapshot }

func (p *fakePolicies) Live(context.Context, string) (*policy.Snapshot, error) {
	if p.onLive != nil {
		p.onLive()
	}
	return p.live, p.liveError
}

type nullRecorder struct{}

func (nullRecorder) Admission(Entry, decide.Kind, decide.Reason, time.Duration) {}
func (nullRecorder) Warning(Entry, inject.WarningReason)                        {}

func snapshotOf(tb testing.TB, documents map[string]string) *policy.Snapshot {
	tb.Helper()
	snapshot := policy.Build([]policy.ConfigMap{{Namespace: webhookNamespace, Name: "policies", UID: "1", Data: documents}}, nil, nil)
	for _, entry := range snapshot.Entries() {
		if len(entry.Errors) > 0 {
			tb.Fatalf("policy %s: %v", entry.Name, entry.Errors)
		}
	}
	return snapshot
}

func newFakes(tb testing.TB) (*Service, *fakeCluster, *fakePolicies) {
	tb.Helper()
	cluster := &fakeCluster{podsOfNamespace: 3,
		facts:      decide.Cluster{Issuer: "https://oidc.eks.eu-central-1.amazonaws.com/id/X", Region: "eu-central-1"},
		namespaces: map[string]decide.Label{"default": {}},
		accounts: map[string]inject.ServiceAccountView{
			"default/api-sa": {Name: "api-sa", Namespace: "default"}, "default/default": {Name: "default", Namespace: "default"},
		},
	}
	policies := &fakePolicies{snapshot: snapshotOf(tb, map[string]string{"orders": ordersPolicy})}
	return &Service{
		Cluster: cluster, Policies: policies, Namespace: webhookNamespace, EKSAudience: "sts.amazonaws.com",
		Reader: inject.ReaderSettings{
			Image: "registry.example.com/bucket-access-reader:v1", MemoryLimit: 64 << 20,
			Resources: []byte(`{"requests":{"cpu":"10m","memory":"32Mi"},"limits":{"memory":"64Mi"}}`),
		},
	}, cluster, policies
}

// podShape is a synthetic Pod as a Deployment makes it, with managedFields.
type podShape struct {
	containers, initContainers, env int
	labels                          string // extra labels, `,"key":"value"`
}

var podShapes = map[string]podShape{
	"small":   {containers: 1, env: 2},
	"typical": {containers: 3, initContainers: 1, env: 20},
	"big":     {containers: 18, initContainers: 2, env: 40},
}

func (s podShape) json() string {
	list := func(prefix string, n int) string {
		items := make([]string, n)
		for i := range items {
			items[i] = containerJSON(fmt.Sprintf("%s-%d", prefix, i), s.env)
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	init := ""
	if s.initContainers > 0 {
		init = `"initContainers":` + list("init", s.initContainers) + `,`
	}
	return `{"kind":"Pod","apiVersion":"v1","metadata":{"generateName":"orders-api-6d4cf56db6-","namespace":"default","creationTimestamp":null,` +
		`"labels":{"app.kubernetes.io/name":"orders-api","pod-template-hash":"6d4cf56db6"` + s.labels + `},"annotations":{"prometheus.io/scrape":"true"},` +
		`"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"orders-api-6d4cf56db6","uid":"0b8b0c4e-5a7e-4f0e-9f0d-2c9b3a1d7e55","controller":true,"blockOwnerDeletion":true}],` +
		`"managedFields":[{"manager":"kube-controller-manager","operation":"Update","apiVersion":"v1","time":"2026-08-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":` +
		s.managedFields() + `}]},"spec":{"volumes":[{"name":"config","configMap":{"name":"orders-api","defaultMode":420}},` +
		`{"name":"kube-api-access-x2x4b","projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},` +
		`{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},{"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}],"defaultMode":420}}],` +
		init + `"containers":` + list("app", s.containers) + `,"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst",` +
		`"serviceAccountName":"api-sa","serviceAccount":"api-sa","securityContext":{"runAsNonRoot":true,"seccompProfile":{"type":"RuntimeDefault"}},"schedulerName":"default-scheduler",` +
		`"tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}],"priority":0,"enableServiceLinks":true,"preemptionPolicy":"PreemptLowerPriority"},"status":{}}`
}

func containerJSON(name string, env int) string {
	entries := make([]string, env)
	for i := range entries {
		entries[i] = fmt.Sprintf(`{"name":"APP_SETTING_%02d","value":"value-%02d.orders.svc.cluster.local"}`, i, i)
	}
	return fmt.Sprintf(`{"name":%q,"image":"registry.example.com/orders/api:v1.42.0","args":["--listen=:8080","--log-format=json"],"ports":[{"name":"http","containerPort":8080,"protocol":"TCP"}],"env":[%s],`+
		`"resources":{"limits":{"memory":"256Mi"},"requests":{"cpu":"100m","memory":"128Mi"}},"volumeMounts":[{"name":"config","mountPath":"/etc/orders"},{"name":"kube-api-access-x2x4b","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}],`+
		`"livenessProbe":{"httpGet":{"path":"/healthz","port":"http","scheme":"HTTP"},"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":3},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File",`+
		`"imagePullPolicy":"IfNotPresent","securityContext":{"capabilities":{"drop":["ALL"]},"allowPrivilegeEscalation":false}}`, name, strings.Join(entries, ","))
}

func (s podShape) managedFields() string {
	var b strings.Builder
	b.WriteString(`{"f:metadata":{"f:generateName":{},"f:labels":{".":{},"f:app.kubernetes.io/name":{}}},"f:spec":{"f:containers":{`)
	for i := range s.containers {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"k:{\"name\":\"app-%d\"}":{".":{},"f:args":{},"f:env":{".":{}`, i)
		for j := range s.env {
			fmt.Fprintf(&b, `,"k:{\"name\":\"APP_SETTING_%02d\"}":{".":{},"f:name":{},"f:value":{},"f:valueFrom":{".":{},"f:configMapKeyRef":{},"f:fieldRef":{".":{},"f:apiVersion":{},"f:fieldPath":{}}}}`, j)
		}
		b.WriteString(`},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:resources":{".":{},"f:limits":{".":{},"f:memory":{}}}}`)
	}
	b.WriteString(`},"f:dnsPolicy":{},"f:restartPolicy":{}}}`)
	return b.String()
}

// reviewOf wraps a Pod as an API server does.
func reviewOf(object string) string {
	return `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"0df28fbd-5f5f-11e8-bc74-36e6bb280816",` +
		`"kind":{"group":"","version":"v1","kind":"Pod"},"resource":{"group":"","version":"v1","resource":"pods"},` +
		`"requestKind":{"group":"","version":"v1","kind":"Pod"},"requestResource":{"group":"","version":"v1","resource":"pods"},` +
		`"namespace":"default","operation":"CREATE","userInfo":{"username":"system:serviceaccount:kube-system:replicaset-controller",` +
		`"groups":["system:serviceaccounts","system:authenticated"]},"object":` + object +
		`,"oldObject":null,"dryRun":false,"options":{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1"}}}`
}
