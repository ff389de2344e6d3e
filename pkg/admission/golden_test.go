package admission

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
)

var update = flag.Bool("update", false, "write the golden files anew")

// goldenCase is one input file: a Pod and what stands around it.
type goldenCase struct {
	Entry          Entry             `json:"entry"`
	Policy         string            `json:"policy"` // more lines of the policy orders
	NamespaceLabel string            `json:"namespaceLabel"`
	ServiceAccount map[string]string `json:"serviceAccount"` // its annotations
	AccountLabel   string            `json:"accountLabel"`
	Region         string            `json:"region"` // of the cluster
	Old            json.RawMessage   `json:"oldObject"`
	Object         json.RawMessage   `json:"object"`
}

// goldenAnswer is one golden file: what a user gets.
type goldenAnswer struct {
	Allowed  bool            `json:"allowed"`
	Message  string          `json:"message,omitempty"`
	Warnings []string        `json:"warnings,omitempty"`
	Audit    string          `json:"audit"`
	Patch    json.RawMessage `json:"patch,omitempty"`
	Object   json.RawMessage `json:"object,omitempty"`
}

// TestGolden runs every kind of Pod through the handler. Golden files without an
// input, and the other way round, fail.
func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/golden/*.in.yaml")
	if err != nil || len(inputs) < 15 {
		t.Fatalf("%d inputs, %v", len(inputs), err)
	}
	known := map[string]bool{}
	for _, input := range inputs {
		golden := strings.TrimSuffix(input, ".in.yaml") + ".out.yaml"
		known[golden] = true
		t.Run(strings.TrimSuffix(filepath.Base(input), ".in.yaml"), func(t *testing.T) {
			got := goldenRun(t, input)
			if *update {
				if err := os.WriteFile(golden, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatalf("%v; write it with: go test ./pkg/admission -run Golden -update", err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Fatal(diff)
			}
		})
	}
	outputs, _ := filepath.Glob("testdata/golden/*.out.yaml")
	for _, output := range outputs {
		if !known[output] {
			t.Errorf("%s is left over: it has no input", output)
		}
	}
}

func goldenRun(t *testing.T, input string) []byte {
	t.Helper()
	text, err := os.ReadFile(input)
	if err != nil {
		t.Fatal(err)
	}
	var c goldenCase
	if err := yaml.UnmarshalStrict(text, &c); err != nil {
		t.Fatal(err)
	}
	service, cluster, policies := newFakes(t)
	policies.snapshot = snapshotOf(t, map[string]string{"orders": ordersPolicy + c.Policy})
	policies.live = policies.snapshot
	cluster.facts.Region = c.Region
	account := inject.ServiceAccountView{Namespace: "default", Name: "api-sa", Annotations: c.ServiceAccount, HasAnnotations: c.ServiceAccount != nil}
	if c.AccountLabel != "" {
		account.Policy = decide.Label{Value: c.AccountLabel, Set: true}
	}
	cluster.accounts["default/api-sa"] = account
	if c.NamespaceLabel != "" {
		cluster.namespaces["default"] = decide.Label{Value: c.NamespaceLabel, Set: true}
	}
	body := reviewOf(string(c.Object))
	if c.Entry == EphemeralContainers {
		body = strings.Replace(body, `"operation":"CREATE"`, `"operation":"UPDATE","subResource":"ephemeralcontainers"`, 1)
		body = strings.Replace(body, `"oldObject":null`, `"oldObject":`+string(c.Old), 1)
	}
	response := ask(t, service, c.Entry, body)
	answer := goldenAnswer{Allowed: response.Allowed, Warnings: response.Warnings, Patch: response.Patch,
		Audit: fmt.Sprint(response.AuditAnnotations["verdict"], " ", response.AuditAnnotations["policy"], " ", response.AuditAnnotations["source"])}
	if response.Result != nil {
		answer.Message = response.Result.Message
	}
	if response.Allowed {
		answer.Object = json.RawMessage(patched(t, string(c.Object), response))
	}
	out, err := yaml.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
