// Command simulation runs the search engine in every simulated world and writes
// the table of README.md in its directory. Exit status 1 says that a goal was
// missed.
package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/bisect"
	"github.com/kernel-bisect/kbisect/internal/simulate"
)

// head is what stands above the table, with the number of trials, the seed and
// the price of a build.
const head = `# The search in simulated worlds

Made by ` + "`make simulate`" + `: the engine of ` + "`orchestrator bisect`" + ` in %[1]d ranges of each world, seed %[2]d, which was not
used for tuning. It is told nothing about the rates and asked for 99 %% confidence. False failures are 1 %% unless
the line says otherwise, a build costs %[3]d runs, both ends are built beforehand, and the culprit may be any commit.
*Wrong* is another commit named, or a set without the culprit; *set* is one with it; the rest is inconclusive.
The last column is the goal of the world: rightness, builds, cost against the 10-runs rule of syzkaller and against
git bisect, and in every world that of the answers stated with 95 %% or more at least 94 %% are right.

Worlds in which the rate varies along the range: *spread* draws each commit's rate from .2 to .8; *drift* falls from .6
at the bad end to .2 at the culprit; *drop* is .8 on the newest tenth and .25 below; in *bimodal* half of the commits fail
with .7 and half with .15; *decay* falls from .9 to .056, near the false failures, where a set is the right answer.

A *wide* commit changes a header that everything includes: with one between it and the last build, a build costs %[3]d runs,
else 3. With *one price* the search takes all builds for the dear ones.

`

// row is one world and what the search must reach in it.
type row struct {
	name   string
	world  simulate.World
	right  float64 // at least; 0: no goal
	wrong  float64 // at most; 0: no goal
	builds float64 // at most, beyond log2 of the commits; 0: no goal
	cost   float64 // at most, in runs; 0: no goal
	runs   float64 // at most; 0: no goal
}

// What the 10-runs rule of the best-known service costs in the same worlds, in
// runs (the prototype's simulation, A4.1, false failures 1 %).
var tenRuns = map[string]float64{
	"64 0.3": 539, "64 0.5": 518, "64 0.9": 461,
	"1000 0.3": 892, "1000 0.5": 864, "1000 0.9": 755,
	"15000 0.3": 1254, "15000 0.5": 1232, "15000 0.9": 1058,
}

// What git bisect costs with one run for each commit (A4.1).
var git = map[string]float64{
	"1000 0.3": 610, "1000 0.5": 608, "1000 0.9": 601,
	"15000 0.3": 852, "15000 0.5": 844, "15000 0.9": 832,
}

func rows() []row {
	var out []row
	w := simulate.World{Name: "constant", FalseFailRate: 0.01, BuildPrice: bisect.DefaultPrice, Confidence: 0.99}
	for _, n := range []int{64, 1000, 15000} {
		for _, rate := range []float64{0.3, 0.5, 0.9} {
			c, key := w, fmt.Sprintf("%d %g", n, rate)
			c.Commits, c.FailRate = n, rate
			r := row{name: fmt.Sprintf("%d commits, rate %g", n, rate), world: c, right: 0.98, wrong: 0.01, builds: 0.5, cost: 1.12 * tenRuns[key]}
			times := 1.25
			if rate < 0.5 {
				r.builds, times = 1.5, 1.5
			}
			if g := git[key]; g > 0 {
				r.cost = min(r.cost, times*g)
			}
			out = append(out, r)
		}
	}
	for _, n := range []int{64, 1000, 15000} {
		c := w
		c.Commits, c.FailRate, c.FalseFailRate = n, 1, 0
		out = append(out, row{name: fmt.Sprintf("%d commits, deterministic", n), world: c, right: 0.98, wrong: 0.01, builds: 1, runs: 2*math.Log2(float64(n)) + 10})
	}
	w.Commits, w.FailRate = 1000, 0.5
	add := func(name string, r row, change func(*simulate.World)) {
		r.name, r.world = name, w
		change(&r.world)
		out = append(out, r)
	}
	for _, name := range []string{"spread", "drift", "drop"} {
		add(name, row{right: 0.95, wrong: 0.03}, func(w *simulate.World) { w.Name = name })
	}
	add("bimodal", row{right: 0.85, wrong: 0.03}, func(w *simulate.World) { w.Name = "bimodal" })
	add("decay", row{wrong: 0.03}, func(w *simulate.World) { w.Name = "decay" })
	add("15 % bad good ends, rate 0.3", row{right: 0.95}, func(w *simulate.World) { w.BadGoodEnd, w.FailRate = 0.15, 0.3 })
	// The goal of the skips is what they add to the builds of the same world
	// without them, which are log2 n and at most half a build more.
	add("10 % cannot be tested", row{right: 0.96, builds: 1.5}, func(w *simulate.World) { w.Skips = "scattered" })
	add("a block of 30 % cannot be tested", row{right: 0.96, builds: 6.5}, func(w *simulate.World) { w.Skips = "block" })
	add("rate 0.1, iterations at 0.2 runs", row{}, func(w *simulate.World) { w.FailRate, w.Iteration = 0.1, 0.2 })
	add("false failures 5 %", row{}, func(w *simulate.World) { w.FalseFailRate = 0.05 })
	add("runs that repeat the last with 30 %", row{}, func(w *simulate.World) { w.Correlation = 0.3 })
	add("comes, goes and comes again", row{}, func(w *simulate.World) { w.TwoChanges = true })
	add("merges", row{}, func(w *simulate.World) { w.Merges = true })
	hot := func(right bool) func(*simulate.World) {
		return func(w *simulate.World) { w.Commits, w.Hot, w.HotRight = 15000, 0.03, right }
	}
	add("15000 commits, 3 % weighed x20, right", row{}, hot(true))
	add("15000 commits, 3 % weighed x20, wrong", row{}, hot(false))
	// One price is what the search knew before it had one of each commit.
	wide := func(flat float64) func(*simulate.World) {
		return func(w *simulate.World) { w.Wide, w.NarrowPrice, w.FlatPrice = 0.01, 3, flat }
	}
	add("1 % of the commits wide, one price", row{}, wide(bisect.DefaultPrice))
	add("1 % of the commits wide, own prices", row{right: 0.98, wrong: 0.01, cost: 300}, wide(0))
	add("three workers", row{}, func(w *simulate.World) { w.Workers = 3 })
	return out
}

// The goal of every world: of the answers with a stated confidence of 95 % or
// more, so many are right.
const statedRight = 0.94

func main() {
	trials := flag.Int("trials", 300, "searches in each world")
	seed := flag.Uint64("seed", 4242, "not one that the engine was tuned with")
	only := flag.String("only", "", "worlds whose names contain this")
	flag.Parse()
	fmt.Printf(head, *trials, *seed, bisect.DefaultPrice)
	fmt.Printf("| world | right %% | wrong %% | set %% | stated ≥ 95 %%, right %% | runs | builds, beyond log2 n | cost | p95 | wall | goal |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n")
	missed := 0
	for _, r := range rows() {
		if !strings.Contains(r.name, *only) {
			continue
		}
		res, err := simulate.Run(r.world, *trials, *seed)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		beyond := res.BuildsMean - math.Log2(float64(r.world.Commits))
		verdict := "met"
		if why := r.missed(res, beyond); why != "" {
			verdict = "**missed: " + why + "**"
			missed++
		} else if r.right+r.wrong+r.builds+r.cost+r.runs == 0 {
			verdict = ""
		}
		fmt.Printf("| %s | %.1f | %.1f | %.1f | %.1f, %.1f | %.1f | %.2f, %+.2f | %.0f | %.0f | %.0f | %s |\n", r.name, 100*res.Right, 100*res.Wrong, 100*res.Sets,
			100*res.Stated, 100*res.StatedRight, res.RunsMean, res.BuildsMean, beyond, res.CostMean, res.CostP95, res.WallMean, verdict)
	}
	if missed > 0 {
		fmt.Fprintf(os.Stderr, "%d goals are missed\n", missed)
		os.Exit(1)
	}
}

// missed names the goals that a result does not reach.
func (r row) missed(res simulate.Result, beyond float64) string {
	var why []string
	check := func(ok bool, format string, a ...any) {
		if !ok {
			why = append(why, fmt.Sprintf(format, a...))
		}
	}
	check(res.Right >= r.right, "right below %g %%", 100*r.right)
	check(r.wrong == 0 || res.Wrong <= r.wrong, "wrong above %g %%", 100*r.wrong)
	check(r.builds == 0 || beyond <= r.builds, "builds above log2 n %+g", r.builds)
	check(r.cost == 0 || res.CostMean <= r.cost, "cost above %.0f", r.cost)
	check(r.runs == 0 || res.RunsMean <= r.runs, "runs above %.1f", r.runs)
	check(res.Stated == 0 || res.StatedRight >= statedRight, "fewer than %g %% of the stated ones right", 100*statedRight)
	return strings.Join(why, ", ")
}
