package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/page"
)

const script = "window.ran = 1; document.title = 'ran'; fetch('/status'); new Image().src = '/readyz'"

// documents are objects that run where a browser shows them as it likes, by media type.
var documents = map[string]string{
	"text/html": "<!doctype html><title></title><link rel=stylesheet href=/page/style.css><img src=/page/icon.svg onload=\"" + script + "\" onerror=\"" + script +
		"\"><script>" + script + "</script><form id=form action=/metrics></form><p>words",
	"image/svg+xml": `<svg xmlns="http://www.w3.org/2000/svg" onload="` + script + `"><title></title><script>` + script +
		`</script><text y="20">words</text></svg>`,
	"application/xhtml+xml": `<html xmlns="http://www.w3.org/1999/xhtml"><head><title></title><script>` + script +
		`</script></head><body>words</body></html>`,
}

// TestAnObjectNeverRuns: not as a page of the reader's origin, from which it could read
// all that the reader reads. The same bytes do run where nothing forbids it.
func TestAnObjectNeverRuns(t *testing.T) {
	t.Parallel()
	a := newAccess(t, nil)
	r := a.reader(t, nil)
	for mediaType, document := range documents {
		t.Run(mediaType, func(t *testing.T) {
			key := strings.NewReplacer("/", "-", "+", "-").Replace(mediaType)
			must(t, accountB.Put(testContext(t), a.policy.Bucket, key, mediaType, []byte(document)))
			elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", mediaType)
				_, _ = w.Write([]byte(document))
			}))
			defer elsewhere.Close()
			free := newTab(t, elsewhere.URL)
			free.visit("")
			free.wait("it runs elsewhere", "window.ran === 1 && document.title === 'ran'")

			before := answered(t, r.Log)
			p := newTab(t, "http://"+r.Address)
			p.visit("s3/" + key + "?disposition=inline")
			p.wait("it is shown", "document.readyState === 'complete' && document.documentElement.textContent.includes('words')")
			if ran := eval[bool](p, "window.ran !== undefined || document.title !== ''"); ran {
				t.Error("the object has run")
			}
			if origin := eval[string](p, "self.origin"); origin != "null" {
				t.Errorf("the object is of the origin %s", origin)
			}
			if said := strings.Join(p.taken(), "\n"); !strings.Contains(said, "sandboxed") {
				t.Errorf("the browser does not say that it has blocked a script: %s", said)
			}
			if asked := answered(t, r.Log)[len(before):]; !slices.Equal(asked, []string{"/s3/" + key}) {
				t.Errorf("the reader was asked for %v", asked)
			}

			files := p.saving()
			_ = call(p, page.Navigate, page.NavigateParams{URL: p.origin + "/s3/" + key})
			if name, content := files.next(); name != key || string(content) != document {
				t.Errorf("without disposition=inline, %q was saved with %d bytes", name, len(content))
			}
		})
	}
}

var answeredPath = regexp.MustCompile(`"msg":"Request answered".*"path":"([^"]*)"`)

// answered are the paths of all requests that a reader has answered, by its log.
func answered(t *testing.T, log string) []string {
	t.Helper()
	text, err := os.ReadFile(log)
	must(t, err)
	var paths []string
	for _, match := range answeredPath.FindAllStringSubmatch(string(text), -1) {
		paths = append(paths, match[1])
	}
	return paths
}

// hostile are keys whose writer wants a browser to do something. The content of each is
// its key.
var hostile = []string{
	`<img src=x onerror=window.ran=1>`, `<script>window.ran=1<`, `"><svg onload="window.ran=1">`, `' onclick='window.ran=1`,
	"`${window.ran=1}`", `javascript:window.ran=1`, `&lt;b&gt; &amp; &quot;`, `#at=elsewhere`, `?disposition=inline`, `a\b`, ` a  b `, `;,:@&=$!*()[]{}|^~`,
	"invoice\u202efdp.exe", "two\u200bwords", "שלום.txt", "e\u0301.txt", "\u00e9.txt", strings.Repeat("long", 50), "__proto__",
	"constructor",
}

// TestHostileKeysAreShownAsTheyAre: as text and letter by letter, and their links lead to
// just that object.
func TestHostileKeysAreShownAsTheyAre(t *testing.T) {
	t.Parallel()
	const folder = `<img src=x onerror=window.ran=1>"'&/`
	objects := map[string]string{}
	for _, key := range hostile {
		objects[key], objects[folder+key] = key, folder+key
	}
	r := newAccess(t, objects).reader(t, nil)
	p := open(t, r, "")
	p.ready("true")
	p.lists(len(hostile) + 1)
	p.showsHostile("", append(slices.Clone(hostile), folder))
	p.click("#objects a.folder")
	p.lists(len(hostile))
	p.showsHostile(folder, hostile)
	if crumb := eval[string](p, "document.querySelector('#crumbs li:last-child').textContent"); crumb != folder {
		t.Errorf("the folder is shown as %q", crumb)
	}
	// And by an address that somebody was sent.
	link := open(t, r, "#at="+url.QueryEscape(folder))
	link.ready("true")
	link.lists(len(hostile))
	none := open(t, r, "#at="+url.QueryEscape("<img src=x onerror=window.ran=1>none"))
	none.ready("true")
	none.lists(0)
	for _, p := range []*tab{link, none} {
		p.runsNothing()
	}
}

// TestPercentSignsAreLetters of a key, also where S3 is a server that escapes no listing.
func TestPercentSignsAreLetters(t *testing.T) {
	t.Parallel()
	keys := []string{`%3Cimg src=x onerror=window.ran=1%3E`, `100%`, `100%25`, `%2e%2e%2fetc`, `a%2Fb`, `1+1`, `1%2B1`, `1 1`}
	objects := map[string]string{}
	for _, key := range keys {
		objects[key] = key
	}
	p := open(t, newAccess(t, objects).reader(t, nil), "")
	p.ready("true")
	p.lists(len(keys))
	p.showsHostile("", keys)
}

// showsHostile compares the rows with the names, and what their links lead to.
func (p *tab) showsHostile(folder string, names []string) {
	p.t.Helper()
	type row struct{ Name, Title, Warning, Content string }
	rows := eval[[]row](p, `Promise.all([...document.querySelectorAll("#objects tr")].map(async (tr) => {
		const a = tr.querySelector("a");
		return {
			name: tr.querySelector("bdi").textContent, title: a.title, warning: tr.querySelector(".warning")?.textContent ?? "",
			content: a.className === "folder" ? a.hash : await (await fetch(a.href)).text(),
		};
	}))`)
	shown := map[string]row{}
	for _, r := range rows {
		shown[r.Name] = r
	}
	for _, name := range names {
		r, found := shown[name]
		switch {
		case !found:
			p.t.Errorf("%q is not shown", name)
		case strings.HasSuffix(name, "/"):
		case r.Content != folder+name:
			p.t.Errorf("the link of %q leads to %q", name, r.Content)
		}
		if hidden := strings.ContainsAny(name, "\u202e\u200b"); hidden != (r.Warning != "") || hidden == (r.Title == folder+name) {
			p.t.Errorf("%q has the warning %q and the title %q", name, r.Warning, r.Title)
		}
	}
	if len(shown) != len(names) {
		p.t.Errorf("%d names are shown, want %d: %v", len(shown), len(names), shown)
	}
	p.runsNothing()
}

// runsNothing looks for what a key would have made of the page.
func (p *tab) runsNothing() {
	p.t.Helper()
	strange := "document.querySelectorAll('main img, main script, main svg[onload], main [onclick], main [onerror], main b').length"
	if made := eval[int](p, "window.ran === undefined ? "+strange+" : -1"); made != 0 {
		p.t.Error(fmt.Sprint("a key was read as HTML: ", made))
	}
}
