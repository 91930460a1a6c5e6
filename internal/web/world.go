package web

import (
	"context"
	"errors"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// ErrNotFound says that there is no such job, run or test.
var ErrNotFound = errors.New("not found")

// BadInput says what is wrong with what the user wrote, in one sentence that is
// shown beside the field: repo, range, tests, profile, kind, or "" for all.
type BadInput struct{ Field, Text string }

func (e *BadInput) Error() string { return e.Text }

// Job is a job without its result.
type Job struct {
	ID, Kind       string // check, matrix, series or bisect
	Status         string // queued, running, interrupted, done, failed, cancelled
	Title          string // what it is about: its range or its kernels
	Verdict        string // the first line of its report, "" while it has none
	Owner          string
	Error          string // why it failed
	Command        string // how to do the same on the command line
	Priority       int    // 0 while a person waits for it, 1 normal, 2 nightly
	Attempt        int    // from 1
	Created        time.Time
	Started, Ended time.Time // zero: not yet
}

// Active says whether anything can still happen to the job by itself.
func (j Job) Active() bool { return j.Status == "queued" || j.Status == "running" }

// Run is a run as it was recorded.
type Run struct {
	ID        int64
	Job       string
	At        time.Time
	Withdrawn bool // taken back: no verdict rests on it
	Run       kernel.Run
}

// TestStat is what is known of a test over all kernels. Runs are those that are
// evidence; skips are not.
type TestStat struct {
	Test                        string
	Runs, Fails, Skips, Kernels int
	Flaky                       bool // passes and fails on one kernel
	Last                        time.Time
}

// TestOnKernel is what is known of a test on one kernel.
type TestOnKernel struct {
	Release, Digest, Commit string
	Runs, Fails, Skips      int
	Last                    time.Time
}

// Kernel is a kernel that was run.
type Kernel struct {
	Release, Digest, Commit, Subject string
	Tests, Runs, Fails               int
	Last                             time.Time
}

// Worker is who carries jobs out.
type Worker struct {
	Name        string
	Slots, Busy int
	Doing       []string // ids of jobs
	Last        time.Time
	Announce    []string // architectures, accelerators
}

// JobFilter selects jobs, the newest first.
type JobFilter struct {
	Status, Kind string // "" is any
	Text         string // a part of id, title, owner or command
	After        string // the last job of the page before, "" for the first page
	Limit        int
}

// RunFilter selects runs, the newest first. Kernel is a digest and stands for
// the runs of all jobs and commits with that image; where it is given, Commit
// is not looked at.
type RunFilter struct {
	Job, Commit, Kernel, Test string // "" is any
	Before                    int64  // the last run of the page before, 0 for the first page
	Limit                     int
}

// TestFilter selects tests, by name.
type TestFilter struct {
	Text  string // a part of the name
	Flaky bool
	After string // the last test of the page before
	Limit int
}

// Record is what is kept. Job, Run and Test give ErrNotFound.
type Record interface {
	Jobs(ctx context.Context, f JobFilter) ([]Job, error)
	// Job gives the result so far too: a *kernel.CheckResult, MatrixResult,
	// SeriesResult or BisectResult, or nil.
	Job(ctx context.Context, id string) (Job, any, error)
	// Runs need not have their output and console.
	Runs(ctx context.Context, f RunFilter) ([]Run, error)
	Run(ctx context.Context, id int64) (Run, error)
	Tests(ctx context.Context, f TestFilter) ([]TestStat, error)
	Test(ctx context.Context, name string) (TestStat, []TestOnKernel, error)
	Kernels(ctx context.Context, after string, limit int) ([]Kernel, error) // after is a digest
}

// Event is something that a job did.
type Event struct {
	Job    string    `json:"job"`
	Phase  string    `json:"phase"`            // build, boot, run, done
	Commit string    `json:"commit,omitempty"` // object id, or the name of a kernel
	Text   string    `json:"text,omitempty"`   // test under way, or what came out
	Tail   string    `json:"-"`                // last lines of the console of a guest that runs
	Done   int       `json:"done,omitempty"`   // runs done on this commit
	Of     int       `json:"of,omitempty"`     // of so many, 0 when unknown
	Index  int       `json:"index,omitempty"`  // of the commit, from 1
	Total  int       `json:"total,omitempty"`
	At     time.Time `json:"at"`
}

// Live is what goes on now. A Hub has its first two.
type Live interface {
	// Events gives what a job does from now on, "" for all jobs. Nothing waits
	// for the reader: the channel is closed when it is full, and when ctx is
	// done. A job that changes its status is an event too.
	Events(ctx context.Context, job string) <-chan Event
	Now(job string) (Event, bool) // the last event of a job
	Workers() []Worker
	Queue() []Job // in the order in which they will be started
}

// Form is what a user asks for, checked for its form only.
type Form struct {
	Kind          string // check, series or bisect
	Repo, Profile string
	Rev           string // of a check
	Base, Head    string // of a series
	Good, Bad     string // of a bisection
	FindFix       bool   // of a bisection: good is the newer end
	Tests         []string
}

// Doer does what users ask for. Its errors are ErrNotFound, *BadInput, or
// trouble of the service, whose text is not shown.
type Doer interface {
	Submit(ctx context.Context, f Form) (id string, err error)
	Cancel(ctx context.Context, id string) error
	Retry(ctx context.Context, id string) error
	// Undo takes back the last runs of a job, 0 for all, of a commit or "" for
	// any, and says how many.
	Undo(ctx context.Context, id, commit string, last int) (int, error)
}
