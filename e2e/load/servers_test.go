package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// of is a review of a Pod of another Namespace and ServiceAccount.
func of(body []byte, namespace, account string) []byte {
	body = bytes.Replace(body, []byte(`"api-sa"`), strconv.AppendQuote(nil, account), 1)
	return bytes.ReplaceAll(body, []byte(`"namespace":"default"`), fmt.Appendf(nil, `"namespace":%q`, namespace))
}

// servers are a replica of the webhook in a lab, and the constant one.
func servers(tb testing.TB, flags ...string) (webhook, fixed *server) {
	tb.Helper()
	tb.Setenv("GOMEMLIMIT", strconv.Itoa(128<<20/10*9)) // as the chart has it
	l, err := lab.Start(tb.Context(), lab.Options{LogDir: os.Getenv("LOG_DIR")})
	must(tb, err)
	tb.Cleanup(func() { must(tb, l.Stop()) })
	for _, name := range []string{"api-sa", "other"} { // the policy lists the first
		must(tb, l.Client.Create(tb.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}))
	}
	must(tb, l.Client.Create(tb.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: "policies", Labels: map[string]string{"bucket-access.io/policies": "true"}},
		Data: map[string]string{"orders": "apiVersion: bucket-access.io/v1alpha1\nkind: BucketAccessPolicy\nbucket: orders-data\nregion: eu-west-1\n" +
			"roleARN: arn:aws:iam::222222222222:role/s3-reader-role\nsubjects: [{namespace: default, serviceAccount: api-sa}]\n"},
	}))
	replica, err := l.StartReplica(tb.Context(), "loaded", append(flags, "--log-level=info")...)
	must(tb, err)
	webhook = &server{name: "webhook", address: replica.Address(), path: "/mutate/pods", pid: replica.PID(), right: patched}
	host, _, err := net.SplitHostPort(replica.Address())
	must(tb, err)
	fixed = &server{name: "constant", address: net.JoinHostPort(host, "9999"), path: "/"}
	command := exec.CommandContext(tb.Context(), "/proc/self/exe")
	command.Env = append(os.Environ(), envConstant+"="+fixed.address)
	command.Stderr = os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(tb, command.Start())
	tb.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	fixed.pid = command.Process.Pid
	for _, s := range []*server{webhook, fixed} {
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if _, err := s.one(tb.Context(), clientOf(false, 1), review(tb)); err == nil {
				break
			} else if time.Now().After(deadline) {
				tb.Fatalf("%s: %v", s.name, err)
			}
		}
	}
	return webhook, fixed
}

// review is of a typical Pod: 3 containers and an init container of 20 variables each, with
// what kubectl and the API server add.
func review(tb testing.TB) []byte {
	tb.Helper()
	p := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", GenerateName: "orders-api-7d9c8b5f4-", Labels: map[string]string{"app": "orders-api", "bucket-access.io/policy": "orders"},
			ManagedFields: []metav1.ManagedFieldsEntry{{
				Manager: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", FieldsType: "FieldsV1",
				FieldsV1: metav1.NewFieldsV1(`{"f:spec":{` + strings.TrimSuffix(strings.Repeat(`"k:{\"name\":\"VARIABLE\"}":{".":{},"f:name":{},"f:value":{}},`, 180), ",") + `}}`),
			}},
		},
		Spec: corev1.PodSpec{ServiceAccountName: "api-sa"},
	}
	for i := range 4 {
		c := corev1.Container{Name: fmt.Sprintf("container-%d", i), Image: "registry.example.com/shop/orders-api:v1.2.3"}
		for n := range 20 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("SOME_VARIABLE_%d", n), Value: "a value of some length, as they have"})
		}
		if i == 0 {
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		} else {
			p.Spec.Containers = append(p.Spec.Containers, c)
		}
	}
	text, err := json.Marshal(p)
	must(tb, err)
	return fmt.Appendf(nil, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"0b4d4bd1-2d2b-4d5f-9b0b-1f6c8b3c9a77","operation":"CREATE",`+
		`"kind":{"group":"","version":"v1","kind":"Pod"},"resource":{"group":"","version":"v1","resource":"pods"},"namespace":"default","object":%s}}`, text)
}

// cpu is what a process has used.
func cpu(tb testing.TB, pid int) time.Duration {
	tb.Helper()
	used, err := lab.CPU(pid)
	must(tb, err)
	return used
}

// tell prints a line of a table, of which a benchmark's own log would be cut.
func tell(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
