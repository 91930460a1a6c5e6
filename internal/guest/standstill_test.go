package guest

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestStandstill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStandstill()
		defer s.close()
		for range 10 {
			<-s.tick.C
			s.look()
		}
		time.Sleep(900 * time.Millisecond)
		if err := s.err(); err != nil {
			t.Errorf("a process that runs: %v", err)
		}
		time.Sleep(maxStandstill + time.Second) // nobody looks, as in a process that is stopped
		s.look()
		for range 3 { // and what comes after does not undo it
			<-s.tick.C
			s.look()
		}
		if err := s.err(); err == nil || !strings.Contains(err.Error(), "stopped for 6s") {
			t.Errorf("a process that was stopped: %v", err)
		}
	})
}
