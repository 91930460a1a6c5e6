package api

import (
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// CheckRequest asks for one kernel to be tested: a commit, or an uploaded image.
type CheckRequest struct {
	Repo string `json:"repo,omitempty" maxLength:"100" doc:"Name of a configured repository; left out with an uploaded kernel"`
	Rev  string `json:"rev,omitempty" maxLength:"200" pattern:"^[A-Za-z0-9_@][A-Za-z0-9._/@{}^~+-]*$" patternDescription:"a git revision" doc:"Commit, tag or branch"`
	Plan
}

// SeriesRequest asks for every commit of base..head, or of a mailbox on base.
type SeriesRequest struct {
	Repo string `json:"repo" minLength:"1" maxLength:"100" doc:"Name of a configured repository"`
	Base string `json:"base,omitempty" maxLength:"200" pattern:"^[A-Za-z0-9_@][A-Za-z0-9._/@{}^~+-]*$" patternDescription:"a git revision" doc:"What the series stands on; with a mailbox, default: the base-commit that it names, or else the branch or tag that it fits best"`
	Head string `json:"head,omitempty" maxLength:"200" pattern:"^[A-Za-z0-9_@][A-Za-z0-9._/@{}^~+-]*$" patternDescription:"a git revision" doc:"Last commit of the series; left out with a mailbox"`
	Plan
}

// BisectRequest asks which commit between good and bad made the test fail, or which
// patch of a mailbox.
type BisectRequest struct {
	Repo string `json:"repo" minLength:"1" maxLength:"100" doc:"Name of a configured repository"`
	Good string `json:"good,omitempty" maxLength:"200" pattern:"^[A-Za-z0-9_@][A-Za-z0-9._/@{}^~+-]*$" patternDescription:"a git revision" doc:"A commit that passes; left out with a mailbox"`
	Bad  string `json:"bad,omitempty" maxLength:"200" pattern:"^[A-Za-z0-9_@][A-Za-z0-9._/@{}^~+-]*$" patternDescription:"a git revision" doc:"A commit that fails; left out with a mailbox"`
	Base string `json:"base,omitempty" maxLength:"200" pattern:"^[A-Za-z0-9_@][A-Za-z0-9._/@{}^~+-]*$" patternDescription:"a git revision" doc:"With a mailbox: what it stands on; default: the base-commit that it names, or else the branch or tag that it fits best"`
	Plan
	Search
}

// Plan says what to run. A bisection takes one test or one program.
type Plan struct {
	Profile     string    `json:"profile,omitempty" maxLength:"100" doc:"Kernel configuration and machine, see /profiles; default: the first"`
	Tests       []string  `json:"tests,omitempty" maxItems:"200" minLength:"1" maxLength:"300" pattern:"^[^\\x00-\\x1f\\x7f]+$" patternDescription:"one line" doc:"Names or globs, see /tests; default: those of the profile"`
	Programs    []Program `json:"programs,omitempty" maxItems:"16" doc:"Programs of your own"`
	Kconfig     []Config  `json:"kconfig,omitempty" maxItems:"16" doc:"Further config fragments, every symbol of which must take effect"`
	Carry       []Patch   `json:"carry,omitempty" maxItems:"16" doc:"Patches to apply on every commit that has not got them, in this order"`
	Allowed     string    `json:"allow_console,omitempty" maxLength:"65536" pattern:"^[^\\x00]+$" patternDescription:"text" doc:"Complaints of the kernel that do not count: regular expressions for their titles, a line each, with its reason in a comment above"`
	TestSeconds int       `json:"test_seconds,omitempty" minimum:"1" maximum:"86400" doc:"Time limit of each test; default: its own"`
	Runs        int       `json:"runs,omitempty" minimum:"1" maximum:"10000" doc:"Runs of each test at least; default 2"`
	MaxRuns     int       `json:"max_runs,omitempty" minimum:"1" maximum:"1000000" doc:"Runs at most: of each test, or of the whole bisection"`
	Fresh       bool      `json:"fresh,omitempty" doc:"Make every run anew instead of using recorded ones of the same kernel"`
	ShareGuests *bool     `json:"share_guests,omitempty" doc:"Let tests that pass do so in one guest; default: in a series they do, in a bisection they never do"`
	Priority    Priority  `json:"priority,omitempty" enum:"waiting,normal,nightly" doc:"Who is served first; default normal"`
}

// Config is a config fragment.
type Config struct {
	Name string `json:"name" pattern:"^[A-Za-z0-9_][A-Za-z0-9._+-]*$" patternDescription:"a file name of letters, digits and ._+-" maxLength:"100" doc:"For messages"`
	Text string `json:"text" minLength:"1" maxLength:"65536" pattern:"^[^\\x00]+$" patternDescription:"text" doc:"CONFIG_X=y lines"`
}

// Patch is applied on every commit that is tested.
type Patch struct {
	Name string `json:"name" pattern:"^[A-Za-z0-9_][A-Za-z0-9._+-]*$" patternDescription:"a file name of letters, digits and ._+-" maxLength:"100" doc:"For messages"`
	Text string `json:"text" minLength:"1" maxLength:"1048576" pattern:"^[^\\x00]+$" patternDescription:"text" doc:"A mail as git format-patch writes it, or a plain diff"`
}

// Program is a test that the user brings, as text.
type Program struct {
	Name     string `json:"name" pattern:"^[A-Za-z0-9_][A-Za-z0-9._+-]*$" patternDescription:"a file name of letters, digits and ._+-" maxLength:"100" doc:"File name; one that ends in .c is compiled, all else is a script for the guest's shell"`
	Text     string `json:"text" minLength:"1" maxLength:"262144" pattern:"^[^\\x00]+$" patternDescription:"text" doc:"What is in the file"`
	Settings string `json:"settings,omitempty" maxLength:"65536" pattern:"^[^\\x00]+$" patternDescription:"text" doc:"What would stand in NAME.yaml beside it: args, env, needs, timeout, ..."`
}

// Priority of a job.
type Priority string

// The priorities.
const (
	Waiting Priority = "waiting" // a person waits for it
	Normal  Priority = "normal"
	Nightly Priority = "nightly"
)

// Search says how a bisection searches.
type Search struct {
	FindFix       bool     `json:"find_fix,omitempty" doc:"Search for the commit that repaired: bad is the older end, good the newer one"`
	Confidence    float64  `json:"confidence,omitempty" minimum:"0.5" maximum:"0.9999" doc:"Probability with which the named commit must be the culprit; default 0.99"`
	Paths         []string `json:"paths,omitempty" maxItems:"100" minLength:"1" maxLength:"500" pattern:"^[^\\x00-\\x1f\\x7f]+$" patternDescription:"one line" doc:"Only commits that touch these paths are candidates"`
	Suspects      []string `json:"suspects,omitempty" maxItems:"100" minLength:"1" maxLength:"500" pattern:"^[^\\x00-\\x1f\\x7f]+$" patternDescription:"one line" doc:"Commits that touch these paths, or name these functions, are likelier beforehand"`
	FirstParent   bool     `json:"first_parent,omitempty" doc:"A merge stands for all that it brought"`
	AnyFailure    bool     `json:"any_failure,omitempty" doc:"Count every failure, whatever its signature"`
	MaxBuilds     int      `json:"max_builds,omitempty" minimum:"1" maximum:"1000000" doc:"Test at most so many commits besides the ends"`
	MaxSeconds    int      `json:"max_seconds,omitempty" minimum:"1" maximum:"31536000" doc:"Stop after so long with the commits that are left"`
	MaxIterations int      `json:"max_iterations,omitempty" minimum:"1" maximum:"1000" doc:"Repeat a rare failure's test up to so often within each run; default 32"`
	NoConfirm     bool     `json:"no_confirm,omitempty" doc:"Leave out what follows a found commit: building it and its parent from nothing, and reverting it"`
}

// Submitted is the answer to a job that was asked for.
type Submitted struct {
	ID       string `json:"id"`
	URL      string `json:"url" doc:"Where the job is, below the server's address"`
	Existing bool   `json:"existing" doc:"The job had been asked for before"`
}

// Job is a job without its result.
type Job struct {
	ID       string    `json:"id"`
	Kind     string    `json:"kind" doc:"check, matrix, series or bisect"`
	Status   string    `json:"status" doc:"queued, running, interrupted, done, failed or cancelled"`
	Title    string    `json:"title" doc:"What it is about: its range or its kernels"`
	Verdict  string    `json:"verdict,omitempty" doc:"The first line of its report"`
	Owner    string    `json:"owner,omitempty"`
	Error    string    `json:"error,omitempty" doc:"Why it failed"`
	Priority Priority  `json:"priority,omitempty"`
	Attempt  int       `json:"attempt,omitempty" doc:"How often it was started"`
	Created  time.Time `json:"created"`
	Started  time.Time `json:"started,omitzero"`
	Ended    time.Time `json:"ended,omitzero"`
}

// Over says that nothing happens to the job any more unless somebody asks.
func (j Job) Over() bool { return j.Status != Queued && j.Status != Running }

// Run is a run as it was recorded, without its texts.
type Run struct {
	ID         int64            `json:"id"`
	Job        string           `json:"job"`
	Commit     string           `json:"commit,omitempty"`
	Carried    string           `json:"carried,omitempty" doc:"Names of patches that the kernel had besides its commit's"`
	Test       string           `json:"test"`
	Outcome    kernel.Outcome   `json:"outcome" doc:"pass, fail, crash, hang, skip or infra"`
	Signature  kernel.Signature `json:"signature,omitzero"`
	Reason     string           `json:"reason,omitempty"`
	Seconds    float64          `json:"seconds"`
	Iterations int              `json:"iterations,omitempty"`
	At         time.Time        `json:"at"`
	Withdrawn  bool             `json:"withdrawn,omitempty" doc:"Taken back: no verdict rests on it"`
}

// TestStat is what is known of a test over all kernels. Runs are those that are
// evidence; skips are not.
type TestStat struct {
	Name    string    `json:"name"`
	Runs    int       `json:"runs"`
	Fails   int       `json:"fails"`
	Skips   int       `json:"skips"`
	Kernels int       `json:"kernels"`
	Flaky   bool      `json:"flaky" doc:"It passes and fails on one kernel"`
	Last    time.Time `json:"last,omitzero"`
}

// TestHistory is what is known of a test, kernel by kernel.
type TestHistory struct {
	TestStat
	On []TestOnKernel `json:"on"`
}

// TestOnKernel is what is known of a test on one kernel.
type TestOnKernel struct {
	Release string    `json:"release"`
	Digest  string    `json:"digest"`
	Commit  string    `json:"commit,omitempty"`
	Runs    int       `json:"runs"`
	Fails   int       `json:"fails"`
	Skips   int       `json:"skips"`
	Last    time.Time `json:"last,omitzero"`
}

// KernelStat is a kernel that was run.
type KernelStat struct {
	Release string    `json:"release"`
	Digest  string    `json:"digest"`
	Commit  string    `json:"commit,omitempty"`
	Subject string    `json:"subject,omitempty"`
	Tests   int       `json:"tests"`
	Runs    int       `json:"runs"`
	Fails   int       `json:"fails"`
	Last    time.Time `json:"last,omitzero"`
}

// Worker is who carries jobs out.
type Worker struct {
	Name  string    `json:"name"`
	Slots int       `json:"slots"`
	Busy  int       `json:"busy"`
	Doing []string  `json:"doing" doc:"Ids of jobs"`
	Has   []string  `json:"has" doc:"Architectures and accelerators"`
	Last  time.Time `json:"last,omitzero" doc:"When it was last heard of"`
}

// Repo is a repository that jobs may name.
type Repo struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

// Phases of an Event beside those of a job: build, boot, run, done.
const (
	PhaseOutcome = "outcome" // a run was recorded
	PhaseStatus  = "status"  // the job's status changed
	PhaseEnd     = "end"     // the job is over and the stream ends
)

// Event is something that a job did. Only an outcome has an ID, that of its run:
// who comes again with it as Last-Event-ID misses no outcome.
type Event struct {
	ID      int64          `json:"id,omitempty"`
	Job     string         `json:"job"`
	Phase   string         `json:"phase" doc:"build, boot, run, done; outcome: a run was recorded; status; end"`
	At      time.Time      `json:"at,omitzero"`
	Status  string         `json:"status,omitempty" doc:"Of the job, for status and end"`
	Commit  string         `json:"commit,omitempty" doc:"Object id, or the name of a kernel"`
	Test    string         `json:"test,omitempty"`
	Outcome kernel.Outcome `json:"outcome,omitempty"`
	Text    string         `json:"text,omitempty" doc:"Test under way, or what came out"`
	Done    int            `json:"done,omitempty" doc:"Runs done on this commit"`
	Of      int            `json:"of,omitempty"`
	Index   int            `json:"index,omitempty" doc:"Of the commit, from 1"`
	Total   int            `json:"total,omitempty"`
}
