package suite

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	awsiam "github.com/aws/aws-sdk-go-v2/service/iam"
	"golang.org/x/sys/unix"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
	"github.com/bucket-access/bucket-access-webhook/pkg/doctor"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
)

// livePatient is a policy with its role and bucket in Account B, looked at by somebody
// who may read the role, or by somebody without AWS credentials.
func livePatient(t *testing.T, own bool, more ...string) (*patient, *access) {
	t.Helper()
	a := newAccess(t, more...)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(ca, cluster.Config.CAData, 0o600))
	p := &patient{Lab: cluster, kubeconfig: cluster.Kubeconfig, namespace: a.namespace, env: []string{
		"SSL_CERT_FILE=" + ca, "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
		"AWS_ENDPOINT_URL_IAM=" + a.b.STSURL,
	}}
	if own {
		p.env = append(p.env, "AWS_ACCESS_KEY_ID=account-b-root", "AWS_SECRET_ACCESS_KEY=account-b-root-secret")
	}
	a.pod(t, "app")
	return p, a
}

// TestDoctorLive walks to the object itself: all green with a token of the API server, a
// session of the real STS and the object's first byte; also without AWS credentials.
func TestDoctorLive(t *testing.T) {
	for name, own := range map[string]bool{"with AWS credentials": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			p, a := livePatient(t, own)
			for _, target := range []string{"pod/app", a.policy.Name} {
				report, shown := p.examine(t, target, "--live")
				t.Log(shown)
				if red := firstRed(report); !report.Healthy || red.ID != "" {
					t.Fatalf("%s is red: %s", red.ID, red.Why)
				}
				for id, want := range map[string]string{
					"token": "sub system:serviceaccount:" + a.namespace + ":api-sa, aud sts.amazonaws.com", "session": "assumed-role/" + a.policy.Role.Name() + "/bucket-access-doctor",
					"bucket": "bucket " + a.policy.Bucket + " is listed", "object": "config.json is read",
				} {
					if check := find(t, report, id); check.State != doctor.OK || !strings.Contains(check.Why, want) {
						t.Errorf("%s: %+v", id, check)
					}
				}
				trust := find(t, report, "trust")
				if own && trust.State != doctor.OK || !own && (trust.State != doctor.Skipped || !strings.Contains(trust.Why, "iam:GetRole on arn:aws:iam::"+lab.AccountBID)) {
					t.Errorf("trust: %+v", trust)
				}
			}
		})
	}
	p, _ := livePatient(t, false)
	report, _ := p.examine(t, "pod/app")
	if check := find(t, report, "live"); check.State != doctor.Skipped || !strings.Contains(check.Why, "give --live") {
		t.Errorf("without the flag: %+v", check)
	}
}

// withoutProvider deletes the OIDC provider that the tests share.
func withoutProvider(t *testing.T, a *access) {
	t.Helper()
	provider := iam.ProviderARN(a.policy.Role, cluster.Issuer)
	_, err := a.b.IAM.DeleteOpenIDConnectProvider(t.Context(), &awsiam.DeleteOpenIDConnectProviderInput{OpenIDConnectProviderArn: &provider})
	must(t, err)
	t.Cleanup(func() { _ = a.b.CreateProvider(context.Background(), "sts.amazonaws.com") }) // where it was not mended
}

// withoutS3 ends the S3 that the tests share.
func withoutS3(t *testing.T, a *access) {
	t.Helper()
	a.b.Kill("s3")
	t.Cleanup(func() {
		if t.Failed() {
			a.b.Kill("s3")
			must(t, a.b.Start(context.Background(), "s3"))
		}
	})
}

// lookAtTrust: who may not read the trust policy is given no document to write over it. The
// command that is printed names the mistake to somebody who may; the mending is a person's.
func lookAtTrust(t *testing.T, a *access, command string) {
	t.Helper()
	want := "kubectl bucket-access trust-policy " + a.policy.Name + " --from-cluster --live"
	if command != want {
		t.Fatalf("%s, want %s", command, want)
	}
	if said := shell(t, a.b, "! AWS_ENDPOINT_URL_IAM="+a.b.STSURL+" "+command); !strings.Contains(said, " is refused)") {
		t.Error(said)
	}
	right, err := a.policy.TrustPolicy(cluster.Issuer)
	must(t, err)
	must(t, a.b.SetTrust(testContext(t), a.policy, right))
}

// TestDoctorNamesWhatIsWrongInAccountB breaks Account B as the reader's tests do, and
// mends it by running what doctor prints, with the real AWS CLI.
func TestDoctorNamesWhatIsWrongInAccountB(t *testing.T) {
	removeBucketPolicy := func(t *testing.T, a *access, command string) { // what it prints shows the Deny
		t.Helper()
		if said := shell(t, a.b, command); !strings.Contains(said, `\"Deny\"`) {
			t.Errorf("%s: %s", command, said)
		}
		must(t, a.b.SetBucketPolicy(testContext(t), a.policy.Bucket, iam.Document{}))
	}
	for name, test := range map[string]struct {
		fault  string // of the reader's
		own    bool
		more   []string
		breaks func(t *testing.T, a *access)
		args   []string
		check  string
		why    string
		mend   func(t *testing.T, a *access, command string)
	}{
		"trust for another subject":             {fault: "trust for another subject", own: true, check: "trust", why: "refuses the token", mend: byAWSCLI},
		"trust for another subject, unseen":     {fault: "trust for another subject", check: "session", why: "TokenRefused", mend: lookAtTrust},
		"aud and sub swapped":                   {fault: "aud and sub swapped", own: true, check: "trust", why: "refuses the token", mend: byAWSCLI},
		"an explicit Deny in the trust policy":  {fault: "an explicit Deny in the trust policy", own: true, check: "trust", why: "explicitly", mend: byAWSCLI},
		"another provider, unseen":              {fault: "trust in another provider", check: "session", why: "RoleNotTrusting", mend: lookAtTrust},
		"an explicit Deny in the bucket policy": {fault: "an explicit Deny in the bucket's policy", check: "bucket", why: "ExplicitDenyBucketPolicy", mend: removeBucketPolicy},
		"an explicit Deny in the role's policy": {fault: "an explicit Deny in the role's policy", check: "bucket", why: "ExplicitDenyRolePolicy"},
		"a grant for another bucket":            {fault: "a grant for another bucket", check: "bucket", why: "NotGranted", mend: byAWSCLI},
		"no such bucket": {fault: "no such bucket", check: "bucket", why: "BucketMissing", mend: func(t *testing.T, a *access, _ string) {
			t.Helper()
			must(t, a.b.CreateBucket(testContext(t), a.policy.Bucket, map[string]string{"config.json": "{}"}))
		}},
		"no grant for objects": {breaks: granted(func(g *iam.Grant) { g.Actions = []string{"s3:ListBucket"} }), check: "object", why: "NotGranted", mend: byAWSCLI},
		"no such object": {args: []string{"--key=nothing.json"}, check: "object", why: "KeyMissing", mend: func(t *testing.T, a *access, _ string) {
			t.Helper()
			must(t, a.b.Put(testContext(t), a.policy.Bucket, "nothing.json", "text/plain", []byte("x")))
		}},
		"no such role":     {fault: "no such role", own: true, check: "trust", why: "there is no role", mend: byAWSCLI},
		"no OIDC provider": {own: true, breaks: withoutProvider, check: "provider", why: "ProviderMissing", mend: byAWSCLI},
		"an audience that the provider does not know": {own: true, more: []string{"audience: https://other.example.com"}, check: "provider", why: "WrongAudience", mend: byAWSCLI},
		"S3 that is down": {breaks: withoutS3, check: "bucket", why: "Unreachable", mend: func(t *testing.T, a *access, _ string) {
			t.Helper()
			must(t, a.b.Start(testContext(t), "s3"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p, a := livePatient(t, test.own, test.more...)
			breaks := test.breaks
			if test.fault != "" {
				breaks = faults[test.fault].breaks
			}
			if breaks != nil {
				breaks(t, a)
			}
			args := append([]string{"pod/app", "--live"}, test.args...)
			report, shown := p.examine(t, args...)
			found := find(t, report, test.check)
			if red := firstRed(report); red.ID != test.check || red.State != doctor.Fail || !strings.Contains(red.Why, test.why) || red.Fix == "" {
				t.Fatalf("the first red link is %q, want %s with %q:\n%s", red.ID, test.check, test.why, shown)
			}
			t.Logf("%s\n$ %s", found.Why, cmp.Or(found.Command, found.Look))
			if test.mend == nil {
				return
			}
			test.mend(t, a, cmp.Or(found.Command, found.Look))
			if report, shown := p.examine(t, args...); find(t, report, test.check).State != doctor.OK {
				t.Errorf("not mended:\n%s", shown)
			}
		})
	}
}

// TestDoctorWithLessThanAllRights: with the viewer's roles all is seen but what takes a
// right that no viewer should have; without any, nothing is called broken.
func TestDoctorWithLessThanAllRights(t *testing.T) {
	p, a := livePatient(t, false)
	must(t, cluster.Client.Create(testContext(t), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: "unseen"}}))
	a.pod(t, "from-secret", func(q *corev1.Pod) {
		q.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "unseen"}}}}
	})
	for _, person := range []string{"viewer", "nobody"} {
		must(t, cluster.Client.Create(testContext(t), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: person}}))
	}
	viewer := "--serviceaccount=" + a.namespace + ":viewer"
	p.kubectl(t, "-n", lab.Namespace, "create", "rolebinding", "viewer-"+a.namespace, "--role=bucket-access-viewer", viewer)
	p.kubectl(t, "create", "clusterrolebinding", "viewer-"+a.namespace, "--clusterrole=bucket-access-viewer", viewer)
	t.Cleanup(func() {
		_, _, _ = cluster.Kubectl(context.Background(), "", "delete", "clusterrolebinding", "viewer-"+a.namespace)
	})

	p.kubeconfig = personOf(t, a.namespace, "viewer")
	report, shown := p.examine(t, "pod/from-secret", "--live")
	t.Log(shown)
	for _, check := range report.Checks {
		want, right := doctor.OK, ""
		switch check.ID {
		case "call":
			want, right = doctor.Skipped, "no right to create pods in namespace "+a.namespace
		case "credentials":
			want, right = doctor.Skipped, "no right to get secrets unseen"
		case "token":
			want, right = doctor.Skipped, "no right to create serviceaccounts/token"
		case "provider", "trust", "session", "bucket", "object":
			want = doctor.Skipped
		}
		if check.State != want || !strings.Contains(check.Why, right) {
			t.Errorf("%s is %s: %s; want %s with %q", check.ID, check.State, check.Why, want, right)
		}
	}
	said := bucketAccess(t, p.kubeconfig, nil, "status", "-A")
	if said.code > 1 || !strings.Contains(said.stdout, a.policy.Name) || strings.Contains(said.stdout, "no right") { // 1 for Pods of other tests
		t.Errorf("status of a viewer: %s%s", said.stdout, said.stderr)
	}

	p.kubeconfig = personOf(t, a.namespace, "nobody")
	report, shown = p.examine(t, "pod/app")
	if red := firstRed(report); red.ID != "" || report.Healthy || report.Looked { // which examine holds the exit code against
		t.Errorf("for want of rights %s is called broken:\n%s", red.ID, shown)
	}
	if check := find(t, report, "policies"); check.State != doctor.Skipped || !strings.Contains(check.Why, "no right to list configmaps in namespace "+lab.Namespace) {
		t.Errorf("%+v", check)
	}
	if said := bucketAccess(t, p.kubeconfig, nil, "status"); said.code != 2 || !strings.Contains(said.stderr, "bucket-access-viewer") {
		t.Errorf("status of nobody: exit code %d, %s%s", said.code, said.stdout, said.stderr)
	}
}

// personOf is the path of a kubeconfig with a token of a ServiceAccount.
func personOf(t *testing.T, namespace, name string) string {
	t.Helper()
	token := &authenticationv1.TokenRequest{}
	must(t, cluster.Client.SubResource("token").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}, token))
	config, err := clientcmd.LoadFromFile(filepath.Join(cluster.Dir, "webhook.kubeconfig"))
	must(t, err)
	for _, user := range config.AuthInfos {
		user.Token = token.Status.Token
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	must(t, clientcmd.WriteToFile(*config, path))
	return path
}

// TestOnATerminal: on a real terminal of 80 columns nothing but a command is wider, and
// states are symbols with colours; NO_COLOR takes the colours away.
func TestOnATerminal(t *testing.T) {
	p, a := livePatient(t, false)
	created(t, cluster, pod(a.namespace, "plain", account("other")))
	for _, args := range [][]string{{"doctor", "-n", a.namespace, "pod/plain"}, {"status", "-A"}, {"status", "--who-can", a.policy.Bucket}} {
		for _, colours := range []bool{true, false} {
			env := append(slices.Clone(p.env), "KUBECONFIG="+p.kubeconfig, "TERM=xterm", "NO_COLOR=") // whoever runs the tests may have set it
			if !colours {
				env = append(env, "NO_COLOR=1")
			}
			text := onTerminal(t, env, args...)
			if strings.Contains(text, "\x1b[") != colours {
				t.Errorf("%v: colours are %v, want %v:\n%s", args, !colours, colours, text)
			}
			plain := regexp.MustCompile(`\x1b\[[0-9;]*m`).ReplaceAllString(text, "")
			for line := range strings.Lines(plain) {
				line = strings.TrimRight(line, "\r\n")
				line = line[strings.LastIndexByte(line, '\r')+1:] // what came before is erased
				if command := strings.TrimSpace(line); utf8.RuneCountInString(line) > 80 && !strings.HasPrefix(command, "$ ") && !strings.HasPrefix(command, "look: ") {
					t.Errorf("%v: %d columns: %s", args, utf8.RuneCountInString(line), line)
				}
			}
			if args[0] == "doctor" && (!strings.Contains(plain, "✓ server: ") || !strings.Contains(plain, "✗ label: ")) {
				t.Errorf("%v: no symbols:\n%s", args, plain)
			}
		}
	}
}

// onTerminal runs the plugin on a pseudo-terminal of 80 columns and returns what it shows.
func onTerminal(t *testing.T, env []string, args ...string) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	must(t, err)
	defer master.Close()
	fd := int(master.Fd())
	must(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	must(t, err)
	must(t, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}))
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	command := exec.CommandContext(testContext(t), filepath.Join(cluster.Repository, "bin", "kubectl-bucket_access"), args...)
	command.Env = append(os.Environ(), env...)
	command.Stdout, command.Stderr = slave, slave
	must(t, command.Start())
	must(t, slave.Close())
	text, _ := io.ReadAll(master) // ends with EIO when the other side is closed
	_ = command.Wait()
	return string(text)
}
