package admission

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
)

const secretValue = "s3cr3t-VALUE"

func TestHostileReviewsGetAClear4xxAndNothingIsLogged(t *testing.T) {
	good := reviewOf(`{"metadata":{"labels":{"bucket-access.io/policy":"orders"}},"spec":{"serviceAccountName":"api-sa","containers":[{"name":"a","env":[{"name":"X","value":"` + secretValue + `"}]}]}}`)
	for name, test := range map[string]struct {
		body string
		want string
	}{
		"empty":                        {"", "malformed AdmissionReview"},
		"no JSON":                      {secretValue, "malformed AdmissionReview"},
		"truncated":                    {good[:len(good)/2], "malformed AdmissionReview"},
		"trailing data":                {good + "{}", "more behind the document"},
		"a list":                       {"[]", "want an object, found ["},
		"null":                         {"null", "the body is no object"},
		"another kind":                 {strings.Replace(good, `"AdmissionReview"`, `"Pod"`, 1), `found kind "Pod"`},
		"another version":              {strings.Replace(good, "k8s.io/v1", "k8s.io/v1beta1", 1), `"admission.k8s.io/v1beta1"`},
		"no request":                   {`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}`, "holds no request"},
		"no uid":                       {strings.Replace(good, `"uid":"0df28fbd-5f5f-11e8-bc74-36e6bb280816"`, `"uid":""`, 1), "request.uid"},
		"a huge uid":                   {strings.Replace(good, "0df28fbd", strings.Repeat("0", 500), 1), "request.uid"},
		"another operation":            {strings.Replace(good, `"CREATE"`, `"DELETE"`, 1), `does not serve "DELETE"`},
		"another resource":             {strings.Replace(good, `"resource":"pods"},"requestKind"`, `"resource":"secrets"},"requestKind"`, 1), `"secrets"`},
		"another group":                {strings.Replace(good, `"resource":{"group":""`, `"resource":{"group":"evil"`, 1), `"evil/pods"`},
		"no object":                    {reviewOf("null"), "does not serve"},
		"the object a string":          {reviewOf(`"` + secretValue + `"`), `at "/request/object": want an object, found string`},
		"containers an object":         {reviewOf(`{"spec":{"containers":{"` + secretValue + `":1}}}`), "want a list, found {"},
		"a name that is a number":      {reviewOf(`{"spec":{"containers":[{"name":5}]}}`), "want a string, found number"},
		"a repeated key":               {reviewOf(`{"spec":{"containers":[]},"spec":{"containers":[]}}`), "repeated key"},
		"an escaped repeated key":      {reviewOf(`{"spec":{},"sp\u0065c":{}}`), "repeated key"},
		"a repeated env key":           {reviewOf(`{"spec":{"containers":[{"env":[{"name":"A","value":"` + secretValue + `","name":"B"}]}]}}`), "repeated key"},
		"invalid UTF-8":                {strings.Replace(good, secretValue, "\xff\xfe", 1), "malformed AdmissionReview"},
		"a lone surrogate":             {strings.Replace(good, secretValue, `\ud800`, 1), "malformed AdmissionReview"},
		"nested without end":           {reviewOf(`{"x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`), "malformed AdmissionReview"},
		"a huge expiration":            {reviewOf(`{"spec":{"volumes":[{"projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":1e99}}]}}]}}`), "want a whole number"},
		"many keys, one of them twice": {reviewOf(`{"metadata":{"labels":{` + manyKeys(500) + `,"k3":""}}}`), "repeated key"},
	} {
		t.Run(name, func(t *testing.T) {
			service, _, _ := newFakes(t)
			var logged bytes.Buffer
			log := funcr.New(func(prefix, args string) { fmt.Fprintln(&logged, prefix, args) }, funcr.Options{Verbosity: 9})
			request := httptest.NewRequest(http.MethodPost, "/mutate/pods", strings.NewReader(test.body))
			request.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			NewServer(service, DefaultLimits(), nullRecorder{}, log).Handler(Pods).ServeHTTP(w, request)
			if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), test.want) {
				t.Fatalf("HTTP %d: %s; want 400 and %q", w.Code, w.Body, test.want)
			}
			if strings.Contains(logged.String(), secretValue) || strings.Contains(w.Body.String(), secretValue) {
				t.Fatalf("a value of the object got out: %s\n%s", logged.String(), w.Body)
			}
			if w.Body.Len() > 1000 {
				t.Fatalf("an answer of %d bytes", w.Body.Len())
			}
		})
	}
}

func manyKeys(n int) string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf(`"k%d":""`, i)
	}
	return strings.Join(keys, ",")
}

func TestRequestsThatAreNoReviewsAreRefusedBeforeTheirBodyIsRead(t *testing.T) {
	body := reviewOf("{}")
	for name, test := range map[string]struct {
		edit   func(*http.Request)
		limits func(*Limits)
		want   int
	}{
		"GET":                {edit: func(r *http.Request) { r.Method = http.MethodGet }, want: http.StatusMethodNotAllowed},
		"another media type": {edit: func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, want: http.StatusUnsupportedMediaType},
		"no length":          {edit: func(r *http.Request) { r.ContentLength = -1 }, want: http.StatusLengthRequired},
		"too large":          {limits: func(l *Limits) { l.BodyBytes = 10 }, want: http.StatusRequestEntityTooLarge},
		"too much at once":   {limits: func(l *Limits) { l.InFlightBytes = 10 }, want: http.StatusTooManyRequests},
		"too many at once":   {limits: func(l *Limits) { l.InFlight = 0 }, want: http.StatusTooManyRequests},
		"a body that ends":   {edit: func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("{")) }, want: http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			service, _, _ := newFakes(t)
			limits := DefaultLimits()
			if test.limits != nil {
				test.limits(&limits)
			}
			request := httptest.NewRequest(http.MethodPost, "/mutate/pods", strings.NewReader(body))
			request.Header.Set("Content-Type", "application/json")
			if test.edit != nil {
				test.edit(request)
			}
			w := httptest.NewRecorder()
			server := NewServer(service, limits, nullRecorder{}, funcr.New(func(string, string) {}, funcr.Options{}))
			server.Handler(Pods).ServeHTTP(w, request)
			if w.Code != test.want {
				t.Fatalf("HTTP %d: %s", w.Code, w.Body)
			}
			if retry := w.Header().Get("Retry-After") != ""; retry != (test.want == http.StatusTooManyRequests) {
				t.Fatalf("Retry-After %q", w.Header().Get("Retry-After"))
			}
		})
	}
}

func TestAMediaTypeMayHaveParameters(t *testing.T) {
	service, _, _ := newFakes(t)
	request := httptest.NewRequest(http.MethodPost, "/mutate/pods", strings.NewReader(reviewOf(podShapes["small"].json())))
	request.Header.Set("Content-Type", "Application/JSON; charset=utf-8")
	w := httptest.NewRecorder()
	NewServer(service, DefaultLimits(), nullRecorder{}, funcr.New(func(string, string) {}, funcr.Options{})).Handler(Pods).ServeHTTP(w, request)
	if w.Code != http.StatusOK {
		t.Fatalf("HTTP %d: %s", w.Code, w.Body)
	}
}

// TestABodyThatTakesTooLongMayComeAgain: an API server asks again after 429 and Retry-After, and
// where CPU is scarce it may be this server that took too long.
func TestABodyThatTakesTooLongMayComeAgain(t *testing.T) {
	service, _, _ := newFakes(t)
	handler := NewServer(service, DefaultLimits(), nullRecorder{}, funcr.New(func(string, string) {}, funcr.Options{})).Handler(Pods)
	for _, http2 := range []bool{false, true} {
		server := httptest.NewUnstartedServer(handler)
		server.EnableHTTP2 = http2
		server.StartTLS()
		body, late := io.Pipe()
		go func() { _, _ = late.Write([]byte("{")) }() // and no more
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/mutate/pods?timeout=100ms", body)
		if err != nil {
			t.Fatal(err)
		}
		request.ContentLength = 100
		request.Header.Set("Content-Type", "application/json")
		response, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		_ = late.Close()
		server.Close()
		if response.StatusCode != http.StatusTooManyRequests || response.Header.Get("Retry-After") == "" || response.ProtoMajor == 2 != http2 {
			t.Fatalf("HTTP/%d: %d, %v", response.ProtoMajor, response.StatusCode, response.Header)
		}
	}
}

func TestBeforePoliciesAreLoadedAPIServersAreToldToTryAgain(t *testing.T) {
	service, _, policies := newFakes(t)
	policies.snapshot = nil
	if w := post(t, service, Pods, reviewOf("{}")); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Fatalf("HTTP %d %v", w.Code, w.Header())
	}
}

func TestAPanicIsAnAnswer(t *testing.T) {
	service, _, _ := newFakes(t)
	service.Cluster = nil
	if w := post(t, service, Pods, reviewOf(`{"metadata":{"labels":{"bucket-access.io/policy":"orders"}}}`)); w.Code != http.StatusInternalServerError {
		t.Fatalf("HTTP %d", w.Code)
	}
}

func TestDrainingClosesConnections(t *testing.T) {
	service, _, _ := newFakes(t)
	server := NewServer(service, DefaultLimits(), nullRecorder{}, funcr.New(func(string, string) {}, funcr.Options{}))
	if server.Ready() != nil {
		t.Fatal("not ready")
	}
	server.Drain()
	request := httptest.NewRequest(http.MethodPost, "/mutate/pods", strings.NewReader(reviewOf(`{"spec":{}}`)))
	request.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	server.Handler(Pods).ServeHTTP(w, request)
	if w.Code != http.StatusOK || w.Header().Get("Connection") != "close" || server.Ready() == nil {
		t.Fatalf("HTTP %d, %v", w.Code, w.Header())
	}
}

// TestNoBodyTakesForEver: what is searched for is in the body as often as there is room for.
func TestNoBodyTakesForEver(t *testing.T) {
	limit := int(DefaultLimits().BodyBytes)
	for _, part := range []string{`,"managedFields":[`, `,"managedFields":[]`, `,"managedFields":[]}`, `]`, `[`, `"`, `\`, `{"name":"`, `,`} {
		body := strings.Repeat(part, limit/len(part))
		for _, body := range []string{body, reviewOf(`{"spec":{"containers":[{"env":[` + body[:len(body)-2_000] + `]}]}}`)} {
			service, _, _ := newFakes(t)
			answered := make(chan int)
			go func() { answered <- post(t, service, Pods, body).Code }()
			select {
			case code := <-answered:
				if code != http.StatusBadRequest {
					t.Errorf("%s, again and again: HTTP %d", part, code)
				}
			case <-time.After(20 * time.Second): // half a minute and more for what grows with the square
				t.Fatalf("%s, again and again: no answer in 20 s", part)
			}
		}
	}
}

// FuzzReview: no input panics, and whatever is not understood is a 4xx.
func FuzzReview(f *testing.F) {
	for _, shape := range []podShape{podShapes["small"], {containers: 2, initContainers: 1, env: 1}} {
		f.Add([]byte(reviewOf(shape.json())))
	}
	f.Add([]byte(reviewOf(`{"metadata":{"labels":{"bucket-access.io/policy":"orders"},"annotations":{"bucket-access.io/status":"{"}},"spec":{"containers":[{"env":[{"name":"\u0041WS_REGION","valueFrom":{"fieldRef":{"fieldPath":"x"}}}]}],"volumes":[null,{"name":"aws-iam-token"}]}}`)))
	f.Add([]byte(reviewOf(`{"spec":{"containers":[null,{"env":null},{"env":[null]},{"volumeMounts":[{"mountPath":"C:\\var\\run"}]}]}}`)))
	f.Add([]byte(`{"request":{"request":{}}}`))
	f.Add([]byte(workloadReview("cronjobs", `{"labels":{"bucket-access.io/policy":"x"}}`, plainPod(`"bucket-access.io/policy":"orders"`))))
	f.Add([]byte(namespaceReview("orders", "none")))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, entry := range Entries() {
			service, _, policies := newFakes(t)
			policies.live = policies.snapshot
			w := post(t, service, entry, string(body))
			if w.Code != http.StatusOK && (w.Code < 400 || w.Code >= 500) && w.Code != http.StatusServiceUnavailable {
				t.Fatalf("%s: HTTP %d: %s", entry, w.Code, w.Body)
			}
		}
	})
}

// FuzzPatch: whatever Pod is accepted, its patch applies, and the patched Pod needs
// no further patch.
func FuzzPatch(f *testing.F) {
	f.Add([]byte(`{"metadata":{},"spec":{"serviceAccountName":"api-sa","containers":[{"name":"a"}]}}`))
	f.Add([]byte(`{"metadata":{"annotations":{}},"spec":{"volumes":[],"containers":[{"name":"a","env":[],"volumeMounts":null}]}}`))
	f.Add([]byte(`{"metadata":{},"spec":{"containers":[{"name":"a","env":[{"name":"AWS_REGION"},{"name":"AWS_REGION","value":"","valueFrom":{"x":1}}]}]}}`))
	f.Add([]byte(`{"metadata":{},"spec":{"containers":[{"name":"a","env":[{"name":"AWS_ROLE_ARN","value":"r"},{"value":"","name":"AWS_ROLE_ARN"}]}]}}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		service, cluster, policies := newFakes(t)
		policies.live = policies.snapshot
		cluster.namespaces["default"] = decide.Label{Value: "orders", Set: true}
		pod, err := ReadPod(document)
		if err != nil || pod.ServiceAccount != "api-sa" && pod.ServiceAccount != "" && pod.ServiceAccount != "default" {
			return
		}
		w := post(t, service, NamespacedPods, reviewOf(string(document)))
		if w.Code != http.StatusOK || !bytes.Contains(document, []byte(`"metadata"`)) || !bytes.Contains(document, []byte(`"spec"`)) {
			return
		}
		response := ask(t, service, NamespacedPods, reviewOf(string(document)))
		if !response.Allowed || !applies(document) {
			return
		}
		after := patched(t, string(document), response)
		if again := ask(t, service, NamespacedPods, reviewOf(after)); !again.Allowed || len(again.Patch) > 0 {
			t.Fatalf("%s\nthen\n%s\nneeds another patch: %s", document, after, again.Patch)
		}
	})
}
