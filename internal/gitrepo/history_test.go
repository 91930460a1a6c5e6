package gitrepo

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func TestResolve(t *testing.T) {
	u := newUser(t)
	first := u.commit("first", "f", "1\n")
	u.git("tag", "v1")
	u.git("tag", "-a", "-m", "annotated", "v1-signed")
	u.git("branch", "old")
	u.git("branch", "feature/-x")
	head := u.commit("second", "f", "2\n")
	u.git("tag", "blob", u.git("rev-parse", "HEAD:f"))
	r := u.open()
	for rev, want := range map[string]string{
		"main": head, "HEAD": head, head: head, head[:10]: head, "@": head,
		"HEAD~1": first, "HEAD^": first, "old": first, "v1": first, "v1-signed": first,
		"refs/tags/v1": first, "feature/-x": first,
	} {
		if c, err := r.Resolve(t.Context(), rev); err != nil || c.SHA != want {
			t.Errorf("%s is %q (%v), want %s", rev, c.SHA, err, want)
		}
	}
	for _, rev := range []string{"", "nothing", "-x", "--help", "--all", "HEAD~2", "HEAD:f", "blob", "main..old", "^main",
		strings.Repeat("0", 40), "a b", "x\ny"} {
		c, err := r.Resolve(t.Context(), rev)
		var ue *UserError
		if !errors.As(err, &ue) {
			t.Errorf("%q is %q (%v), want a UserError", rev, c.SHA, err)
		}
	}
}

// Commits made after Open are seen: the mirror borrows, it does not copy.
func TestResolveSeesNewCommits(t *testing.T) {
	u := newUser(t)
	u.commit("first", "f", "1\n")
	r := u.open()
	head := u.commit("second", "f", "2\n")
	c, err := r.Resolve(t.Context(), "main")
	if err != nil {
		t.Fatal(err)
	}
	want := kernel.Commit{SHA: head, Tree: u.git("rev-parse", "HEAD^{tree}"), Parents: []string{u.git("rev-parse", "HEAD^")},
		Subject: "second", Author: "Ann Author <ann@example.org>"}
	if d := cmp.Diff(want, c); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestCancelledIsNotTheUsersMistake(t *testing.T) {
	u := newUser(t)
	head := u.commit("first", "f", "1\n")
	r := u.open()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Resolve(ctx, "main"); !errors.Is(err, context.Canceled) {
		t.Errorf("Resolve: %v", err)
	}
	if err := r.CheckKernel(ctx, kernel.Commit{SHA: head}); !errors.Is(err, context.Canceled) {
		t.Errorf("CheckKernel: %v", err)
	}
	w := r.Worktree(filepath.Join(t.TempDir(), "src"))
	if err := w.Checkout(ctx, head); !errors.Is(err, context.Canceled) {
		t.Errorf("Checkout: %v", err)
	}
	if _, err := Open(ctx, t.TempDir(), u.dir); !errors.Is(err, context.Canceled) {
		t.Errorf("Open: %v", err)
	}
}

// branches makes a history with a merge:
//
//	base - left1 - left2 - merge - head
//	    \  right1 ------- /
func branches(u *user) map[string]string {
	u.t.Helper()
	id := map[string]string{"base": u.commit("base", "base", "")}
	u.git("checkout", "--quiet", "-b", "right")
	id["right1"] = u.commit("right1", "right1", "")
	u.git("checkout", "--quiet", "main")
	id["left1"] = u.commit("left1", "left1", "")
	id["left2"] = u.commit("left2", "left2", "")
	u.commits++
	u.git("merge", "--quiet", "--no-ff", "-m", "merge", "right")
	id["merge"] = u.git("rev-parse", "HEAD")
	id["head"] = u.commit("head", "head", "")
	u.git("checkout", "--quiet", "--orphan", "stranger")
	id["stranger"] = u.commit("stranger", "stranger", "")
	return id
}

func TestRange(t *testing.T) {
	u := newUser(t)
	id := branches(u)
	r := u.open()
	for _, c := range []struct{ base, head, want string }{
		{"base", "head", "left1 left2 right1 merge head"},
		{"base", "merge", "left1 left2 right1 merge"},
		{"left1", "head", "left2 right1 merge head"},
		{"right1", "merge", "left1 left2 merge"},
		{"right1", "left2", "left1 left2"}, // the base need not be an ancestor
		{"left2", "right1", "right1"},
		{"head", "head", ""},
		{"head", "base", ""},
		{"stranger", "right1", "base right1"},
	} {
		cs, err := r.Range(t.Context(), id[c.base], id[c.head])
		if err != nil {
			t.Errorf("%s..%s: %v", c.base, c.head, err)
			continue
		}
		seen := map[string]bool{}
		var got []string
		for _, k := range cs {
			for _, p := range k.Parents {
				inRange := slices.ContainsFunc(cs, func(x kernel.Commit) bool { return x.SHA == p })
				if inRange && !seen[p] {
					t.Errorf("%s..%s: %s comes before its parent", c.base, c.head, k.Subject)
				}
			}
			seen[k.SHA] = true
			got = append(got, k.Subject)
		}
		slices.Sort(got)
		want := strings.Fields(c.want)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s..%s is %v, want %v", c.base, c.head, got, want)
		}
	}
	if cs, err := r.Range(t.Context(), id["base"], strings.Repeat("1", 40)); err == nil {
		t.Errorf("range to an unknown commit: %v", cs)
	}
}

// Parents come first even if the clocks of the authors say otherwise: by date,
// git would show fork before slow.
func TestRangeIgnoresDates(t *testing.T) {
	u := newUser(t)
	base := u.commit("base", "f", "0\n")
	at := func(clock int, subject string) string {
		u.t.Helper()
		u.commits = clock
		return u.commit(subject, subject, "")
	}
	fork := at(500, "fork")
	at(1000, "fast")
	u.git("checkout", "--quiet", "-b", "side", fork)
	at(10, "slow")
	u.git("checkout", "--quiet", "main")
	u.git("merge", "--quiet", "--no-ff", "-m", "merge", "side")
	cs, err := u.open().Range(t.Context(), base, u.git("rev-parse", "HEAD"))
	if err != nil || len(cs) != 4 || cs[0].Subject != "fork" || cs[3].Subject != "merge" {
		t.Errorf("%v (%v)", cs, err)
	}
}

func TestAncestry(t *testing.T) {
	u := newUser(t)
	id := branches(u)
	r := u.open()
	for _, c := range []struct {
		a, b     string
		ancestor bool
		base     string
	}{
		{"base", "head", true, "base"},
		{"head", "base", false, "base"},
		{"head", "head", true, "head"},
		{"right1", "merge", true, "right1"},
		{"right1", "left2", false, "base"},
		{"stranger", "head", false, ""},
	} {
		if got, err := r.IsAncestor(t.Context(), id[c.a], id[c.b]); err != nil || got != c.ancestor {
			t.Errorf("IsAncestor(%s, %s) = %v (%v)", c.a, c.b, got, err)
		}
		if got, err := r.MergeBase(t.Context(), id[c.a], id[c.b]); err != nil || got != id[c.base] {
			t.Errorf("MergeBase(%s, %s) = %q (%v), want %s", c.a, c.b, got, err, c.base)
		}
	}
	// Not to know is not the same as "no".
	unknown := strings.Repeat("1", 40)
	if _, err := r.IsAncestor(t.Context(), unknown, id["head"]); err == nil {
		t.Error("IsAncestor of an unknown commit has no error")
	}
	if _, err := r.MergeBase(t.Context(), unknown, id["head"]); err == nil {
		t.Error("MergeBase of an unknown commit has no error")
	}
}

func TestCheckKernel(t *testing.T) {
	kernelFiles := []string{"Kconfig", "", "Kbuild", "", "scripts/kconfig/merge_config.sh", "", "arch/x86/Makefile", ""}
	u := newUser(t)
	r := u.open()
	good := u.commit("a kernel", kernelFiles...)
	if err := r.CheckKernel(t.Context(), kernel.Commit{SHA: good}); err != nil {
		t.Error(err)
	}
	for i := 0; i < len(kernelFiles); i += 2 {
		u.git("checkout", "--quiet", "--detach", good)
		u.git("rm", "--quiet", kernelFiles[i])
		sha := u.commit("not a kernel")
		err := r.CheckKernel(t.Context(), kernel.Commit{SHA: sha})
		var ue *UserError
		if !errors.As(err, &ue) || !strings.Contains(err.Error(), sha[:12]) {
			t.Errorf("without %s: %v, want a UserError that names the commit", kernelFiles[i], err)
		}
	}
}

// Subjects are typed by strangers; they must neither break the parsing nor be
// changed.
func TestOddSubjects(t *testing.T) {
	u := newUser(t)
	base := u.commit("base")
	subjects := []string{
		"mm: tab\there and %s %H %x00 in it",
		`mm: "quotes" 'and' \backslashes\ $(touch /tmp/x) ` + "`x`",
		"mm: Zoë fixes the Übergröße 内存 🐧",
		"mm: escape \x1b[31mred\x1b[0m and bell \a",
		"-n --all",
		"# not a comment",
		"mm: " + strings.Repeat("long ", 2000) + "end",
		"",
	}
	for _, s := range subjects {
		u.commit(s + "\n\nA body:\n\n-- \n2.39")
	}
	cs, err := u.open().Range(t.Context(), base, u.git("rev-parse", "HEAD"))
	if err != nil || len(cs) != len(subjects) {
		t.Fatalf("%d commits (%v), want %d", len(cs), err, len(subjects))
	}
	for i, want := range subjects {
		if want == "" {
			want = "A body:" // git takes the first paragraph
		}
		if cs[i].Subject != want {
			t.Errorf("subject %q, want %q", cs[i].Subject, want)
		}
	}
	empty := u.commit("")
	if c, err := u.open().Commit(t.Context(), empty); err != nil || c.Subject != "" {
		t.Errorf("subject of a commit without a message: %q (%v)", c.Subject, err)
	}
}
