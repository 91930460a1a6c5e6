package app

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/kernel-bisect/kbisect/internal/dispatch"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kbuild"
)

// progress shows what a job does: on a terminal one line that changes, and
// everywhere a line for each commit that is through.
type progress struct {
	w     io.Writer
	tty   bool
	width int
	start time.Time
	quit  chan struct{}
	once  sync.Once
	hook  func(job.Event) // told of everything, may be nil

	mu    sync.Mutex // mu guards the following fields
	event job.Event
	since time.Time // start of the phase
	build kbuild.Progress
	shown bool
}

func (o *options) newProgress() *progress {
	p := &progress{w: o.stderr, width: 80, start: time.Now(), quit: make(chan struct{}), hook: o.hook}
	if f, ok := o.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) && !o.verbose {
		p.tty = true
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			p.width = w
		}
		go p.tick()
	}
	return p
}

// close takes the line away; it may be called again.
func (p *progress) close() {
	p.once.Do(func() { close(p.quit) })
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

func (p *progress) tick() {
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			p.mu.Lock()
			p.draw()
			p.mu.Unlock()
		case <-p.quit:
			return
		}
	}
}

// notify takes a job's event.
func (p *progress) notify(e job.Event) {
	if p.hook != nil {
		p.hook(e)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Phase == "done" {
		p.clear()
		who := oneLine(e.Label)
		if who == "" {
			who = e.Commit.Short() + " " + oneLine(clip(e.Commit.Subject, 50))
		}
		fmt.Fprintf(p.w, "%s%s: %s\n", place(e), who, oneLine(clip(e.Text, 160)))
		return
	}
	if e.Phase != p.event.Phase || e.Commit.SHA != p.event.Commit.SHA || e.Index != p.event.Index {
		p.since, p.build = time.Now(), kbuild.Progress{}
	}
	p.event = e
}

// building takes the builder's progress.
func (p *progress) building(b kbuild.Progress) {
	p.mu.Lock()
	p.build = b
	e := p.event
	p.mu.Unlock()
	if p.hook != nil && e.Phase == "build" {
		e.Text = b.Phase
		if b.Phase == "compile" {
			e.Text = fmt.Sprintf("%d objects compiled", b.Objects)
		}
		p.hook(e)
	}
}

// said takes words from where the work is done: how far a build is, or that
// nobody does it yet.
func (p *progress) said(w dispatch.Word) {
	p.mu.Lock()
	e := p.event
	p.mu.Unlock()
	if p.hook != nil && e.Phase != "" {
		if w.Text != "" {
			e.Text = oneLine(clip(w.Text, 160))
		}
		e.Tail = w.Tail
		p.hook(e)
	}
}

func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// draw shows the line: place, commit, what is done, time passed, time left.
func (p *progress) draw() {
	if p.event.Phase == "" {
		return
	}
	line := place(p.event) + p.event.Label + p.event.Commit.Short() + " " + p.doing()
	if left := p.left(); left > 0 {
		line += ", about " + round(left) + " left"
	}
	p.clear()
	fmt.Fprint(p.w, "\r"+oneLine(clip(line, p.width-1)))
	p.shown = true
}

func (p *progress) doing() string {
	e, took := p.event, time.Since(p.since)
	switch {
	case e.Phase == "build" && p.build.Phase == "compile":
		return fmt.Sprintf("building, %d objects done, %s", p.build.Objects, round(took))
	case e.Phase == "build" && p.build.Phase != "":
		return fmt.Sprintf("building (%s), %s", p.build.Phase, round(took))
	case e.Phase == "boot":
		return "booting, " + round(took)
	case e.Phase == "run" && e.Of > 0:
		return fmt.Sprintf("run %d of %d: %s", e.Done+1, e.Of, e.Text)
	case e.Phase == "run":
		return fmt.Sprintf("run %d: %s", e.Done+1, e.Text)
	}
	return e.Phase
}

// left estimates the time to the end from the commits that are through.
func (p *progress) left() time.Duration {
	e := p.event
	if e.Total == 0 && e.Phase == "run" && e.Done > 0 && e.Of > e.Done {
		return time.Since(p.since) / time.Duration(e.Done) * time.Duration(e.Of-e.Done)
	}
	if e.Total == 0 || e.Index < 2 {
		return 0
	}
	each := time.Since(p.start) / time.Duration(e.Index-1)
	done := time.Since(p.since)
	return max(0, each*time.Duration(e.Total-e.Index+1)-done)
}

func place(e job.Event) string {
	if e.Total == 0 {
		return ""
	}
	return fmt.Sprintf("[%d/%d] ", e.Index, e.Total)
}

func round(d time.Duration) string {
	if d < time.Minute {
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%d min", int(d.Round(time.Minute).Minutes()))
}

func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n || n < 1 {
		return s
	}
	return string(r[:n-1]) + "…"
}
