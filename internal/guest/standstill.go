package guest

import (
	"fmt"
	"time"
)

// maxStandstill is how long this process may be away without anything being
// made of it: a loaded host does not keep a process off for seconds.
const maxStandstill = 5 * time.Second

// standstill notices that this process did not run for a while: it was stopped
// with ^Z or by a debugger, and likely the guest with it. All time limits have
// passed when it goes on, on both sides, and say nothing about the kernel.
type standstill struct {
	tick    *time.Ticker
	last    time.Time
	longest time.Duration
}

func newStandstill() *standstill {
	return &standstill{tick: time.NewTicker(time.Second), last: time.Now()}
}

func (s *standstill) close() { s.tick.Stop() }

// look must be called at every tick, and once more at the end.
func (s *standstill) look() {
	now := time.Now()
	s.longest = max(s.longest, now.Sub(s.last))
	s.last = now
}

// err says that nothing can be concluded from what was seen.
func (s *standstill) err() error {
	if s.look(); s.longest <= maxStandstill {
		return nil
	}
	return fmt.Errorf("this process was stopped for %s", s.longest.Round(time.Second))
}
