package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// apiServer is one that tells its version and its kinds, and has rights for nothing else but
// what lists answers; the end-to-end suite has a real one.
func apiServer(t *testing.T, list func() (code int, object any)) string {
	t.Helper()
	kinds := map[string]map[string]string{
		"v1":                              {"configmaps": "ConfigMap", "pods": "Pod", "serviceaccounts": "ServiceAccount", "namespaces": "Namespace"},
		"discovery.k8s.io/v1":             {"endpointslices": "EndpointSlice"},
		"admissionregistration.k8s.io/v1": {"mutatingwebhookconfigurations": "MutatingWebhookConfiguration"},
	}
	groups := &metav1.APIGroupList{}
	for of := range kinds {
		if group, _, is := strings.Cut(of, "/"); is {
			served := []metav1.GroupVersionForDiscovery{{GroupVersion: of, Version: "v1"}}
			groups.Groups = append(groups.Groups, metav1.APIGroup{Name: group, Versions: served, PreferredVersion: served[0]})
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		code, object := http.StatusForbidden, any(&metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Reason: metav1.StatusReasonForbidden, Code: http.StatusForbidden,
			Message: `forbidden: User "x" cannot create resource "pods"`,
		})
		switch {
		case r.URL.Path == "/version":
			code, object = http.StatusOK, &version.Info{Major: "1", Minor: "37", GitVersion: "v1.37.2"}
		case r.URL.Path == "/api":
			code, object = http.StatusOK, &metav1.APIVersions{Versions: []string{"v1"}}
		case r.URL.Path == "/apis":
			code, object = http.StatusOK, groups
		case r.URL.Path == "/api/v1" || strings.HasPrefix(r.URL.Path, "/apis/") && strings.Count(r.URL.Path, "/") == 3:
			of := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/api/"), "/apis/")
			list := &metav1.APIResourceList{GroupVersion: of}
			for name, kind := range kinds[of] {
				namespaced := kind != "Namespace" && !strings.HasSuffix(kind, "Configuration")
				list.APIResources = append(list.APIResources, metav1.APIResource{Name: name, Kind: kind, Namespaced: namespaced, Verbs: []string{"list", "get"}})
			}
			code, object = http.StatusOK, list
		case strings.HasSuffix(r.URL.Path, "/configmaps") && list != nil:
			code, object = list()
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(object)
	}))
	t.Cleanup(server.Close)
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	return server.URL
}

// TestWhatCouldNotBeLookedAtIsNoFinding: neither is it well.
func TestWhatCouldNotBeLookedAtIsNoFinding(t *testing.T) {
	mute := apiServer(t, nil)
	for name, test := range map[string]struct {
		args           []string
		stdout, stderr string
	}{
		"nobody answers": {[]string{"doctor", "--server", "http://127.0.0.1:1"},
			"look: kubectl --server=http://127.0.0.1:1 cluster-info", "could not look: the API server does not answer"},
		"no right to anything":  {[]string{"doctor", "--server", mute}, "Skipped policies: no right to list configmaps", "could not look: there is no right to look at anything"},
		"in JSON":               {[]string{"doctor", "--server", mute, "-o", "json"}, `"looked": false`, "could not look"},
		"of one Pod":            {[]string{"doctor", "pod/app", "--server", mute}, `Skipped policies`, "could not look"},
		"status, nobody at all": {[]string{"status", "--server", "http://127.0.0.1:1"}, "", "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := plugin(t, "", append(test.args, "--cache-dir", t.TempDir())...)
			if code != exitUsage || !strings.Contains(stdout, test.stdout) || !strings.Contains(stderr, test.stderr) || strings.Contains(stdout, `"healthy": true`) {
				t.Errorf("exit code %d: %s%s", code, stdout, stderr)
			}
		})
	}
}

// TestChecksArePrintedAsTheyEnd: the server answers the list of policies when it has seen the first check.
func TestChecksArePrintedAsTheyEnd(t *testing.T) {
	seen := make(chan struct{})
	server := apiServer(t, func() (int, any) {
		select {
		case <-seen:
		case <-time.After(5 * time.Second):
			t.Error("nothing is printed before the end")
		}
		return http.StatusOK, &corev1.ConfigMapList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMapList"}}
	})
	reader, writer := io.Pipe()
	go func() {
		defer writer.Close()
		streams := genericiooptions.IOStreams{In: strings.NewReader(""), Out: writer, ErrOut: io.Discard}
		Run(t.Context(), []string{"doctor", "--server", server, "--cache-dir", t.TempDir()}, streams, "v1.2.3")
	}()
	var last string
	for scanner := bufio.NewScanner(reader); scanner.Scan(); {
		last = scanner.Text()
		if strings.HasPrefix(last, "OK      server: ") {
			close(seen)
		}
	}
	if !strings.HasSuffix(last, " skipped") {
		t.Errorf("it ends with %q", last)
	}
}

// TestAnInterruptedDoctorFindsNothing: what fails for it is nobody's fault.
func TestAnInterruptedDoctorFindsNothing(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	server := apiServer(t, func() (int, any) {
		interrupt()
		time.Sleep(50 * time.Millisecond)
		return http.StatusOK, &corev1.ConfigMapList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMapList"}}
	})
	streams, _, out, errs := genericiooptions.NewTestIOStreams()
	code := Run(ctx, []string{"doctor", "--server", server, "--cache-dir", t.TempDir()}, streams, "v1.2.3")
	if code != exitUsage || strings.Contains(out.String(), "Fail") || !strings.Contains(errs.String(), "interrupted") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
}

// TestStatusGoesOnWatching: a read that fails once is told of once, and an interrupt is no failure.
func TestStatusGoesOnWatching(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	var lock sync.Mutex
	reads := 0
	server := apiServer(t, func() (int, any) {
		lock.Lock()
		defer lock.Unlock()
		switch reads++; {
		case reads > 4: // in the middle of a read
			interrupt()
			time.Sleep(50 * time.Millisecond)
		case reads > 2:
			return http.StatusInternalServerError, &metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Message: "etcd is gone"}
		}
		return http.StatusOK, &corev1.ConfigMapList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMapList"}}
	})
	streams, _, out, errs := genericiooptions.NewTestIOStreams()
	code := Run(ctx, []string{"status", "-w", "--interval=1s", "--server", server, "--cache-dir", t.TempDir()}, streams, "v1.2.3")
	if code != exitFine || strings.Count(errs.String(), "it is tried again") != 1 || strings.Count(out.String(), "POLICY") != 1 {
		t.Errorf("exit code %d after %d reads: %s%s", code, reads, out, errs)
	}
}

// TestPrintedCommandsHaveTheFlagsThatWereGiven, and never a token.
func TestPrintedCommandsHaveTheFlagsThatWereGiven(t *testing.T) {
	e := &environment{IOStreams: genericiooptions.NewTestIOStreamsDiscard(), flags: genericclioptions.NewConfigFlags(true), terminal: terminalOf}
	root := newRoot(e)
	command, args, err := root.Find([]string{"doctor"})
	if err != nil || len(args) > 0 {
		t.Fatal(args, err)
	}
	if err := command.ParseFlags([]string{
		"--context=it's prod", "--as", "jane", "--as-group=a", "--as-group=b", "--token=secret", "-n", "shop", "--webhook-namespace=other", "--live",
	}); err != nil {
		t.Fatal(err)
	}
	k := kubectl(command)
	if got, want := k.In("shop", "get pods"), `kubectl --as=jane --as-group=a --as-group=b '--context=it'\''s prod' -n shop get pods`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := k.BucketAccess("doctor", "orders"),
		`kubectl bucket-access doctor orders --as=jane --as-group=a --as-group=b '--context=it'\''s prod' --webhook-namespace=other`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestProgressIsErased: one line on a terminal, nothing elsewhere, and nothing where the wait was short.
func TestProgressIsErased(t *testing.T) {
	show := func(width int, wait time.Duration) string {
		var out bytes.Buffer
		e := &environment{IOStreams: genericiooptions.IOStreams{ErrOut: &out}, terminal: func(io.Writer) terminal { return terminal{width: width} }}
		p := e.progress()
		p.after(wait, "looking at everything that there is …")
		if wait == 0 {
			time.Sleep(50 * time.Millisecond)
		}
		p.clear()
		return out.String()
	}
	if got := show(0, 0); got != "" {
		t.Errorf("in a pipe: %q", got)
	}
	if got := show(80, time.Hour); got != "" {
		t.Errorf("after no time: %q", got)
	}
	if got, want := show(20, 0), "looking at everyth…\r"+strings.Repeat(" ", 19)+"\r"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
