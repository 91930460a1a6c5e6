package gitrepo

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/patchmail"
)

// series reads mail of the user's repository.
func (u *user) series(r *Repo, mbox string) patchmail.Series {
	u.t.Helper()
	s, err := r.Mail(u.t.Context(), mbox, mbox)
	if err != nil {
		u.t.Fatal(err)
	}
	return s
}

// Bases come in the order of what they have of the patches, then of their kind and age.
func TestBases(t *testing.T) {
	u := newUser(t)
	u.commit("first", "a.c", lines, "b.c", lines, "fä ile", lines)
	u.git("tag", "v1")
	u.commit("second", "a.c", lines+"9\n")
	u.git("tag", "-a", "-m", "x", "v2")
	base := u.commit("third", "b.c", lines+"9\n")
	u.git("checkout", "--quiet", "-b", "series")
	u.commit("one", "a.c", "0\n"+lines+"9\n", "fä ile", lines+"9\n", "new", "new\n")
	u.commit("two", "a.c", "-1\n0\n"+lines+"9\n", "new", "new\nnewer\n")
	u.git("mv", "b.c", "c.c")
	u.commit("three", "c.c", "0\n"+lines+"9\n")
	mbox := u.mail(base + "..series")
	u.git("checkout", "--quiet", "main")
	u.commit("fourth", "a.c", "a rewrite\n", "new", "of somebody else\n")
	u.git("tag", "v3")
	u.git("branch", "side", base)
	u.git("tag", "blob", u.git("rev-parse", "main:a.c")) // nothing that a series can stand on
	u.git("branch", "zz", u.git("commit-tree", "-p", "v2^{commit}", "-m", "like v2, and newer", "v2^{tree}"))
	r := u.open()
	s := u.series(r, mbox)
	said := func() string {
		bases, files, err := r.Bases(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, b := range bases {
			out = append(out, fmt.Sprintf("%s %d", b.Name, b.Match))
			if b.Name != "main of 2020-09-13" && b.SHA != u.git("rev-parse", b.Name+"^{commit}") {
				t.Errorf("%s is %s", b.Name, b.SHA)
			}
		}
		return fmt.Sprint(files, ": ", strings.Join(out, ", "))
	}
	// Four files: a.c, b.c and "fä ile" as they are, and new, which is not there. The
	// mails were sent after commit three, and main has gone on since.
	if got, want := said(), "4: side 4, v2 3, zz 3, main 2, v1 2, series 0"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	for range 3 {
		if again := said(); again != "4: side 4, v2 3, zz 3, main 2, v1 2, series 0" {
			t.Errorf("not the same twice: %s", again)
		}
	}
	// It may have no name of its own.
	u.git("branch", "-D", "side")
	if got, want := said(), "4: main of 2020-09-13 4, v2 3, zz 3, main 2, v1 2, series 0"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	// Where the patches say nothing, what is checked out comes first.
	text := strings.ReplaceAll(read(t, mbox), "\nindex ", "\nindecks ")
	write(t, mbox, text[:strings.Index(text, "Subject: [PATCH 2/3]")])
	if err := os.WriteFile(mbox, []byte(strings.ReplaceAll(read(t, mbox), "[PATCH 1/3]", "[PATCH]")), 0o600); err != nil {
		t.Fatal(err)
	}
	s = u.series(r, mbox)
	if got, want := said(), "1: v2 1, v1 1, zz 1, main of 2020-09-13 1, main 0, series 0"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// Many branches and tags are not all looked at.
func TestBasesAreBounded(t *testing.T) {
	u, base, mbox := mailed(t)
	for i := range 60 {
		u.git("update-ref", fmt.Sprintf("refs/heads/b%02d", i), u.commit(fmt.Sprint(i)))
		u.git("tag", fmt.Sprintf("t%02d", i), u.commit(fmt.Sprint(i)))
	}
	u.git("tag", "old", base)
	r := u.open()
	bases, files, err := r.Bases(t.Context(), u.series(r, mbox))
	if err != nil || files != 2 {
		t.Fatal(files, err)
	}
	branches, tags := 0, 0
	for _, b := range bases {
		switch b.Name[0] {
		case 'b':
			branches++
		case 't':
			tags++
		}
	}
	if branches == 0 || branches > mostBranches || tags > mostTags/2 || !slices.ContainsFunc(bases, func(b Base) bool { return b.SHA == base }) {
		t.Errorf("%d branches, %d tags: %v", branches, tags, bases)
	}
}

// What git format-patch says that a series needs is found where it was made, and
// where it was picked to.
func TestLacks(t *testing.T) {
	u, base, _ := mailed(t)
	u.git("checkout", "--quiet", "series")
	u.commit("mm: third", "mm/memory.c", "drei\n"+lines)
	mbox := u.mail("--base=" + base + " HEAD~1..HEAD")
	u.git("checkout", "--quiet", "-b", "picked", base)
	u.commit("unrelated", "doc", "x\n")
	u.git("cherry-pick", "series~2", "series~1")
	u.git("checkout", "--quiet", "-b", "half", base)
	u.git("cherry-pick", "series~2")
	u.git("checkout", "--quiet", "main")
	r := u.open()
	s := u.series(r, mbox)
	if len(s.Prerequisites) != 2 || s.Base != base {
		t.Fatalf("%+v", s)
	}
	for at, want := range map[string][]string{"series~1": nil, "picked": nil, "half": s.Prerequisites[1:], base: s.Prerequisites} {
		c, err := r.Resolve(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Lacks(t.Context(), c.SHA, s); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", at, got, err, want)
		}
	}
	// Of a base that nobody knows, all commits before are looked at.
	s.Base = strings.Repeat("ab", 20)
	if got, err := r.Lacks(t.Context(), u.git("rev-parse", "picked"), s); err != nil || got != nil {
		t.Errorf("%q, %v", got, err)
	}
}
