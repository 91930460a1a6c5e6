package app

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/bisect"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func TestFreeCandidates(t *testing.T) {
	r := searchRequest{Built: []string{"c", "x", "a"}}
	commits := []kernel.Commit{{SHA: "a"}, {SHA: "b"}, {SHA: "c"}}
	if got := r.free(commits); !slices.Equal(got, []int{0, 2}) {
		t.Errorf("%v", got)
	}
	r.Forecast = &forecast{Kept: true}
	if got := r.free(commits); !slices.Equal(got, []int{bisect.GoodEnd, 0, 2}) {
		t.Errorf("with the older end: %v", got)
	}
}

func TestIsPath(t *testing.T) {
	for s, want := range map[string]bool{"mm/gup.c": true, "mm/": true, "page_try_share_anon_rmap": false, "Makefile.x": true} {
		if isPath(s) != want {
			t.Errorf("%q", s)
		}
	}
}

func TestPrice(t *testing.T) {
	s := time.Second
	for _, c := range []struct {
		builds []float64
		runs   []time.Duration
		want   float64
	}{
		{[]float64{300, 16, 18}, []time.Duration{s / 10, s / 5, s / 10}, 180},
		{[]float64{300, 16}, []time.Duration{s, s, s}, 0},
		{[]float64{300, 16, 17}, []time.Duration{s}, 0},
		{[]float64{0.1, 0.1, 0.1}, []time.Duration{s, s, s}, 1},
		{[]float64{10, 10, 10}, []time.Duration{0, 0, 0}, 0},
	} {
		var builds []kernel.Build
		for _, seconds := range c.builds {
			builds = append(builds, kernel.Build{Seconds: seconds})
		}
		if got := price(builds, c.runs); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v, %v: %g, want %g", c.builds, c.runs, got, c.want)
		}
	}
}
