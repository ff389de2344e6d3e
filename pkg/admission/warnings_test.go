package admission

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
)

// workloadReview wraps a template's Pod as a workload of a resource.
func workloadReview(resource, metadata, template string) string {
	spec := `{"template":` + template + `}`
	if resource == "cronjobs" {
		spec = `{"schedule":"0 * * * *","jobTemplate":{"metadata":{},"spec":` + spec + `}}`
	}
	group := "apps"
	if strings.HasSuffix(resource, "jobs") {
		group = "batch"
	}
	body := reviewOf(`{"metadata":` + metadata + `,"spec":` + spec + `,"status":{}}`)
	return strings.ReplaceAll(body, `{"group":"","version":"v1","resource":"pods"}`, fmt.Sprintf(`{"group":%q,"version":"v1","resource":%q}`, group, resource))
}

// namespaceReview is of a Namespace whose label changes from old to value; an empty old is a CREATE.
func namespaceReview(value, old string) string {
	object := func(value string) string {
		return `{"metadata":{"name":"default","labels":{"kubernetes.io/metadata.name":"default","bucket-access.io/policy":"` + value + `"}}}`
	}
	body := strings.ReplaceAll(reviewOf(object(value)), `"resource":"pods"`, `"resource":"namespaces"`)
	if old == "" {
		return body
	}
	body = strings.Replace(body, `"CREATE"`, `"UPDATE"`, 1)
	return strings.Replace(body, `"oldObject":null`, `"oldObject":`+object(old), 1)
}

var workloadResources = []string{"deployments", "statefulsets", "daemonsets", "replicasets", "jobs", "cronjobs"}

// TestWorkloadsAreToldWhatTheirPodsWillBe compares the answers for random templates with
// those for the same Pods: a warning for each refusal and each warning, and no refusal, ever.
func TestWorkloadsAreToldWhatTheirPodsWillBe(t *testing.T) {
	refused, warned := 0, 0
	for seed := range uint64(lawRounds / 4) {
		random := rand.New(rand.NewPCG(seed, 2))
		service := randomService(t, random)
		// A template has no name of its own, and no Pod made from it has its template's.
		pod := strings.Replace(randomPod(random), `"name":"p"`, `"generateName":"p-"`, 1)
		told := ask(t, service, Pods, reviewOf(pod))
		response := ask(t, service, Workloads, workloadReview(workloadResources[random.IntN(6)], `{"name":"w"}`, pod))
		if !response.Allowed || len(response.Patch) > 0 {
			t.Fatalf("seed %d: allowed %t, patch %s", seed, response.Allowed, response.Patch)
		}
		want := told.Warnings
		if !told.Allowed {
			refused++
			want = append([]string{told.Result.Message}, want...)
		}
		warned += len(told.Warnings)
		if len(response.Warnings) != len(want) {
			t.Fatalf("seed %d: the workload is told %q, its Pod %q", seed, response.Warnings, want)
		}
		for i, sentence := range want {
			sentence = strings.TrimSuffix(strings.TrimPrefix(sentence, prefix), "...")
			if begin := sentence[:min(len(sentence), 200)]; !strings.Contains(response.Warnings[i], begin) {
				t.Fatalf("seed %d: %q is not in %q", seed, begin, response.Warnings[i])
			}
		}
		if _, reason, _ := strings.Cut(told.AuditAnnotations["verdict"], "/"); response.AuditAnnotations["verdict"] != "skip/"+reason {
			t.Fatalf("seed %d: verdict %s for the workload, %s for its Pod", seed, response.AuditAnnotations["verdict"], told.AuditAnnotations["verdict"])
		}
	}
	if refused < 20 || warned < 20 {
		t.Fatalf("the random templates prove little: %d refused, %d warnings", refused, warned)
	}
}

func TestAMisplacedLabelIsTold(t *testing.T) {
	for _, resource := range workloadResources {
		service, _, _ := newFakes(t)
		response := ask(t, service, Workloads, workloadReview(resource, `{"name":"w","labels":{"bucket-access.io/policy":"orders"}}`, plainPod("")))
		where := "made from spec.template.metadata.labels"
		if resource == "cronjobs" {
			where = "made from spec.jobTemplate.spec.template.metadata.labels"
		}
		if !response.Allowed || len(response.Warnings) != 1 || !strings.Contains(response.Warnings[0], where) {
			t.Errorf("%s: %q", resource, response.Warnings)
		}
	}
}

func TestANamespacesLabelIsAnswered(t *testing.T) {
	for name, test := range map[string]struct {
		value, old string
		prepare    func(*Service, *fakeCluster, *fakePolicies)
		want       string // in the one warning; empty for none
		reason     decide.Reason
	}{
		"set":              {"orders", "none", nil, `3 Pods of Namespace "default" predate the label`, decide.ReasonInjected},
		"at its beginning": {"orders", "", nil, "", decide.ReasonInjected},
		"as it was":        {"orders", "orders", nil, "", decide.ReasonNotRequested},
		"none":             {"none", "orders", nil, "", decide.ReasonNotRequested},
		"one Pod": {"orders", "none", func(_ *Service, c *fakeCluster, _ *fakePolicies) { c.podsOfNamespace = 1 },
			`1 Pod of Namespace "default" predates`, decide.ReasonInjected},
		"many Pods": {"orders", "none", func(_ *Service, c *fakeCluster, _ *fakePolicies) { c.podsOfNamespace, c.morePods = 500, true },
			`at least 500 Pods of Namespace "default" predate`, decide.ReasonInjected},
		"none of the first": {"orders", "none", func(_ *Service, c *fakeCluster, _ *fakePolicies) { c.podsOfNamespace, c.morePods = 0, true },
			`Pods of Namespace "default" may predate the label`, decide.ReasonInjected},
		"no Pods":          {"orders", "none", func(_ *Service, c *fakeCluster, _ *fakePolicies) { c.podsOfNamespace = 0 }, "", decide.ReasonInjected},
		"can't be counted": {"orders", "none", func(_ *Service, c *fakeCluster, _ *fakePolicies) { c.liveError = http.ErrHandlerTimeout }, "", decide.ReasonInjected},
		"unknown":          {"ordres", "none", nil, `names policy "ordres", which does not exist`, decide.ReasonUnknownPolicy},
		"new, unknown":     {"ordres", "", nil, `names policy "ordres", which does not exist`, decide.ReasonUnknownPolicy},
		"lists no other": {"orders", "none", func(_ *Service, _ *fakeCluster, p *fakePolicies) {
			p.snapshot = snapshotOf(t, map[string]string{"orders": elsewhere})
		}, "lists no ServiceAccount of namespace", decide.ReasonSubjectNotListed},
		"can't be read": {"ordres", "none", func(_ *Service, _ *fakeCluster, p *fakePolicies) { p.liveError = http.ErrHandlerTimeout }, "", decide.ReasonLookupFailed},
	} {
		t.Run(name, func(t *testing.T) {
			service, cluster, policies := newFakes(t)
			if test.prepare != nil {
				test.prepare(service, cluster, policies)
			}
			response := ask(t, service, Namespaces, namespaceReview(test.value, test.old))
			said := strings.Join(response.Warnings, "\n")
			if !response.Allowed || response.AuditAnnotations["verdict"] != "skip/"+string(test.reason) || !strings.Contains(said, test.want) || (said == "") != (test.want == "") {
				t.Fatalf("allowed %t, %s: %q", response.Allowed, response.AuditAnnotations["verdict"], said)
			}
			if strings.Contains(said, "payments-secret-team") {
				t.Fatalf("another team's name is given away: %s", said)
			}
		})
	}
}

var elsewhere = strings.ReplaceAll(ordersPolicy, "namespace: default", "namespace: payments-secret-team")

func TestAServiceAccountsLabelIsAnswered(t *testing.T) {
	const label, other = `{"labels":{"bucket-access.io/policy":"orders"}}`, `{"labels":{"bucket-access.io/policy":"none"}}`
	for name, test := range map[string]struct {
		now, old string
		pods     int
		more     bool
		want     string
	}{
		"set":              {label, `{}`, 2, false, `2 Pods of ServiceAccount "api-sa" predate the label`},
		"changed":          {label, other, 1, false, `1 Pod of ServiceAccount "api-sa" predates the label`},
		"very many":        {label, `{}`, 500, true, `at least 500 Pods of`},
		"no Pods":          {label, `{}`, 0, false, ""},
		"as it was":        {label, label, 2, false, ""},
		"at its beginning": {label, "", 2, false, ""},
		"taken away":       {`{}`, label, 2, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			service, cluster, _ := newFakes(t)
			cluster.podsOfAccount, cluster.morePods = test.pods, test.more
			response := ask(t, service, ServiceAccounts, accountReview(test.now, test.old))
			if said := strings.Join(response.Warnings, "\n"); !response.Allowed || (said == "") != (test.want == "") || !strings.Contains(said, test.want) {
				t.Fatalf("allowed %t: %q", response.Allowed, said)
			}
		})
	}
	service, cluster, _ := newFakes(t)
	cluster.podsOfAccount, cluster.liveError = 2, http.ErrHandlerTimeout
	if response := ask(t, service, ServiceAccounts, accountReview(label, `{}`)); !response.Allowed || len(response.Warnings) > 0 || len(response.Patch) == 0 {
		t.Fatalf("where Pods can't be counted: allowed %t, %q", response.Allowed, response.Warnings)
	}
}

// TestWarningsNeverDeny sends damaged and random reviews to the entries that only warn: each is
// allowed, or no review at all; and no input panics.
func TestWarningsNeverDeny(t *testing.T) {
	good := []string{
		workloadReview("deployments", `{"name":"w","labels":{"bucket-access.io/policy":"x"}}`, podShape{containers: 1, env: 2}.json()),
		workloadReview("cronjobs", `{}`, plainPod(`"bucket-access.io/policy":"orders"`)), namespaceReview("orders", "x"), namespaceReview("y", ""),
	}
	answers := map[int]int{}
	for seed := range uint64(lawRounds) {
		random := rand.New(rand.NewPCG(seed, 3))
		body := []byte(good[random.IntN(len(good))])
		for range random.IntN(4) {
			at := random.IntN(len(body))
			switch random.IntN(3) {
			case 0:
				body[at] = byte(random.IntN(256))
			case 1:
				body = slices.Delete(body, at, min(at+1+random.IntN(40), len(body)))
			default:
				body = slices.Insert(body, at, []byte([]string{"null", "{", "]", `""`, "1e9", `,"template":{}`}[random.IntN(6)])...)
			}
		}
		service, cluster, policies := newFakes(t)
		if random.IntN(4) == 0 {
			cluster.liveError, policies.liveError = http.ErrHandlerTimeout, http.ErrHandlerTimeout
			clear(cluster.accounts)
		}
		entry := []Entry{Workloads, NamespacedWorkloads, Namespaces}[random.IntN(3)]
		w := post(t, service, entry, string(body))
		answers[w.Code]++
		if w.Code != http.StatusBadRequest && (w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"allowed":true`) || strings.Contains(w.Body.String(), `"patch"`)) {
			t.Fatalf("seed %d, %s: HTTP %d %s\n%s", seed, entry, w.Code, w.Body, body)
		}
	}
	if answers[http.StatusOK] < lawRounds/20 || answers[http.StatusBadRequest] < lawRounds/20 {
		t.Fatalf("the random reviews prove little: %v", answers)
	}
}

func TestAWorkloadOfWhichNothingCanBeReadGoesThrough(t *testing.T) {
	service, cluster, _ := newFakes(t)
	clear(cluster.accounts)
	cluster.liveError = http.ErrHandlerTimeout
	response := ask(t, service, Workloads, workloadReview("jobs", `{}`, plainPod(`"bucket-access.io/policy":"orders"`)))
	if !response.Allowed || response.AuditAnnotations["verdict"] != "skip/"+string(decide.ReasonLookupFailed) {
		t.Fatalf("allowed %t: %v", response.Allowed, response.AuditAnnotations)
	}
}

func TestTheLabelOfANamespaceThatTheCacheLacksCountsForWorkloads(t *testing.T) {
	service, cluster, _ := newFakes(t)
	cluster.liveNamespaces = map[string]decide.Label{"default": orders()}
	cluster.accounts["default/other"] = inject.ServiceAccountView{Namespace: "default", Name: "other"}
	template := strings.Replace(plainPod(""), "api-sa", "other", 1)
	response := ask(t, service, NamespacedWorkloads, workloadReview("deployments", `{"name":"w"}`, template))
	if len(response.Warnings) != 1 || !strings.Contains(response.Warnings[0], "does not list system:serviceaccount:default:other") || cluster.liveNamespace != 1 {
		t.Fatalf("%d live reads: %q", cluster.liveNamespace, response.Warnings)
	}
}
