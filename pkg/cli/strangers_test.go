package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheckDecidesPatterns: that a pattern of the trust policy lets in nobody else is
// proven, refuted by a name, or said to be undecided.
func TestCheckDecidesPatterns(t *testing.T) {
	const prefix = "system:serviceaccount:"
	for name, test := range map[string]struct {
		listed, claim string
		code          int
		want          string // empty: nothing is said
	}{
		"wider than a pattern that fits the usual sample": {"{namespace: default, serviceAccount: 'a*'}", "default:*", exitFindings, `(it lets in "system:serviceaccount:default:zq7xk-0w")`},
		"as wide":                          {"{namespace: shop, serviceAccount: '*'}", "shop:*", exitFine, ""},
		"narrower":                         {"{namespace: 'shop-*', serviceAccount: '*'}", "shop-a:b-*", exitFine, ""},
		"equal but written in another way": {"{namespace: shop, serviceAccount: '?*'}", "shop:*?", exitFine, ""},
		"across Namespaces":                {"{namespace: shop, serviceAccount: '*'}", "*:api-sa", exitFindings, `"system:serviceaccount:zq7xk-0w:api-sa"`},
		"across the colon":                 {"{namespace: shop, serviceAccount: '*'}", "s*", exitFindings, `"system:serviceaccount:szq7xk:0w"`},
		"covered only by several together": {"{namespace: shop, serviceAccount: '?'}, {namespace: shop, serviceAccount: '??*'}", "shop:*", exitFine, "could not be decided"},
	} {
		t.Run(name, func(t *testing.T) {
			listed := strings.Replace(onePolicy, "- {namespace: default", "- "+strings.ReplaceAll(test.listed, "}, {", "}\n- {")+"\n- {namespace: default", 1)
			_, document, stderr := plugin(t, "", trustArgs(t, listed)...)
			needle := `"` + prefix + `default:api-sa"`
			if !strings.Contains(document, needle) {
				t.Fatal(document, stderr)
			}
			document = strings.Replace(document, needle, needle+`, "`+prefix+test.claim+`"`, 1)
			code, stdout, stderr := plugin(t, document, trustArgs(t, listed, "--check", "-")...)
			if code != test.code || !strings.Contains(stdout, test.want) || (test.want == "") != (stdout == "") {
				t.Errorf("exit code %d: %s%s", code, stdout, stderr)
			}
		})
	}
}

// TestCheckNamesWhatItDoesNotJudge: a check of tokens gives no all-clear for anybody else.
func TestCheckNamesWhatItDoesNotJudge(t *testing.T) {
	_, document, _ := plugin(t, "", trustArgs(t, onePolicy, "--issuer", issuerB)...)
	document = strings.Replace(document, `"Statement": [`, `"Statement": [{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::999999999999:root"}, "Action": "sts:AssumeRole"},
		{"Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::888888888888:root"}, "Action": "sts:AssumeRole"},`, 1)
	code, stdout, stderr := plugin(t, document, trustArgs(t, onePolicy, "--check", "-")...)
	for _, want := range []string{
		`warning: Statement[0]: lets in AWS "arn:aws:iam::999999999999:root" by "sts:AssumeRole", of whom nothing is judged here`,
		`warning: Statement[2]: lets in Federated "arn:aws:iam::222222222222:oidc-provider/issuer.example.com/b"`, "the warnings name what is not judged",
	} {
		if !strings.Contains(stdout+stderr, want) {
			t.Errorf("want %s: %s%s", want, stdout, stderr)
		}
	}
	if code != exitFine || strings.Count(stdout, "warning: ") != 2 {
		t.Errorf("exit code %d: %s", code, stdout)
	}
}

// TestPoliciesThatShareARole are warned of, and the check of the one gives no advice that
// breaks the other.
func TestPoliciesThatShareARole(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"orders": onePolicy, "reports": strings.NewReplacer("orders-data", "reports-data", "api-sa", "report-sa").Replace(onePolicy),
		"own": strings.NewReplacer("s3-reader-role", "own-role", "orders-data", "own-data").Replace(onePolicy),
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"trust-policy", "orders", "--policies", dir, "--issuer", issuerA}
	_, document, stderr := plugin(t, "", args...)
	const shared = `role arn:aws:iam::222222222222:role/s3-reader-role is also that of policy "reports": ServiceAccounts of either reach what both grant`
	if strings.Count(stderr, shared) != 1 || strings.Contains(stderr, `"own"`) {
		t.Errorf("%s", stderr)
	}
	const needle = `"system:serviceaccount:default:api-sa"`
	with := func(name string) string {
		return strings.Replace(document, needle, "["+needle+`, "system:serviceaccount:default:`+name+`"]`, 1)
	}
	code, stdout, stderr := plugin(t, with("report-sa"), append(args, "--check", "-")...)
	if code != exitFine || stdout != "" || !strings.Contains(stderr, shared) {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	if code, stdout, _ := plugin(t, with("stranger"), append(args, "--check", "-")...); code != exitFindings || !strings.Contains(stdout, `default:stranger" is let in`) {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	code, stdout, stderr = plugin(t, "", "validate", "-f", dir)
	want := filepath.Join(dir, "reports.yaml") + `:5: warning: data[reports.yaml].roleARN: role arn:aws:iam::222222222222:role/s3-reader-role is also that of policy "orders"`
	if code != exitFine || !strings.Contains(stdout, want) || strings.Count(stdout, "also that of") != 1 {
		t.Errorf("exit code %d, want %s: %s%s", code, want, stdout, stderr)
	}
}

// TestANameThatStandsTwiceIsRefused: of two policies of one name in files neither is the
// one that counts.
func TestANameThatStandsTwiceIsRefused(t *testing.T) {
	dir := t.TempDir()
	for _, folder := range []string{"x", "y"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, folder, "orders.yaml"), []byte(onePolicy), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, files := range map[string][]string{
		"two folders": {filepath.Join(dir, "x"), filepath.Join(dir, "y")}, "two documents of one file": {write(t, "orders.yaml", onePolicy+"---\n"+onePolicy)},
		"a broken one beside a good one": {filepath.Join(dir, "x"), write(t, "orders.yaml", "kind: BucketAccessPolicy\n")},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := plugin(t, "", "trust-policy", "orders", "--policies", strings.Join(files, ","), "--issuer", issuerA)
			if code != exitUsage || stdout != "" || !strings.Contains(stderr, `policy "orders" is defined more than once, in `) || !strings.Contains(stderr, "rename or remove one") {
				t.Errorf("exit code %d: %s%s", code, stdout, stderr)
			}
			if code, _, _ := plugin(t, "", "validate", "-f", strings.Join(files, ",")); code != exitFindings {
				t.Errorf("validate: exit code %d", code)
			}
		})
	}
}
