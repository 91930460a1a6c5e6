package app

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kernel-bisect/kbisect/internal/bisect"
	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/kbuild"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// objectTree leaves the lists of included files that a build leaves: for each
// object the files it depends on.
func objectTree(t interface{ Fatal(...any) }, dir string, objects [][]string) *kbuild.Dependents {
	for i, files := range objects {
		text := fmt.Sprintf("source_x := /build/src/own%d.c\n\ndeps_x := \\\n", i)
		for _, f := range files {
			text += " /build/src/" + f + " \\\n"
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf(".%d.o.cmd", i)), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return (&kbuild.Builder{Objects: dir, Sandbox: true}).Dependents()
}

// A build costs what the commits between it and the one before make stale,
// whichever of the two is older, also if it was recorded and read again.
func TestForecast(t *testing.T) {
	names := []string{"a.h", "b.h", "c.h", "own0.c", "own1.c", "unused.h"}
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "forecast-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		subset := rapid.SliceOfDistinct(rapid.SampledFrom(names[:3]), rapid.ID[string])
		deps := objectTree(t, dir, rapid.SliceOfN(subset, 1, 8).Draw(t, "objects"))
		n := rapid.IntRange(1, 8).Draw(t, "commits")
		line, files := make([]string, n), map[string][]string{}
		for i := range n {
			line[i] = fmt.Sprint("commit", i)
			files[line[i]] = rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID[string]).Draw(t, "files")
		}
		candidates := slices.DeleteFunc(slices.Clone(line), func(sha string) bool {
			return sha != line[n-1] && rapid.IntRange(0, 3).Draw(t, "left out") == 0
		})
		f := newForecast(line, candidates, files, deps)
		f.Any, f.Object = 10, 2
		text, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		var again forecast
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		place := func(candidate int) int { // on the line
			if candidate == bisect.GoodEnd {
				return -1
			}
			return slices.Index(line, candidates[candidate])
		}
		part := rapid.IntRange(1, len(candidates)).Draw(t, "part")
		for warm := bisect.GoodEnd; warm < len(candidates); warm++ {
			got := again.over(part)(warm)
			for i := range part {
				count, objects := deps.Counter(), 0
				low, high := min(place(warm), place(i)), max(place(warm), place(i))
				for _, sha := range line[low+1 : high+1] {
					for _, file := range files[sha] {
						objects = count(file)
					}
				}
				if want := 10 + 2*float64(objects); got[i] != want {
					t.Fatalf("from %d to %d: %g, want %g: %s", warm, i, got[i], want, text)
				}
			}
			if len(got) != part {
				t.Fatalf("%d prices of %d", len(got), part)
			}
		}
		if again.over(part)(bisect.Nowhere) != nil || again.over(len(candidates)+1) != nil || (*forecast)(nil).over(1) != nil {
			t.Fatal("prices of what is not known")
		}
		again.Warm = 0
		if !slices.Equal(again.over(part)(bisect.Nowhere), again.over(part)(0)) {
			t.Fatal("where the tree was is not taken")
		}
	})
}

// Prices are foreseen in ranges without merges, of an object tree that is there.
func TestForecastOfARange(t *testing.T) {
	t.Parallel()
	dir, ids := smallKernel(t, 6) // each changes the file "change"
	repo, err := gitrepo.Open(t.Context(), t.TempDir(), dir)
	if err != nil {
		t.Fatal(err)
	}
	deps := objectTree(t, t.TempDir(), [][]string{{"change"}, {"change"}, {"other.h"}})
	none := objectTree(t, t.TempDir(), nil)
	trees, files := map[string]string{}, map[string][]string{}
	for _, sha := range ids {
		c, err := repo.Commit(t.Context(), sha)
		if err != nil {
			t.Fatal(err)
		}
		trees[sha], files[sha] = c.Tree, []string{"change"}
	}
	base, err := repo.Commit(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	onto := func(parents ...string) string {
		args := []string{"-C", dir, "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit-tree", "-m", "mm: more", ids[5] + "^{tree}"}
		for _, p := range parents {
			args = append(args, "-p", p)
		}
		out, err := exec.Command("git", args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	merge := onto(ids[5], onto(ids[2]))
	long := map[string]string{}
	for i := range maxPriced + 1 {
		long[fmt.Sprint(i)] = ""
	}
	for _, c := range []struct {
		name  string
		deps  *kbuild.Dependents
		trees map[string]string
		warm  string
		head  string
		want  *forecast
	}{
		{"the base is warm", deps, trees, base.Tree, ids[5], &forecast{Commits: make([][]int, 5), Warm: bisect.GoodEnd}},
		{"a candidate is", deps, trees, trees[ids[3]], ids[5], &forecast{Commits: make([][]int, 5), Warm: 2}},
		{"another commit is", deps, trees, "abc", ids[5], &forecast{Commits: make([][]int, 5), Warm: bisect.Nowhere}},
		{"nobody knows", deps, trees, "", ids[5], &forecast{Commits: make([][]int, 5), Warm: bisect.Nowhere}},
		{"merges", deps, trees, base.Tree, merge, nil},
		{"no object tree", none, trees, base.Tree, ids[5], nil},
		{"a long range", deps, long, base.Tree, ids[5], nil},
	} {
		req := request{Base: ids[0], Head: c.head}
		got, err := forecastOf(t.Context(), repo, c.deps, &req, c.trees, c.warm, files)
		if err != nil || (got == nil) != (c.want == nil) {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		} else if got != nil && (len(got.Commits) != len(c.want.Commits) || got.Warm != c.want.Warm || !slices.Equal(got.Classes, []int{2})) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestForecastLearns(t *testing.T) {
	build := func(seconds float64, objects int) kernel.Build {
		return kernel.Build{Seconds: seconds, Objects: objects}
	}
	runs := slices.Repeat([]time.Duration{100 * time.Millisecond}, enough)
	for _, c := range []struct {
		name        string
		builds      []kernel.Build
		runs        []time.Duration
		any, object float64 // in runs
	}{
		{"nothing", nil, runs, 60, 2.4},
		{"too few runs", []kernel.Build{build(5, 0)}, runs[:2], 60, 2.4},
		{"small and large ones", []kernel.Build{build(125, 600), build(5.2, 1), build(4.8, 0), build(5.4, 2), build(45, 200)}, runs, 50 + 9, 2},
		{"a restless host", []kernel.Build{build(65, 600), build(7.6, 0), build(6.6, 1), build(5.2, 2), build(5.3, 3), build(5.4, 4), build(4, 5), build(3, 6)}, runs, 50 + 9, 1},
		{"one that the host slept through", []kernel.Build{build(125, 600), build(5.2, 1), build(4000, 3), build(5.4, 2), build(45, 200), build(105, 500)}, runs, 50 + 9, 2},
		{"small ones alone", []kernel.Build{build(5, 0), build(4, 0), build(6, 0)}, runs, 50 + 9, 2},
		{"a large one alone", []kernel.Build{build(125, 600)}, runs, 50 + 9, 2},
		{"large ones that were faster", []kernel.Build{build(3, 600), build(5, 0), build(5, 0)}, runs, 50 + 9, 2},
		{"a clock gone wrong", []kernel.Build{build(1e9, 0)}, runs, 10_000 + 9, 10_000},
	} {
		var f forecast
		f.learn(c.builds, c.runs, 600)
		if math.Abs(f.Any-c.any) > 0.05*c.any || math.Abs(f.Object-c.object) > 0.05*c.object {
			t.Errorf("%s: %.1f runs and %.2f for each object, want %g and %g", c.name, f.Any, f.Object, c.any, c.object)
		}
	}
}

// A build that is kept and was made in the object tree teaches once.
func TestTogether(t *testing.T) {
	build := func(key string) kernel.Build { return kernel.Build{Kernel: kernel.Kernel{Key: key}} }
	got := together([]kernel.Build{build("a"), build("b")}, []kernel.Build{build("b"), build("c")})
	var keys string
	for _, b := range got {
		keys += b.Kernel.Key
	}
	if keys != "abc" {
		t.Errorf("%q", keys)
	}
}

// What was foreseen makes no other question.
func TestForecastIsNoQuestion(t *testing.T) {
	r := request{Base: "a", Head: "b"}
	q := r.question()
	if r.Search.Forecast = new(forecast); r.question() != q {
		t.Error("the same is asked, and it is another question")
	}
}
