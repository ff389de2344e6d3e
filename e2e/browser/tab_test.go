package browser

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// tab is a tab in a browser profile of its own. When its test ends, all that it has asked
// for was of the reader, and nothing was violated, thrown or logged: whatever a test does,
// these hold.
type tab struct {
	t      *testing.T
	ctx    context.Context
	origin string // of the reader; empty for a page that is none of its

	mu       sync.Mutex
	requests []string // addresses that were asked for
	said     []string // by the console and the browser's log
	refused  bool     // answers that are no success belong to this test
}

// newTab opens an empty tab for pages of an origin.
func newTab(t *testing.T, origin string) *tab {
	t.Helper()
	p := &tab{t: t, origin: origin}
	ctx, cancel := chromedp.NewContext(chromium, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.listen))
	must(t, chromedp.Do(ctx)) // the tab lives as long as the context of its first step
	var limit context.CancelFunc
	p.ctx, limit = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(func() {
		p.check()
		limit()
		cancel()
	})
	call(p, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	p.media("light")
	p.width(1280)
	return p
}

// open opens the reader's page; fragment is what stands behind the address's /.
func open(t *testing.T, r *lab.ReaderProcess, fragment string) *tab {
	t.Helper()
	p := newTab(t, "http://"+r.Address)
	p.visit(fragment)
	return p
}

// visit leads the tab to a page of the origin.
func (p *tab) visit(path string) {
	p.t.Helper()
	p.do(chromedp.Navigate(p.origin + "/" + path))
}

// listen notes what may not happen on a page.
func (p *tab) listen(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		p.requests = append(p.requests, e.Request.URL)
	case *log.EventEntryAdded:
		if e.Entry.Source != log.EntrySourceNetwork || !p.refused {
			p.said = append(p.said, fmt.Sprintf("%s: %s (%s)", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *runtime.EventExceptionThrown:
		p.said = append(p.said, "exception: "+e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		p.said = append(p.said, "console."+string(e.Type))
	case *page.EventJavascriptDialogOpening:
		p.said = append(p.said, "dialog: "+e.Message)
	}
}

// check is made at the end of each test.
func (p *tab) check() {
	for _, said := range p.taken() {
		p.t.Errorf("the browser complains: %s", said)
	}
	for _, address := range p.asked() {
		if p.origin != "" && !strings.HasPrefix(address, p.origin+"/") {
			p.t.Errorf("something of elsewhere was asked for: %s", address)
		}
	}
	if text, err := chromedp.Run(p.ctx, chromedp.Evaluate[string]("document.body?.innerText ?? ''")); err == nil && p.t.Failed() {
		p.t.Logf("the page shows:\n%s", text)
	}
}

// taken is what was said until now; it is forgotten.
func (p *tab) taken() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	said := p.said
	p.said = nil
	return said
}

// asked are the addresses that were asked for until now.
func (p *tab) asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// allowRefusals is for set-ups in which the reader refuses something.
func (p *tab) allowRefusals() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = true
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	must(p.t, chromedp.Do(p.ctx, steps...))
}

// call sends a command of the DevTools protocol to the tab.
func call[P, R any](p *tab, command cdp.Command[P, R], parameters P) R {
	p.t.Helper()
	answer, err := chromedp.Call(p.ctx, command, parameters)
	must(p.t, err)
	return answer
}

// eval is the value of an expression of JavaScript.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	value, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// text is what an element says; hidden elements say nothing.
func (p *tab) text(selector string) string {
	p.t.Helper()
	return eval[string](p, "((e) => e ? (e.checkVisibility() ? e.innerText.trim() : '') : 'no such element')(document.querySelector("+quote(selector)+"))")
}

// wait waits until a condition of JavaScript holds.
func (p *tab) wait(what, condition string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	for {
		// An error is that of a page that is on its way.
		if holds, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+condition+")")); err == nil && holds {
			return
		}
		select {
		case <-ctx.Done():
			p.t.Fatalf("not in 20 seconds: %s: %s", what, condition)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ready waits for the page's own state: true, false or unknown.
func (p *tab) ready(state string) {
	p.t.Helper()
	p.wait("data-ready is "+state, "document.body.dataset.ready === "+quote(state))
}

// shows waits until an element is seen.
func (p *tab) shows(selector string) {
	p.t.Helper()
	p.wait(selector+" is shown", "document.querySelector("+quote(selector)+").checkVisibility()")
}

// lists waits until the listing has so many rows.
func (p *tab) lists(rows int) {
	p.t.Helper()
	p.wait(fmt.Sprintf("%d rows are listed", rows),
		fmt.Sprintf("document.querySelector('#browser').ariaBusy === 'false' && document.querySelectorAll('#objects tr').length === %d", rows))
}

// click presses the mouse on an element.
func (p *tab) click(selector string) {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.CSS(selector)))
}

// links are the states of the chain.
func (p *tab) links() map[string]string {
	p.t.Helper()
	return eval[map[string]string](p, "Object.fromEntries([...document.querySelectorAll('[data-link]')].map((l) => [l.dataset.link, l.dataset.state]))")
}

// media sets the colour scheme that the person prefers; without motion, so that no
// picture is of a transition.
func (p *tab) media(scheme string) {
	p.t.Helper()
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}

const phone = 390

// width sets the window's; a narrow one is a phone's.
func (p *tab) width(pixels int64) {
	p.t.Helper()
	options := []chromedp.EmulateViewportOption{chromedp.EmulateScale(1)}
	if pixels <= phone {
		options = []chromedp.EmulateViewportOption{chromedp.EmulateMobile, chromedp.EmulatePortrait}
	}
	p.do(chromedp.EmulateViewport(pixels, 900, options...))
}

// quote makes a string of JavaScript or CSS.
func quote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}
