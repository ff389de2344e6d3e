package status

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

const orders = "apiVersion: bucket-access.io/v1alpha1\nkind: BucketAccessPolicy\nbucket: orders-data\nregion: eu-west-1\n" +
	"roleARN: arn:aws:iam::222222222222:role/s3-reader-role\n"

// factsOf are those of policies by name, and of ServiceAccounts ns/NAME with the value of their label.
func factsOf(documents, accounts map[string]string) *Facts {
	f := &Facts{
		Policies: policy.Build([]policy.ConfigMap{{Name: "p", UID: "1", Data: documents}}, nil, nil),
		Accounts: map[types.NamespacedName]inject.ServiceAccountView{}, Namespaces: map[string]decide.Label{},
	}
	for name, label := range accounts {
		view := inject.ServiceAccountView{Namespace: "ns", Name: name, Policy: decide.Label{Value: label, Set: label != ""}}
		f.Accounts[types.NamespacedName{Namespace: "ns", Name: name}] = view
	}
	return f
}

// TestRevokedAccessIsWithdrawn: where new Pods are refused a restart would keep the old ones.
func TestRevokedAccessIsWithdrawn(t *testing.T) {
	const (
		patch   = `kubectl -n ns patch deployment api -p '{"spec":{"template":{"metadata":{"labels":{"bucket-access.io/policy":null}}}}}'`
		restart = "kubectl -n ns rollout restart deployment/api"
		unlabel = "kubectl -n ns label serviceaccount former bucket-access.io/policy-"
	)
	set := decide.Label{Value: "orders", Set: true}
	deployment, job := Owner{"deployment", "api"}, Owner{"job", "nightly"}
	for name, test := range map[string]struct {
		owner          Owner
		onPod          decide.Label
		account, space string // the values of their labels
		command, fix   string
	}{
		"asked for by the template":                   {deployment, set, "", "", patch, "or list the ServiceAccount again"},
		"by the ServiceAccount":                       {deployment, decide.Label{}, "orders", "", unlabel + " && " + restart, "a restart alone keeps them"},
		"by both":                                     {deployment, set, "orders", "", unlabel + " && " + patch, "a restart alone keeps them"},
		"by the Namespace, which refuses nobody":      {deployment, decide.Label{}, "", "orders", restart, "the new ones come without"},
		"by the template, in a labelled Namespace":    {deployment, set, "", "orders", patch, "take away the label"},
		"by nobody any more":                          {deployment, decide.Label{}, "", "", restart, "the new ones come without"},
		"by the template of what kubectl can't patch": {job, set, "", "", "kubectl -n ns delete pod pod-1 pod-2", "new ones are refused until"},
		"by the Namespace, of a Job":                  {job, decide.Label{}, "", "orders", "kubectl -n ns delete pod pod-1 pod-2", "new ones come without"},
	} {
		t.Run(name, func(t *testing.T) {
			f := factsOf(map[string]string{"orders": orders + "subjects: [{namespace: ns, serviceAccount: api-sa}]\n"}, map[string]string{"former": test.account})
			f.Namespaces["ns"] = decide.Label{Value: test.space, Set: test.space != ""}
			for _, pod := range []string{"pod-1", "pod-2"} {
				f.Pods = append(f.Pods, Pod{Namespace: "ns", Name: pod, ServiceAccount: "former", Owner: test.owner, OnPod: test.onPod, Injected: set})
			}
			group := Make(f).Policies[0].Revoked[0]
			if group.Pods != 2 || group.Command != test.command || !strings.Contains(group.Fix, test.fix) || !strings.Contains(group.Fix, "trust policy") {
				t.Errorf("%+v", group)
			}
		})
	}
}

// TestAPodThatNobodyMakes is deleted for good when it must not be, and kept as a file when it is made anew.
func TestAPodThatNobodyMakes(t *testing.T) {
	f := factsOf(map[string]string{"orders": orders + "subjects: [{namespace: ns, serviceAccount: api-sa}]\n"}, nil)
	f.Kubectl = Kubectl{Flags: []string{"--context=prod"}}
	p := &Pod{Namespace: "ns", Name: "app", ServiceAccount: "api-sa", Owner: Owner{"pod", "app"}, OnPod: decide.Label{Value: "orders", Set: true}}
	if got := f.Withdraw(p).Command; got != "kubectl --context=prod -n ns delete pod app" {
		t.Error(got)
	}
	if got := f.Anew(p).Command; got != "kubectl --context=prod -n ns get pod app -o json > app.json && kubectl --context=prod replace --force -f app.json" {
		t.Error(got)
	}
	p.Debugged = true
	if got := f.Anew(p); !strings.Contains(got.Command, `| kubectl --context=prod patch --local -f - --type=json -p '[{"op":"remove","path":"/spec/ephemeralContainers"}]'`) ||
		!strings.Contains(got.Fix, "kubectl debug") {
		t.Errorf("%+v", got)
	}
	p.ServiceAccount = "former"
	if got := f.Anew(p); got.Command != "" || !strings.Contains(got.Fix, "refused (SubjectNotListed)") {
		t.Errorf("what would be refused: %+v", got)
	}
}

// accessed are the uses that are listed, as text.
func accessed(list []Access) string {
	var all []string
	for _, a := range list {
		all = append(all, a.Policy+" "+a.ServiceAccount+" "+string(a.Use)+" "+a.Bucket)
	}
	return strings.Join(all, "; ")
}

func TestWhoCanReadABucket(t *testing.T) {
	subjects := "subjects: [{namespace: ns, serviceAccount: api-sa}, {namespace: ns, serviceAccount: later}, {namespace: team-*, serviceAccount: batch}]\n"
	injected := func(account, variable, bucket string) Pod {
		record := inject.Status{Env: map[string]string{
			"AWS_ROLE_ARN": "arn:aws:iam::222222222222:role/s3-reader-role", "AWS_REGION": "eu-west-1", "AAA_REGION": "eu-west-1", variable: bucket, "AAA_PREFIX": "exports/",
		}}
		return Pod{Namespace: "ns", ServiceAccount: account, Injected: decide.Label{Value: "orders", Set: true}, Carried: carried(record)}
	}
	for name, test := range map[string]struct {
		document string
		change   func(*Facts)
		bucket   string
		want     string
	}{
		"by the policy": {orders + subjects, nil, "orders-data",
			"orders ns/api-sa Allowed orders-data; orders ns/later Absent orders-data; orders team-*/batch Pattern orders-data"},
		"where ServiceAccounts can't be listed": {orders + subjects, func(f *Facts) {
			f.Accounts, f.Unread = nil, []string{NoRight + listAccounts}
		}, "orders-data", "orders ns/api-sa Unknown orders-data; orders ns/later Unknown orders-data; orders team-*/batch Pattern orders-data"},
		"of another cluster": {orders + subjects + "issuer: https://b.example.com\n", func(f *Facts) { f.Cluster.Issuer = "https://a.example.com" }, "orders-data",
			"orders ns/api-sa IssuerMismatch orders-data; orders ns/later IssuerMismatch orders-data; orders team-*/batch IssuerMismatch orders-data"},
		"by a Pod": {orders + "subjects: [{namespace: ns, serviceAccount: api-sa}]\n", func(f *Facts) {
			f.Pods = []Pod{injected("api-sa", "BUCKET_NAME", "orders-data"), injected("former", "BUCKET_NAME", "orders-data")}
		}, "orders-data", "orders ns/api-sa InUse orders-data; orders ns/former Revoked orders-data"},
		"by a Pod from before another bucket": {orders + "subjects: [{namespace: ns, serviceAccount: api-sa}]\n", func(f *Facts) {
			f.Pods = []Pod{injected("api-sa", "BUCKET_NAME", "old-data")}
		}, "old-data", "orders ns/api-sa Revoked old-data"},
		"by a Pod whose policy is gone": {"", func(f *Facts) {
			f.Policies = nil
			f.Pods = []Pod{injected("api-sa", "DATA", "orders-data")}
		}, "orders-data", "orders ns/api-sa Revoked orders-data"},
		"nobody": {orders + subjects, nil, "other-data", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := factsOf(map[string]string{"orders": test.document}, map[string]string{"api-sa": ""})
			if test.change != nil {
				test.change(f)
			}
			got := f.WhoCan(test.bucket)
			if accessed(got) != test.want || got == nil {
				t.Errorf("%s, want %s", accessed(got), test.want)
			}
		})
	}
}

// TestWhatAServiceAccountCanRead: also one that does not exist, or can't be listed.
func TestWhatAServiceAccountCanRead(t *testing.T) {
	f := factsOf(map[string]string{
		"all": orders + "subjects: [{namespace: '*', serviceAccount: '*'}]\n", "other": orders + "subjects: [{namespace: x, serviceAccount: y}]\n",
	}, map[string]string{"api-sa": ""})
	name := types.NamespacedName{Namespace: "ns", Name: "api-sa"}
	if got := accessed(f.WhatCan(name)); got != "all ns/api-sa Allowed orders-data" {
		t.Error(got)
	}
	name.Name = "later"
	if got := accessed(f.WhatCan(name)); got != "all ns/later Absent orders-data" {
		t.Error(got)
	}
	f.Unread = []string{NoRight + listAccounts}
	if got := accessed(f.WhatCan(name)); got != "all ns/later Unknown orders-data" {
		t.Error(got)
	}
}
