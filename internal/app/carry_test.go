package app

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// hooked is a history for a patch that adds a file "hook": a base and a commit that
// have nothing to do with it, one that is in its way, one that goes out of it, and
// one that brings it.
type hooked struct {
	t        *testing.T
	dir      string
	patch    string // file
	base     string
	plain    string
	conflict string
	cleared  string
	landed   string
}

func newHooked(t *testing.T) *hooked {
	t.Helper()
	dir, ids := smallKernel(t, 2)
	h := &hooked{t: t, dir: dir, base: ids[0], plain: ids[1]}
	commit := func(subject, hook string) string {
		if hook == "" {
			h.git("rm", "-q", "hook")
		} else if err := os.WriteFile(filepath.Join(dir, "hook"), []byte(hook), 0o644); err != nil {
			t.Fatal(err)
		}
		h.git("add", ".")
		h.git("commit", "-q", "-m", subject)
		return h.git("rev-parse", "HEAD")
	}
	commit("mm: a hook", "1\n")
	h.patch = filepath.Join(t.TempDir(), "0001-hook.patch")
	if err := os.WriteFile(h.patch, []byte(h.git("format-patch", "-1", "--stdout")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.git("reset", "-q", "--hard", h.plain)
	h.conflict = commit("mm: another hook", "2\n")
	h.cleared = commit("mm: no hook", "")
	h.landed = commit("mm: a hook, taken", "1\n")
	return h
}

func (h *hooked) git(args ...string) string {
	h.t.Helper()
	cmd := exec.Command("git", append([]string{"-C", h.dir, "-c", "user.name=Ada", "-c", "user.email=ada@example.org"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null")
	out, err := cmd.Output()
	if err != nil {
		h.t.Fatalf("git %v: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

// run is a command in a lab in which kernels without the hook are bad.
func (h *hooked) run(home string, status int, into any, args ...string) string {
	h.t.Helper()
	bad := func(sha string) bool {
		mirrors, _ := filepath.Glob(filepath.Join(home, "mirrors", "*.git"))
		return exec.Command("git", "--git-dir="+mirrors[0], "cat-file", "-e", sha+":hook").Run() != nil
	}
	var out, said bytes.Buffer
	o := &options{args: append(args, "--data-dir", home, "--format", "json"), stdout: &out, stderr: &said, simulate: newSimulation(bad, true, 0)}
	if code := o.main(); code != status {
		h.t.Fatalf("%v: status %d, want %d\n%s", args, code, status, &said)
	}
	if into != nil {
		if err := json.Unmarshal(out.Bytes(), into); err != nil {
			h.t.Fatal(err)
		}
	}
	return said.String()
}

const hookTest = "cow/fork-basic/base"

// rows are the verdicts of a series, the base first.
func rows(res kernel.SeriesResult) (verdicts []kernel.Verdict, reused []int) {
	for _, r := range append([]kernel.CommitResult{*res.BaseRow}, res.Commits...) {
		verdicts, reused = append(verdicts, r.Tests[0].Verdict), append(reused, r.Tests[0].Reused)
	}
	return verdicts, reused
}

// A carried patch is on every commit, but where it is there already; one that it
// does not apply to cannot be tested. A resumed job needs no file, and a job
// without the patch takes no runs of kernels that have it.
func TestCarrySeries(t *testing.T) {
	t.Parallel()
	h := newHooked(t)
	home := t.TempDir()
	span := h.base + "..main"
	var res, again, bare kernel.SeriesResult
	h.run(home, exitNoConclusion, &res, "series", "--repo", h.dir, span, "--test", hookTest, "--carry", h.patch)
	const good, bad, untestable = kernel.Good, kernel.Bad, kernel.Untestable
	if v, _ := rows(res); !slices.Equal(v, []kernel.Verdict{good, good, untestable, good, good}) {
		t.Errorf("verdicts: %v", v)
	}
	c := res.Commits[1]
	const why = "carried 0001-hook.patch does not apply: hook: already exists in index"
	if c.SHA != h.conflict || c.Build.Status != kernel.BuildConflict || c.Tests[0].Reason != why {
		t.Errorf("the conflict: %+v", c)
	}
	if len(res.Carried) != 1 || res.Carried[0].Name != "0001-hook.patch" || !slices.Equal(res.Carried[0].There, []string{h.landed}) {
		t.Errorf("carried: %+v", res.Carried)
	}
	if at, last := res.BaseRow, res.Commits[3]; at.SHA != h.base || at.Build.Kernel.Carried != "0001-hook.patch" || last.SHA != h.landed || last.Build.Kernel.Carried != "" {
		t.Errorf("base %s with %q, last %s with %q", at.SHA, at.Build.Kernel.Carried, last.SHA, last.Build.Kernel.Carried)
	}
	runs := recorded(t, home)
	if r := runs[0]; r.Commit != h.base || r.Carried != "0001-hook.patch" {
		t.Errorf("run: %+v", r)
	}

	if err := os.Remove(h.patch); err != nil {
		t.Fatal(err)
	}
	h.run(home, exitNoConclusion, &again, "series", "--resume", res.ID)
	if v, _ := rows(again); !slices.Equal(v, []kernel.Verdict{good, good, untestable, good, good}) || len(recorded(t, home)) != len(runs) {
		t.Errorf("resumed: %v, %d runs and %d", v, len(runs), len(recorded(t, home)))
	}

	h.run(home, exitBad, &bare, "series", "--repo", h.dir, span, "--test", hookTest)
	v, reused := rows(bare)
	if !slices.Equal(v, []kernel.Verdict{bad, bad, good, bad, good}) {
		t.Errorf("without it: %v", v)
	}
	// The last kernel is the same with and without.
	if slices.Max(reused[:4]) != 0 || reused[4] != bare.Commits[3].Tests[0].Runs || len(bare.Carried) > 0 {
		t.Errorf("without it %v of other jobs' runs are used, carried %v", reused, bare.Carried)
	}
}

func recorded(t *testing.T, home string) []kernel.Run {
	t.Helper()
	db, err := store.Open(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.RunList(t.Context(), store.RunFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(rows)
	var runs []kernel.Run
	for _, r := range rows {
		runs = append(runs, r.Run)
	}
	return runs
}

// A check of a commit that a patch is not for has a result, and a step says that
// the commit is to be skipped.
func TestCarryConflict(t *testing.T) {
	t.Parallel()
	h := newHooked(t)
	var res kernel.CheckResult
	args := []string{"--repo", h.dir, "--rev", h.conflict, "--test", hookTest, "--carry", h.patch}
	h.run(t.TempDir(), exitNoConclusion, &res, append([]string{"check"}, args...)...)
	if res.Tests[0].Verdict != kernel.Untestable || !strings.Contains(res.Tests[0].Reason, "0001-hook.patch") || len(res.Carried) != 1 {
		t.Errorf("%+v", res)
	}
	h.run(t.TempDir(), stepSkip, nil, append([]string{"step"}, args...)...)
}

// A base that a patch is not for cannot be tested, and the commits on it are; where
// none of it can be, that is a mistake.
func TestCarryBase(t *testing.T) {
	t.Parallel()
	h := newHooked(t)
	var res kernel.SeriesResult
	h.run(t.TempDir(), exitOK, &res, "series", "--repo", h.dir, h.conflict+"..main", "--test", hookTest, "--carry", h.patch)
	v, _ := rows(res)
	if !slices.Equal(v, []kernel.Verdict{kernel.Untestable, kernel.Good, kernel.Good}) || res.BaseRow.Build.Status != kernel.BuildConflict {
		t.Errorf("%v, %+v", v, res.BaseRow.Build)
	}
	said := h.run(t.TempDir(), exitUsage, nil, "series", "--repo", h.dir, h.base+".."+h.conflict, "--test", hookTest, "--carry", h.nowhere())
	if !strings.HasPrefix(said, "orchestrator: commit "+kernel.Abbrev(h.base)+": carried nowhere.patch does not apply") || strings.Count(said, "\n") != 1 {
		t.Error(said)
	}
}

// nowhere is a patch that is for no commit.
func (h *hooked) nowhere() string {
	path := filepath.Join(h.t.TempDir(), "nowhere.patch")
	if err := os.WriteFile(path, []byte("diff --git a/absent b/absent\n--- a/absent\n+++ b/absent\n@@ -1 +1 @@\n-x\n+y\n"), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// A failure that shows with the hook alone is found, in the user's commits.
func TestCarryBisect(t *testing.T) {
	t.Parallel()
	h := newHooked(t)
	home := t.TempDir()
	args := []string{"bisect", "--repo", h.dir, "--good", h.landed, "--bad", h.plain, "--find-fix", "--test", hookTest, "--no-confirm"}
	var res kernel.BisectResult
	h.run(home, exitOK, &res, args...)
	if res.Culprit == nil || res.Culprit.SHA != h.conflict && res.Culprit.SHA != h.landed {
		t.Errorf("without it: %s %+v", res.Status, res.Culprit)
	}
	h.run(home, exitNoConclusion, &res, append(args, "--carry", h.patch)...)
	if res.Status != kernel.NotReproduced || len(res.Carried) != 1 {
		t.Errorf("with it: %s, carried %v", res.Status, res.Carried)
	}
	said := h.run(home, exitUsage, nil, "bisect", "--repo", h.dir, "--good", h.conflict, "--bad", h.landed, "--test", hookTest, "--carry", h.patch)
	if want := "orchestrator: commit " + kernel.Abbrev(h.conflict) + ": carried 0001-hook.patch does not apply: hook: already exists in index\n"; said != want {
		t.Errorf("an end that it is not for: %s", said)
	}
}

// What stands for a commit in reports is the user's, also where its kernel is that
// of another one; and what is foreseen of builds is of what is built.
func TestCarryNames(t *testing.T) {
	t.Parallel()
	h := newHooked(t)
	repo, err := gitrepo.Open(t.Context(), t.TempDir(), h.dir)
	if err != nil {
		t.Fatal(err)
	}
	commit := func(sha string) kernel.Commit {
		c, err := repo.Commit(t.Context(), sha)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	text, err := os.ReadFile(h.patch)
	if err != nil {
		t.Fatal(err)
	}
	req := request{Carry: []gitrepo.Carry{{Name: "hook.patch", Diff: text}}}
	if err := req.prepareCarry(t.Context(), repo, commit(h.base)); err != nil {
		t.Fatal(err)
	}
	var built []string
	b := &bench{repo: repo, req: req, lab: &job.Lab{Build: func(_ context.Context, c kernel.Commit) (kernel.Build, error) {
		built = append(built, c.SHA)
		return kernel.Build{Status: kernel.BuildOK, SameAs: built[0]}, nil
	}}}
	b.lab.BuildClean = b.lab.Build
	b.carry()
	for _, sha := range []string{h.base, h.plain} {
		got, err := b.lab.Build(t.Context(), commit(sha))
		if err != nil || got.SameAs != h.base || got.Kernel.Carried != "hook.patch" {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if clean, err := b.lab.BuildClean(t.Context(), commit(h.plain)); err != nil || clean.Kernel.Carried != "hook.patch" || built[2] != built[1] {
		t.Errorf("from nothing: %+v, %v", clean, err)
	}
	treeOf, err := req.treeOf(t.Context(), repo)
	if err != nil || treeOf(commit(h.base)) != commit(built[0]).Tree || treeOf(commit(h.cleared)) != "" {
		t.Errorf("trees: %v", err)
	}
}

// A service gets the patch with the request, and its workers a commit that has it.
func TestCarryServer(t *testing.T) {
	h := newHooked(t)
	repo, err := gitrepo.Open(t.Context(), t.TempDir(), h.dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(h.patch)
	if err != nil {
		t.Fatal(err)
	}
	p, err := repo.ReadCarry(t.Context(), "x", text)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := repo.Commit(t.Context(), h.plain)
	if err != nil {
		t.Fatal(err)
	}
	with, _, err := repo.Carry(t.Context(), plain, []gitrepo.Carry{p})
	if err != nil {
		t.Fatal(err)
	}
	token, entry := mint(t, "ci", "--scope", "submit", "--expires", "2999-12-31")
	file := filepath.Join(t.TempDir(), "serve.yaml")
	if err := os.WriteFile(file, []byte("listen: 127.0.0.1:0\nrepos:\n  linux: "+h.dir+"\n"+entry), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &served{t: t, home: t.TempDir(), bad: with.SHA, always: true, slow: "1ms", args: []string{"--config", file}}
	s.start()
	defer s.stop()
	t.Setenv(tokenVariable, token)
	var res kernel.SeriesResult
	h.run(t.TempDir(), exitBad, &res, "series", "--server", s.url, "--repo", "linux", h.base+"..main", "--test", hookTest, "--carry", h.patch)
	if v, _ := rows(res); !slices.Equal(v, []kernel.Verdict{kernel.Good, kernel.Bad, kernel.Untestable, kernel.Good, kernel.Good}) || len(res.Carried) != 1 {
		t.Errorf("%v, carried %+v", v, res.Carried)
	}
	if !strings.Contains(res.Command, "--carry 0001-hook.patch") {
		t.Errorf("command: %s", res.Command)
	}
	if err := os.WriteFile(h.patch, []byte("nothing\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	said := h.run(t.TempDir(), exitUsage, nil, "check", "--server", s.url, "--repo", "linux", "--test", hookTest, "--carry", h.patch)
	if !strings.Contains(said, "0001-hook.patch: no patch that git can read") {
		t.Errorf("a bad patch: %s", said)
	}
}

// A kernel that is kept costs a bisection nothing: it is that of the commit with the
// patches which counts.
func TestCarryPredicts(t *testing.T) {
	t.Parallel()
	h := newHooked(t)
	o := &options{dataDir: t.TempDir(), jobs: 1, stderr: &bytes.Buffer{}}
	ws, err := o.openWorkspace(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer ws.close()
	repo, err := gitrepo.Open(t.Context(), ws.data, h.dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(h.patch)
	if err != nil {
		t.Fatal(err)
	}
	req := request{Profile: "cow", NoSandbox: true, Repo: h.dir, Base: h.base, Head: h.landed, Carry: []gitrepo.Carry{{Name: "hook.patch", Diff: text}}}
	plain, err := repo.Commit(t.Context(), h.plain)
	if err != nil {
		t.Fatal(err)
	}
	if err := req.prepareCarry(t.Context(), repo, plain); err != nil {
		t.Fatal(err)
	}
	with, _, err := repo.Carry(t.Context(), plain, req.Carry)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{ws: ws, req: req, repo: repo, log: o.logger()}
	if b.profile, err = profileOf(req.Profile); err != nil {
		t.Fatal(err)
	}
	builder, err := b.builder(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		kept kernel.Commit
		want []string
	}{{plain, nil}, {with, []string{h.plain}}} {
		key, err := builder.Key(t.Context(), c.kept, false)
		if err != nil {
			t.Fatal(err)
		}
		image := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(image, []byte("kernel"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := builder.Cache.Put(key, kernel.Build{Status: kernel.BuildOK}, image, os.DevNull, nil); err != nil {
			t.Fatal(err)
		}
		if err := o.predict(t.Context(), ws, repo, &req); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(req.Search.Built, c.want) {
			t.Errorf("%d: built %v, want %v", i, req.Search.Built, c.want)
		}
	}
}
