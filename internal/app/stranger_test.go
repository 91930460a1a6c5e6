package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/kbuild"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// requestsOf are what the jobs on record were asked for; there is one at least.
func requestsOf(t *testing.T, home string) []request {
	t.Helper()
	db, err := store.Open(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	jobs, err := db.Jobs(t.Context(), 100)
	if err != nil || len(jobs) == 0 {
		t.Fatalf("%d jobs, %v", len(jobs), err)
	}
	var out []request
	for _, j := range jobs {
		r, err := decodeRequest(j.Request)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// What strangers wrote is built where nobody else's commits are, nor those of
// another series; what it stands on is everybody's.
func TestStrangersAreBuiltApart(t *testing.T) {
	bin := t.TempDir() // a sandbox that seems to work
	if err := os.WriteFile(filepath.Join(bin, "bwrap"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	dir, shas := smallKernel(t, 6)
	w := newTestWorkspace(t)
	w.data = t.TempDir()
	repo, err := gitrepo.Open(t.Context(), w.data, dir)
	if err != nil {
		t.Fatal(err)
	}
	both := func(r request) builders {
		t.Helper()
		r.Profile = "cow"
		b := &bench{ws: w, req: r, repo: repo, log: zap.NewNop()}
		if b.profile, err = profileOf(r.Profile); err != nil {
			t.Fatal(err)
		}
		both, err := b.builders(t.Context(), &options{jobs: 1})
		if err != nil {
			t.Fatal(err)
		}
		return both
	}
	of := func(r request, sha string) *kbuild.Builder {
		t.Helper()
		return both(r).of(kernel.Commit{SHA: sha})
	}
	ours := of(request{Base: shas[0], Head: shas[4]}, shas[1])
	his := request{Base: shas[0], Head: shas[4], Stranger: "his", Trusted: shas[0]}
	a := of(his, shas[1])
	if a.Objects == ours.Objects || filepath.Dir(a.Objects) == filepath.Dir(ours.Objects) || a.Apart == "" || ours.Apart != "" {
		t.Errorf("%q %q, ours %q", a.Objects, a.Apart, ours.Objects)
	}
	if a.Seed != ours.Objects || ours.Seed != "" || a.Source.Dir() != ours.Source.Dir() {
		t.Errorf("it begins with %q", a.Seed)
	}
	if b := of(his, shas[2]); b.Objects != a.Objects || b.Apart != a.Apart {
		t.Errorf("another commit of the series in %q", b.Objects)
	}
	if b := of(his, shas[0]); b.Objects != ours.Objects || b.Apart != "" {
		t.Errorf("what it stands on in %q", b.Objects)
	}
	pushed := his
	pushed.Head = shas[5]
	if b := of(pushed, shas[5]); b.Objects != a.Objects || b.Apart != a.Apart {
		t.Errorf("the next push in %q", b.Objects)
	}
	other := his
	other.Stranger = "another's"
	if b := of(other, shas[1]); b.Objects == a.Objects || b.Apart == a.Apart {
		t.Errorf("another's series in %q as well", b.Objects)
	}
	// A kernel of ours is as good for him, and one of his for nobody else.
	for i, x := range []struct {
		builder           *kbuild.Builder
		ours, his, others bool
	}{{ours, true, true, true}, {a, false, true, false}} {
		c, err := repo.Commit(t.Context(), shas[i+1])
		if err != nil {
			t.Fatal(err)
		}
		key, err := x.builder.Key(t.Context(), c, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.builder.Cache.Put(key, kernel.Build{Status: kernel.BuildOK, Kernel: kernel.Kernel{Key: key}}, filepath.Join(bin, "bwrap"), "stranger_test.go", nil); err != nil {
			t.Fatal(err)
		}
		for _, who := range []struct {
			r    request
			want bool
		}{{request{Base: shas[0], Head: shas[4]}, x.ours}, {his, x.his}, {other, x.others}} {
			if _, ok, err := both(who.r).kept(t.Context(), c); ok != who.want || err != nil {
				t.Errorf("a kernel of %q for %q: %v, %v", x.builder.Apart, who.r.Stranger, ok, err)
			}
		}
	}
	his.Trusted = ""
	if b := of(his, shas[0]); b.Objects != a.Objects {
		t.Errorf("a base that may be a stranger's in %q", b.Objects)
	}
	his.NoSandbox = true
	if b := of(his, shas[1]); b.Seed != "" || !strings.Contains(b.Objects, a.Apart) {
		t.Errorf("without a sandbox: in %q, of %q", b.Objects, b.Seed)
	}
	// `orchestrator clean` and the limits of caches know these trees.
	addTree(t, w, filepath.Join(filepath.Base(filepath.Dir(a.Objects)), filepath.Base(a.Objects)))
	if trees, err := w.trees(false); err != nil || len(trees) != 1 || trees[0].name != a.Objects {
		t.Errorf("%+v, %v", trees, err)
	}
}
