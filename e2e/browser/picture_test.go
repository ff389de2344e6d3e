package browser

import (
	"os"
	"path/filepath"

	"github.com/chromedp/cdproto/page"
)

// picture writes a PNG of the page into $SCREENSHOT_DIR: all of it, or down to the section
// of an element.
func (p *tab) picture(name, last string) {
	p.t.Helper()
	directory := os.Getenv("SCREENSHOT_DIR")
	if directory == "" {
		directory = filepath.Join(cluster.Repository, "out", "screenshots")
	}
	must(p.t, os.MkdirAll(directory, 0o755))
	height := "document.documentElement.scrollHeight"
	if last != "" {
		height = "Math.ceil(document.querySelector(" + quote(last) + ").closest('section').getBoundingClientRect().bottom + scrollY) + 14"
	}
	beyond := true
	shot := call(p, page.CaptureScreenshot, page.CaptureScreenshotParams{CaptureBeyondViewport: &beyond, Clip: &page.Viewport{
		Width: eval[float64](p, "innerWidth"), Height: eval[float64](p, height), Scale: 1,
	}})
	must(p.t, os.WriteFile(filepath.Join(directory, name+".png"), shot.Data, 0o644))
}
