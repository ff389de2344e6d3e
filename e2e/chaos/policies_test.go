package chaos

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// broken documents, one after the other: no YAML, an unknown key, a bad value.
var brokenDocuments = []string{"bucket: [broken", document(0) + "colour: blue\n", "bucket: Not_A_Bucket\n"}

// changes counts what was done to the policy.
type changes struct {
	written, broken, mended int
	last                    time.Duration   // a broken one was left for this long at most
	spread                  []time.Duration // from the acknowledgement until every replica had it, without a fault
}

// changePolicies changes the policy, breaks and mends it until ctx ends.
func (c *chaos) changePolicies(ctx context.Context) error {
	writer, err := newClient(c.lab.Config)
	if err != nil {
		return err
	}
	// put writes until it is acknowledged, which an API server that is down delays. No write is
	// broken off: then nobody would know the last version.
	put := func(document string) bool {
		for ctx.Err() == nil {
			if writer.Update(context.WithoutCancel(ctx), lab.PolicyConfigMap(policyName, document)) == nil {
				return true
			}
			pause(ctx, 100*time.Millisecond)
		}
		return false
	}
	for n := 0; ctx.Err() == nil; n++ {
		version := c.ledger.next()
		if !put(document(version)) {
			return nil
		}
		acked := time.Now()
		c.ledger.acknowledge(version)
		c.count(func() { c.changes.written++ })
		// One that not every replica has seen can't be kept by every replica: it is not broken.
		if !c.spread(ctx, version, acked) {
			continue
		}
		if !put(brokenDocuments[n%len(brokenDocuments)]) {
			break
		}
		// Mostly a moment; now and then long enough for whole faults to pass.
		last := time.Duration(50+c.randomPolicies.IntN(200)) * time.Millisecond
		if n%25 == 24 {
			last = time.Duration(4+c.randomPolicies.IntN(8)) * time.Second
		}
		c.count(func() { c.changes.broken++; c.changes.last = max(c.changes.last, last) })
		pause(ctx, last)
		c.count(func() { c.changes.mended++ }) // by the next version
	}
	return nil
}

// spread waits a second until a version is in force in every replica.
func (c *chaos) spread(ctx context.Context, version int, acked time.Time) bool {
	for time.Since(acked) < time.Second {
		if c.ledger.everywhere(version) {
			if now := time.Now(); c.history.during(acked, now).fault == calm {
				c.count(func() { c.changes.spread = append(c.changes.spread, now.Sub(acked)) })
			}
			return true
		}
		pause(ctx, 10*time.Millisecond)
	}
	return false
}

func (c *chaos) count(do func()) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	do()
}

func pause(ctx context.Context, last time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(last):
	}
}

// askReplicas asks every replica itself, as an API server would, which version it has in
// force, until ctx ends.
func (c *chaos) askReplicas(ctx context.Context) {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // certificates are another check's
	}}
	review := c.review()
	for ctx.Err() == nil {
		for _, r := range c.running() {
			version, ok := ask(ctx, client, r, review)
			if ok && c.ledger.see(r.Name, version) {
				c.broken("%s went back to version %d", r.Name, version)
			}
		}
		pause(ctx, 25*time.Millisecond)
	}
}

// review is an AdmissionReview of a Pod that asks.
func (c *chaos) review() []byte {
	p := c.newPod(byPod, "asked")
	p.APIVersion, p.Kind = "v1", "Pod"
	object, _ := json.Marshal(p)                           //nolint:errchkjson // a Pod always can be
	review, _ := json.Marshal(admissionv1.AdmissionReview{ //nolint:errchkjson // as above
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "asked", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			Namespace: p.Namespace, Name: p.Name, Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: object},
		},
	})
	return review
}

var bucketInPatch = regexp.MustCompile(`orders-v\d+`)

func ask(ctx context.Context, client *http.Client, r *lab.Replica, review []byte) (version int, ok bool) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("https://%s/mutate/pods", r.Address()), bytes.NewReader(review))
	if err != nil {
		return 0, false
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return 0, false
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	var answer admissionv1.AdmissionReview
	if err != nil || json.Unmarshal(body, &answer) != nil || answer.Response == nil {
		return 0, false
	}
	return versionOf(bucketInPatch.FindString(string(answer.Response.Patch)))
}
