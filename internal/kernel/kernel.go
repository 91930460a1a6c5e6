// Package kernel holds the vocabulary that every other package shares:
// commits, profiles, kernels, runs, outcomes, verdicts and signatures. It has
// types and their invariants only. It must not know how any of them comes
// about: no git, no make, no QEMU, no clock.
package kernel

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Commit is one git commit as kbisect names it in tables and reports.
type Commit struct {
	SHA     string   `json:"sha"`     // full object id
	Tree    string   `json:"tree"`    // object id of the tree: what is built
	Parents []string `json:"parents"` // object ids, first parent first
	Subject string   `json:"subject"` // first line of the message
	Author  string   `json:"author"`  // "Name <mail>"
}

// Short is the abbreviated id used in tables. Twelve digits, as the kernel's
// own Documentation/process/submitting-patches.rst asks for in Fixes: tags.
func (c Commit) Short() string { return Abbrev(c.SHA) }

// Abbrev cuts an object id to the twelve digits of a Fixes: tag.
func Abbrev(sha string) string {
	if len(sha) > 12 {
		return sha[:12]
	}
	return sha
}

// Machine is the shape of the guest a profile asks for.
type Machine struct {
	Type      string `json:"type"`       // "microvm" or "q35"
	Arch      string `json:"arch"`       // "x86_64"
	MemoryMiB int    `json:"memory_mib"` // guest RAM
	CPUs      int    `json:"cpus"`       // virtual CPUs
	Cmdline   string `json:"cmdline"`    // appended to kbisect's own kernel arguments
	SwapMiB   int    `json:"swap_mib"`   // zram swap the agent sets up, 0 for none
	// Devices are further devices as QEMU's -device takes them, for q35 only.
	Devices []string `json:"devices,omitempty"`
}

// Profile is a kernel configuration plus a machine shape plus default tests.
type Profile struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Fragments   []string `json:"fragments"` // names in kconfigs/, merged in this order
	Machine     Machine  `json:"machine"`
	Tests       []string `json:"tests"` // globs over test names
	// MustRun are the tests that must not skip, if they are run at all: the guest
	// has what they need, on every kernel that the profile is meant for.
	MustRun Cells `json:"must_run"`
}

// Cells are tests of the catalogue: each of the cases on each kind of memory,
// as far as there is such a test.
type Cells struct {
	Cases  []string `json:"cases"`
	Memory []string `json:"memory"`
}

// Has says whether a test, cow/CASE/MEMORY, is one of the cells.
func (c Cells) Has(test string) bool {
	parts := strings.Split(test, "/")
	return len(parts) == 3 && slices.Contains(c.Cases, parts[1]) && slices.Contains(c.Memory, parts[2])
}

// Test is one named verdict of a reproducer, as its --list describes it.
type Test struct {
	Name        string   `json:"name"` // cow/<case>/<memory>
	Description string   `json:"description"`
	Class       string   `json:"class"`  // missed-cow, wrong-cow, policy, race
	Source      string   `json:"source"` // mail, CVE or commit the case comes from
	Needs       []string `json:"needs"`  // guest features, e.g. thp, swap
	Timeout     int      `json:"timeout_seconds"`
	// Racy tests try for some seconds and may miss; a pass of one says little.
	Racy bool `json:"racy,omitempty"`
}

// BootTest is the name of the test that is the boot of the kernel itself.
const BootTest = "boot"

// QuietTest is that part of it which says whether the kernel complains meanwhile. It
// is apart: a kernel that has always warned may come up no longer.
const QuietTest = BootTest + "/quiet"

// Outcome is what one run showed. It says what the kernel did; a Go error says
// that we could not find out.
type Outcome string

// The outcomes of a run. Skip is never a pass and Infra is never a fail.
const (
	Pass  Outcome = "pass"
	Fail  Outcome = "fail"
	Crash Outcome = "crash" // oops, panic, WARN, KASAN and the like
	Hang  Outcome = "hang"  // no result in time, guest or test stuck
	Skip  Outcome = "skip"  // the guest lacks what the test needs
	Infra Outcome = "infra" // we could not find out
)

// Bad says whether the outcome is evidence that the kernel misbehaved.
func (o Outcome) Bad() bool { return o == Fail || o == Crash || o == Hang }

// Counts says whether the outcome is evidence at all.
func (o Outcome) Counts() bool { return o == Pass || o.Bad() }

// Known says how a pass stands to a failure that is known of the test.
type Known string

// A test that is known to fail either does, or passes and so says that
// something has changed. Both are passes.
const (
	XFail Known = "xfail"
	XPass Known = "xpass"
)

// Signature says what kind of failure a run showed, so that a bisection can
// chase one failure and not be led away by another.
type Signature struct {
	Kind   string   `json:"kind"`             // "fail", "crash", "hang"
	Title  string   `json:"title"`            // message class or crash title
	Frames []string `json:"frames,omitempty"` // top frames of a crash, innermost first
}

// String is the signature on one line.
func (s Signature) String() string {
	if s.Kind == "" {
		return ""
	}
	if len(s.Frames) > 0 {
		return fmt.Sprintf("%s: %s (in %s)", s.Kind, s.Title, s.Frames[0])
	}
	return s.Kind + ": " + s.Title
}

// Same reports whether two signatures are the same failure: equal kind and
// title. Frames differ from run to run (inlining, interrupts) and only inform.
//
// Two hangs are the same whatever their titles: which detector fires first and
// where it finds the CPU is chance. One endless page fault was, in one guest, a
// hung task after 18 s, an RCU stall after 22 s and a soft lockup after 48 s.
func (s Signature) Same(t Signature) bool {
	return s.Kind == t.Kind && (s.Kind == "hang" || s.Title == t.Title)
}

// Run is the record of one execution of one test in one fresh guest. Runs are
// appended to the store and never changed.
type Run struct {
	Test      string        `json:"test"`
	Commit    string        `json:"commit,omitempty"`  // whose kernel it was; others with the same image use it, too
	Release   string        `json:"release,omitempty"` // of the kernel: uname -r
	Kernel    string        `json:"kernel,omitempty"`  // digest of its image
	Carried   string        `json:"carried,omitempty"` // see Kernel
	Outcome   Outcome       `json:"outcome"`
	Signature Signature     `json:"signature,omitzero"`
	Known     Known         `json:"known,omitempty"`
	Reason    string        `json:"reason,omitempty"` // why skip or infra, or the failure in one line
	Output    string        `json:"output,omitempty"` // what the test printed, capped
	Console   string        `json:"console,omitempty"`
	Duration  time.Duration `json:"duration"`
	// GaveUp says of infra that the test itself, in a guest that works, could not
	// find out.
	GaveUp bool `json:"gave_up,omitempty"`
	// Iterations is how often the program was executed, where it was asked to be
	// more than once. The outcome, the output and a failure are of the last.
	Iterations int `json:"iterations,omitempty"`

	// Tests are what a program with several results said of each, in its
	// order; empty for a program that is one test.
	Tests []TestOutcome `json:"tests,omitempty"`
}

// TestOutcome is one of several results of a run.
type TestOutcome struct {
	// Name is the test's, below that of its program. It is "" for what
	// happened to the program as a whole and is none of its tests': a crash,
	// or an end before the last test.
	Name      string    `json:"name"`
	Outcome   Outcome   `json:"outcome"`
	Signature Signature `json:"signature,omitzero"`
	Known     Known     `json:"known,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Output    string    `json:"output,omitempty"` // what it printed before it failed, capped
}

// Kernel is what a build gives, or what a user brings: a bootable image.
type Kernel struct {
	Key          string `json:"key"`                  // content key of the build, "" for a foreign image
	Digest       string `json:"digest"`               // sha256 of the image file
	Release      string `json:"release"`              // uname -r, from the build or the guest's hello
	Image        string `json:"image"`                // path of the bzImage or vmlinux
	Config       string `json:"config"`               // path of the final .config, "" for a foreign image
	ConfigDigest string `json:"config_digest"`        // sha256 of the final .config
	ConfigCRC    string `json:"config_crc,omitempty"` // its CRC-32, which a running kernel shows too
	// Modules is what is loaded before any test, nil for nothing.
	Modules *Modules `json:"modules,omitempty"`
	// Carried are the names of the patches in it that its commit has not, with
	// commas between them.
	Carried string `json:"carried,omitempty"`
}

// Name is what a kernel is called where it is no commit: its release or, while
// that is not known, its file.
func (k Kernel) Name() string {
	if k.Release != "" {
		return k.Release
	}
	return k.Image[strings.LastIndexByte(k.Image, '/')+1:]
}

// Modules are the kernel modules that a guest loads. They are part of what is
// tested: other modules, other runs.
type Modules struct {
	Digest  string   `json:"digest"`            // sha256 of the archive they are packed in
	Load    []string `json:"load"`              // names, in their order
	Missing []string `json:"missing,omitempty"` // what was wanted and is not there, each in a sentence
	Initrd  string   `json:"initrd"`            // path of the guest image with them
}

// BuildStatus is how the build of a commit ended.
type BuildStatus string

// The ways a build ends. An infrastructure failure is a Go error instead.
const (
	BuildOK      BuildStatus = "ok"
	BuildFailed  BuildStatus = "failed"  // the compiler or linker gave up
	BuildRefused BuildStatus = "refused" // a requested config symbol did not survive
	// BuildConflict is of a commit that a carried patch does not apply to:
	// nothing was built.
	BuildConflict BuildStatus = "conflict"
)

// Build is the record of turning one commit into a kernel.
type Build struct {
	Status  BuildStatus `json:"status"`
	Seconds float64     `json:"seconds"`
	Cached  bool        `json:"cached"`
	Objects int         `json:"objects"`       // objects compiled, 0 when cached
	Log     string      `json:"log,omitempty"` // path of the full log
	// LogDigest is the sha256 of the full log, under which a service keeps it;
	// "" where it is kept as a file only.
	LogDigest string `json:"log_digest,omitempty"`
	Error     string `json:"error,omitempty"` // the compiler's first error
	// SameAs is the commit whose kernel it is: this one was not built, as it
	// changes nothing that the build reads.
	SameAs string `json:"same_as,omitempty"`
	Kernel Kernel `json:"kernel,omitzero"`
}

// Trouble says why there is no kernel.
func (b *Build) Trouble() string {
	if b.Status == BuildConflict {
		return b.Error // says that it is no fault of the commit's
	}
	return "does not build: " + b.Error
}

// FileChange is a file in which two commits differ.
type FileChange struct {
	Path string
	// Edited says that both have it as a regular file with the same mode. Else
	// one of them lacks it, or has a link or a submodule there.
	Edited bool
	// Regular says that each has a regular file there, or none.
	Regular bool
}

// BootStatus is how far a kernel came.
type BootStatus string

// The ways a boot ends.
const (
	BootOK     BootStatus = "ok"
	BootFailed BootStatus = "failed" // it never reached the agent, or not as the right kernel
	BootNone   BootStatus = "none"   // there was nothing to boot
)

// Boot is the record of starting one kernel up to the agent's hello.
type Boot struct {
	Status    BootStatus `json:"status"`
	Seconds   float64    `json:"seconds"`
	Release   string     `json:"release,omitempty"` // uname -r, as the guest says
	Reason    string     `json:"reason,omitempty"`
	Signature Signature  `json:"signature,omitzero"`
	Console   string     `json:"console,omitempty"`
	Problems  []string   `json:"problems,omitempty"` // what the agent could not set up
	// Failed is the boot right before, which is why there was this one. A job takes
	// it away, and counts it where boots are counted.
	Failed *Boot `json:"failed,omitempty"`
}

// Verdict is the judgement of one (commit, profile, test) from its runs.
type Verdict string

// The verdicts.
const (
	Good         Verdict = "good"
	Bad          Verdict = "bad"
	Untestable   Verdict = "untestable" // does not build or boot, or skips what must run
	Skipped      Verdict = "skipped"
	Inconclusive Verdict = "inconclusive"
)

// Change says how the verdict of a test on a commit of a series stands to the
// commits before it, its base among them.
type Change string

// The changes. A good test on a commit that changes nothing has none.
const (
	Introduced    Change = "introduced"     // the commit makes it fail, or fail far more often
	NotIntroduced Change = "not-introduced" // it failed before
	Flaky         Change = "flaky"          // it fails now and then, on the base as here
	Fixed         Change = "fixed"          // the commit makes it pass
	Unclear       Change = "unclear"        // bad, and not known since when
)

// TestResult is a verdict with what it rests on.
type TestResult struct {
	Name       string    `json:"name"`
	Verdict    Verdict   `json:"verdict"`
	Confidence float64   `json:"confidence"` // 0..1, of the verdict being right; 0 for one that rests on no run
	Runs       int       `json:"runs"`       // runs that are evidence: pass, fail, crash, hang
	Fails      int       `json:"fails"`      // of these, the bad ones
	Reused     int       `json:"reused,omitempty"`
	Signature  Signature `json:"signature,omitzero"`
	Known      Known     `json:"known,omitempty"`    // of a good verdict
	MustRun    bool      `json:"must_run,omitempty"` // it skipped although the profile says that it must not
	Change     Change    `json:"change,omitempty"`   // in a series
	Since      string    `json:"since,omitempty"`    // the commit that it has failed since: the base's if the failure is older than the series
	Reason     string    `json:"reason,omitempty"`
	Console    string    `json:"console,omitempty"` // of the first bad run, capped
	Output     string    `json:"output,omitempty"`  // of the first bad run, capped
}
