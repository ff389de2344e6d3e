package cli

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// progress says on a terminal what is waited for, on one line that is erased before
// anything else is written. Elsewhere it says nothing.
type progress struct {
	*screen

	lock  sync.Mutex
	timer *time.Timer
	shown int // columns
}

// progress goes to the error stream: what is read by programs has none of it.
func (e *environment) progress() *progress {
	return &progress{screen: e.screen(e.ErrOut)}
}

// after says it when it has not been cleared by then.
func (p *progress) after(wait time.Duration, text string) {
	if !p.interactive() {
		return
	}
	p.clear()
	p.lock.Lock()
	defer p.lock.Unlock()
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		p.lock.Lock()
		defer p.lock.Unlock()
		if p.timer != timer { // cleared meanwhile
			return
		}
		if runes := []rune(text); len(runes) >= p.width { // one line, or it can't be erased
			text = string(runes[:p.width-2]) + "…"
		}
		fmt.Fprint(p, p.paint(grey, text))
		p.shown = length(text)
	})
	p.timer = timer
}

// clear erases what is shown.
func (p *progress) clear() {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	if p.shown > 0 {
		fmt.Fprint(p, "\r"+strings.Repeat(" ", p.shown)+"\r") // no escape sequences: there may be no colours
		p.shown = 0
	}
}
