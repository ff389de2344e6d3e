package suite

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	awsiam "github.com/aws/aws-sdk-go-v2/service/iam"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
	"github.com/bucket-access/bucket-access-webhook/pkg/doctor"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
)

// rewrite replaces words of the policy, and has the Pod made anew.
func (a *access) rewrite(t *testing.T, words, by string) {
	t.Helper()
	ctx := testContext(t)
	var held corev1.ConfigMap
	must(t, cluster.Client.Get(ctx, client.ObjectKey{Namespace: lab.Namespace, Name: "policy-" + a.policy.Name}, &held))
	document := held.Data[a.policy.Name]
	if !strings.Contains(document, words) {
		t.Fatalf("%q is not in the policy: %s", words, document)
	}
	held.Data[a.policy.Name] = strings.ReplaceAll(document, words, by)
	must(t, cluster.Client.Update(ctx, &held))
	a.anew(t)
}

// anew makes the Pod again until it has what the policy says now: each replica hears of a
// change in its own time.
func (a *access) anew(t *testing.T) {
	t.Helper()
	eventually(t, "the Pod is as the policy says", func() bool {
		said, _, err := cluster.Kubectl(testContext(t), "", "-n", a.namespace, "delete", "pod", "app", "--force")
		if err != nil {
			t.Fatal(said)
		}
		a.pod(t, "app")
		report, _ := (&patient{Lab: cluster, kubeconfig: cluster.Kubeconfig, namespace: a.namespace}).examine(t, "pod/app")
		return find(t, report, "pod").State == doctor.OK
	})
}

// red examines the Pod and returns the first red link, which must be the one that is wanted.
func (p *patient) red(t *testing.T, check string, whys ...string) doctor.Check {
	t.Helper()
	report, shown := p.examine(t, "pod/app", "--live")
	red := firstRed(report)
	for _, why := range whys {
		if red.ID != check || red.State != doctor.Fail || !strings.Contains(red.Why, why) {
			t.Fatalf("the first red link is %q, want %s with %q:\n%s", red.ID, check, why, shown)
		}
	}
	t.Logf("%s\n%s\n$ %s", red.Why, red.Fix, red.Command)
	return red
}

// green examines the Pod after it was mended.
func (p *patient) green(t *testing.T) {
	t.Helper()
	if report, shown := p.examine(t, "pod/app", "--live"); firstRed(report).ID != "" || find(t, report, "object").State != doctor.OK {
		t.Errorf("not mended:\n%s", shown)
	}
}

// TestDoctorNamesTheBucketsRegion: Account B's S3 refuses what is signed for another
// region, as AWS's does, and says which it expects.
func TestDoctorNamesTheBucketsRegion(t *testing.T) {
	p, a := livePatient(t, false)
	a.rewrite(t, "region: "+lab.AccountBRegion, "region: eu-west-1")
	red := p.red(t, "bucket", "WrongRegion: ", "the bucket is in "+lab.AccountBRegion+", the policy says eu-west-1")
	if !strings.HasPrefix(red.Fix, "Set the policy's region to the bucket's") {
		t.Errorf("what to do: %s", red.Fix)
	}
	p.run(t, red.Command, "s/region: eu-west-1/region: "+lab.AccountBRegion+"/")
	a.anew(t)
	p.green(t)
}

// keyedS3 stands before Account B's S3 and refuses to decrypt objects while the role's
// policy does not allow the key. It is a fake: Account B has no KMS and none can be had. The
// answer is AWS's own, as pkg/reader's table of answers has it; all else is Account B's.
func keyedS3(t *testing.T, a *access, key string) string {
	t.Helper()
	target, err := url.Parse(a.b.S3URL)
	must(t, err)
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
	}}
	return serveOnLoopback(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/"+a.policy.Bucket+"/config.json" || a.mayDecrypt(key) {
			forward.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/xml")
		w.Header().Set("X-Amz-Request-Id", "4442587FB7D0A2F9")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>AccessDenied</Code><Message>User: arn:aws:sts::%s:assumed-role/%s/bucket-access-doctor is not authorized to perform: kms:Decrypt on resource: %s `+
			`because no identity-based policy allows the kms:Decrypt action</Message><RequestId>4442587FB7D0A2F9</RequestId><HostId>x</HostId></Error>`,
			lab.AccountBID, a.policy.Role.Name(), key)
	}))
}

// mayDecrypt looks into the role's own policy.
func (a *access) mayDecrypt(key string) bool {
	name, inline := a.policy.Role.Name(), a.policy.RolePolicyName()
	answer, err := a.b.IAM.GetRolePolicy(context.Background(), &awsiam.GetRolePolicyInput{RoleName: &name, PolicyName: &inline})
	if err != nil {
		return false
	}
	text, err := url.QueryUnescape(*answer.PolicyDocument)
	if err != nil {
		return false
	}
	document, err := iam.ParseDocument([]byte(text))
	if err != nil {
		return false
	}
	for _, statement := range document.Statement {
		for _, action := range statement.Action {
			if action == "kms:Decrypt" && strings.Contains(strings.Join(statement.Resource, " "), key) {
				return true
			}
		}
	}
	return false
}

// TestDoctorNamesTheKey: a key that the policy does not know is told to be written there;
// then the printed command allows it to the role.
func TestDoctorNamesTheKey(t *testing.T) {
	const key = "arn:aws:kms:" + lab.AccountBRegion + ":" + lab.AccountBID + ":key/1234abcd-12ab-34cd-56ef-1234567890ab"
	p, a := livePatient(t, false)
	a.rewrite(t, a.b.S3URL, keyedS3(t, a, key))
	red := p.red(t, "object", "KMSDenied: ", "kms:Decrypt on resource: "+key)
	if !strings.Contains(red.Fix, "set the policy's kmsKeyARN") {
		t.Errorf("what to do: %s", red.Fix)
	}
	p.run(t, red.Command, `s|^\( *\)region: .*|&\n\1kmsKeyARN: `+key+`|`)
	a.anew(t)
	red = p.red(t, "object", "KMSDenied: ")
	byAWSCLI(t, a, red.Command)
	p.green(t)
}
