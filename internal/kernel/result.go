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
	Carried []Carried    `json:"carried,omitempty"`
	Allowed []Allowed    `json:"allowed,omitempty"`
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
	Allowed []Allowed      `json:"allowed,omitempty"`
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
	Status   string            `json:"status"`          // done, or interrupted with what there is
	Total    int               `json:"total,omitempty"` // commits of the series, also those it has not come to
	Profile  string            `json:"profile"`
	Base     Commit            `json:"base"`
	Commits  []CommitResult    `json:"commits"`   // the series, without its base
	BaseRow  *CommitResult     `json:"base_row"`  // the base measured the same way
	FirstBad map[string]string `json:"first_bad"` // test -> sha of the first commit that introduces its failure
	// OneOf names the further suspects where it may also be another one, such as
	// a commit before it that cannot be tested: test -> shas, the first bad included.
	OneOf      map[string][]string `json:"one_of,omitempty"`
	FirstFixed map[string]string   `json:"first_fixed,omitempty"` // test -> sha of the first commit that cures its failure
	Earlier    *Earlier            `json:"earlier,omitempty"`
	Seconds    float64             `json:"seconds"`
	Host       Host                `json:"host"`
	Carried    []Carried           `json:"carried,omitempty"`
	Allowed    []Allowed           `json:"allowed,omitempty"`
	Command    string              `json:"command"`
	Started    time.Time           `json:"started"`
}

// Earlier is a series that had some of the patches as other commits, for people to
// compare: its verdicts are no evidence here.
type Earlier struct {
	Job     string      `json:"job"`
	Base    string      `json:"base"` // sha
	Patches []SamePatch `json:"patches"`
}

// SamePatch is a commit that another one was before.
type SamePatch struct {
	SHA     string             `json:"sha"`
	Was     string             `json:"was"`
	Differs map[string]Verdict `json:"differs,omitempty"` // test -> its verdict then, good or bad, where it is the other now
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
	Searching       BisectStatus = "searching" // it has not ended
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
	Why       string    `json:"why"` // good end, bad end, search, verification
	Runs      int       `json:"runs"`
	Fails     int       `json:"fails"`
	Outcome   string    `json:"outcome"` // good, bad, skip
	Build     string    `json:"build"`   // built, cached, identical, failed
	Left      int       `json:"left"`    // candidates left after it
	Seconds   float64   `json:"seconds"`
	Reason    string    `json:"reason,omitempty"`
	Signature Signature `json:"signature,omitzero"`
	Log       string    `json:"log,omitempty"`
	LogDigest string    `json:"log_digest,omitempty"` // see Build
	Console   string    `json:"console,omitempty"`    // of the first bad run
	Output    string    `json:"output,omitempty"`
	Other     int       `json:"other,omitempty"`     // runs that failed in another way: no evidence
	Posterior []float64 `json:"posterior,omitempty"` // after the step: the range in equal parts, oldest first, at most PosteriorBins
	Bin       int       `json:"bin,omitempty"`       // the part of Posterior that the commit is in, from 1; 0 for one below the range
}

// Interval is a rate with the bounds between which it lies with 95 %.
type Interval struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// PosteriorBins is how many parts a range is divided into to be drawn: more
// than a chart of a page's width can show apart is not kept.
const PosteriorBins = 60

// ChangePoint is one change between good and bad where a range has several:
// the nearest tested commits on both sides of it.
type ChangePoint struct {
	From    Candidate `json:"from"` // the older commit
	To      Candidate `json:"to"`
	Bad     bool      `json:"bad"`     // bad from To on; false when To is good again
	Between int       `json:"between"` // commits between them that were not tested
}

// Confirmation is what was done after a search to be sure of its answer.
type Confirmation struct {
	Culprit Rebuilt `json:"culprit"` // the named commit, built anew from nothing
	Parent  Rebuilt `json:"parent"`
	Revert  *Revert `json:"revert,omitempty"` // nil for a fix
}

// Rebuilt is a kernel built anew and run again.
type Rebuilt struct {
	SHA     string  `json:"sha"`
	Same    bool    `json:"same"`    // image equal to that of the search
	Verdict Verdict `json:"verdict"` // of the new runs
	Runs    int     `json:"runs"`
	Fails   int     `json:"fails"`
	Other   int     `json:"other,omitempty"`  // runs that failed in another way: no evidence
	Reason  string  `json:"reason,omitempty"` // why the verdict is neither good nor bad
}

// Confirms says whether the two kernels built anew differ as the search says.
// The culprit fails and its parent does not, or the other way round for a fix.
func (c *Confirmation) Confirms(findFix bool) bool {
	bad, good := c.Culprit.Verdict, c.Parent.Verdict
	if findFix {
		bad, good = good, bad
	}
	return bad == Bad && good == Good
}

// Refutes says whether one of the two does the opposite of what the search
// says. Between Confirms and this is what could not be tried or decided.
func (c *Confirmation) Refutes(findFix bool) bool {
	bad, good := c.Culprit.Verdict, c.Parent.Verdict
	if findFix {
		bad, good = good, bad
	}
	return bad == Good || good == Bad
}

// Revert is the bad end without the culprit.
type Revert struct {
	Status RevertStatus `json:"status"`
	Runs   int          `json:"runs"`
	Fails  int          `json:"fails"`
	Reason string       `json:"reason,omitempty"` // conflicting files, the compiler's error, the other failure
}

// RevertStatus is what taking the culprit out of the bad end did.
type RevertStatus string

// The ends of a revert.
const (
	Cures         RevertStatus = "cures"         // the failure is gone
	DoesNotCure   RevertStatus = "does-not-cure" // it still fails: the culprit is not all of it
	DoesNotRevert RevertStatus = "does-not-revert"
	DoesNotBuild  RevertStatus = "does-not-build" // nor boot
	RevertUnclear RevertStatus = "unclear"        // too few runs, or it fails in another way
	NotReverted   RevertStatus = "not-tried"      // a merge, or the bad end itself
)

// BisectResult is what `bisect` reports.
type BisectResult struct {
	Schema     string       `json:"schema"` // kbisect/bisect/v1
	ID         string       `json:"id"`
	Status     BisectStatus `json:"status"`
	Profile    string       `json:"profile"`
	Release    string       `json:"release,omitempty"` // of the kernel that shows the failure: the bad end's
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
	// FailRate and FalseFailRate are the failure rates of bad and of good
	// commits per run, as the search learned them.
	FailRate      Interval      `json:"fail_rate,omitzero"`
	FalseFailRate Interval      `json:"false_fail_rate,omitzero"`
	Iterations    int           `json:"iterations,omitempty"` // of the test within one run; 0 and 1: once
	Paths         []string      `json:"paths,omitempty"`      // the range is restricted to commits that touch them
	FirstParent   bool          `json:"first_parent,omitempty"`
	ChangePoints  []ChangePoint `json:"change_points,omitempty"` // status not-single-change
	Doubt         string        `json:"doubt,omitempty"`         // what would change its mind, in one sentence
	Confirmation  *Confirmation `json:"confirmation,omitempty"`
	Host          Host          `json:"host"`
	Carried       []Carried     `json:"carried,omitempty"`
	Allowed       []Allowed     `json:"allowed,omitempty"`
	Command       string        `json:"command"`
	Started       time.Time     `json:"started"`
}

// Carried is a patch that every commit of a job was given.
type Carried struct {
	Name   string   `json:"name"`
	Digest string   `json:"digest"`          // sha256 of the patch
	There  []string `json:"there,omitempty"` // the commits that had it already
}

// Allowed is a complaint of the kernel that the user knows and that counts for
// nothing in a result.
type Allowed struct {
	Title string `json:"title"` // regular expression for the whole title
	Why   string `json:"why"`
}

// Host is the machine a result was measured on.
type Host struct {
	CPUs        int    `json:"cpus"`
	QEMU        string `json:"qemu"`
	Accelerator string `json:"accelerator"`
	Compiler    string `json:"compiler"`
	Guest       string `json:"guest"` // digest of the guest image: agent and reproducers
}
