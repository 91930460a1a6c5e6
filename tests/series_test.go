//go:build e2e

package tests

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// digestDir digests every file below dir, names and contents.
func digestDir(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		h.Write([]byte(path))
		h.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// The series table: untestable where it does not compile, bad from the planted
// commit on, in the THP tests and in no other; the second time nothing is built.
func TestSeries(t *testing.T) {
	before := digestDir(t, seriesRepo)
	res := decode[kernel.SeriesResult](t, 1, "series", "--repo", seriesRepo, "base..series", "--runs", "1")
	if len(res.Commits) != 14 || res.BaseRow == nil {
		t.Fatalf("%d commits", len(res.Commits))
	}
	planted := -1
	for i, c := range res.Commits {
		if c.Subject == plantedSubject {
			planted = i
		}
	}
	if planted < 0 {
		t.Fatal("the planted commit is not in the series")
	}
	brokenByPlanted := map[string]bool{}
	for _, tr := range res.Commits[planted].Tests {
		if tr.Verdict == kernel.Bad {
			brokenByPlanted[tr.Name] = true
			if !strings.HasSuffix(tr.Name, "/thp-pmd") || tr.Signature.Kind != "fail" || tr.Fails < 2 || tr.Confidence < 0.95 {
				t.Errorf("planted commit: %+v", tr)
			}
			if tr.Change != kernel.Introduced || tr.Since != res.Commits[planted].SHA {
				t.Errorf("%s: %q since %q", tr.Name, tr.Change, tr.Since)
			}
			if res.FirstBad[tr.Name] != res.Commits[planted].SHA || len(res.OneOf[tr.Name]) > 0 {
				t.Errorf("%s: first bad is %s (one of %v), planted is %s", tr.Name, res.FirstBad[tr.Name], res.OneOf[tr.Name], res.Commits[planted].SHA)
			}
		}
	}
	if !brokenByPlanted[plantedTest] || len(res.FirstBad) != len(brokenByPlanted) {
		t.Errorf("broken by the planted commit: %v; first_bad: %v", brokenByPlanted, res.FirstBad)
	}
	for i, c := range res.Commits {
		checkRow(t, c, i >= planted, brokenByPlanted)
	}
	for _, tr := range res.BaseRow.Tests {
		// Plain 6.1 has no long-term requests in gup_test; the first patch adds them.
		want := kernel.Good
		if strings.Contains(tr.Name, "longterm") {
			want = kernel.Skipped
		}
		if tr.Verdict != want {
			t.Errorf("base: %s is %s (%s), want %s", tr.Name, tr.Verdict, tr.Reason, want)
		}
	}
	t.Run("again", func(t *testing.T) { seriesAgain(t, res) })
	t.Run("as an mbox", func(t *testing.T) { seriesFromMbox(t, res) })
	t.Run("page", seriesPage)
	if digestDir(t, seriesRepo) != before {
		t.Error("the user's repository was changed")
	}
}

func checkRow(t *testing.T, c kernel.CommitResult, afterPlanted bool, broken map[string]bool) {
	t.Helper()
	if c.Subject == brokenSubject {
		if c.Build.Status != kernel.BuildFailed || !strings.Contains(c.Build.Error, "mm/page_alloc.c:") || !strings.Contains(c.Build.Error, "error:") {
			t.Errorf("%q: build %+v", c.Subject, c.Build)
		}
		if log, err := os.ReadFile(c.Build.Log); err != nil || !strings.Contains(string(log), "error:") {
			t.Errorf("%q: log %s: %v", c.Subject, c.Build.Log, err)
		}
	} else if c.Build.Status != kernel.BuildOK || c.Boot.Status != kernel.BootOK || c.Boot.Reason != "" {
		t.Errorf("%q: build %s %s, boot %s %s", c.Subject, c.Build.Status, c.Build.Error, c.Boot.Status, c.Boot.Reason)
	}
	for _, tr := range c.Tests {
		want := kernel.Good
		switch {
		case c.Subject == brokenSubject:
			want = kernel.Untestable
		case afterPlanted && broken[tr.Name]:
			want = kernel.Bad
		}
		if tr.Verdict != want {
			t.Errorf("%q: %s is %s (%s), want %s", c.Subject, tr.Name, tr.Verdict, tr.Reason, want)
		}
		if c.Subject != plantedSubject && (tr.Change == kernel.NotIntroduced) != (want == kernel.Bad) {
			t.Errorf("%q: %s is %q", c.Subject, tr.Name, tr.Change)
		}
	}
}

// rowVerdicts is what two runs of a series must agree in.
func rowVerdicts(res kernel.SeriesResult) []map[string]kernel.Verdict {
	var out []map[string]kernel.Verdict
	for _, c := range res.Commits {
		out = append(out, verdicts(c.Tests))
	}
	return out
}

func seriesAgain(t *testing.T, first kernel.SeriesResult) {
	again := decode[kernel.SeriesResult](t, 1, "series", "--repo", seriesRepo, "base..series", "--runs", "1")
	for _, c := range again.Commits {
		if !c.Build.Cached {
			t.Errorf("%q was built again", c.Subject)
		}
		for _, tr := range c.Tests {
			if tr.Reused != tr.Runs && tr.Verdict != kernel.Skipped {
				t.Errorf("%q: %s: %d runs, %d of them reused", c.Subject, tr.Name, tr.Runs, tr.Reused)
			}
		}
	}
	if d := cmp.Diff(rowVerdicts(first), rowVerdicts(again)); d != "" {
		t.Error(d)
	}
}

func seriesFromMbox(t *testing.T, first kernel.SeriesResult) {
	patches, err := filepath.Glob("series/*.patch")
	if err != nil || len(patches) != 14 {
		t.Fatal(patches, err)
	}
	var mbox []byte
	for _, p := range patches {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		mbox = append(mbox, b...)
	}
	file := filepath.Join(t.TempDir(), "cow.mbox")
	if err := os.WriteFile(file, mbox, 0o644); err != nil {
		t.Fatal(err)
	}
	res := decode[kernel.SeriesResult](t, 1, "series", "--repo", seriesRepo, "--mbox", file, "--base", "base", "--runs", "1")
	for _, c := range res.Commits {
		if !c.Build.Cached {
			t.Errorf("%q was built although its tree is known", c.Subject)
		}
	}
	if d := cmp.Diff(rowVerdicts(first), rowVerdicts(res)); d != "" {
		t.Error(d)
	}
}

// The page stands alone and names what matters.
func seriesPage(t *testing.T) {
	res := decode[kernel.SeriesResult](t, 1, "series", "--repo", seriesRepo, "base..series", "--runs", "1")
	file := filepath.Join(t.TempDir(), "series.html")
	if r := run(t, "report", res.ID, "--format", "html", "--output", file); r.status != 0 {
		t.Fatal(r.stderr)
	}
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{plantedSubject, brokenSubject, plantedTest, "untestable"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	for _, bad := range []string{"<script", "src=\"http", "href=\"http", "@import", "url("} {
		if strings.Contains(string(page), bad) {
			t.Errorf("the page is not self-contained: %q", bad)
		}
	}
}
