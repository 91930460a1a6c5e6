package job

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

// slowBuild takes a minute, and notes what came of it.
func slowBuild(log *[]string) func(context.Context, kernel.Commit) (kernel.Build, error) {
	return func(ctx context.Context, c kernel.Commit) (kernel.Build, error) {
		select {
		case <-time.After(time.Minute):
			*log = append(*log, c.SHA)
			return kernel.Build{Status: kernel.BuildOK, Kernel: kernel.Kernel{Digest: c.SHA}}, nil
		case <-ctx.Done():
			*log = append(*log, "no "+c.SHA)
			return kernel.Build{}, context.Cause(ctx)
		}
	}
}

func TestAhead(t *testing.T) {
	a, b, c := kernel.Commit{SHA: "a"}, kernel.Commit{SHA: "b"}, kernel.Commit{SHA: "c"}
	many := []kernel.Commit{a}
	for range 2 * atMostAhead {
		many = append(many, b)
	}
	for _, tt := range []struct {
		name    string
		do      func(t *testing.T, x *ahead) (kernel.Build, error)
		log     string
		minutes float64
	}{
		{"what was begun", func(t *testing.T, x *ahead) (kernel.Build, error) {
			x.soon(t.Context(), []kernel.Commit{a})
			time.Sleep(45 * time.Second)
			return x.get(t.Context(), a)
		}, "a", 1},
		{"several, one after the other", func(t *testing.T, x *ahead) (kernel.Build, error) {
			x.soon(t.Context(), []kernel.Commit{c, b, a})
			time.Sleep(150 * time.Second)
			for _, want := range []kernel.Commit{c, b} {
				if got, err := x.get(t.Context(), want); err != nil || got.Kernel.Digest != want.SHA {
					t.Errorf("%+v, %v", got, err)
				}
			}
			return x.get(t.Context(), a)
		}, "c, b, a", 3},
		{"not all of a long series", func(t *testing.T, x *ahead) (kernel.Build, error) {
			x.soon(t.Context(), many)
			time.Sleep(time.Hour)
			got, err := x.get(t.Context(), a)
			x.close()
			return got, err
		}, "a" + strings.Repeat(", b", atMostAhead-1) + ", no b", 60},
		{"another", func(t *testing.T, x *ahead) (kernel.Build, error) {
			x.soon(t.Context(), []kernel.Commit{b, c})
			x.soon(t.Context(), []kernel.Commit{a}) // one at a time
			time.Sleep(30 * time.Second)
			return x.get(t.Context(), a)
		}, "no b, a", 1.5},
		{"nothing was begun", func(t *testing.T, x *ahead) (kernel.Build, error) { return x.get(t.Context(), a) }, "a", 1},
		{"given up", func(t *testing.T, x *ahead) (kernel.Build, error) {
			x.soon(t.Context(), []kernel.Commit{b, c})
			x.close()
			x.close()
			return x.get(t.Context(), a)
		}, "no b, a", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log []string
				start := time.Now()
				got, err := tt.do(t, &ahead{build: slowBuild(&log)})
				if err != nil || got.Kernel.Digest != "a" {
					t.Errorf("%+v, %v", got, err)
				}
				if s := strings.Join(log, ", "); s != tt.log || time.Since(start).Minutes() != tt.minutes {
					t.Errorf("built %s in %s, want %s in %g min", s, time.Since(start), tt.log, tt.minutes)
				}
			})
		})
	}
}

// A series builds the next commit while it runs one, and says of a build that
// fails in the background what it says of any.
func TestSeriesBuildsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		l := w.lab("j")
		var log []string
		build, boot := slowBuild(&log), l.Boot
		l.Build = func(ctx context.Context, c kernel.Commit) (kernel.Build, error) {
			if _, err := build(ctx, c); err != nil {
				return kernel.Build{}, err
			}
			return w.buildOne(ctx, c)
		}
		l.Boot = func(ctx context.Context, k kernel.Kernel) (Bench, kernel.Boot, error) {
			time.Sleep(time.Minute) // as long as a build
			return boot(ctx, k)
		}
		l.BuildAhead = true
		start := time.Now()
		if res, err := series(t, w, l, plan("a")); err != nil || table(res, 0) != "gggg" {
			t.Errorf("%+v, %v", res, err)
		}
		if took := time.Since(start).Minutes(); took != 5 {
			t.Errorf("%g min; one after another it is 8", took)
		}
	})
}

// A bisection builds what it is likely to want, and gives up what it does not want.
func TestBisectBuildsAhead(t *testing.T) {
	for _, tt := range []struct {
		name    string
		ahead   bool
		minutes float64
	}{
		// Six kernels of 1 min to build, 1 to boot and a second for each of 15 runs.
		{"one after another", false, 12 + 15./60},
		// The good end and the middle while the bad and the good end boot; of the other
		// four, in three cases, while the second of two runs goes on.
		{"ahead", true, 10 + 12./60},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 16)
				w.badFrom(6, "a", "f")
				l := w.lab("j")
				var log []string
				build, boot := slowBuild(&log), l.Boot
				l.Build = func(ctx context.Context, c kernel.Commit) (kernel.Build, error) {
					if _, err := build(ctx, c); err != nil {
						return kernel.Build{}, err
					}
					return w.buildOne(ctx, c)
				}
				l.Boot = func(ctx context.Context, k kernel.Kernel) (Bench, kernel.Boot, error) {
					time.Sleep(time.Minute)
					b, k2, err := boot(ctx, k)
					return slowBench{b}, k2, err
				}
				l.BuildAhead = tt.ahead
				start := time.Now()
				if res, err := search(t, w, l); err != nil || answer(res) != "found 6" {
					t.Errorf("%s, %v", answer(res), err)
				}
				if took := time.Since(start).Minutes(); math.Abs(took-tt.minutes) > 1e-9 {
					t.Errorf("%g min, want %g; built %s", took, tt.minutes, strings.Join(log, ", "))
				}
			})
		})
	}
}

// slowBench takes a second for each run.
type slowBench struct{ Bench }

func (b slowBench) Run(ctx context.Context, p runner.Program) (kernel.Run, error) {
	time.Sleep(time.Second)
	return b.Bench.Run(ctx, p)
}

func TestSeriesIsCancelledWhileItBuildsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		l := w.lab("j")
		var log []string
		build := slowBuild(&log)
		l.Build = func(ctx context.Context, c kernel.Commit) (kernel.Build, error) {
			if number(c.SHA) == 0 {
				return w.buildOne(ctx, c)
			}
			return build(ctx, c)
		}
		l.BuildAhead = true
		broken := errors.New("no guests today")
		l.Boot = func(context.Context, kernel.Kernel) (Bench, kernel.Boot, error) { return nil, kernel.Boot{}, broken }
		if _, err := series(t, w, l, plan("a")); !errors.Is(err, broken) {
			t.Error(err)
		}
		if s := strings.Join(log, ", "); s != "no "+sha(1) { // it is over when Series returns
			t.Errorf("built %s", s)
		}
	})
}
