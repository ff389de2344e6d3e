// Package terraform holds manifests/account-b equal to pkg/iam: OpenTofu evaluates the
// documents, offline and without any provider.
package terraform

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
)

const (
	moduleDir = "../../manifests/account-b"
	binary    = "../../bin/tofu"
)

// run runs OpenTofu in dir and returns what it wrote and how it ended. It asks nobody
// for newer versions and reads no configuration of the user's.
func run(t *testing.T, dir string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	path, err := filepath.Abs(binary)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: build it with: make tofu", err)
	}
	command := exec.CommandContext(t.Context(), path, args...)
	var out, log bytes.Buffer
	command.Dir, command.Stdout, command.Stderr = dir, &out, &log
	command.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TF_CLI_ARGS=-no-color",
		"TF_CLI_CONFIG_FILE=" + os.DevNull, "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "TF_INPUT=0",
	}
	err = command.Run()
	return out.String(), log.String(), err
}

// must is run where nothing may fail.
func must(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, log, err := run(t, dir, args...)
	if err != nil {
		t.Fatalf("tofu %s: %v\n%s%s", strings.Join(args, " "), err, out, log)
	}
	return out
}

func TestFormatted(t *testing.T) {
	if out, log, err := run(t, moduleDir, "fmt", "-check", "-recursive", "-diff"); err != nil {
		t.Fatalf("run: bin/tofu fmt -recursive manifests/account-b (%v)\n%s%s", err, out, log)
	}
}

// outputs are what one instance of the module says.
type outputs struct {
	TrustPolicy      string  `json:"trust_policy"`
	PermissionPolicy string  `json:"permission_policy"`
	BucketPolicy     string  `json:"bucket_policy"`
	KMSKeyStatement  *string `json:"kms_key_statement"`
}

// TestDocumentsAreThoseOfTheProgram: whatever the inputs, the module and pkg/iam write
// the same documents. All cases are evaluated in one run.
func TestDocumentsAreThoseOfTheProgram(t *testing.T) {
	cases := allCases(t)
	dir := wrapper(t, cases)
	example(t, dir)
	must(t, dir, "init")
	must(t, dir, "apply", "-auto-approve")
	var got struct {
		Cases struct {
			Value map[string]outputs `json:"value"`
		} `json:"cases"`
		Example struct {
			Value outputs `json:"value"`
		} `json:"example"`
	}
	if err := json.Unmarshal([]byte(must(t, dir, "output", "-json")), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Cases.Value) != len(cases) {
		t.Fatalf("%d cases came back, want %d", len(got.Cases.Value), len(cases))
	}
	for name, in := range cases {
		t.Run(name, func(t *testing.T) { compare(t, in.withDefaults(), got.Cases.Value[name]) })
	}
	if document := parse(t, got.Example.Value.TrustPolicy); len(document.Statement) != 2 {
		t.Errorf("the example of two clusters trusts %d issuers:\n%s", len(document.Statement), document.JSON())
	}
	t.Logf("%d cases were compared", len(cases))
}

func compare(t *testing.T, in inputs, got outputs) {
	t.Helper()
	trust, grant := in.program()
	want, err := iam.TrustPolicy(trust)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "trust policy", want, parse(t, got.TrustPolicy))
	equal(t, "permission policy", iam.PermissionPolicy(grant), parse(t, got.PermissionPolicy))
	equal(t, "bucket policy", iam.BucketPolicy(grant), parse(t, got.BucketPolicy))
	if in.KMSKeyARN == "" {
		if got.KMSKeyStatement != nil {
			t.Errorf("there is no key, but a statement for its policy: %s", *got.KMSKeyStatement)
		}
		return
	}
	if got.KMSKeyStatement == nil {
		t.Fatal("there is a key, but no statement for its policy")
	}
	statement := iam.Document{Version: iam.PolicyVersion, Statement: iam.Statements{iam.KMSKeyStatement(grant)}}
	equal(t, "KMS key statement", statement, parse(t, `{"Version": "`+iam.PolicyVersion+`", "Statement": `+*got.KMSKeyStatement+`}`))
}

func parse(t *testing.T, text string) iam.Document {
	t.Helper()
	document, err := iam.ParseDocument([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return document
}

func equal(t *testing.T, what string, want, got iam.Document) {
	t.Helper()
	if diff := cmp.Diff(parse(t, string(want.JSON())), got); diff != "" {
		t.Errorf("%s: -pkg/iam +manifests/account-b\n%s", what, diff)
	}
}
