package api

import (
	"context"
	"fmt"
)

// NotFound says that there is no such thing; What names it: "job check-1".
type NotFound struct{ What string }

func (e *NotFound) Error() string { return "there is no " + e.What }

// BadInput says what is wrong with a request. Field is that of the JSON, "" for
// the whole; Text is one sentence for the user.
type BadInput struct{ Field, Text string }

func (e *BadInput) Error() string {
	if e.Field == "" {
		return e.Text
	}
	return fmt.Sprintf("%s: %s", e.Field, e.Text)
}

// Conflict says why the state of things does not allow it, in one sentence for
// the user.
type Conflict struct{ Text string }

func (e *Conflict) Error() string { return e.Text }

// Errors of the interfaces are *NotFound, *BadInput and *Conflict, whose text
// the user sees, or trouble of the service, which is logged and not shown.

// Jobs are the jobs on record.
type Jobs interface {
	Jobs(ctx context.Context, f JobFilter) ([]Job, error)
	Job(ctx context.Context, id string) (Job, error)
	// Result is the result so far: a *kernel.CheckResult, MatrixResult,
	// SeriesResult or BisectResult, or nil while there is none.
	Result(ctx context.Context, id string) (any, error)
}

// JobFilter selects jobs, the newest first.
type JobFilter struct {
	Kind, Status string // "" is any
	Text         string // a part of id, title or owner
	Before       string // the last job of the page before, "" for the first page
	Limit        int
}

// Runs are the runs on record.
type Runs interface {
	Runs(ctx context.Context, f RunFilter) ([]Run, error)
	Run(ctx context.Context, id int64) (Run, error)
	// Texts are what the test printed and what the kernel did.
	Texts(ctx context.Context, id int64) (output, console string, err error)
}

// RunFilter selects runs, in the order they were made.
type RunFilter struct {
	Job    string // "" is all
	After  int64  // only later ones than this run
	Newest bool   // the newest first
	Limit  int
}

// Submitter does what users ask for.
type Submitter interface {
	// Submit puts a job into the queue. A request with a key that the same owner
	// has used before gives the job of then, and existing is true; a Submitter
	// may also give a job that does the same. Files of the request are gone
	// when it returns: who needs them longer moves or links them.
	Submit(ctx context.Context, r Request) (id string, existing bool, err error)
	Cancel(ctx context.Context, id string) error
	Retry(ctx context.Context, id string) error
	// Undo takes back the newest runs of a job, 0 for all, of a commit or "" for
	// any, and says how many.
	Undo(ctx context.Context, id, commit string, last int) (int, error)
}

// Live is what goes on now.
type Live interface {
	// Events gives what a job does from now on, "" for all. Nothing waits for
	// the reader: the channel is closed when it is full, and when ctx is done. A
	// run that was recorded and a status that changed are events too.
	Events(ctx context.Context, job string) <-chan Event
	Workers(ctx context.Context) ([]Worker, error)
}

// Artifacts are what jobs left: logs of builds, kernels.
type Artifacts interface {
	// Artifact reads one: kind is log, kernel or config, digest its sha256.
	Artifact(ctx context.Context, kind, digest string) ([]byte, error)
}

// Record is what is known over all jobs.
type Record interface {
	Tests(ctx context.Context, f TestFilter) ([]TestStat, error)
	Test(ctx context.Context, name string) (TestHistory, error)
	Kernels(ctx context.Context, after string, limit int) ([]KernelStat, error) // after is a digest
}

// TestFilter selects tests, by name.
type TestFilter struct {
	Text  string // a part of the name
	Flaky bool
	After string // the last test of the page before
	Limit int
}

// Request is a job that somebody asks for, its form checked.
type Request struct {
	Kind  Kind
	Owner string // the name of the token
	Key   string // of idempotency, "" for none

	Repo       string // the name of a configured one
	Rev        string // of a check
	Base, Head string // of a series; Head is "" with Mbox
	Good, Bad  string // of a bisection
	Mbox       []byte // of a series, nil for none
	Kernel     string // path of an uploaded image, of a check without Repo
	Modules    string // path of an uploaded archive, "" for none

	Plan   Plan
	Search Search // of a bisection
}

// Kind of a job.
type Kind string

// The kinds that can be submitted.
const (
	Check  Kind = "check"
	Series Kind = "series"
	Bisect Kind = "bisect"
)

// The statuses of a job.
const (
	Queued      = "queued"
	Running     = "running"
	Interrupted = "interrupted" // stopped half-way; retry goes on
	Done        = "done"
	Failed      = "failed" // it could not be carried out
	Cancelled   = "cancelled"
)
