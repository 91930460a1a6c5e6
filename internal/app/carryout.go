package app

import (
	"context"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// growing is the result of a job that is recorded as it grows.
type growing struct {
	result  any               // pointer to it
	seconds *float64          // its member
	carried *[]kernel.Carried // and this, if it has it
	// ended takes how the job ended, before that is recorded; what there is of
	// an interrupted one is reported if it says so.
	ended func(status string) (show bool)
}

// carryOut does a job's work, records the result while it grows and when it has
// ended, and reports it.
func (o *options) carryOut(ctx context.Context, b *bench, g growing, work func(update func()) error) error {
	grow := func() {
		*g.seconds = time.Since(b.started).Seconds()
		if g.carried != nil {
			*g.carried = b.carried.list()
		}
	}
	jobErr := work(func() {
		grow()
		_ = b.save(ctx, store.Running, g.result)
	})
	status := store.Done
	if jobErr != nil {
		status = store.Interrupted
	}
	show := g.ended(status)
	grow()
	if err := b.save(ctx, status, g.result); err != nil {
		return err
	}
	b.close() // the progress line must not stand in the report
	if jobErr != nil {
		if show {
			_ = o.emit(g.result)
		}
		return b.interrupted(ctx, jobErr)
	}
	if err := o.emit(g.result); err != nil {
		return err
	}
	o.sayReport(b.id)
	return nil
}
