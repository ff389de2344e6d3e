package browser

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

var allOK = map[string]string{"token": "OK", "sts": "OK", "role": "OK", "bucket": "OK"}

const tokenMount = "/var/run/secrets/eks.amazonaws.com/serviceaccount"

// TestAGreenPageShowsTheChainAndTheClaims of the real token and session, and never the
// token itself.
func TestAGreenPageShowsTheChainAndTheClaims(t *testing.T) {
	t.Parallel()
	a := newAccess(t, map[string]string{"config.json": "{}", "reports/a.csv": "a"})
	var tokens string
	p := open(t, a.reader(t, func(start *lab.PodStart) { tokens = start.Mounts[tokenMount] }), "")
	p.ready("true")
	p.lists(2)
	if diff := cmp.Diff(allOK, p.links()); diff != "" {
		t.Error(diff)
	}
	states := eval[[]string](p, "[...document.querySelectorAll('#checks li')].map((c) => c.dataset.state)")
	if !slices.Equal(states, slices.Repeat([]string{"OK"}, 5)) {
		t.Errorf("the checks: %v", states)
	}
	sub := "system:serviceaccount:" + a.namespace + ":api-sa"
	for selector, want := range map[string]string{
		"#headline": "Access is proven", "#bucket": a.policy.Bucket, "#why": "", "#answer": "",
		"#claims [data-part=sub]": sub, "#claims [data-part=aud]": "sts.amazonaws.com", "#claims [data-part=iss]": cluster.Issuer, "#claims [data-part=pod]": "app",
		"#identity [data-part=account]": lab.AccountBID, "[data-link=token] .what": a.namespace + "/api-sa", "[data-link=role] .what": a.policy.Role.Name(),
		"[data-link=bucket] .what": a.policy.Bucket, "[data-link=sts] .what": lab.AccountBRegion,
	} {
		if got := p.text(selector); got != want {
			t.Errorf("%s is %q, want %q", selector, got, want)
		}
	}
	if arn := p.text("#identity [data-part=arn]"); !strings.HasSuffix(arn, ":assumed-role/"+a.policy.Role.Name()+"/app") {
		t.Errorf("the session is %s", arn)
	}
	if title := eval[string](p, "document.title"); title != "✓ "+a.policy.Bucket {
		t.Errorf("the title is %q", title)
	}
	p.holdsNoToken(tokens)
}

// holdsNoToken looks for the token's three parts where a page may keep something.
func (p *tab) holdsNoToken(directory string) {
	p.t.Helper()
	token, err := os.ReadFile(filepath.Join(directory, "token"))
	must(p.t, err)
	parts := strings.Split(string(token), ".")
	if len(parts) != 3 || !strings.HasPrefix(parts[0], "eyJ") {
		p.t.Fatal("the Pod's token is none")
	}
	kept := eval[string](p, `(async () => document.documentElement.outerHTML + document.cookie +
		JSON.stringify([{...localStorage}, {...sessionStorage}]) + await (await fetch("status")).text())()`)
	for _, secret := range append(parts, "eyJ") {
		if strings.Contains(kept, secret) {
			p.t.Error("the page holds a part of the token")
		}
	}
}

// TestTheTimesCount down to the end of the session and of the token, each second: a green
// page asks the reader only every five.
func TestTheTimesCount(t *testing.T) {
	t.Parallel()
	p := open(t, newAccess(t, nil).reader(t, nil), "")
	p.ready("true")
	left := regexp.MustCompile(`^((\d+) h )?\d+ min( \d+ s)? left$`)
	for _, selector := range []string{"#session-expires", "#token-expires"} {
		texts := []string{p.text(selector)}
		var changed time.Time
		for range 2 {
			changed = time.Now()
			p.wait(selector+" counts", "document.querySelector("+quote(selector)+").innerText !== "+quote(texts[len(texts)-1]))
			texts = append(texts, p.text(selector))
		}
		if took := time.Since(changed); took > 4*time.Second {
			t.Errorf("%s counts after %s", selector, took)
		}
		for _, text := range texts {
			if !left.MatchString(text) {
				t.Errorf("%s says %q", selector, text)
			}
		}
	}
	p.wait("the age of the proof is said", "/last checked \\d+ s ago/.test(document.querySelector('#checked').innerText)")
}

// TestFoldersOpenByClickAndBackReturns: a folder is an address, so it can also be sent to
// somebody.
func TestFoldersOpenByClickAndBackReturns(t *testing.T) {
	t.Parallel()
	r := newAccess(t, map[string]string{
		"config.json": "{}", "reports/summary.txt": "s", "reports/2026/a.csv": "a", "reports/2026/b.csv": "b",
		"reports/2026/c.csv": "c",
	}).reader(t, nil)
	p := open(t, r, "")
	p.ready("true")
	p.lists(2)
	p.click(`#objects [title="reports/"]`)
	p.wait("the folder is open", `document.querySelector('#objects [title="reports/2026/"]')`)
	p.click(`#objects [title="reports/2026/"]`)
	p.lists(3)
	if crumbs := p.text("#crumbs"); !strings.HasSuffix(crumbs, "reports/\n2026/") {
		t.Errorf("the path is %q", crumbs)
	}
	inside := eval[[]string](p, "[...document.querySelectorAll('#objects a')].map((a) => a.innerText)")
	if !slices.Equal(inside, []string{"a.csv", "b.csv", "c.csv"}) {
		t.Errorf("the folder holds %v", inside)
	}
	address := eval[string](p, "location.href")
	back := "history.back()"
	eval[any](p, back)
	p.wait("Back has left the folder", `document.querySelector('#objects [title="reports/summary.txt"]')`)
	eval[any](p, back)
	p.wait("Back has returned to the root", `document.querySelector('#objects [title="config.json"]')`)

	second := open(t, r, address[strings.IndexByte(address, '#'):])
	second.ready("true")
	second.lists(3)
	second.click("#crumbs a")
	second.lists(2)
}

// TestThePageLoadsItsOwnFilesAlone: that nothing else is asked for is checked of each
// test's pages; here, that what should be is.
func TestThePageLoadsItsOwnFilesAlone(t *testing.T) {
	t.Parallel()
	p := open(t, newAccess(t, nil).reader(t, nil), "")
	p.ready("true")
	p.lists(0)
	var paths []string
	for _, address := range p.asked() {
		parsed, err := url.Parse(address)
		must(t, err)
		paths = append(paths, parsed.Path)
	}
	slices.Sort(paths)
	if want, got := []string{"/", "/page/icon.svg", "/page/script.js", "/page/style.css", "/s3/", "/status"}, slices.Compact(paths); !slices.Equal(got, want) {
		t.Errorf("asked for were %v, want %v", got, want)
	}
}
