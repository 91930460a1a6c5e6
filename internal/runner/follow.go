package runner

import (
	"time"

	"github.com/kernel-bisect/kbisect/internal/console"
	"github.com/kernel-bisect/kbisect/internal/qemu"
)

// What is passed on of a guest's console while it runs: the last lines, now and
// then. Most runs are over before.
const (
	tailEvery = time.Second
	tailSize  = 4 << 10
)

// follow passes on what a guest says until stop is called.
func (l *Lab) follow(vm *qemu.VM) (stop func()) {
	if l.Tail == nil {
		return func() {}
	}
	return follow(vm.Console.Bytes, l.Tail)
}

func follow(log func() []byte, tell func(string)) (stop func()) {
	quit, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(tailEvery)
		defer tick.Stop()
		for told := 0; ; {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			all := log()
			if len(all) == told {
				continue
			}
			told = len(all)
			tell(console.Clean(all[max(0, len(all)-tailSize):], tailSize))
		}
	}()
	return func() {
		close(quit)
		<-over
	}
}
