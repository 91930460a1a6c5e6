package gitrepo

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/history"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// merges makes a history with the merges that a restriction to paths has to get
// right. Below mm are: base, main1, side1, lost1 and the evil merge.
//
//	base - main1 - join(side) - ours(lost) - noise(docs) - evil(fs) - head
//	   | \ side1 - side2 -/        /             /            /
//	   | \ lost1 (mm and include) /             /            /
//	   | \ docs1 ------------------------------/            /
//	   \ fs1 --------------------------------------------- /
//
// ours takes lost1's change to include/h and not that to mm.
func merges(u *user) map[string]string {
	u.t.Helper()
	id := map[string]string{"base": u.commit("base", "mm/a", "0\n")}
	branch := func(name string) { u.git("checkout", "--quiet", "-b", name, id["base"]) }
	merge := func(subject, branch string, edit func()) {
		u.t.Helper()
		u.git("checkout", "--quiet", "main")
		u.git("merge", "--quiet", "--no-ff", "--no-commit", "-s", "ours", branch)
		edit()
		id[subject] = u.commit(subject)
	}
	take := func(branch string, files ...string) func() {
		return func() { u.git(append([]string{"checkout", branch, "--"}, files...)...) }
	}
	id["main1"] = u.commit("main1", "mm/a", "1\n")
	branch("side")
	id["side1"] = u.commit("side1", "mm/b", "1\n")
	id["side2"] = u.commit("side2", "fs/y", "1\n")
	merge("join", "side", take("side", "mm/b", "fs/y"))
	branch("lost")
	id["lost1"] = u.commit("lost1", "mm/c", "1\n", "include/h", "1\n")
	merge("ours", "lost", take("lost", "include/h"))
	branch("docs")
	id["docs1"] = u.commit("docs1", "Documentation/x", "1\n")
	merge("noise", "docs", take("docs", "Documentation/x"))
	branch("fs")
	id["fs1"] = u.commit("fs1", "fs/z", "1\n")
	merge("evil", "fs", func() {
		take("fs", "fs/z")()
		write(u.t, u.dir+"/mm/a", "evil\n")
	})
	id["head"] = u.commit("head", "fs/z", "2\n")
	return id
}

// named shows commits as "name:parent,parent", in their order.
func named(id map[string]string, commits []kernel.Commit) string {
	name := map[string]string{}
	for n, sha := range id {
		name[sha] = n
	}
	var out []string
	for _, c := range commits {
		var parents []string
		for _, p := range c.Parents {
			parents = append(parents, name[p])
		}
		out = append(out, name[c.SHA]+":"+strings.Join(parents, ","))
	}
	return strings.Join(out, " ")
}

func TestCandidates(t *testing.T) {
	u := newUser(t)
	id := merges(u)
	r := u.open()
	mm := []string{"mm"}
	for _, c := range []struct {
		name, older, newer string
		o                  RangeOptions
		want               string
		outside            bool
	}{
		{"all", "base", "join", RangeOptions{}, "main1:base side1:base side2:side1 join:main1,side2", false},
		{"side branch", "base", "join", RangeOptions{Paths: mm}, "main1:base side1:base join:main1,side1", false},
		// lost1 stays although the merge dropped what it did to mm, noise goes, and
		// the evil merge stands for its own change.
		{"merges", "base", "evil", RangeOptions{Paths: mm},
			"main1:base side1:base join:main1,side1 lost1:base ours:join,lost1 evil:ours", false},
		{"newer end outside", "base", "head", RangeOptions{Paths: mm},
			"main1:base side1:base join:main1,side1 lost1:base ours:join,lost1 evil:ours head:evil", true},
		{"two paths", "join", "head", RangeOptions{Paths: []string{"Documentation", "include/h"}},
			"lost1:base ours:join,lost1 docs1:base noise:ours,docs1 head:noise", true},
		{"first parent", "base", "evil", RangeOptions{FirstParent: true}, "main1:base join:main1 ours:join noise:ours evil:noise", false},
		// What lost1 did outside of mm came in with ours; within mm it did nothing.
		{"first parent and path", "base", "evil", RangeOptions{FirstParent: true, Paths: mm}, "main1:base join:main1 evil:join", false},
		{"descendants", "side1", "evil", RangeOptions{AncestryPath: true},
			"side2:side1 join:main1,side2 ours:join,lost1 noise:ours,docs1 evil:noise,fs1", false},
		{"descendants and path", "side1", "head", RangeOptions{AncestryPath: true, Paths: mm}, "join:main1,side1 evil:join,fs1 head:evil", true},
		{"nothing", "head", "head", RangeOptions{}, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, outside, err := r.Candidates(t.Context(), id[c.older], id[c.newer], c.o)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, named(id, got)); d != "" || outside != c.outside {
				t.Errorf("outside %v (-want +got):\n%s", outside, d)
			}
			seen := map[string]bool{id[c.older]: true}
			for _, k := range got {
				if k.SHA == "" || k.Subject != "" {
					t.Errorf("%+v: ids and parents only", k)
				}
				if seen[k.SHA] {
					t.Errorf("%s is listed twice", k.SHA)
				}
				seen[k.SHA] = true
			}
		})
	}
}

func TestCandidatesOfNoSuchPath(t *testing.T) {
	u := newUser(t)
	id := merges(u)
	r := u.open()
	for _, paths := range [][]string{{"nm"}, {"mm", "nm"}, {"kernel/../../x"}, {"/etc"}, {":(bad)x"}} {
		_, _, err := r.Candidates(t.Context(), id["base"], id["head"], RangeOptions{Paths: paths})
		var ue *UserError
		if !errors.As(err, &ue) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), paths[len(paths)-1]) {
			t.Errorf("%q: %v, want one line that names the path", paths, err)
		}
	}
	if _, _, err := r.Candidates(t.Context(), id["base"], id["main1"], RangeOptions{Paths: []string{"mm/b"}}); err == nil {
		t.Error("a path that only another part of the history touches was accepted")
	}
	if _, _, err := r.Candidates(t.Context(), id["base"], strings.Repeat("1", 40), RangeOptions{}); err == nil {
		t.Error("an unknown commit was accepted")
	}
}

func TestTrees(t *testing.T) {
	u := newUser(t)
	id := merges(u)
	r := u.open()
	got := map[string]string{}
	if err := r.Trees(t.Context(), id["base"], id["head"], func(sha, tree string) { got[sha] = tree }); err != nil {
		t.Fatal(err)
	}
	commits, err := r.Range(t.Context(), id["base"], id["head"])
	if err != nil || len(got) != len(commits) {
		t.Fatalf("%d trees of %d commits, %v", len(got), len(commits), err)
	}
	for _, c := range commits {
		if got[c.SHA] != c.Tree {
			t.Errorf("%s: tree %q, want %s", c.Short(), got[c.SHA], c.Tree)
		}
	}
}

func TestChanges(t *testing.T) {
	u := newUser(t)
	base := u.commit("base", "mm/a", "0\n")
	want := []history.Change{
		{SHA: u.commit("mm: two files\n\nThe body.", "mm/a", "1\n", "mm/\nodd\x01 name", "1\n"), Message: "mm: two files\n\nThe body.", Files: []string{"mm/\nodd\x01 name", "mm/a"}},
		{SHA: u.commit("no files"), Message: "no files"},
		{SHA: u.commit("", "fs/x", "1\n"), Files: []string{"fs/x"}},
		{SHA: u.commit("")},
	}
	u.git("mv", "fs/x", "fs/y")
	want = append(want, history.Change{SHA: u.commit("renamed"), Message: "renamed", Files: []string{"fs/x", "fs/y"}})
	var got []history.Change
	err := u.open().Changes(t.Context(), base, u.git("rev-parse", "HEAD"), func(c history.Change) {
		c.Message = strings.TrimRight(c.Message, "\n")
		got = append(got, c)
	})
	slices.Reverse(got)
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
}
