package browser

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
)

// downloads are those of a tab.
type downloads struct {
	p         *tab
	directory string
	begun     chan string // the name that the browser would give to the file
	ended     chan *browser.EventDownloadProgress
}

// saving lets the tab save files, without asking.
func (p *tab) saving() *downloads {
	p.t.Helper()
	const most = 64
	d := &downloads{p: p, directory: p.t.TempDir(), begun: make(chan string, most), ended: make(chan *browser.EventDownloadProgress, most)}
	must(p.t, chromedp.Listen(p.ctx, func(event any) {
		switch e := event.(type) {
		case *browser.EventDownloadWillBegin:
			d.begun <- e.SuggestedFilename
		case *browser.EventDownloadProgress:
			if e.State != browser.DownloadProgressStateInProgress {
				d.ended <- e
			}
		}
	}))
	events := true
	call(p, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: browser.SetDownloadBehaviorBehaviorAllowAndName, DownloadPath: d.directory, EventsEnabled: &events,
		BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID,
	})
	return d
}

// next waits for a whole download and returns its name and its bytes.
func (d *downloads) next() (name string, content []byte) {
	d.p.t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case name = <-d.begun:
		case e := <-d.ended:
			if e.State != browser.DownloadProgressStateCompleted {
				d.p.t.Fatalf("the download of %q is %s", name, e.State)
			}
			content, err := os.ReadFile(filepath.Join(d.directory, e.GUID))
			must(d.p.t, err)
			return name, content
		case <-limit:
			d.p.t.Fatalf("no whole download in 10 seconds; begun is %q", name)
		}
	}
}

// TestAClickDownloadsTheObjectsBytes, under the object's own name.
func TestAClickDownloadsTheObjectsBytes(t *testing.T) {
	t.Parallel()
	big := make([]byte, 3<<20)
	_, _ = rand.Read(big)
	objects := map[string]string{"big.bin": string(big), "empty.txt": "", "so & so, #1.txt": "marks", "наказ № 7.txt": "words"}
	p := open(t, newAccess(t, objects).reader(t, nil), "")
	files := p.saving()
	p.ready("true")
	p.lists(len(objects))
	p.allowRefusals() // of the first byte of an empty object
	for key, want := range objects {
		p.click("#objects [title=" + quote(key) + "]")
		if name, content := files.next(); name != key || string(content) != want {
			t.Errorf("%q came as %q with %d bytes, want %d", key, name, len(content), len(want))
		}
	}
	if text := p.text("#problem"); text != "" {
		t.Errorf("a problem is shown: %s", text)
	}
}

// TestADownloadThatIsRefusedIsExplained on the page, and not by the browser's failed file.
func TestADownloadThatIsRefusedIsExplained(t *testing.T) {
	t.Parallel()
	a := newAccess(t, map[string]string{"gone.txt": "soon", "here.txt": "still"})
	p := open(t, a.reader(t, nil), "")
	files := p.saving()
	p.ready("true")
	p.lists(2)
	gone := "gone.txt"
	_, err := accountB.S3.DeleteObject(testContext(t), &s3.DeleteObjectInput{Bucket: &a.policy.Bucket, Key: &gone})
	must(t, err)
	p.allowRefusals()
	p.click("#objects [title='gone.txt']")
	p.shows("#problem")
	for _, part := range []string{"title", "detail", "fix"} {
		if p.text("#problem [data-part="+part+"]") == "" {
			t.Errorf("the problem has no %s: %s", part, p.text("#problem"))
		}
	}
	p.click("#objects [title='here.txt']")
	if name, content := files.next(); name != "here.txt" || string(content) != "still" {
		t.Errorf("what comes next is %q, %q", name, content)
	}
	if left := len(files.begun); left != 0 {
		t.Errorf("more was saved: %d", left)
	}
	p.wait("the problem is gone", "!document.querySelector('#problem').checkVisibility()")
}
