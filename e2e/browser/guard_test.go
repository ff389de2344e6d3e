package browser

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// TestAForeignHostIsRefused on every path, so that a name which an attacker lets resolve
// to the reader opens nothing.
func TestAForeignHostIsRefused(t *testing.T) {
	t.Parallel()
	r := newAccess(t, map[string]string{"config.json": "{}"}).reader(t, nil)
	for _, path := range []string{"/", "/page/script.js", "/status", "/readyz", "/s3/", "/s3/config.json"} {
		for host, want := range map[string]int{rebound: 421, "reader.shop.svc": 421, "localhost": 200, r.Address: 200} {
			if got := statusAs(t, r, path, host); got != want {
				t.Errorf("GET %s as %s is answered %d, want %d", path, host, got, want)
			}
		}
	}
	_, port, err := net.SplitHostPort(r.Address)
	must(t, err)
	p := newTab(t, "http://"+net.JoinHostPort(rebound, port))
	p.allowRefusals()
	p.visit("")
	if shown := eval[string](p, "document.documentElement.textContent"); !strings.Contains(shown, `"status":421`) || strings.Contains(shown, "config.json") {
		t.Errorf("%s shows %s", p.origin, shown)
	}
	own := newTab(t, "http://"+net.JoinHostPort("localhost", port))
	own.visit("")
	own.ready("true")
}

func statusAs(t *testing.T, r *lab.ReaderProcess, path, host string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(testContext(t), http.MethodGet, "http://"+r.Address+path, http.NoBody)
	must(t, err)
	request.Host = host
	answer, err := http.DefaultClient.Do(request)
	must(t, err)
	defer answer.Body.Close()
	return answer.StatusCode
}

// TestAnotherSiteReadsNothing: a page of elsewhere in the same browser can neither read
// the reader, nor frame its page, nor run or show what is in the bucket.
func TestAnotherSiteReadsNothing(t *testing.T) {
	t.Parallel()
	a := newAccess(t, nil)
	must(t, accountB.Put(testContext(t), a.policy.Bucket, "script.js", "text/javascript", []byte("window.ran = 1")))
	must(t, accountB.Put(testContext(t), a.policy.Bucket, "icon.svg", "image/svg+xml", []byte(`<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>`)))
	r := a.reader(t, nil)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<!doctype html><title>elsewhere</title><link rel=icon href=data:,><iframe src=%q></iframe>", "http://"+r.Address+"/")
	}))
	defer site.Close()
	p := newTab(t, "")
	p.allowRefusals()
	p.do(chromedp.Navigate(site.URL))
	for _, path := range []string{"/status", "/s3/", "/s3/script.js", "/"} {
		if read := eval[string](p, "fetch("+quote("http://"+r.Address+path)+").then((a) => a.text(), () => 'refused')"); read != "refused" {
			t.Errorf("another site reads %s: %s", path, read)
		}
	}
	for element, path := range map[string]string{"script": "/s3/script.js?disposition=inline", "img": "/s3/icon.svg?disposition=inline"} {
		outcome := eval[string](p, fmt.Sprintf(`new Promise((done) => document.body.append(Object.assign(document.createElement(%q), {
			src: %q, onload: () => done("loaded"), onerror: () => done("refused"),
		})))`, element, "http://"+r.Address+path))
		if outcome != "refused" || eval[bool](p, "window.ran !== undefined") {
			t.Errorf("another site's <%s> of %s is %s", element, path, outcome)
		}
	}
	if said := strings.Join(p.taken(), "\n"); !strings.Contains(said, "frame-ancestors") {
		t.Errorf("the browser does not say that it has refused to frame the page: %s", said)
	}
}
