package dispatch

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/queue"
)

// A run that panics does not leave a guest behind.
func TestPanicTakesItsKernelDown(t *testing.T) {
	for _, kind := range []string{kindRun, kindTogether} {
		w := &world{fail: "panic"}
		s := NewStation(w, 1)
		body, err := json.Marshal(Order{Kind: kind, Kernel: kernel.Kernel{Digest: "k"}, Programs: pack(test("t"))})
		if err != nil {
			t.Fatal(err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			_, _ = s.Handle(t.Context(), queue.Task{Body: body, Report: func([]byte) {}})
		}()
		if !slices.Contains(w.log, "down k") || s.Up() != 0 {
			t.Errorf("%s: %v, %d up", kind, w.log, s.Up())
		}
	}
}
