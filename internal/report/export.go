package report

import (
	"slices"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// export is a result as the formats for other programs need it: the kernels
// that were looked at, in the order of the result, each with its tests.
type export struct {
	id, kind, verdict, profile, command string
	host                                kernel.Host
	started                             time.Time // zero where not known
	seconds                             float64
	kernels                             []tested
	firstBad                            map[string]string   // test -> sha, of a series
	oneOf                               map[string][]string // test -> shas, where it may be another one
	bisect                              *kernel.BisectResult
	carried                             []kernel.Carried
	earlier                             string // of a series: what another one had found of its patches
	commits                             string // what the URLs of commits begin with, "" for no links
}

// tested is one kernel with what was found out about it.
type tested struct {
	sha, subject string // "" for an image that somebody brought
	name         string // what it is called in a table
	base         bool
	kernel       kernel.Kernel
	build        *kernel.Build // nil where none is known of
	boot         kernel.Boot
	tests        []kernel.TestResult
	trouble      string  // why we could not find out, "" where we could
	seconds      float64 // of the runs, where known apart from build and boot
}

// judged says whether how the kernel boots is the verdict of a test.
func (k *tested) judged() bool { return slices.ContainsFunc(k.tests, isBootTest) }

// newExport arranges a result.
func newExport(v any) (*export, error) {
	verdict, err := Verdict(v)
	if err != nil {
		return nil, err
	}
	e := &export{verdict: verdict}
	switch r := v.(type) {
	case *kernel.CheckResult:
		e.id, e.kind, e.profile, e.command, e.host, e.started, e.seconds = r.ID, "check", r.Profile, r.Command, r.Host, r.Started, r.Seconds
		t := tested{name: r.Kernel.Name(), kernel: r.Kernel, build: r.Build, boot: r.Boot, tests: r.Tests}
		if r.Commit != nil {
			t.sha, t.subject, t.name = r.Commit.SHA, r.Commit.Subject, r.Commit.Short()
		}
		e.kernels, e.carried = []tested{t}, r.Carried
	case *kernel.MatrixResult:
		e.id, e.kind, e.profile, e.command, e.host, e.started, e.seconds = r.ID, "matrix", r.Profile, r.Command, r.Host, r.Started, r.Seconds
		for _, c := range arrangeMatrix(r).cols {
			e.kernels = append(e.kernels, tested{name: c.name, kernel: c.Kernel, boot: c.Boot, tests: c.Tests, trouble: c.Error})
		}
	case *kernel.SeriesResult:
		e.id, e.kind, e.profile, e.command, e.host, e.started, e.seconds = r.ID, "series", r.Profile, r.Command, r.Host, r.Started, r.Seconds
		e.firstBad, e.carried, e.oneOf = r.FirstBad, r.Carried, map[string][]string{}
		for test, shas := range r.OneOf {
			if len(shas) > 1 { // else it is the first bad itself
				e.oneOf[test] = shas
			}
		}
		s := arrange(r)
		e.earlier = s.earlier()
		for _, w := range s.rows {
			e.kernels = append(e.kernels, tested{sha: w.SHA, subject: w.Subject, name: kernel.Abbrev(w.SHA), base: w.Base,
				kernel: w.Build.Kernel, build: &w.Build, boot: w.Boot, tests: w.Tests})
		}
	case *kernel.BisectResult:
		e.id, e.kind, e.profile, e.command, e.host, e.started, e.seconds = r.ID, "bisect", r.Profile, r.Command, r.Host, r.Started, r.Seconds
		e.bisect, e.kernels, e.carried = r, steps(r), r.Carried
	case *kernel.ConfigResult:
		e.id, e.kind, e.profile, e.command, e.host, e.started, e.seconds = r.ID, "bisect-config", r.Profile, r.Command, r.Host, r.Started, r.Seconds
		e.kernels, e.carried = configKernels(r), r.Carried
	}
	return e, nil
}

// steps are the commits of a bisection, each once, in the order of their first
// step; what was seen last of a commit is its verdict.
func steps(r *kernel.BisectResult) []tested {
	var out []tested
	at := map[string]int{} // sha -> place in out
	for i := range r.Steps {
		s := &r.Steps[i]
		n, seen := at[s.SHA]
		if !seen {
			n = len(out)
			at[s.SHA] = n
			out = append(out, tested{sha: s.SHA, subject: s.Subject, name: kernel.Abbrev(s.SHA), build: &kernel.Build{Status: kernel.BuildOK},
				tests: []kernel.TestResult{{Name: r.Test}}})
		}
		k := &out[n]
		t := &k.tests[0]
		k.seconds += s.Seconds
		t.Runs, t.Fails = t.Runs+s.Runs, t.Fails+s.Fails
		if s.Reason != "" || s.Console != "" || s.Output != "" || s.Signature.Kind != "" {
			t.Reason, t.Signature, t.Console, t.Output = s.Reason, s.Signature, s.Console, s.Output
		}
		switch s.Outcome {
		case "good":
			t.Verdict = kernel.Good
		case "bad":
			t.Verdict = kernel.Bad
		case "skip":
			t.Verdict = kernel.Untestable
		default:
			t.Verdict = kernel.Inconclusive
		}
		if status := kernel.BuildStatus(s.Build); unbuilt(&kernel.Build{Status: status}) {
			k.build = &kernel.Build{Status: status, Error: s.Reason, Log: s.Log}
		}
	}
	return out
}

// flaky says whether a test neither fails nor passes always on a kernel.
func flaky(t *kernel.TestResult) bool {
	return t.Change == kernel.Flaky || t.Fails > 0 && t.Fails < t.Runs
}

// evidence is what a test's failure looked like: its output, else its console.
func evidence(t *kernel.TestResult) string {
	if t.Console != "" {
		return t.Console
	}
	return t.Output
}
