package kernel

import "time"

// CommitResult is one row of a series: build, boot and tests of one commit.
type CommitResult struct {
	SHA     string       `json:"sha"`
	Subject string       `json:"subject"`
	Base    bool         `json:"base,omitempty"` // the commit the series stands on
	Build   Build        `json:"build"`
	Boot    Boot         `json:"boot"`
	Tests   []TestResult `json:"tests"`
}

// CheckResult is what `check` reports: one kernel, its tests.
type CheckResult struct {
	Schema  string       `json:"schema"` // kbisect/check/v1
	ID      string       `json:"id"`
	Kernel  Kernel       `json:"kernel"`
	Profile string       `json:"profile"`
	Commit  *Commit      `json:"commit,omitempty"`
	Build   *Build       `json:"build,omitempty"`
	Boot    Boot         `json:"boot"`
	Tests   []TestResult `json:"tests"`
	Seconds float64      `json:"seconds"`
	Host    Host         `json:"host"`
	Command string       `json:"command"`
	Started time.Time    `json:"started"`
}

// MatrixResult is what `check` of several kernels reports: a column per
// kernel, in the order they were given.
type MatrixResult struct {
	Schema  string         `json:"schema"` // kbisect/matrix/v1
	ID      string         `json:"id"`
	Status  string         `json:"status"` // done, or interrupted with what there is
	Profile string         `json:"profile"`
	Kernels []KernelResult `json:"kernels"`
	Seconds float64        `json:"seconds"`
	Host    Host           `json:"host"`
	Command string         `json:"command"`
	Started time.Time      `json:"started"`
}

// KernelResult is one column of a matrix. Without tests and error nobody came
// to it.
type KernelResult struct {
	Kernel Kernel       `json:"kernel"`
	Boot   Boot         `json:"boot"`
	Tests  []TestResult `json:"tests"`
	Error  string       `json:"error,omitempty"` // why we could not find out
}

// SeriesResult is what `series` reports: a row per commit, oldest first.
type SeriesResult struct {
	Schema   string            `json:"schema"` // kbisect/series/v1
	ID       string            `json:"id"`
	Status   string            `json:"status"` // done, or interrupted with what there is
	Profile  string            `json:"profile"`
	Base     Commit            `json:"base"`
	Commits  []CommitResult    `json:"commits"`   // the series, without its base
	BaseRow  *CommitResult     `json:"base_row"`  // the base measured the same way
	FirstBad map[string]string `json:"first_bad"` // test -> sha, tests that were good before it
	// OneOf names the further suspects where untestable commits stand between
	// the last good and the first bad: test -> shas, the first bad included.
	OneOf   map[string][]string `json:"one_of,omitempty"`
	Seconds float64             `json:"seconds"`
	Host    Host                `json:"host"`
	Command string              `json:"command"`
	Started time.Time           `json:"started"`
}

// BisectStatus is how a bisection ended.
type BisectStatus string

// The ends of a bisection.
const (
	Found           BisectStatus = "found"
	Set             BisectStatus = "set" // the smallest set it can defend
	NotReproduced   BisectStatus = "not-reproduced"
	NotSingleChange BisectStatus = "not-single-change"
	OlderThanGood   BisectStatus = "older-than-good"
	NoConclusion    BisectStatus = "inconclusive"
)

// Candidate is a commit that may be the culprit, with its probability.
type Candidate struct {
	SHA         string  `json:"sha"`
	Subject     string  `json:"subject"`
	Probability float64 `json:"probability"`
}

// BisectStep is one commit looked at by a bisection, in order.
type BisectStep struct {
	SHA       string    `json:"sha"`
	Subject   string    `json:"subject"`
	Why       string    `json:"why"` // good end, bad end, halving, parent of the culprit
	Runs      int       `json:"runs"`
	Fails     int       `json:"fails"`
	Outcome   string    `json:"outcome"` // good, bad, skip
	Build     string    `json:"build"`   // built, cached, identical, failed
	Left      int       `json:"left"`    // candidates left after it
	Seconds   float64   `json:"seconds"`
	Reason    string    `json:"reason,omitempty"`
	Signature Signature `json:"signature,omitzero"`
	Log       string    `json:"log,omitempty"`
	Console   string    `json:"console,omitempty"` // of the first bad run
	Output    string    `json:"output,omitempty"`
}

// BisectResult is what `bisect` reports.
type BisectResult struct {
	Schema     string       `json:"schema"` // kbisect/bisect/v1
	ID         string       `json:"id"`
	Status     BisectStatus `json:"status"`
	Profile    string       `json:"profile"`
	Test       string       `json:"test"`
	FindFix    bool         `json:"find_fix,omitempty"`
	Good       Commit       `json:"good"`
	Bad        Commit       `json:"bad"`
	Culprit    *Commit      `json:"culprit,omitempty"`
	Candidates []Candidate  `json:"candidates"`
	Skipped    []Candidate  `json:"skipped,omitempty"` // untestable commits met on the way
	Confidence float64      `json:"confidence"`
	Signature  Signature    `json:"signature,omitzero"`
	Runs       int          `json:"runs"`
	Builds     int          `json:"builds"`
	Seconds    float64      `json:"seconds"`
	Steps      []BisectStep `json:"steps"`
	Reason     string       `json:"reason"` // why it stopped, in one sentence
	Host       Host         `json:"host"`
	Command    string       `json:"command"`
	Started    time.Time    `json:"started"`
}

// Host is the machine a result was measured on.
type Host struct {
	CPUs        int    `json:"cpus"`
	QEMU        string `json:"qemu"`
	Accelerator string `json:"accelerator"`
	Compiler    string `json:"compiler"`
	Guest       string `json:"guest"` // digest of the guest image: agent and reproducers
}
