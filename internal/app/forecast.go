package app

import (
	"context"
	"slices"
	"time"

	"github.com/kernel-bisect/kbisect/internal/bisect"
	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/history"
	"github.com/kernel-bisect/kbisect/internal/kbuild"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// forecast is what the builds of a range will cost, as far as one knew when the job
// began. make compiles what depends on the files that differ from the commit built
// last. On a line these are the files that the commits in between change, but for
// what comes and goes again; so the price of a build depends on where the tree is.
// It is recorded with the job: the object tree will know more by the time a search
// is resumed, and it must take the way that it took.
type forecast struct {
	// Classes are the numbers of objects that depend on the same files of the range.
	Classes []int `json:"classes"`
	// Files has for each file that objects depend on the classes of these.
	Files [][]int `json:"files"`
	// Commits has for each candidate, the oldest first, which of the files it changes;
	// also those of commits that are no candidates, between it and the one before.
	Commits [][]int `json:"commits"`
	// Warm is the candidate that the object tree had, or bisect.GoodEnd or Nowhere.
	Warm int  `json:"warm"`
	Kept bool `json:"kept,omitempty"` // the kernel of the older end
	// Any is what every build and boot costs, in runs, and Object what an object adds.
	Any    float64 `json:"any"`
	Object float64 `json:"object"`
}

const (
	// maxPriced is how many candidates may have prices of their own: the next probe
	// looks at each of them, and is to take no more than a millisecond.
	maxPriced = 3000
	// maxNumbers bounds what is recorded, to some 1 MB: as much as the ids of a range
	// of maxToRead commits.
	maxNumbers = 200_000
	// wholeTimes is how much longer a build takes that compiles everything than one
	// that compiles next to nothing: 113 s and 4.5 s, slim, on two cores.
	wholeTimes = 25
)

// forecastOf tells what the builds of a request's range will cost, nil where that
// is not known: it has merges, is long, or there is no object tree. trees are of
// its commits and its base, warm the one that was built last; files are what each changes.
func forecastOf(ctx context.Context, repo *gitrepo.Repo, deps *kbuild.Dependents, req *request, trees map[string]string, warm string, files map[string][]string) (*forecast, error) {
	if len(trees) > maxPriced || deps.Objects() == 0 {
		return nil, nil
	}
	all, _, err := repo.Candidates(ctx, req.Base, req.Head, gitrepo.RangeOptions{})
	if err != nil {
		return nil, err
	}
	graph, err := history.New(all)
	if err != nil || !graph.Line() {
		return nil, err
	}
	candidates, _, err := repo.Candidates(ctx, req.Base, req.Head, req.Search.rangeOptions())
	if err != nil {
		return nil, err
	}
	f := newForecast(shas(all), shas(candidates), files, deps)
	if f == nil {
		return nil, nil
	}
	switch warm {
	case "":
	case trees[req.Base]:
		f.Warm = bisect.GoodEnd
	default:
		if i := slices.IndexFunc(candidates, func(c kernel.Commit) bool { return trees[c.SHA] == warm }); i >= 0 {
			f.Warm = i
		}
	}
	return f, nil
}

func shas(commits []kernel.Commit) []string {
	out := make([]string, len(commits))
	for i, c := range commits {
		out[i] = c.SHA
	}
	return out
}

// newForecast finds out what the candidates among the commits of a line make
// stale; nil if that is too much to record.
func newForecast(line, candidates []string, files map[string][]string, deps *kbuild.Dependents) *forecast {
	f := &forecast{Warm: bisect.Nowhere}
	var names []string
	number := map[string]int{}
	var since []int
	for _, sha := range line {
		for _, file := range files[sha] {
			if !deps.Has(file) {
				continue
			}
			k, ok := number[file]
			if !ok {
				k = len(names)
				number[file], names = k, append(names, file)
			}
			since = append(since, k)
		}
		if n := len(f.Commits); n < len(candidates) && candidates[n] == sha {
			slices.Sort(since)
			f.Commits = append(f.Commits, slices.Clone(slices.Compact(since)))
			since = since[:0]
		}
	}
	f.Classes, f.Files = deps.Classes(names)
	n := len(f.Classes)
	for _, lists := range [][][]int{f.Files, f.Commits} {
		for _, l := range lists {
			n += len(l)
		}
	}
	if n > maxNumbers || len(f.Commits) < len(candidates) {
		return nil
	}
	return f
}

// learn takes the prices from builds and runs of the past. Without enough of them
// a build that compiles next to nothing has the price that any build has by
// default, and the objects of the tree together wholeTimes as much.
func (f *forecast) learn(builds []kernel.Build, runs []time.Duration, objects int) {
	f.Any, f.Object = bisect.DefaultPrice, (wholeTimes-1)*float64(bisect.DefaultPrice)/float64(objects)
	run := median(runs).Seconds()
	if len(builds) == 0 || len(runs) < enough || run <= 0 {
		return
	}
	secs, each := pace(builds, objects)
	f.Any, f.Object = bisect.BootPrice+bounded(secs/run), min(each/run, maxPrice)
}

// pace is how many seconds any build takes, and each object on top.
func pace(builds []kernel.Build, objects int) (secs, each float64) {
	var slopes []float64
	for i, a := range builds {
		for _, b := range builds[:i] {
			// Between builds of like size the difference is the host's doing.
			if d := a.Objects - b.Objects; d >= farObjects || -d >= farObjects {
				slopes = append(slopes, (a.Seconds-b.Seconds)/float64(d))
			}
		}
	}
	if len(slopes) > 0 {
		each = median(slopes)
		var rest []float64
		for _, b := range builds {
			rest = append(rest, b.Seconds-each*float64(b.Objects))
		}
		if secs = median(rest); secs > 0 && each > 0 {
			return secs, each
		}
	}
	// They are all alike: the usual proportion.
	var rest []float64
	for _, b := range builds {
		rest = append(rest, b.Seconds/(1+(wholeTimes-1)*float64(b.Objects)/float64(objects)))
	}
	secs = median(rest)
	return secs, secs * (wholeTimes - 1) / float64(objects)
}

// over are the prices of a range's first n candidates, for bisect.Options.
func (f *forecast) over(n int) func(warm int) []float64 {
	if f == nil || n > len(f.Commits) {
		return nil
	}
	return func(warm int) []float64 {
		if warm == bisect.Nowhere {
			warm = f.Warm
		}
		if warm == bisect.Nowhere {
			return nil
		}
		out := make([]float64, n)
		price := func(objects int) float64 { return f.Any + f.Object*float64(objects) }
		count := f.counter()
		for i := warm + 1; i < n; i++ {
			out[i] = price(count(i))
		}
		count = f.counter()
		for i, objects := warm, 0; i >= 0; i-- {
			if i < n {
				out[i] = price(objects)
			}
			objects = count(i) // what i changes is to be undone from here on
		}
		return out
	}
}

// counter counts the objects that the commits it is given make stale, each once.
func (f *forecast) counter() func(commit int) int {
	files, classes, n := make([]bool, len(f.Files)), make([]bool, len(f.Classes)), 0
	return func(commit int) int {
		for _, k := range f.Commits[commit] {
			if files[k] {
				continue
			}
			files[k] = true
			for _, c := range f.Files[k] {
				if !classes[c] {
					classes[c] = true
					n += f.Classes[c]
				}
			}
		}
		return n
	}
}
