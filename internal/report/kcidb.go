package report

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/console"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// The objects of KCIDB's I/O schema, v5.3, as far as they are made here. What is
// not known is left out: the schema has no null.
type kcidb struct {
	Version   kcidbVersion    `json:"version"`
	Checkouts []kcidbCheckout `json:"checkouts"`
	Builds    []kcidbBuild    `json:"builds"`
	Tests     []kcidbTest     `json:"tests"`
	Issues    []kcidbIssue    `json:"issues"`
	Incidents []kcidbIncident `json:"incidents"`
}

type kcidbVersion struct {
	Major int `json:"major"`
	Minor int `json:"minor"`
}

type kcidbCheckout struct {
	ID        string         `json:"id"`
	Origin    string         `json:"origin"`
	Hash      string         `json:"git_commit_hash,omitempty"`
	Patchset  *string        `json:"patchset_hash,omitempty"` // "" for none, where the hash is known
	Comment   string         `json:"comment,omitempty"`
	StartTime string         `json:"start_time,omitempty"`
	Valid     bool           `json:"valid"`
	Misc      map[string]any `json:"misc,omitempty"`
}

type kcidbBuild struct {
	CheckoutID string         `json:"checkout_id"`
	ID         string         `json:"id"`
	Origin     string         `json:"origin"`
	Duration   float64        `json:"duration,omitempty"`
	Compiler   string         `json:"compiler,omitempty"`
	ConfigName string         `json:"config_name,omitempty"`
	LogExcerpt string         `json:"log_excerpt,omitempty"`
	Status     string         `json:"status,omitempty"`
	Misc       map[string]any `json:"misc,omitempty"`
}

type kcidbTest struct {
	BuildID     string            `json:"build_id"`
	ID          string            `json:"id"`
	Origin      string            `json:"origin"`
	Environment *kcidbEnvironment `json:"environment,omitempty"`
	Path        string            `json:"path"`
	Comment     string            `json:"comment,omitempty"`
	LogExcerpt  string            `json:"log_excerpt,omitempty"`
	Status      string            `json:"status"`
	Duration    float64           `json:"duration,omitempty"`
	Misc        map[string]any    `json:"misc,omitempty"`
}

type kcidbEnvironment struct {
	Comment string `json:"comment"`
}

type kcidbIssue struct {
	ID      string         `json:"id"`
	Version int            `json:"version"`
	Origin  string         `json:"origin"`
	Subject string         `json:"report_subject,omitempty"`
	Culprit kcidbCulprit   `json:"culprit"`
	Comment string         `json:"comment,omitempty"`
	Misc    map[string]any `json:"misc,omitempty"`
}

type kcidbCulprit struct {
	Code    bool `json:"code"`
	Tool    bool `json:"tool"`
	Harness bool `json:"harness"`
}

type kcidbIncident struct {
	ID           string `json:"id"`
	Origin       string `json:"origin"`
	IssueID      string `json:"issue_id"`
	IssueVersion int    `json:"issue_version"`
	TestID       string `json:"test_id"`
	Present      bool   `json:"present"`
}

const (
	origin = "kbisect"
	// maxKCIDBExcerpt is the schema's bound for a log_excerpt.
	maxKCIDBExcerpt = 16384
)

// KCIDB writes a result, as JSON does, in KCIDB's I/O schema v5.3: a checkout and
// a build per kernel, its boot and its tests, and an issue per commit and test
// where a commit is blamed. A kernel that does not build or boot has no tests but
// perhaps that of the boot: no other was run.
func KCIDB(w io.Writer, v any) error {
	e, err := newExport(v)
	if err != nil {
		return err
	}
	out := kcidb{Version: kcidbVersion{5, 3}, Checkouts: []kcidbCheckout{}, Builds: []kcidbBuild{}, Tests: []kcidbTest{}, Issues: []kcidbIssue{}, Incidents: []kcidbIncident{}}
	failing := map[string][]kcidbTest{} // test name -> its results, pass and fail
	for i := range e.kernels {
		e.kcidbKernel(&out, &e.kernels[i], itoa(i+1), failing)
	}
	e.kcidbIssues(&out, failing)
	return writeJSON(w, out)
}

func (e *export) kcidbKernel(out *kcidb, k *tested, num string, failing map[string][]kcidbTest) {
	co := kcidbCheckout{ID: e.kcidbID("checkout", num), Origin: origin, Comment: plain(k.subject), Valid: true,
		Misc: misc("job", e.id, "name", k.name)}
	if isHash.MatchString(k.sha) {
		hash := patchset(e.given(k))
		co.Hash, co.Patchset = k.sha, &hash
	}
	if !e.started.IsZero() {
		co.StartTime = e.started.UTC().Format(time.RFC3339)
	}
	b := kcidbBuild{CheckoutID: co.ID, ID: e.kcidbID("build", num), Origin: origin, Compiler: plain(e.host.Compiler), ConfigName: plain(e.profile),
		Misc: misc("kernel_digest", k.kernel.Digest, "release", k.kernel.Release, "config_digest", k.kernel.ConfigDigest)}
	if k.build != nil {
		b.Duration = max(number(k.build.Seconds), 0)
		switch k.build.Status {
		case kernel.BuildOK:
			b.Status = "PASS"
		case kernel.BuildFailed:
			b.Status, b.LogExcerpt = "FAIL", excerpt(k.build.Error)
		case kernel.BuildRefused, kernel.BuildConflict: // the configuration or a carried patch asks for what this tree has not
			b.Status, b.LogExcerpt = "ERROR", excerpt(k.build.Error)
		}
	}
	out.Checkouts, out.Builds = append(out.Checkouts, co), append(out.Builds, b)
	var env *kcidbEnvironment
	if m := machine(e.host); m != "" {
		env = &kcidbEnvironment{m}
	}
	test := func(id, path string) kcidbTest {
		return kcidbTest{BuildID: b.ID, ID: e.kcidbID("test", num+"-"+id), Origin: origin, Environment: env, Path: path}
	}
	if !k.judged() && (k.boot.Status == kernel.BootOK || k.boot.Status == kernel.BootFailed) {
		t := test("boot", "boot")
		t.Status, t.Duration, t.Comment = "PASS", max(number(k.boot.Seconds), 0), complains(&k.boot, k.tests)
		if k.boot.Status == kernel.BootFailed {
			t.Status, t.Comment, t.LogExcerpt = "FAIL", plain(k.boot.Reason), excerpt(k.boot.Console)
		}
		out.Tests = append(out.Tests, t)
	}
	dead := k.boot.Status == kernel.BootFailed || k.build != nil && k.build.Status != "" && k.build.Status != kernel.BuildOK
	for i := range k.tests {
		r := &k.tests[i]
		if r.Verdict == "" || dead && r.Verdict == kernel.Untestable {
			continue
		}
		t := test(itoa(i+1), kcidbPath(r.Name))
		t.Status, t.Comment = kcidbStatus(r), why(r)
		t.Misc = misc("name", r.Name, "verdict", string(r.Verdict), "signature", failure(r.Signature), "since", r.Since, "change", string(r.Change))
		t.Misc["runs"], t.Misc["fails"], t.Misc["confidence"], t.Misc["flaky"] = r.Runs, r.Fails, number(r.Confidence), flaky(r)
		if t.Status == "FAIL" || t.Status == "ERROR" {
			t.LogExcerpt = excerpt(evidence(r))
		}
		out.Tests = append(out.Tests, t)
		failing[r.Name] = append(failing[r.Name], t)
	}
}

// kcidbStatus is the status of a test; FAIL is the kernel's alone.
func kcidbStatus(t *kernel.TestResult) string {
	switch {
	case t.Verdict == kernel.Good:
		return "PASS"
	case t.Verdict == kernel.Bad:
		return "FAIL"
	case t.Verdict == kernel.Skipped:
		return "SKIP"
	case t.Verdict == kernel.Inconclusive && t.Runs > 0:
		return "ERROR"
	}
	return "MISS"
}

// kcidbIssues says who is to blame; the schema has no bisection.
func (e *export) kcidbIssues(out *kcidb, results map[string][]kcidbTest) {
	add := func(test, sha, comment string, more map[string]any) {
		more["test"], more["commit"] = printable(plain(test)), plain(sha)
		is := kcidbIssue{ID: e.kcidbID("issue", digest(sha, test)), Version: 1, Origin: origin, Culprit: kcidbCulprit{Code: true},
			Subject: plain(test) + " fails since " + plain(kernel.Abbrev(sha)), Comment: plain(comment), Misc: more}
		out.Issues = append(out.Issues, is)
		for i, t := range results[test] {
			if t.Status == "FAIL" || t.Status == "PASS" {
				out.Incidents = append(out.Incidents, kcidbIncident{ID: e.kcidbID("incident", digest(sha, test)+"-"+itoa(i+1)), Origin: origin,
					IssueID: is.ID, IssueVersion: is.Version, TestID: t.ID, Present: t.Status == "FAIL"})
			}
		}
	}
	for _, test := range sortedKeys(e.firstBad) {
		if len(e.oneOf[test]) > 0 {
			continue // one commit is to blame, or another: no culprit
		}
		add(test, e.firstBad[test], e.verdict, misc("found_by", "series"))
	}
	if r := e.bisect; r != nil && r.Status == kernel.Found && r.Culprit != nil && !r.FindFix && !refuted(r) {
		more := misc("found_by", "bisect", "good", r.Good.SHA, "bad", r.Bad.SHA, "signature", failure(r.Signature), "command", r.Command)
		more["confidence"], more["runs"], more["builds"] = number(r.Confidence), r.Runs, r.Builds
		add(r.Test, r.Culprit.SHA, e.verdict, more)
	}
}

func (e *export) kcidbID(what, rest string) string {
	return origin + ":" + strings.ReplaceAll(plain(e.id), " ", "_") + "-" + what + "-" + rest
}

var isHash = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// kcidbPath is the name of a test with dots, of the characters a path may have.
func kcidbPath(name string) string {
	var parts []string
	for p := range strings.SplitSeq(name, "/") {
		if p = notPath.ReplaceAllString(p, "_"); p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, ".")
}

var notPath = regexp.MustCompile(`[^a-zA-Z0-9_-]+`)

// digest names what strangers named, in few and harmless characters.
func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// excerpt is the end of a log, where a kernel says what it died of.
func excerpt(log string) string {
	log = printable(console.Clean([]byte(log), maxKCIDBExcerpt/2))
	if len(log) > maxKCIDBExcerpt {
		log = strings.ToValidUTF8(log[len(log)-maxKCIDBExcerpt:], "")
	}
	return log
}

// misc makes an object of names and texts, without those that are empty.
func misc(pairs ...string) map[string]any {
	m := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if s := plain(pairs[i+1]); s != "" {
			m[pairs[i]] = s
		}
	}
	return m
}
