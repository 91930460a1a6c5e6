package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/kernel-bisect/kbisect/internal/store"
)

// ground is where a service keeps its record and its files. While that is full or
// read-only jobs wait: none fails for it, and each goes on from its runs.
type ground struct {
	dirs []string
	log  *zap.Logger

	// mu guards the following fields.
	mu    sync.Mutex
	wrong error     // what is wrong with it now
	said  time.Time // when that was logged last
}

const (
	placeRoom  = 1 << 20          // bytes: some runs with their consoles, and SQLite's pages around them
	placeSoon  = time.Second      // after which a place is looked at again, then after twice that,
	placeLate  = 30 * time.Second // up to this
	placeQuiet = time.Minute      // between two lines on it: what writes little may go on for a while, and stop again
)

// ofPlace says whether an error is one of the place, and not of what was done.
func ofPlace(err error) bool {
	for _, e := range []error{store.ErrFull, store.ErrReadOnly, store.ErrDisk, unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// trouble is what is wrong with the place, as far as is known: nil for nothing.
func (p *ground) trouble() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wrong
}

// note records what is wrong, or with nil that nothing is any more, and logs a
// change of that.
func (p *ground) note(err error) {
	was := p.wrong
	p.wrong = err
	switch quiet := time.Since(p.said) < placeQuiet; {
	case was == nil && err != nil && !quiet:
		p.said = time.Now()
		p.log.Error("jobs wait until the data directory is in order again", zap.Error(err))
	case was != nil && err == nil:
		p.log.Info("the data directory is in order again: jobs go on")
	}
}

// look finds out whether the place takes something.
func (p *ground) look() error {
	p.mu.Lock() // one at a time: they would take each other's room
	defer p.mu.Unlock()
	for _, dir := range p.dirs {
		if err := takes(dir); err != nil {
			err = fmt.Errorf("data directory: %w", err)
			p.note(err)
			return err
		}
	}
	p.note(nil)
	return nil
}

// takes writes a file, and removes it.
func takes(dir string) error {
	f, err := os.CreateTemp(dir, ".room-")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, placeRoom))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if rerr := os.Remove(f.Name()); err == nil {
		err = rerr
	}
	return err
}

// patiently does something that fails for the place again when that is in order,
// until ctx ends. do may be done over from anywhere.
func (p *ground) patiently(ctx context.Context, do func() error) error {
	for pause := placeSoon; ; pause = min(2*pause, placeLate) {
		err := do()
		if err == nil || ctx.Err() != nil {
			return err
		}
		switch {
		case ofPlace(err):
			p.mu.Lock()
			p.note(err)
			p.mu.Unlock()
		case p.ofOthers(err): // a word of git, of a compiler, of a worker on this machine
		default:
			return err
		}
		if !p.wait(ctx, pause) {
			return err
		}
	}
}

// ofOthers says whether an error that does not say so is likely the place's.
func (p *ground) ofOthers(err error) bool {
	var code statusError
	return !errors.As(err, &code) && ofPlace(p.look())
}

// wait waits until the place is in order, false when ctx ended before.
func (p *ground) wait(ctx context.Context, pause time.Duration) bool {
	for ; ; pause = min(2*pause, placeLate) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		}
		if p.look() == nil {
			return true
		}
	}
}
