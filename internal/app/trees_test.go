package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/kbuild"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func newTestWorkspace(t *testing.T) *workspace {
	t.Helper()
	return &workspace{cache: t.TempDir(), slot: make(chan struct{}, 1)}
}

// addTree makes a tree in which a build left a file, with what is known of its
// builds beside it.
func addTree(t *testing.T, w *workspace, name string) string {
	t.Helper()
	tree := filepath.Join(w.slots(), name)
	if err := os.MkdirAll(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	files := []string{filepath.Join(tree, "file")}
	if strings.HasPrefix(filepath.Base(tree), "obj-") {
		files = append(files, tree+".reads")
	}
	for _, f := range files {
		if err := os.WriteFile(f, make([]byte, 100_000), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// slotFiles are the names in the slots, those of the slots themselves left out.
func slotFiles(t *testing.T, w *workspace) []string {
	t.Helper()
	names := []string{}
	paths, err := filepath.Glob(filepath.Join(w.slots(), "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		name, _ := filepath.Rel(w.slots(), p)
		names = append(names, name)
	}
	return names
}

func TestTrimTrees(t *testing.T) {
	t.Parallel()
	type tree struct {
		name string
		gb   float64
		age  time.Duration // since it was used
	}
	slot := func(repo string, age time.Duration) []tree {
		return []tree{{repo + "/ccache", 2, age}, {repo + "/src", 1.5, age}, {repo + "/obj-cow", 0.5, age}}
	}
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name  string
		trees []tree
		since time.Duration // ago
		gone  []string
	}{
		{"none", nil, 0, nil},
		{"room for all", slices.Concat(slot("a", 3*day), slot("b", 2*day), slot("c", day)), 0, nil},
		{
			"objects before their sources",
			slices.Concat(slot("a", 3*day), slot("b", 2*day), []tree{{"c/obj-x", 7.5, day}}), 0,
			[]string{"a/obj-cow"},
		},
		{
			"sources before ccache",
			slices.Concat(slot("a", 3*day), slot("b", 2*day), []tree{{"c/obj-x", 9, day}}), 0,
			[]string{"a/obj-cow", "a/src"},
		},
		{
			"an object tree for itself",
			[]tree{{"a/src", 1.5, day}, {"a/obj-old", 9, 2 * day}, {"a/obj-new", 9, day}}, 0,
			[]string{"a/obj-old"},
		},
		{
			"all of a repository",
			slices.Concat(slot("a", 3*day), slot("b", 2*day), []tree{{"c/obj-x", 14.5, day}}), 0,
			[]string{"a/ccache", "a/obj-cow", "a/src", "b/obj-cow", "b/src", "b/ccache"},
		},
		{
			"none that a job has used since it began",
			slices.Concat(slot("a", 3*day), slot("b", 2*day), []tree{{"c/obj-x", 14.5, day}}), 2*day + time.Hour,
			[]string{"a/ccache", "a/obj-cow", "a/src"},
		},
		{
			"not what was used last, however large",
			[]tree{{"a/obj-x", 20, day}, {"a/src", 1.5, day}, {"b/obj-y", 0.1, 2 * day}}, 0,
			[]string{"b/obj-y"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, now := newTestWorkspace(t), time.Now()
			var want []string
			for _, tree := range tt.trees {
				path := addTree(t, w, tree.name)
				use{Used: now.Add(-tree.age), Bytes: int64(tree.gb * 1e9), Measured: now}.keep(path)
				if slices.Contains(tt.gone, tree.name) {
					continue
				}
				want = append(want, tree.name, tree.name+".use")
				if strings.HasPrefix(filepath.Base(path), "obj-") {
					want = append(want, tree.name+".reads")
				}
			}
			w.trim(t.Context(), now.Add(-tt.since), zap.NewNop())
			slices.Sort(want)
			if got := slotFiles(t, w); !slices.Equal(got, want) {
				t.Errorf("left: %q\nwant: %q", got, want)
			}
		})
	}
}

// Nothing is taken from under a build, and who waits for its end can be stopped.
func TestTrimWaitsForBuilds(t *testing.T) {
	t.Parallel()
	w, now := newTestWorkspace(t), time.Now()
	for name, age := range map[string]time.Duration{"a/obj-cow": 2 * time.Hour, "b/obj-cow": time.Hour} {
		use{Used: now.Add(-age), Bytes: maxTrees, Measured: now}.keep(addTree(t, w, name))
	}
	before := slotFiles(t, w)
	free, err := w.takeSlot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	w.trim(ctx, now, zap.NewNop())
	if got := slotFiles(t, w); !slices.Equal(got, before) {
		t.Errorf("during a build: %q", got)
	}
	// The build that it waits for is of the tree that is the oldest as yet.
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.trim(t.Context(), now, zap.NewNop())
	}()
	touch(never, filepath.Join(w.slots(), "a/obj-cow"))
	free()
	<-done
	if got := slotFiles(t, w); !slices.Equal(got, []string{"a/obj-cow", "a/obj-cow.reads", "a/obj-cow.use"}) {
		t.Errorf("after it: %q", got)
	}
}

// A process that is killed while it deletes leaves no half of a tree where one is
// looked for, and another deletes the rest.
func TestTreesOfAKilledProcess(t *testing.T) {
	w := newTestWorkspace(t)
	tree := addTree(t, w, "a/obj-cow")
	use{Used: time.Now(), Bytes: 1e9, Measured: time.Now()}.keep(tree)
	aside, err := w.setAside(tree)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(aside, "obj-cow", "file")); err != nil {
		t.Error(err)
	}
	if trees, err := w.trees(true); err != nil || len(trees) > 0 {
		t.Errorf("it is still there: %+v, %v", trees, err)
	}
	w.trim(t.Context(), time.Now(), zap.NewNop())
	if left, err := os.ReadDir(w.slots()); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	// What is known of a tree goes first.
	tree = addTree(t, w, "a/obj-cow")
	if err := os.RemoveAll(tree); err != nil {
		t.Fatal(err)
	}
	if _, err := w.setAside(tree); err == nil {
		t.Error("a tree that is not there was set aside")
	}
	if got := slotFiles(t, w); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
}

// A build notes when it used the trees and, where that may have changed, how large
// they are.
func TestBuildNotesUse(t *testing.T) {
	w := newTestWorkspace(t)
	b := &bench{ws: w}
	objects, src := filepath.Join(w.slots(), "a/obj-cow"), filepath.Join(w.slots(), "a/src")
	in := &kbuild.Builder{Objects: objects, Source: (&gitrepo.Repo{}).Worktree(src)}
	var size int
	build := func(n int, err error) {
		t.Helper()
		_, got := b.inSlot(t.Context(), kernel.Commit{}, in, func(context.Context, kernel.Commit) (kernel.Build, error) {
			for _, tree := range []string{"a/obj-cow", "a/src"} {
				size += 100_000
				if err := os.WriteFile(filepath.Join(addTree(t, w, tree), "more"), make([]byte, size), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			return kernel.Build{Objects: n}, err
		})
		if !errors.Is(got, err) {
			t.Fatal(got)
		}
	}
	known := func(tree string) use {
		t.Helper()
		u := useOf(tree)
		if time.Since(u.Used) > time.Minute {
			t.Errorf("%s: used %s", tree, u.Used)
		}
		return u
	}
	build(1, nil)
	first, sources := known(objects), known(src)
	if first.Bytes < 200_000 || first.Bytes > 250_000 || sources.Bytes < 300_000 {
		t.Errorf("the first build: %+v, %+v", first, sources)
	}
	long := func() { // ago
		for _, tree := range []string{objects, src} {
			u := useOf(tree)
			u.Used = u.Used.Add(-measureAgain)
			u.keep(tree)
		}
	}
	long()
	build(farObjects-1, nil)
	if u := known(objects); u.Bytes != first.Bytes {
		t.Errorf("little was made: %+v", u)
	}
	long()
	build(farObjects, nil)
	second := known(objects)
	if second.Bytes < 500_000 {
		t.Errorf("much was made: %+v", second)
	}
	build(0, errors.New("killed"))
	if u := known(objects); u.Bytes <= second.Bytes {
		t.Errorf("a build without an end: %+v", u)
	}
	if u := known(src); u.Bytes != sources.Bytes {
		t.Errorf("sources: %+v, before %+v", u, sources)
	}
	sources.Measured = sources.Measured.Add(-measureAgain)
	sources.keep(src)
	build(0, nil)
	if u := known(src); u.Bytes <= sources.Bytes {
		t.Errorf("sources a day later: %+v, before %+v", u, sources)
	}
}

// A tree of which nothing is known is looked through once, by who has the cache
// directory. What a build made of its files keeps nobody from that.
func TestUnknownTrees(t *testing.T) {
	w := newTestWorkspace(t)
	tree := addTree(t, w, "a/obj-cow")
	if err := os.Truncate(filepath.Join(tree, "file"), 1<<40); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(tree, "closed"), 0); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-time.Hour).Round(time.Second)
	if err := os.Chtimes(tree, at, at); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "{", `{"bytes": 1e9`} {
		if err := os.WriteFile(useFile(tree), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, remember := range []bool{false, true} {
			trees, err := w.trees(remember)
			if err != nil || len(trees) != 1 || trees[0].bytes < 100_000 || trees[0].bytes > 200_000 || !trees[0].used.Equal(at) {
				t.Errorf("%q: %+v, %v", text, trees, err)
			}
			if u := useOf(tree); u.Measured.IsZero() == remember || remember && (u.Bytes != trees[0].bytes || !u.Used.Equal(at)) {
				t.Errorf("%q, remember %v: %+v", text, remember, u)
			}
		}
	}
}

// doctor tells of what is kept without looking through it, and what the limits are.
func TestDoctorShowsCaches(t *testing.T) {
	w := newTestWorkspace(t)
	if got := caches(filepath.Join(w.cache, "none")); got.Seen != "empty" {
		t.Errorf("%+v", got)
	}
	for name, bytes := range map[string]int64{"a/obj-cow": 3e8, "a/obj-cow-debug": 7e8, "a/src": 15e8, "a/ccache": 33e6} {
		use{Used: time.Now(), Bytes: bytes, Measured: time.Now()}.keep(addTree(t, w, name))
	}
	found := []finding{caches(w.cache), cacheLimits()}
	for format, want := range map[string]string{
		"text": `ok    caches            source trees 1 (1.5 GB), object trees 2 (1.0 GB), ccache 1 (33 MB)
ok    cache limits      kernels 10.0 GB, trees and ccache 15.0 GB, guest images 7 days; ` + "`orchestrator clean --max SIZE` deletes more, what was used longest ago first\n",
		"json": `[{"what":"source trees","count":1,"bytes":1500000000},{"what":"object trees","count":2,"bytes":1000000000},{"what":"ccache","count":1,"bytes":33000000}]`,
	} {
		var out bytes.Buffer
		if err := (&options{format: format, stdout: &out}).printFindings(found); err != nil {
			t.Fatal(err)
		}
		got := out.String()
		if format == "json" {
			var said struct {
				Findings []struct{ Caches json.RawMessage }
			}
			var flat bytes.Buffer
			if err := json.Unmarshal(out.Bytes(), &said); err != nil {
				t.Fatal(err)
			}
			if err := json.Compact(&flat, said.Findings[0].Caches); err != nil {
				t.Fatal(err)
			}
			got = flat.String()
		}
		if got != want {
			t.Errorf("%s:\n%s\nwant\n%s", format, got, want)
		}
	}
}
