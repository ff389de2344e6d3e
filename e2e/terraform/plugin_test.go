package terraform

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"

	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// pluginPolicy has all that is hard to write in HCL.
const pluginPolicy = `apiVersion: bucket-access.io/v1alpha1
kind: BucketAccessPolicy
bucket: orders-data
region: eu-west-1
roleARN: arn:aws:iam::222222222222:role/teams/s3-reader-role
subjects:
- {namespace: default, serviceAccount: api-sa}
- {namespace: shop, serviceAccount: "*"}
prefix: "it's %{a}/\"b\"\\/ü/"
actions: [s3:GetObject, s3:PutObject, s3:ListBucket, s3:GetBucketLocation]
kmsKeyARN: arn:aws:kms:eu-west-1:222222222222:key/1234abcd-12ab-34cd-56ef-1234567890ab
`

// TestThePluginsResources: OpenTofu reads what kubectl bucket-access trust-policy prints,
// finds it well formatted, and evaluates its documents to those of pkg/iam.
func TestThePluginsResources(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "kubectl-bucket_access")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../cmd/kubectl-bucket_access").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	write(t, filepath.Join(dir, "orders.yaml"), pluginPolicy)
	printed, err := exec.CommandContext(t.Context(), program, "trust-policy", "orders", "--policies", filepath.Join(dir, "orders.yaml"),
		"--issuer", issuerA, "--issuer", issuerB, "-o", "terraform", "--with", "provider,role,permissions,bucket-policy").Output()
	if err != nil {
		t.Fatal(err)
	}
	// The resources are a provider's, and none is at hand; the expressions are OpenTofu's own.
	work := t.TempDir()
	write(t, filepath.Join(work, "printed.tf"), string(printed))
	if out, log, err := run(t, work, "fmt", "-check", "-diff"); err != nil {
		t.Errorf("not formatted (%v): %s%s", err, out, log)
	}
	outputs := documents(t, printed)
	write(t, filepath.Join(work, "printed.tf"), strings.Join(outputs, ""))
	must(t, work, "init")
	must(t, work, "apply", "-auto-approve")
	var got map[string]struct{ Value string }
	if err := json.Unmarshal([]byte(must(t, work, "output", "-json")), &got); err != nil {
		t.Fatal(err)
	}
	p, errs := policy.Parse("orders", pluginPolicy)
	if len(errs) > 0 {
		t.Fatal(errs.ToAggregate())
	}
	trust, err := p.TrustPolicy(issuerA, issuerB)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "trust policy", trust, parse(t, got["aws_iam_role"].Value))
	equal(t, "permission policy", iam.PermissionPolicy(p.Grant()), parse(t, got["aws_iam_role_policy"].Value))
	equal(t, "bucket policy", iam.BucketPolicy(p.Grant()), parse(t, got["aws_s3_bucket_policy"].Value))
	statement := iam.Document{Version: iam.PolicyVersion, Statement: iam.Statements{iam.KMSKeyStatement(p.Grant())}}
	equal(t, "KMS key statement", statement, parse(t, got["orders_kms_key_statement"].Value))
}

// documents makes an output of each document's expression.
func documents(t *testing.T, text []byte) []string {
	t.Helper()
	file, diagnostics := hclparse.NewParser().ParseHCL(text, "printed.tf")
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	content, _, diagnostics := file.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
		{Type: "resource", LabelNames: []string{"type", "name"}}, {Type: "output", LabelNames: []string{"name"}},
	}})
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	var outputs []string
	for _, block := range content.Blocks {
		attributes, _ := block.Body.JustAttributes()
		for _, name := range []string{"assume_role_policy", "policy", "value"} {
			if attribute := attributes[name]; attribute != nil {
				outputs = append(outputs, fmt.Sprintf("output %q {\n  value = %s\n}\n", block.Labels[0], attribute.Expr.Range().SliceBytes(text)))
			}
		}
	}
	if len(outputs) != 4 {
		t.Fatalf("%d documents: %v", len(outputs), outputs)
	}
	return outputs
}
