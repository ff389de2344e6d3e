package doctor

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/version"
	"sigs.k8s.io/yaml"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
	"github.com/bucket-access/bucket-access-webhook/pkg/status"
)

func TestTargets(t *testing.T) {
	for text, want := range map[string]Target{
		"":               {Namespace: "default"},
		"orders":         {Kind: Policy, Name: "orders"},
		"policy/orders":  {Kind: Policy, Name: "orders"},
		"pod/app":        {Kind: Pod, Namespace: "default", Name: "app"},
		"po/app":         {Kind: Pod, Namespace: "default", Name: "app"},
		"sa/api-sa":      {Kind: ServiceAccount, Namespace: "default", Name: "api-sa"},
		"ns/shop":        {Kind: Namespace, Namespace: "shop", Name: "shop"},
		"Namespace/shop": {Kind: Namespace, Namespace: "shop", Name: "shop"},
	} {
		if got, err := ParseTarget(text, "default"); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"deployment/api", "pod/", "/app", "pod/a/b"} {
		if got, err := ParseTarget(text, "default"); err == nil {
			t.Errorf("%q is taken for %+v", text, got)
		}
	}
}

// TestKeysOfASecretAreReadFromItsMetadata in each form in which its data was written.
func TestKeysOfASecretAreReadFromItsMetadata(t *testing.T) {
	for fields, want := range map[string]string{
		`{"f:data":{".":{},"f:AWS_ACCESS_KEY_ID":{},"f:x":{}},"f:type":{}}`: "AWS_ACCESS_KEY_ID x",
		`{"f:stringData":{"f:AWS_PROFILE":{}}}`:                             "AWS_PROFILE",
		`{"f:metadata":{"f:labels":{"f:AWS_PROFILE":{}}}}`:                  "",
		`no JSON`: "",
	} {
		keys := fieldKeys([]byte(fields))
		slices.Sort(keys)
		if got := strings.Join(keys, " "); got != want {
			t.Errorf("%s: %q, want %q", fields, got, want)
		}
	}
}

func TestTheNearestPolicyIsOnlyNamedWhenItIsNear(t *testing.T) {
	d := &Doctor{facts: &status.Facts{Policies: policy.Build([]policy.ConfigMap{{Name: "p", Data: map[string]string{"orders": "x", "reports": "x"}}}, nil, nil)}}
	for name, want := range map[string]string{"ordres": "orders", "order": "orders", "Orders": "orders", "report": "reports", "payments": "", "": ""} {
		if got := d.nearest(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

// TestAMissingRightIsNoFault, while whatever else goes wrong is.
func TestAMissingRightIsNoFault(t *testing.T) {
	resource := schema.GroupResource{Resource: "pods"}
	for err, want := range map[error]State{
		apierrors.NewForbidden(resource, "app", nil):   Skipped,
		apierrors.NewUnauthorized("who are you?"):      Skipped,
		apierrors.NewNotFound(resource, "app"):         Fail,
		errors.New("connection refused"):               Fail,
		apierrors.NewInternalError(errors.New("etcd")): Fail,
	} {
		if got := unread(err, "get pods"); got.State != want || got.Why == "" || got.Fix == "" {
			t.Errorf("%v: %+v, want %s", err, got, want)
		}
	}
}

func TestVersionsOfAPIServers(t *testing.T) {
	for minor, want := range map[string]bool{"29": true, "35": true, "35+": true, "36": false, "36+": false, "37": false, "": false} {
		if got := older(&version.Info{Major: "1", Minor: minor}, markingMinor); got != want {
			t.Errorf("1.%s: %t", minor, got)
		}
	}
	if older(&version.Info{Major: "2", Minor: "0"}, markingMinor) {
		t.Error("2.0 is taken for an older one")
	}
}

func TestMarksAreWaitedForByASelectorThatAsksForThem(t *testing.T) {
	for manifests, want := range map[string]bool{"default": true, "older-kubernetes": false} {
		text, err := os.ReadFile("../../manifests/" + manifests + "/mutating-webhooks.yaml")
		if err != nil {
			t.Fatal(err)
		}
		var configuration admissionv1.MutatingWebhookConfiguration
		if err := yaml.Unmarshal(text, &configuration); err != nil {
			t.Fatal(err)
		}
		if got := waitsForMarks(configuration.Webhooks); got != want {
			t.Errorf("manifests/%s: %t", manifests, got)
		}
	}
}

func TestWordsOfACommandAreQuoted(t *testing.T) {
	if got := quote(`it's $HOME`); got != `'it'\''s $HOME'` {
		t.Error(got)
	}
}

// TestConflictsAreThoseOfTheTarget, not of all ServiceAccounts of its Namespace.
func TestConflictsAreThoseOfTheTarget(t *testing.T) {
	asks := func(name string) inject.ServiceAccountView {
		return inject.ServiceAccountView{Namespace: "ns", Name: name, Policy: decide.Label{Value: "nothing", Set: true}}
	}
	facts := &status.Facts{
		Accounts: map[types.NamespacedName]inject.ServiceAccountView{{Namespace: "ns", Name: "api-sa"}: asks("api-sa"), {Namespace: "ns", Name: "other"}: asks("other")},
		Pods:     []status.Pod{{Namespace: "ns", ServiceAccount: "other", OnPod: decide.Label{Value: "nothing", Set: true}, Owner: status.Owner{Kind: "pod", Name: "p"}}},
	}
	d := &Doctor{Target: Target{Kind: ServiceAccount, Namespace: "ns", Name: "api-sa"}, facts: facts}
	if got := d.pods(t.Context()); got.State != Warn || got.Why != "asked for and not given: serviceaccount ns/api-sa: UnknownPolicy" {
		t.Errorf("%+v", got)
	}
	d.Target = Target{Kind: Namespace, Namespace: "ns", Name: "ns"}
	if got := d.pods(t.Context()); strings.Count(got.Why, "UnknownPolicy") != 3 {
		t.Errorf("of the Namespace: %+v", got)
	}
}
