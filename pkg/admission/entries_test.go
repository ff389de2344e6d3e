package admission

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

func plainPod(labels string) string {
	return `{"metadata":{"name":"p","labels":{` + labels + `}},"spec":{"serviceAccountName":"api-sa","containers":[{"name":"app"}]}}`
}

func orders() decide.Label { return decide.Label{Value: "orders", Set: true} }

func TestWhatTheCacheDoesNotHaveYetIsReadLive(t *testing.T) {
	labelled := inject.ServiceAccountView{Namespace: "default", Name: "api-sa", Policy: orders()}
	for name, test := range map[string]struct {
		entry    Entry
		pod      string
		prepare  func(*fakeCluster, *fakePolicies)
		wantLive [2]int // Namespaces, ServiceAccounts
		want     decide.Kind
	}{
		"the Namespace's label": {NamespacedPods, plainPod(""), func(c *fakeCluster, _ *fakePolicies) {
			c.liveNamespaces = map[string]decide.Label{"default": orders()}
		}, [2]int{1, 0}, decide.Inject},
		"the Namespace itself": {Pods, plainPod(""), func(c *fakeCluster, _ *fakePolicies) {
			delete(c.namespaces, "default")
			c.liveNamespaces = map[string]decide.Label{"default": orders()}
		}, [2]int{1, 0}, decide.Inject},
		"the ServiceAccount itself": {ServiceAccountPods, plainPod(""), func(c *fakeCluster, _ *fakePolicies) {
			delete(c.accounts, "default/api-sa")
			c.liveAccounts = map[string]inject.ServiceAccountView{"default/api-sa": labelled}
		}, [2]int{0, 1}, decide.Inject},
		"the ServiceAccount's label, which the API server has seen": {ServiceAccountPods, plainPod(`"bucket-access.io/serviceaccount-policy":"orders"`),
			func(c *fakeCluster, _ *fakePolicies) {
				c.liveAccounts = map[string]inject.ServiceAccountView{"default/api-sa": labelled}
			}, [2]int{0, 1}, decide.Inject},
		"a mark that a person wrote": {ServiceAccountPods, plainPod(`"bucket-access.io/serviceaccount-policy":"orders"`),
			func(c *fakeCluster, _ *fakePolicies) {
				c.liveAccounts = map[string]inject.ServiceAccountView{"default/api-sa": {Name: "api-sa"}}
			}, [2]int{0, 1}, decide.Skip},
		"the policy": {Pods, plainPod(`"bucket-access.io/policy":"orders"`), func(_ *fakeCluster, p *fakePolicies) {
			p.live, p.snapshot = p.snapshot, policy.Build(nil, nil, nil)
		}, [2]int{0, 0}, decide.Inject},
		"a subject that was added": {Pods, plainPod(`"bucket-access.io/policy":"orders"`), func(_ *fakeCluster, p *fakePolicies) {
			p.live = p.snapshot
			p.snapshot = snapshotOf(t, map[string]string{"orders": strings.Replace(ordersPolicy, "serviceAccount: api-sa", "serviceAccount: other", 1)})
		}, [2]int{0, 0}, decide.Inject},
		"nothing, where the cache agrees": {NamespacedPods, plainPod(""), func(c *fakeCluster, _ *fakePolicies) {
			c.namespaces["default"] = orders()
		}, [2]int{0, 0}, decide.Inject},
		"nothing for a Pod that opts out": {Pods, plainPod(`"bucket-access.io/policy":"none"`), func(c *fakeCluster, _ *fakePolicies) {
			delete(c.accounts, "default/api-sa")
		}, [2]int{0, 0}, decide.Skip},
	} {
		t.Run(name, func(t *testing.T) {
			service, cluster, policies := newFakes(t)
			test.prepare(cluster, policies)
			response := ask(t, service, test.entry, reviewOf(test.pod))
			if got := [2]int{cluster.liveNamespace, cluster.liveAccount}; got != test.wantLive {
				t.Errorf("live reads of Namespaces and ServiceAccounts: %v", got)
			}
			if verdict := response.AuditAnnotations["verdict"]; !strings.HasPrefix(verdict, string(test.want)+"/") {
				t.Errorf("verdict %s, %v", verdict, response.Result)
			}
		})
	}
}

func TestPoliciesThatCanNotBeReadAreLeftToTheFailurePolicy(t *testing.T) {
	service, _, policies := newFakes(t)
	policies.liveError = errors.New("the API server is away")
	if w := post(t, service, Pods, reviewOf(plainPod(`"bucket-access.io/policy":"new"`))); w.Code != http.StatusServiceUnavailable {
		t.Fatalf("HTTP %d %s", w.Code, w.Body)
	}
}

func TestALiveReadThatFailsIsLeftToTheFailurePolicy(t *testing.T) {
	service, cluster, _ := newFakes(t)
	delete(cluster.accounts, "default/api-sa")
	cluster.liveError = errors.New("the API server is away")
	w := post(t, service, ServiceAccountPods, reviewOf(plainPod("")))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "try again") {
		t.Fatalf("HTTP %d %s", w.Code, w.Body)
	}
}

// accountReview wraps a ServiceAccount's metadata; an empty old is a CREATE.
func accountReview(metadata, old string) string {
	body := strings.ReplaceAll(reviewOf(`{"metadata":`+metadata+`}`), `"resource":"pods"`, `"resource":"serviceaccounts"`)
	body = strings.Replace(body, `"namespace":"default"`, `"name":"api-sa","namespace":"default"`, 1)
	if old != "" {
		body = strings.Replace(body, `"CREATE"`, `"UPDATE"`, 1)
		body = strings.Replace(body, `"oldObject":null`, `"oldObject":{"metadata":`+old+`}`, 1)
	}
	return body
}

func TestServiceAccounts(t *testing.T) {
	const (
		label   = `"labels":{"bucket-access.io/policy":"orders"}`
		unknown = `"labels":{"bucket-access.io/policy":"unknown"}`
		role    = `"eks.amazonaws.com/role-arn"`
		ours    = `"annotations":{` + role + `:"` + policyRole + `","bucket-access.io/managed":"{\"eks.amazonaws.com/role-arn\":\"` + policyRole + `\"}"}`
		users   = `"annotations":{` + role + `:"` + roleA + `"}`
	)
	for name, test := range map[string]struct {
		metadata, old string
		want          decide.Reason
		allowed       bool
		wantAfter     []string // in the annotations
		wantNot       []string
		wantSaid      string
	}{
		"labelled": {`{` + label + `}`, "", decide.ReasonInjected, true,
			[]string{policyRole, `"eks.amazonaws.com/audience":"sts.amazonaws.com"`, `"eks.amazonaws.com/token-expiration":"3600"`, "managed"}, nil, ""},
		"labelled, with annotations": {`{` + label + `,"annotations":{"x":"y"}}`, "", decide.ReasonInjected, true, []string{policyRole, `"x":"y"`}, nil, ""},
		"another role of a user's":   {`{` + label + `,` + users + `}`, "", decide.ReasonIdentityConflict, false, nil, nil, "remove the annotation"},
		"another audience of a user's": {`{` + label + `,"annotations":{"eks.amazonaws.com/audience":"x"}}`, "", decide.ReasonIdentityConflict, false, nil, nil,
			"eks.amazonaws.com/audience"},
		"a preference of a user's": {`{` + label + `,"annotations":{"eks.amazonaws.com/token-expiration":"900"}}`, "", decide.ReasonInjected, true,
			[]string{`"eks.amazonaws.com/token-expiration":"900"`}, []string{`token-expiration\"`}, "is kept"},
		"an unknown policy": {`{` + unknown + `}`, "", decide.ReasonUnknownPolicy, false, nil, nil, "which does not exist"},
		"an unknown policy, as it was before": {`{` + unknown + `,"annotations":{"x":"y"}}`, `{` + unknown + `}`, decide.ReasonUnknownPolicy, true, []string{`"x":"y"`}, nil,
			"which does not exist"},
		"a role that comes later": {`{` + label + `,` + users + `}`, `{` + label + `}`, decide.ReasonIdentityConflict, false, nil, nil, "remove the annotation"},
		"the label taken away":    {`{` + ours + `}`, `{` + label + `,` + ours + `}`, decide.ReasonRemoved, true, nil, []string{policyRole, "managed"}, ""},
		"opted out":               {`{"labels":{"bucket-access.io/policy":"none"},` + ours + `}`, `{` + label + `,` + ours + `}`, decide.ReasonRemoved, true, nil, []string{policyRole}, ""},
		"a value changed by hand is the user's and stays": {`{"annotations":{` + role + `:"` + roleA + `","bucket-access.io/managed":"{\"eks.amazonaws.com/role-arn\":\"` + policyRole + `\"}"}}`,
			`{` + label + `}`, decide.ReasonRemoved, true, []string{roleA}, []string{"managed"}, ""},
		"a forged record removes nothing else": {`{"annotations":{"x":"y","bucket-access.io/managed":"{\"x\":\"y\"}"}}`, `{` + label + `}`, decide.ReasonRemoved, true, []string{`"x":"y"`}, nil, ""},
		"being deleted":                        {`{` + unknown + `,"deletionTimestamp":"2026-01-01T00:00:00Z"}`, `{` + label + `}`, decide.ReasonNotRequested, true, nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			service, _, policies := newFakes(t)
			policies.live = policies.snapshot
			response := ask(t, service, ServiceAccounts, accountReview(test.metadata, test.old))
			if response.Allowed != test.allowed || !strings.HasSuffix(response.AuditAnnotations["verdict"], "/"+string(test.want)) {
				t.Fatalf("allowed %t, %s: %v", response.Allowed, response.AuditAnnotations["verdict"], response.Result)
			}
			said := strings.Join(response.Warnings, "\n")
			if response.Result != nil {
				said += response.Result.Message
			}
			if !strings.Contains(said, test.wantSaid) {
				t.Errorf("said %q", said)
			}
			if !response.Allowed {
				return
			}
			after := patched(t, `{"metadata":`+test.metadata+`}`, response)
			for _, want := range test.wantAfter {
				if !strings.Contains(after, want) {
					t.Errorf("%s is missing: %s", want, after)
				}
			}
			for _, not := range test.wantNot {
				if strings.Contains(after, not) {
					t.Errorf("%s is there: %s", not, after)
				}
			}
			metadata := strings.TrimSuffix(strings.TrimPrefix(after, `{"metadata":`), "}")
			if again := ask(t, service, ServiceAccounts, accountReview(metadata, metadata)); len(again.Patch) > 0 {
				t.Errorf("patched a second time: %s", again.Patch)
			}
		})
	}
}

func TestPolicyConfigMaps(t *testing.T) {
	review := func(namespace, labels, data string) string {
		body := strings.ReplaceAll(reviewOf(`{"metadata":{"labels":{`+labels+`}},"data":{`+data+`}}`), `"resource":"pods"`, `"resource":"configmaps"`)
		return strings.Replace(body, `"namespace":"default"`, `"name":"new","namespace":"`+namespace+`"`, 1)
	}
	const marked = `"bucket-access.io/policies":"true"`
	quoted := strings.ReplaceAll(ordersPolicy, "\n", `\n`)
	for name, test := range map[string]struct {
		namespace, labels, data string
		allowed                 bool
		want                    []string
	}{
		"good":                 {webhookNamespace, marked, `"new":"` + quoted + `"`, true, nil},
		"two bad ones":         {webhookNamespace, marked, `"a":"bucket: 5","b":"[","none":""`, false, []string{"has 8 errors", "data[a].bucket", "data[b]", "data[none]", v1alpha1.APIVersion}},
		"another namespace":    {"default", marked, `"a":"["`, true, nil},
		"without the label":    {webhookNamespace, "", `"a":"["`, true, nil},
		"a name that is taken": {webhookNamespace, marked, `"orders":"` + quoted + `"`, true, []string{"defined by another ConfigMap already"}},
		"for another cluster":  {webhookNamespace, marked, `"new":"` + quoted + `issuer: https://x.example.com"`, true, []string{"is not this cluster's token issuer"}},
		"nothing":              {webhookNamespace, marked, "", true, []string{"defines no policy"}},
	} {
		t.Run(name, func(t *testing.T) {
			service, _, _ := newFakes(t)
			response := ask(t, service, Policies, review(test.namespace, test.labels, test.data))
			said := strings.Join(response.Warnings, "\n")
			if response.Result != nil {
				said += response.Result.Message
			}
			if response.Allowed != test.allowed || (len(test.want) == 0) != (said == "") {
				t.Fatalf("allowed %t: %s", response.Allowed, said)
			}
			for _, want := range test.want {
				if !strings.Contains(said, want) {
					t.Errorf("%q is not said: %s", want, said)
				}
			}
		})
	}
}

// TestAPolicyThatArrivesBetweenTwoLooks: it comes into force while the API server is asked
// whether there is a younger one, which says no.
func TestAPolicyThatArrivesBetweenTwoLooks(t *testing.T) {
	service, _, policies := newFakes(t)
	loaded := policies.snapshot
	policies.snapshot = snapshotOf(t, nil)
	policies.onLive = func() { policies.snapshot = loaded }
	response := ask(t, service, Pods, reviewOf(podShape{containers: 1, labels: `,"bucket-access.io/policy":"orders"`}.json()))
	if !response.Allowed || len(response.Patch) == 0 {
		t.Fatalf("allowed: %t, %d bytes of patch: %v", response.Allowed, len(response.Patch), response.Result)
	}
}
