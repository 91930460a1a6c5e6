package app

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/report"
)

// A reader of a result must see what was left out of it.
func TestReportNamesAllowedComplaints(t *testing.T) {
	b := &bench{
		bar: (&options{stderr: io.Discard}).newProgress(),
		req: request{Allowed: []kernel.Allowed{{Title: "WARNING in foo_.*", Why: "known since 5.10"}}},
		lab: &job.Lab{Build: func(context.Context, kernel.Commit) (kernel.Build, error) {
			return kernel.Build{Status: kernel.BuildFailed}, nil
		}},
	}
	res, err := b.check(t.Context(), nil, kernel.Commit{}, job.Plan{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := report.JSON(&out, res); err != nil {
		t.Fatal(err)
	}
	want := `
  "allowed": [
    {
      "title": "WARNING in foo_.*",
      "why": "known since 5.10"
    }
  ],`
	if !strings.Contains(out.String(), want) {
		t.Errorf("the report does not say what it passes over:\n%s", &out)
	}
}

// Sandboxed builds go on from where the last one of any job left the files.
func TestJobsShareACheckout(t *testing.T) {
	w, repo := &workspace{}, &gitrepo.Repo{}
	one := w.worktree(repo, "/a/src")
	if again := w.worktree(repo, "/a/src"); again != one || !one.Kept {
		t.Errorf("another one, or its files are not kept: %v", one.Kept)
	}
	if w.worktree(repo, "/b/src") == one {
		t.Error("one checkout for two directories")
	}
}
