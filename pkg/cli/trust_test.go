package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

const (
	issuerA = "https://oidc.eks.eu-west-1.amazonaws.com/id/A1B2"
	issuerB = "https://issuer.example.com/b"
	// onePolicy has a prefix that needs care in shells and in HCL.
	onePolicy = "apiVersion: bucket-access.io/v1alpha1\nkind: BucketAccessPolicy\nbucket: orders-data\nregion: eu-west-1\n" +
		"roleARN: arn:aws:iam::222222222222:role/s3-reader-role\nsubjects:\n- {namespace: default, serviceAccount: api-sa}\n"
	carePolicy = onePolicy + "- {namespace: shop, serviceAccount: '*'}\nprefix: \"it's %{a}/\\\"b\\\"/\"\nactions: [s3:GetObject, s3:PutObject, s3:ListBucket]\n" +
		"kmsKeyARN: arn:aws:kms:eu-west-1:222222222222:key/1234abcd-12ab-34cd-56ef-1234567890ab\n"
)

func parsedPolicy(t *testing.T, text string) *policy.Policy {
	t.Helper()
	p, errs := policy.Parse("orders", text)
	if len(errs) > 0 {
		t.Fatal(errs.ToAggregate())
	}
	return p
}

func trustArgs(t *testing.T, text string, more ...string) []string {
	t.Helper()
	return append([]string{"trust-policy", "orders", "--policies", write(t, "orders.yaml", text), "--issuer", issuerA}, more...)
}

func TestTrustPolicyAlone(t *testing.T) {
	for name, issuers := range map[string][]string{"one cluster": {issuerA}, "two clusters": {issuerA, issuerB}} {
		t.Run(name, func(t *testing.T) {
			want, err := parsedPolicy(t, carePolicy).TrustPolicy(issuers...)
			if err != nil {
				t.Fatal(err)
			}
			args := trustArgs(t, carePolicy)
			for _, issuer := range issuers {
				args = append(args, "--issuer", issuer)
			}
			code, stdout, stderr := plugin(t, "", args...)
			if code != exitFine || stderr != "" {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			if diff := cmp.Diff(string(want.JSON()), stdout); diff != "" {
				t.Error(diff)
			}
			// What is generated passes its own check.
			code, stdout, stderr = plugin(t, stdout, append(args, "--check", "-")...)
			if code != exitFine || stdout != "" || !strings.Contains(stderr, "lets in 2 subjects") {
				t.Errorf("exit code %d: %s%s", code, stdout, stderr)
			}
		})
	}
}

// TestTheScriptSaysWhatTheJSONSays: a shell hands the AWS CLI the same documents.
func TestTheScriptSaysWhatTheJSONSays(t *testing.T) {
	with := "--with=" + strings.Join(trustParts, ",")
	_, stdout, _ := plugin(t, "", trustArgs(t, carePolicy, with)...)
	var in accountInput
	if err := json.Unmarshal([]byte(stdout), &in); err != nil {
		t.Fatal(err)
	}
	_, script, _ := plugin(t, "", trustArgs(t, carePolicy, "-o", "aws-cli", with)...)
	provider := iam.ProviderARN(parsedPolicy(t, carePolicy).Role, issuerA)
	type call struct{ command, flag, value string }
	permissions := call{"iam put-role-policy", "--policy-document", text(in.RolePolicy.PolicyDocument)}
	bucket := call{"s3api put-bucket-policy", "--policy", text(in.BucketPolicy.Policy)}
	asksProvider, asksRole := call{"iam get-open-id-connect-provider", "--open-id-connect-provider-arn", provider}, call{"iam get-role", "--role-name", "s3-reader-role"}
	for fails, wants := range map[string][]call{
		"get-*": {
			asksProvider, {"iam create-open-id-connect-provider", "--url", issuerA},
			asksRole, {"iam create-role", "--assume-role-policy-document", text(in.Role.AssumeRolePolicyDocument)}, permissions, bucket,
		},
		"nothing": { // as for an account's second policy, or after a change
			asksProvider, {"iam add-client-id-to-open-id-connect-provider", "--client-id", "sts.amazonaws.com"},
			asksRole, {"iam update-assume-role-policy", "--policy-document", text(in.Role.AssumeRolePolicyDocument)}, permissions, bucket,
		},
		"update-*": {asksProvider, {"iam add-client-id-to-open-id-connect-provider", "--open-id-connect-provider-arn", provider}, asksRole, {"iam update-assume-role-policy", "--role-name", "s3-reader-role"}},
	} {
		calls := runScript(t, script, fails)
		if len(calls) != len(wants) {
			t.Fatalf("where %s fails: %d calls: %q", fails, len(calls), calls)
		}
		for i, want := range wants {
			at := slices.Index(calls[i], want.flag)
			if strings.Join(calls[i][:2], " ") != want.command || at < 0 || calls[i][at+1] != want.value {
				t.Errorf("where %s fails: want %s, got %q", fails, want, calls[i])
			}
		}
	}
	if in.KeyStatement == nil || !regexp.MustCompile(`(?m)^# +"kms:GenerateDataKey"`).MatchString(script) {
		t.Errorf("no statement for the key's policy: %s", script)
	}
	_, script, _ = plugin(t, "", trustArgs(t, carePolicy, "-o", "aws-cli", "--with", "permissions")...)
	if calls := runScript(t, script, "nothing"); len(calls) != 2 || calls[0][1] != "update-assume-role-policy" {
		t.Errorf("%q", calls)
	}
}

// runScript pastes a script into a shell, with an aws that notes what it is given and fails
// where its second word fits the pattern. The shell lives on.
func runScript(t *testing.T, script, fails string) [][]string {
	t.Helper()
	dir := t.TempDir()
	fake := "#!/bin/sh\nprintf '%s\\0' \"$@\" end >> \"$0.log\"\ncase $2 in " + fails + ") exit 254;; esac\n"
	if err := os.WriteFile(filepath.Join(dir, "aws"), []byte(fake), 0o700); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "sh")
	command.Stdin = strings.NewReader(script + "echo alive, $?\n")
	command.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	want := "alive, 0\n"
	if fails == "update-*" {
		want = "alive, 254\n"
	}
	if out, err := command.CombinedOutput(); err != nil || string(out) != want {
		t.Fatalf("%v: %s", err, out)
	}
	log, err := os.ReadFile(filepath.Join(dir, "aws.log"))
	if err != nil {
		t.Fatal(err)
	}
	var calls [][]string
	var call []string
	for word := range strings.SplitSeq(strings.TrimSuffix(string(log), "\x00"), "\x00") {
		if word == "end" {
			calls, call = append(calls, call), nil
			continue
		}
		call = append(call, word)
	}
	return calls
}

// TestTerraformIsHCL: the file parses and holds what was asked for; OpenTofu itself reads
// it in e2e/terraform.
func TestTerraformIsHCL(t *testing.T) {
	for with, want := range map[string][]string{
		"":     {"aws_iam_openid_connect_provider.orders", "aws_iam_role.orders", "aws_iam_role_policy.orders"},
		"role": {"aws_iam_role.orders"},
		"provider,role,permissions,bucket-policy": {
			"aws_iam_openid_connect_provider.orders", "aws_iam_role.orders", "aws_iam_role_policy.orders", "aws_s3_bucket_policy.orders", "orders_kms_key_statement",
		},
	} {
		_, stdout, stderr := plugin(t, "", trustArgs(t, carePolicy, "-o", "terraform", "--with="+with)...)
		file, diagnostics := hclparse.NewParser().ParseHCL([]byte(stdout), "x.tf")
		if diagnostics.HasErrors() {
			t.Fatalf("%v: %s%s", diagnostics, stdout, stderr)
		}
		content, _, diagnostics := file.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
			{Type: "resource", LabelNames: []string{"type", "name"}}, {Type: "output", LabelNames: []string{"name"}},
		}})
		if diagnostics.HasErrors() {
			t.Fatal(diagnostics)
		}
		var got []string
		for _, block := range content.Blocks {
			got = append(got, strings.Join(block.Labels, "."))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", with, diff)
		}
	}
}

// TestResourcesAreNamedAfterThePolicy, so that several policies stand in one directory.
func TestResourcesAreNamedAfterThePolicy(t *testing.T) {
	for name, want := range map[string]string{"orders": "orders", "team.orders_v-2": "team_orders_v-2", "2026.orders": "policy_2026_orders"} {
		if got := identifier(name); got != want || !hclsyntax.ValidIdentifier(got) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// TestCheckNamesEachMistake: each of the classic mistakes is found and has its sentence.
func TestCheckNamesEachMistake(t *testing.T) {
	text, err := os.ReadFile("../iam/testdata/wrong.json")
	if err != nil {
		t.Fatal(err)
	}
	var wrong []struct {
		Name, Policy, Want string
		Lets               bool
	}
	if err := json.Unmarshal(text, &wrong); err != nil || len(wrong) < 40 {
		t.Fatalf("%d policies, %v", len(wrong), err)
	}
	args := trustArgs(t, onePolicy, "--check", "-", "-o", "json")
	for _, test := range wrong {
		t.Run(test.Name, func(t *testing.T) {
			code, stdout, stderr := plugin(t, test.Policy, args...)
			var findings []finding
			if err := json.Unmarshal([]byte(stdout), &findings); err != nil || code != exitFindings {
				t.Fatalf("exit code %d, %v: %s%s", code, err, stdout, stderr)
			}
			said, refused := false, false
			for _, f := range findings {
				said = said || strings.Contains((iam.Finding{Path: f.Path, Message: f.Message}).String(), test.Want)
				refused = refused || strings.Contains(f.Message, "refused)")
				if f.Message == "" || f.Rule == "" {
					t.Errorf("incomplete: %+v", f)
				}
			}
			if !said {
				t.Errorf("want %q: %s", test.Want, stdout)
			}
			if _, err := iam.ParseDocument([]byte(test.Policy)); err == nil && refused == test.Lets {
				t.Errorf("refused is %t: %s", refused, stdout)
			}
		})
	}
}

func TestCheckFindsDifferences(t *testing.T) {
	document := func(more string) string {
		_, stdout, _ := plugin(t, "", trustArgs(t, onePolicy+more)...)
		return stdout
	}
	for name, test := range map[string]struct {
		document string
		args     []string
		code     int
		want     string
	}{
		"none":                   {document(""), nil, exitFine, "lets in 1 subject of policy \"orders\" from 1 cluster"},
		"a subject too many":     {document("- {namespace: evil, serviceAccount: x}\n"), nil, exitFindings, `"system:serviceaccount:evil:x" is let in, and policy "orders" does not list it`},
		"a pattern too wide":     {document("- {namespace: default, serviceAccount: 'api-*'}\n"), nil, exitFindings, `"system:serviceaccount:default:api-*" is let in`},
		"a subject too few":      {strings.Replace(document(""), "api-sa", "other", 1), nil, exitFindings, "(so system:serviceaccount:default:api-sa from " + issuerA + " is refused)"},
		"another cluster's":      {document(""), []string{"--issuer", issuerB}, exitFindings, "from " + issuerB + " is refused)"},
		"another audience":       {strings.Replace(document(""), `:aud": "sts.amazonaws.com"`, `:aud": "sts.other.example"`, 1), nil, exitFindings, "is refused"},
		"what a token can't say": {strings.Replace(document(""), `"StringEquals": {`, `"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}, "StringEquals": {`, 1), nil, exitFine, "warning: "},
		"nothing":                {"", nil, exitFindings, "is no JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := plugin(t, test.document, trustArgs(t, onePolicy, append(test.args, "--check", "-")...)...)
			if code != test.code || !strings.Contains(stdout+stderr, test.want) {
				t.Errorf("exit code %d: %s%s", code, stdout, stderr)
			}
		})
	}
	wrong := strings.Replace(document(""), "sts:AssumeRoleWithWebIdentity", "sts:AssumeRole", 1)
	pipe, _ := show(t, 0, wrong, trustArgs(t, onePolicy, "--check", "-")...)
	goldenText(t, "check.pipe.txt", pipe)
	terminal, _ := show(t, 80, wrong, trustArgs(t, onePolicy, "--check", "-")...)
	goldenText(t, "check.terminal.txt", terminal)
}

// TestLiveReadsTheRole: as iam:GetRole answers, URL-encoded, from whom the SDK's own
// configuration names.
func TestLiveReadsTheRole(t *testing.T) {
	document, err := parsedPolicy(t, onePolicy).TrustPolicy(issuerA)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		arn, document string
		status, code  int
		want          string
	}{
		"right":           {"arn:aws:iam::222222222222:role/s3-reader-role", string(document.JSON()), 200, exitFine, "lets in 1 subject"},
		"wrong":           {"arn:aws:iam::222222222222:role/s3-reader-role", strings.Replace(string(document.JSON()), "api-sa", "x", 1), 200, exitFindings, "is refused"},
		"another account": {"arn:aws:iam::111111111111:role/s3-reader-role", string(document.JSON()), 200, exitUsage, "use credentials of account 222222222222"},
		"no right":        {"", "", 403, exitUsage, "this needs iam:GetRole in account 222222222222"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := r.ParseForm(); err != nil || r.Form.Get("Action") != "GetRole" || r.Form.Get("RoleName") != "s3-reader-role" {
					t.Errorf("asked for %v, %v", r.Form, err)
				}
				w.Header().Set("Content-Type", "text/xml")
				w.WriteHeader(test.status)
				if test.status != http.StatusOK {
					_, _ = w.Write([]byte(`<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>`))
					return
				}
				_, _ = w.Write([]byte(`<GetRoleResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><GetRoleResult><Role><Arn>` + test.arn +
					`</Arn><AssumeRolePolicyDocument>` + url.QueryEscape(test.document) + `</AssumeRolePolicyDocument></Role></GetRoleResult></GetRoleResponse>`))
			}))
			defer server.Close()
			for key, value := range map[string]string{
				"AWS_ENDPOINT_URL_IAM": server.URL, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
			} {
				t.Setenv(key, value)
			}
			code, stdout, stderr := plugin(t, "", trustArgs(t, onePolicy, "--live")...)
			if code != test.code || !strings.Contains(stdout+stderr, test.want) {
				t.Errorf("exit code %d: %s%s", code, stdout, stderr)
			}
		})
	}
}

func TestTrustPolicySaysWhatItCannotDo(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no policy of that name": {append([]string{"trust-policy", "nope"}, trustArgs(t, onePolicy)[2:]...), `there is no policy "nope"; there are: orders`},
		"no name":                {[]string{"trust-policy"}, "give the name of one policy"},
		"no issuer":              {trustArgs(t, onePolicy)[:4], "no issuer: give --issuer"},
		"no policies":            {[]string{"trust-policy", "orders", "--issuer", issuerA}, "give --policies FILE"},
		"a wrong policy":         {trustArgs(t, "kind: BucketAccessPolicy\n"), `policy "orders" is invalid`},
		"a wrong issuer":         {trustArgs(t, onePolicy, "--issuer", "http://x"), "is no issuer"},
		"a wrong output":         {trustArgs(t, onePolicy, "-o", "table"), `--output is "table"`},
		"a wrong part":           {trustArgs(t, onePolicy, "--with", "bucket"), `--with holds "bucket"`},
		"no role":                {trustArgs(t, onePolicy, "-o", "terraform", "--with", "provider"), "needs the role in --with"},
		"check and live":         {trustArgs(t, onePolicy, "--check", "-", "--live"), "none of the others can be"},
		"check of a folder":      {trustArgs(t, onePolicy, "--check", "testdata/none"), "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, stdout, stderr := plugin(t, "", test.args...); code != exitUsage || !strings.Contains(stderr, test.want) {
				t.Errorf("exit code %d: %s%s", code, stdout, stderr)
			}
		})
	}
	// A policy that names its issuer needs no flag.
	if code, stdout, stderr := plugin(t, "", trustArgs(t, onePolicy+"issuer: "+issuerB+"\n")[:4]...); code != exitFine || !strings.Contains(stdout, "issuer.example.com/b:aud") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}
