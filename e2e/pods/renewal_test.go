package pods

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/cluster"
)

// renewed is the Pod whose token the kubelet replaces while the other tests run: after
// 80 % of its 600 s.
var renewed struct {
	started   time.Time
	namespace string
	seen      seen
}

// seen are the tokens that STS was asked with, in the order of their coming.
type seen struct {
	sync.Mutex

	tokens []claims
}

// claims are those of a ServiceAccount's token that tell one from another.
type claims struct {
	Subject string `json:"sub"`
	ID      string `json:"jti"`
	Issued  int64  `json:"iat"`
	Expires int64  `json:"exp"`

	answer int // HTTP status of STS
}

// recorder passes requests on to STS and notes the token of each.
func (s *seen) recorder(sts string) (http.Handler, error) {
	target, err := url.Parse(sts)
	if err != nil {
		return nil, err
	}
	pass := httputil.NewSingleHostReverseProxy(target)
	pass.ModifyResponse = func(answer *http.Response) error {
		if noted, ok := answer.Request.Context().Value(claims{}).(claims); ok {
			noted.answer = answer.StatusCode
			s.Lock()
			defer s.Unlock()
			s.tokens = append(s.tokens, noted)
		}
		return nil
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		form, parsed := url.ParseQuery(string(body))
		if err == nil && parsed == nil && form.Get("Action") == "AssumeRoleWithWebIdentity" {
			r = r.WithContext(context.WithValue(r.Context(), claims{}, claimsOf(form.Get("WebIdentityToken"))))
		}
		pass.ServeHTTP(w, r)
	}), nil
}

func claimsOf(token string) (found claims) {
	if parts := strings.Split(token, "."); len(parts) == 3 {
		payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
		_ = json.Unmarshal(payload, &found)
	}
	return found
}

// startRenewal starts the Pod; TestATokenThatTheKubeletReplacedIsUsed looks at the end.
func startRenewal(ctx context.Context) error {
	if c.Bucket.Account == nil {
		return nil
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(c.Host(), "0"))
	if err != nil {
		return err
	}
	handler, err := renewed.seen.recorder(c.Bucket.STS)
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(listener, handler) }()
	bucket := *c.Bucket
	bucket.STS = "http://" + listener.Addr().String()
	if _, err := c.ApplyPolicy(ctx, "renewal", bucket.Document(cluster.Everyone, "tokenExpirationSeconds: 600")); err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: cluster.NamespacePrefix}}
	if err := c.Client.Create(ctx, namespace); err != nil {
		return err
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "reader"}}
	if err := c.Client.Create(ctx, account); err != nil {
		return err
	}
	renewed.started, renewed.namespace = time.Now(), namespace.Name
	p := pod(namespace.Name, "renewed", labelled(policyLabel, "renewal"), func(p *corev1.PodTemplateSpec) {
		p.Spec.Containers[0].Args = []string{"-every=20s", c.Bucket.Key}
	})
	for ctx.Err() == nil { // until the policy is in force
		if err = c.Client.Create(ctx, p.DeepCopy()); err == nil {
			return nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	return err
}

// TestATokenThatTheKubeletReplacedIsUsed waits until STS has been asked with a second
// token, which the kubelet has put in place of the first, and the object was read by it.
func TestATokenThatTheKubeletReplacedIsUsed(t *testing.T) {
	if c.Bucket.Account == nil {
		t.Skip("what STS is asked is seen in an account of the suite's own only")
	}
	var first, last claims
	deadline := time.Until(renewed.started.Add(12 * time.Minute))
	t.Logf("waiting for the kubelet to replace a token of 600 s; at most %.0f s more", deadline.Seconds())
	within(t, max(deadline, time.Second), "STS is asked with a new token", func() string {
		renewed.seen.Lock()
		defer renewed.seen.Unlock()
		for _, token := range renewed.seen.tokens {
			switch {
			case token.answer != http.StatusOK || !strings.HasSuffix(token.Subject, ":"+renewed.namespace+":reader"):
			case first.ID == "":
				first = token
			case token.ID != first.ID:
				last = token
				return ""
			}
		}
		if first.ID == "" {
			return "it was not asked at all" + state(t, renewed.namespace, "renewed")
		}
		return "only with the first"
	})
	t.Logf("the second token was issued %d s after the first, which was good for %d s", last.Issued-first.Issued, first.Expires-first.Issued)
	var p corev1.Pod
	must(t, c.Client.Get(testContext(t), client.ObjectKey{Namespace: renewed.namespace, Name: "renewed"}, &p))
	for _, s := range p.Status.ContainerStatuses {
		if s.RestartCount > 0 {
			t.Errorf("%s was restarted", s.Name)
		}
	}
	all, wrong := lines(t, renewed.namespace, "renewed", "app")
	if wrong != "" || len(all) < 20 {
		t.Fatalf("%d readings: %s", len(all), wrong)
	}
	for _, l := range all {
		if l.Body != c.Bucket.Content {
			t.Errorf("at %s it read %q: %s", l.At, l.Body, l.Error)
		}
	}
	t.Logf("%d readings in %s, all of them good", len(all), all[len(all)-1].At.Sub(all[0].At).Round(time.Second))
}
