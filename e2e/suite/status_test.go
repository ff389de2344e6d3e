package suite

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
	"github.com/bucket-access/bucket-access-webhook/pkg/status"
)

// answer is what the plugin said, and what it took.
type pluginAnswer struct {
	stdout, stderr string
	code           int
	took           time.Duration
	memory         int64 // peak, resident, bytes
}

// bucketAccess runs the built plugin as a user does; more is further environment.
func bucketAccess(t *testing.T, kubeconfig string, more []string, args ...string) pluginAnswer {
	t.Helper()
	repository, err := lab.Repository()
	must(t, err)
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(testContext(t), filepath.Join(repository, "bin", "kubectl-bucket_access"), args...)
	command.Env = append(append(os.Environ(), "KUBECONFIG="+kubeconfig), more...)
	command.Stdout, command.Stderr = &stdout, &stderr
	start := time.Now()
	if err := command.Start(); err != nil {
		t.Fatalf("%v; build it with: make build", err)
	}
	peak := make(chan int64)
	ended := make(chan struct{})
	go func() { // what a process has had at most is known only while it runs
		var most int64
		for {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", command.Process.Pid))
			if _, line, found := strings.Cut(string(text), "VmHWM:"); err == nil && found {
				kilobytes, _ := strconv.ParseInt(strings.Fields(line)[0], 10, 64)
				most = max(most, kilobytes<<10)
			}
			select {
			case <-ended:
				peak <- most
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	err = command.Wait()
	answer := pluginAnswer{took: time.Since(start)}
	close(ended)
	answer.memory = <-peak
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	answer.stdout, answer.stderr, answer.code = stdout.String(), stderr.String(), command.ProcessState.ExitCode()
	return answer
}

// ownedBy makes a Pod one of a Deployment's, as its ReplicaSet makes it.
func ownedBy(deployment string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Labels["pod-template-hash"] = "6d5f7"
		p.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: "apps/v1", Kind: "ReplicaSet", Name: deployment + "-6d5f7", UID: "11111111-2222-3333-4444-555555555555", Controller: ptr.To(true),
		}}
	}
}

func statusOf(t *testing.T, policy string, args ...string) status.Policy {
	t.Helper()
	said := bucketAccess(t, cluster.Kubeconfig, nil, append([]string{"status", policy, "-o", "json"}, args...)...)
	var report status.Report
	if err := json.Unmarshal([]byte(said.stdout), &report); err != nil || len(report.Policies) != 1 {
		t.Fatalf("exit code %d, %v: %s%s", said.code, err, said.stdout, said.stderr)
	}
	p := report.Policies[0]
	want := 0
	if p.State != status.Valid || len(p.Outdated)+len(p.Uninjected)+len(p.Revoked)+len(p.Conflicts) > 0 {
		want = 1
	}
	if said.code != want {
		t.Errorf("exit code %d, want %d", said.code, want)
	}
	return p
}

// TestStatusCountsPodsThatAreNotAsTheirPolicySays: each kind of them is made for real.
func TestStatusCountsPodsThatAreNotAsTheirPolicySays(t *testing.T) {
	ctx := testContext(t)
	ns := newNamespace(t, cluster, nil, "api-sa", "gone-sa", "late-sa")
	created(t, cluster, pod(ns, "before-the-label", account("late-sa"), ownedBy("late")))
	newPolicy(t, cluster, "status", subject(ns, "api-sa")+", "+subject(ns, "gone-sa")+", "+subject(ns, "late-sa")+", "+subject(ns, "labelled")+
		", "+subject(ns, "never-made")+", "+subject("elsewhere-*", "batch"))
	must(t, cluster.Client.Create(ctx, labelledAccount(ns, "labelled", "status", nil)))
	asks := label("bucket-access.io/policy", "status")
	for i := range 3 {
		created(t, cluster, pod(ns, fmt.Sprintf("api-%d", i), asks, ownedBy("api")))
	}
	created(t, cluster, pod(ns, "alone", asks, account("gone-sa")))

	fine := statusOf(t, "status", "-n", ns)
	if fine.Pods != 4 || len(fine.Outdated)+len(fine.Uninjected)+len(fine.Revoked)+len(fine.Conflicts) != 0 || fine.Account != "222222222222" || fine.State != status.Valid {
		t.Errorf("before anything is wrong: %+v", fine)
	}
	if want := []string{ns + "/api-sa", ns + "/gone-sa", ns + "/labelled", ns + "/late-sa"}; !slices.Equal(fine.ServiceAccounts, want) {
		t.Errorf("ServiceAccounts %v, want %v", fine.ServiceAccounts, want)
	}

	// The label comes late; two subjects go, and the prefix is another one.
	_, said, err := cluster.Kubectl(ctx, "", "-n", ns, "label", "serviceaccount", "late-sa", "bucket-access.io/policy=status")
	must(t, err)
	t.Log(said)
	must(t, cluster.Client.Update(ctx, policyConfigMap("status", policyDocument(
		subject(ns, "api-sa")+", "+subject(ns, "late-sa")+", "+subject("elsewhere-*", "batch"), "prefix: new/"))))
	found := statusOf(t, "status", "-n", ns)
	if len(found.Conflicts) != 1 || found.Conflicts[0] != "serviceaccount "+ns+"/labelled: SubjectNotListed" {
		t.Errorf("conflicts: %v", found.Conflicts)
	}
	group := func(groups []status.Group) string {
		var all []string
		for _, g := range groups {
			all = append(all, fmt.Sprintf("%d %s: %s", g.Pods, g.Owner, g.Command))
		}
		return strings.Join(all, "; ")
	}
	for what, test := range map[string]struct {
		groups []status.Group
		want   string
	}{
		"outdated":   {found.Outdated, "3 deployment/api: kubectl -n " + ns + " rollout restart deployment/api"},
		"uninjected": {found.Uninjected, "1 deployment/late: kubectl -n " + ns + " rollout restart deployment/late"},
		"revoked":    {found.Revoked, "1 pod/alone: kubectl -n " + ns + " delete pod alone"},
	} {
		if got := group(test.groups); got != test.want {
			t.Errorf("%s: %s, want %s", what, got, test.want)
		}
	}
	table := bucketAccess(t, cluster.Kubeconfig, nil, "status", "status", "-n", ns, "-o", "table")
	for _, want := range []string{
		"POLICY  BUCKET       SAS  PODS  OUTDATED  UNINJECTED  REVOKED  CONFLICTS\nstatus  orders-data  2    4     3         1           1        1\n",
		"status: 3 outdated of deployment/api in namespace " + ns + "\n  $ kubectl -n " + ns + " rollout restart deployment/api\n",
		"ServiceAccounts and Pods are those in namespace " + ns + "; -A for all\n",
	} {
		if !strings.Contains(table.stdout, want) {
			t.Errorf("%q is not in\n%s", want, table.stdout)
		}
	}
	if strings.Contains(table.stdout, "\x1b") {
		t.Error("colours in a pipe")
	}
}

// TestStatusTellsOfPoliciesThatAreNotInForce: a name that an older ConfigMap has already.
func TestStatusTellsOfPoliciesThatAreNotInForce(t *testing.T) {
	newPolicy(t, cluster, "taken", subject("*", "api-sa"))
	second := policyConfigMap("taken", policyDocument(subject("elsewhere", "api-sa")))
	second.Name = "policy-taken-again"
	if answer := bucketAccess(t, cluster.Kubeconfig, nil, "status", "-A", "-o", "json"); strings.Contains(answer.stdout, second.Name) {
		t.Fatalf("it is told of before it is there: %s%s", answer.stdout, answer.stderr)
	}
	must(t, cluster.Client.Create(testContext(t), second))
	t.Cleanup(func() { _ = cluster.Client.Delete(context.Background(), second) })
	answer := bucketAccess(t, cluster.Kubeconfig, nil, "status", "-A", "-o", "json") // a person is told of the first few only
	if said := answer.stdout + answer.stderr; !strings.Contains(said, second.Name) || !strings.Contains(said, "is defined by") {
		t.Errorf("the duplicate is not told of: %s", said)
	}
}

func TestWhoCanAndWhatCan(t *testing.T) {
	ctx := testContext(t)
	ns := newNamespace(t, cluster, nil, "api-sa", "gone-sa", "idle-sa")
	bucket := "bucket: who-can-data"
	write := func(subjects string) string {
		return strings.Replace(policyDocument(subjects), "bucket: orders-data", bucket, 1)
	}
	listed := []string{subject(ns, "api-sa"), subject(ns, "idle-sa"), subject(ns, "never-made"), subject("batch-*", "job"), subject(ns, "job-?")}
	must(t, cluster.Client.Create(ctx, policyConfigMap("who-can", write(strings.Join(append(listed, subject(ns, "gone-sa")), ", ")))))
	t.Cleanup(func() { _ = cluster.Client.Delete(context.Background(), policyConfigMap("who-can", "")) })
	time.Sleep(300 * time.Millisecond)
	asks := label("bucket-access.io/policy", "who-can")
	created(t, cluster, pod(ns, "app", asks))
	created(t, cluster, pod(ns, "gone", asks, account("gone-sa")))
	must(t, cluster.Client.Update(ctx, policyConfigMap("who-can", write(strings.Join(listed, ", ")))))

	said := bucketAccess(t, cluster.Kubeconfig, nil, "status", "--who-can", "who-can-data", "-o", "csv")
	role := "arn:aws:iam::222222222222:role/s3-reader-role"
	row := func(account, use, pods string) string {
		return "who-can-data,," + account + "," + use + "," + pods + ",who-can," + role + `,"s3:GetObject,s3:ListBucket"` + "\n"
	}
	want := "bucket,prefix,serviceaccount,use,pods,policy,role,actions\n" + row("batch-*/job", "Pattern", "0") + row(ns+"/api-sa", "InUse", "1") +
		row(ns+"/gone-sa", "Revoked", "1") + row(ns+"/idle-sa", "Allowed", "0") + row(ns+"/job-?", "Pattern", "0") + row(ns+"/never-made", "Absent", "0")
	if said.stdout != want || said.code != 0 {
		t.Errorf("exit code %d:\n%s%s\nwant\n%s", said.code, said.stdout, said.stderr, want)
	}
	if said := bucketAccess(t, cluster.Kubeconfig, nil, "status", "--what-can", ns+"/idle-sa"); !strings.Contains(said.stdout, "who-can-data  -       "+ns+"/idle-sa  Allowed  0     who-can") {
		t.Errorf("%s%s", said.stdout, said.stderr)
	}
	if said := bucketAccess(t, cluster.Kubeconfig, nil, "status", "--what-can", ns+"/job-1", "-o", "csv"); !strings.Contains(said.stdout, "who-can-data,,"+ns+"/job-1,Absent,0,who-can,") {
		t.Errorf("by a pattern: %s%s", said.stdout, said.stderr)
	}
	// Another bucket, and then no policy at all: what Pods carry is still told of.
	must(t, cluster.Client.Update(ctx, policyConfigMap("who-can", strings.Replace(write(strings.Join(listed, ", ")), bucket, "bucket: another-data", 1))))
	carried := "bucket,prefix,serviceaccount,use,pods,policy,role,actions\n" + row(ns+"/api-sa", "Revoked", "1") + row(ns+"/gone-sa", "Revoked", "1")
	if said := bucketAccess(t, cluster.Kubeconfig, nil, "status", "--who-can", "who-can-data", "-o", "csv"); said.stdout != carried {
		t.Errorf("of a former bucket:\n%s%s", said.stdout, said.stderr)
	}
	must(t, cluster.Client.Delete(ctx, policyConfigMap("who-can", "")))
	carried = strings.ReplaceAll(carried, `"s3:GetObject,s3:ListBucket"`, "")
	if said := bucketAccess(t, cluster.Kubeconfig, nil, "status", "--who-can", "who-can-data", "-o", "csv"); said.stdout != carried {
		t.Errorf("of a policy that is gone:\n%s%s", said.stdout, said.stderr)
	}
	if said := bucketAccess(t, cluster.Kubeconfig, nil, "status", "--who-can", "nobodys-data", "-o", "json"); !strings.Contains(said.stdout, `"accesses": []`) {
		t.Errorf("%s%s", said.stdout, said.stderr)
	}
	if said := bucketAccess(t, cluster.Kubeconfig, nil, "status", "--what-can", ns+"/default"); !strings.Contains(said.stdout, "can read no bucket") || said.code != 0 {
		t.Errorf("%s%s", said.stdout, said.stderr)
	}
}

// TestStatusOfALargeCluster: 5,000 Pods and 500 policies in 3 s and 200 MB.
func TestStatusOfALargeCluster(t *testing.T) {
	l, err := lab.Start(testContext(t), lab.Options{Manifests: lab.None})
	must(t, err)
	t.Cleanup(func() { must(t, l.Stop()) })
	ctx := testContext(t)
	must(t, l.Client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: lab.Namespace}}))
	const policies, pods = 500, 5000
	for i := range policies / 50 {
		documents := policyConfigMap(fmt.Sprintf("large-%d", i), "")
		documents.Data = map[string]string{}
		for n := range 50 {
			documents.Data[fmt.Sprintf("p%d", i*50+n)] = policyDocument(subject("default", fmt.Sprintf("sa-%d", i*50+n)) + ", " + subject("team-*", "*"))
		}
		must(t, l.Client.Create(ctx, documents))
	}
	inParallel(t, policies, func(i int) error {
		return l.Client.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("sa-%d", i)}})
	})
	inParallel(t, pods, func(i int) error {
		p := pod("default", fmt.Sprintf("pod-%d", i), account(fmt.Sprintf("sa-%d", i%policies)), ownedBy(fmt.Sprintf("d-%d", i%policies)))
		p.Labels["bucket-access.io/injected"] = fmt.Sprintf("p%d", i%policies)
		p.Annotations["bucket-access.io/status"] = `{"hash":"old"}`
		for n := range 20 {
			p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d", n), Value: strings.Repeat("v", 60)})
		}
		return client.IgnoreAlreadyExists(l.Client.Create(ctx, p))
	})
	said := bucketAccess(t, l.Kubeconfig, nil, "status", "-A", "-o", "csv")
	lines := strings.Split(strings.TrimSpace(said.stdout), "\n")
	if said.code != 1 || len(lines) != policies+1 || !strings.HasPrefix(lines[1], "p0,orders-data,1,10,10,0,0,0,Valid,") {
		t.Fatalf("exit code %d, %d lines, %.200s%s", said.code, len(lines), lines[min(1, len(lines)-1)], said.stderr)
	}
	t.Logf("%d Pods and %d policies in %s and %d MB", pods, policies, said.took.Round(time.Millisecond), said.memory>>20)
	if said.took > 3*time.Second || said.memory > 200<<20 || said.memory == 0 {
		t.Errorf("it took %s and %d MB; it may take 3 s and 200 MB", said.took, said.memory>>20)
	}
}

func inParallel(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	var group sync.WaitGroup
	for worker := range 16 {
		group.Go(func() {
			for i := worker; i < n; i += 16 {
				if err := do(i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// TestStatusWatches: what changes is printed again, and what does not is not.
func TestStatusWatches(t *testing.T) {
	ns := newNamespace(t, cluster, nil, "api-sa")
	newPolicy(t, cluster, "watched", subject(ns, "api-sa"))
	ctx, cancel := context.WithTimeout(testContext(t), 20*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(cluster.Repository, "bin", "kubectl-bucket_access"), "status", "watched", "-n", ns, "-w", "--interval=1s", "-o", "csv")
	command.Env = append(os.Environ(), "KUBECONFIG="+cluster.Kubeconfig)
	pipe, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	lines := make(chan string, 100)
	go func() {
		scanner := bufio.NewScanner(pipe)
		for scanner.Scan() {
			lines <- scanner.Text()
		}
		close(lines)
	}()
	want := func(prefix string) {
		t.Helper()
		for _, beginning := range []string{"policy,bucket,", prefix} {
			if line := <-lines; !strings.HasPrefix(line, beginning) {
				t.Fatalf("%q, want %q", line, beginning)
			}
		}
	}
	want("watched,orders-data,1,0,0,")
	created(t, cluster, pod(ns, "app", label("bucket-access.io/policy", "watched")))
	want("watched,orders-data,1,1,0,")
	time.Sleep(2500 * time.Millisecond) // two reads of the same
	must(t, cluster.Client.Delete(ctx, pod(ns, "app"), client.GracePeriodSeconds(0)))
	want("watched,orders-data,1,0,0,")
	must(t, command.Process.Signal(os.Interrupt)) // as Ctrl-C does
	must(t, command.Wait())
	if line, more := <-lines; more {
		t.Errorf("and then %q", line)
	}
}
