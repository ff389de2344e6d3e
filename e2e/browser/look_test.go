package browser

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestTheKeyboardIsEnough: what the mouse can do, Tab and Enter can, and the focus never
// gets lost when what had it goes away.
func TestTheKeyboardIsEnough(t *testing.T) {
	t.Parallel()
	objects := map[string]string{"archive/old.txt": "old"}
	for i := range 105 {
		objects[fmt.Sprintf("file-%03d.txt", i)] = "text"
	}
	r := newAccess(t, objects).reader(t, nil)
	p := open(t, r, "")
	p.ready("true")
	p.lists(100)
	p.press(kb.Tab)
	if !eval[bool](p, "document.activeElement.matches('.skip') && document.activeElement.getBoundingClientRect().top >= 0") {
		t.Error("the first Tab does not show the skip link")
	}
	p.press(kb.Enter)
	p.focusIsOn("#objects-title")
	p.tabTo("a.folder", 5)
	p.press(kb.Enter)
	p.lists(1)
	p.focusIsOn("#objects-title")
	p.tabTo("#crumbs a", 1)
	p.press(kb.Enter)
	p.lists(100)
	p.focusIsOn("#objects-title")
	p.tabTo("#next", 110)
	p.press(kb.Enter)
	p.lists(6)
	if count := p.text("#count"); count != "Page 2. Folders: 0, objects: 6." {
		t.Errorf("it says %q", count)
	}
	p.focusIsOn("#objects-title")
	p.tabTo("#previous", 10)
	p.press(kb.Enter)
	p.lists(100)
	p.tabTo("#reload", 110)
	p.press(" ")
	p.lists(100)
	p.focusIsOn("#reload")

	inside := open(t, r, "#at=archive%2F")
	inside.ready("true")
	inside.lists(1)
	inside.press(kb.Tab)
	inside.press(kb.Enter)
	inside.focusIsOn("#objects-title")
	inside.wait("the address has changed", "location.hash === '#objects-title'")
	eval[any](inside, "new Promise((done) => setTimeout(done))") // and the page has heard of it
	inside.lists(1)                                              // the skip link leaves no folder
}

func (p *tab) press(key string) {
	p.t.Helper()
	p.do(chromedp.KeyEvent(key))
}

// tabTo presses Tab until an element has the focus, and looks whether one sees that.
func (p *tab) tabTo(selector string, most int) {
	p.t.Helper()
	for range most {
		p.press(kb.Tab)
		if eval[bool](p, "document.activeElement.matches("+quote(selector)+")") {
			if style := eval[string](p, "getComputedStyle(document.activeElement).outlineStyle"); style != "solid" {
				p.t.Errorf("the focus on %s is not seen: its outline is %s", selector, style)
			}
			return
		}
	}
	p.t.Fatalf("%d times Tab do not lead to %s", most, selector)
}

func (p *tab) focusIsOn(selector string) {
	p.t.Helper()
	p.wait("the focus is on "+selector, "document.activeElement.matches("+quote(selector)+")")
}

// long are names of the greatest length that they may have.
var long = names{
	namespace: strings.Repeat("namespace", 7), policy: "long", bucket: strings.Repeat("bucketdata", 6) + "xyz", role: strings.Repeat("role", 16),
}

// TestThePageFitsEveryWindow in light and dark, green and red, with the longest names: it
// never scrolls sideways, and all text stands out from what is behind it.
func TestThePageFitsEveryWindow(t *testing.T) {
	t.Parallel()
	a := newNamedAccess(t, long, map[string]string{
		strings.Repeat("long", 50): "", strings.Repeat("w ", 100): "", strings.Repeat("folder", 40) + "/" + strings.Repeat("x", 200): "", "two\u200bwords": "",
	})
	p := open(t, a.reader(t, nil), "")
	p.ready("true")
	p.lists(4)
	p.fits("green")
	p.allowRefusals()
	setDeny(t, a.policy, true)
	p.ready("false")
	p.click("#answer summary")
	p.click("#reload")
	p.shows("#problem")
	p.fits("red")
}

func (p *tab) fits(state string) {
	p.t.Helper()
	pages := map[string]bool{}
	for _, scheme := range []string{"light", "dark"} {
		p.media(scheme)
		pages[eval[string](p, "getComputedStyle(document.body).backgroundColor")] = true
		for _, pixels := range []int64{1280, 900, 600, phone, 320} {
			p.width(pixels)
			if wide := eval[[]int64](p, "[document.documentElement.scrollWidth, innerWidth]"); wide[0] > pixels || wide[1] != pixels {
				p.t.Errorf("%s, %s: a window of %d pixels shows %d of a page of %d", state, scheme, pixels, wide[1], wide[0])
			}
			for _, faint := range eval[[]string](p, faintText) {
				p.t.Errorf("%s, %s, %d pixels: hard to read: %s", state, scheme, pixels, faint)
			}
		}
		p.picture("narrow-"+state+"-"+scheme, "")
		p.width(1280)
	}
	p.media("light")
	if len(pages) != 2 {
		p.t.Error("light and dark are the same")
	}
}

// faintText is what has less contrast than 4.5:1 (WCAG 2.2, 1.4.3) with any colour behind
// it. What is disabled may have less.
const faintText = `(() => {
	const light = (colour) => {
		const [r, g, b] = colour.match(/[\d.]+/g).map((c) => (c /= 255, c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const behind = (e) => {
		for (; e; e = e.parentElement) {
			const { backgroundImage, backgroundColor } = getComputedStyle(e);
			const colours = backgroundImage.match(/rgb\([^)]*\)/g) ?? backgroundColor.match(/^rgb\(.*/);
			if (colours) return [...colours];
		}
		return ["rgb(255, 255, 255)"];
	};
	const faint = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walker.nextNode()) {
		const e = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
		if (!text || !e.checkVisibility() || e.closest(":disabled, .unseen")) continue;
		const own = light(getComputedStyle(e).color);
		for (const colour of behind(e)) {
			const other = light(colour), ratio = (Math.max(own, other) + 0.05) / (Math.min(own, other) + 0.05);
			if (ratio < 4.5) faint.push(ratio.toFixed(2) + " of " + text);
		}
	}
	return faint;
})()`
