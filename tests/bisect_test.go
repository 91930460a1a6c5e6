//go:build e2e

package tests

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // the driver

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func checkFound(t *testing.T, res kernel.BisectResult) {
	t.Helper()
	if res.Status != kernel.Found || res.Culprit == nil || res.Culprit.Subject != plantedSubject {
		t.Fatalf("%s: %+v (%s)", res.Status, res.Culprit, res.Reason)
	}
	if res.Confidence < 0.99 || res.Confidence > 1 || res.Signature.Kind != "fail" || res.Signature.Title != "missed COW" {
		t.Errorf("confidence %g, signature %+v", res.Confidence, res.Signature)
	}
	runs, fails := 0, 0
	for _, s := range res.Steps {
		if s.SHA == res.Culprit.Parents[0] {
			runs, fails = runs+s.Runs, fails+s.Fails
		}
	}
	if runs < 3 || fails > 0 {
		t.Errorf("the parent of the culprit was not verified: %d of %d runs fail", fails, runs)
	}
}

// The planted commit is named, and confirmed.
func TestBisect(t *testing.T) {
	res := decode[kernel.BisectResult](t, 0, "bisect", "--repo", seriesRepo, "--good", "base", "--bad", "series", "--test", plantedTest, "--fresh")
	checkFound(t, res)
	// What was named is built from nothing, gives the same kernel, and fails; its
	// parent does not; and the bad end without it does not either.
	c := res.Confirmation
	if c == nil || !c.Confirms(false) || !c.Culprit.Same || !c.Parent.Same {
		t.Fatalf("confirmation: %+v", c)
	}
	if c.Revert == nil || c.Revert.Status != kernel.Cures || c.Revert.Runs < 2 {
		t.Errorf("revert: %+v", c.Revert)
	}
	for _, s := range res.Steps { // the search may do without it
		if s.Subject == brokenSubject && (s.Outcome != "skip" || !strings.Contains(s.Reason, "mm/page_alloc.c")) {
			t.Errorf("the commit that does not compile: %+v", s)
		}
	}
	text := run(t, "report", res.ID)
	if text.status != 0 || !strings.Contains(text.stdout, plantedSubject) || !strings.Contains(text.stdout, "Fixes: ") {
		t.Errorf("report: status %d\n%s", text.status, text.stdout)
	}
}

// kill -9 in the middle: nothing outlives the process, and the job goes on to
// the same answer from the runs it has.
func TestBisectSurvivesKill(t *testing.T) {
	start := recordedRuns(t, "%")
	killWhen(t, func() bool { return recordedRuns(t, "%") >= start+8 }, "bisect", "--repo", seriesRepo, "--good", "base", "--bad", "series", "--test", plantedTest, "--fresh", "--no-confirm")
	waitNone(t)
	id := ""
	for line := range strings.Lines(run(t, "report").stdout) {
		if strings.HasPrefix(line, "bisect-") && id == "" {
			if id = strings.Fields(line)[0]; !strings.Contains(line, "killed") {
				t.Errorf("a killed job is %q", line)
			}
		}
	}
	before := recordedRuns(t, id)
	res := decode[kernel.BisectResult](t, 0, "bisect", "--resume", id)
	checkFound(t, res)
	if res.ID != id {
		t.Errorf("resumed as %s, was %s", res.ID, id)
	}
	// None lost, none made or counted twice.
	if after := recordedRuns(t, id); before == 0 || after != res.Runs {
		t.Errorf("%d runs on record, %d of them before the job was killed; the result counts %d", after, before, res.Runs)
	}
}

// recordedRuns counts the runs that a job has made so far; % is all jobs.
func recordedRuns(t *testing.T, id string) int {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(home, "kbisect.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	n := 0
	if err := db.QueryRow("SELECT count(*) FROM runs WHERE job LIKE ?", id).Scan(&n); err != nil {
		return 0 // there is no database before the first job
	}
	return n
}

// A range whose bad end passes and one whose good end fails.
func TestBisectChecksItsEnds(t *testing.T) {
	res := decode[kernel.BisectResult](t, 3, "bisect", "--repo", seriesRepo, "--good", "base", "--bad", "series", "--test", "cow/fork-basic/base")
	if res.Status != kernel.NotReproduced || res.Runs != 60 {
		t.Errorf("%s after %d runs: %s", res.Status, res.Runs, res.Reason)
	}
	res = decode[kernel.BisectResult](t, 3, "bisect", "--repo", seriesRepo, "--good", "series~2", "--bad", "series", "--test", plantedTest)
	if res.Status != kernel.OlderThanGood {
		t.Errorf("%s: %s", res.Status, res.Reason)
	}
}

// git's own bisection drives `step`, in a bare repository so that nothing is
// checked out; the commit that does not compile is skipped.
func TestGitBisectRunStep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bare.git")
	git(t, ".", "clone", "--quiet", "--bare", "--shared", seriesRepo, dir)
	git(t, dir, "bisect", "start", "--no-checkout", "series", "base")
	t.Setenv("KBISECT_HOME", home)
	out := git(t, dir, "bisect", "run", orchestrator, "step", "--repo", dir, "--rev", "BISECT_HEAD", "--test", plantedTest)
	if !strings.Contains(out, plantedSubject) || !strings.Contains(out, "is the first bad commit") {
		t.Errorf("git bisect run said:\n%s", out)
	}
}

// step ends with 125 where a commit cannot be tested and 128 when we are wrong.
func TestStepStatus(t *testing.T) {
	broken := git(t, seriesRepo, "log", "--format=%H", "--fixed-strings", "--grep="+brokenSubject, "-1", "series")
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"--rev", "longterm", "--test", plantedTest}, 0},
		{[]string{"--rev", "series", "--test", plantedTest}, 1},
		{[]string{"--rev", broken, "--test", plantedTest}, 125},
		{[]string{"--rev", "base", "--test", "cow/ro-longterm-pin/base"}, 125}, // skips there
		{[]string{"--rev", "nosuch", "--test", plantedTest}, 128},
		{[]string{"--rev", "series", "--test", "cow/nosuch"}, 128},
	} {
		if r := run(t, append([]string{"step", "--repo", seriesRepo}, c.args...)...); r.status != c.want {
			t.Errorf("step %v: status %d, want %d\n%s", c.args, r.status, c.want, r.stderr)
		}
	}
}
