package web

import (
	"fmt"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// BenchmarkFirstPaint is what the server needs for a page of 500 rows.
func BenchmarkFirstPaint(b *testing.B) {
	f := newFake(b)
	s := f.results["series-3"].(*kernel.SeriesResult)
	for i := len(s.Commits); i < 500; i++ {
		c := s.Commits[i%6]
		c.SHA = fmt.Sprintf("%040x", i)
		s.Commits = append(s.Commits, c)
	}
	var runs []Run
	var jobs []Job
	for i := range 500 {
		r, j := f.runsKept[1+i%5], f.jobsKept[3]
		r.ID, j.ID = int64(1000-i), fmt.Sprintf("series-%d", 1000+i)
		runs, jobs = append(runs, r), append(jobs, j)
		f.on = append(f.on, f.on[0])
	}
	f.runsKept, f.jobsKept = append(f.runsKept, runs...), append(f.jobsKept, jobs...)
	h := New(options(f))
	for _, path := range []string{"/", "/jobs", "/jobs/series-3", "/jobs/bisect-8", "/runs", "/runs/3", "/tests", "/test?name=cow/vmsplice-child-unmap/thp-pmd"} {
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if w := get(h, path); w.Code != 200 {
					b.Fatal(w.Code)
				} else {
					b.ReportMetric(float64(w.Body.Len())/1024, "KiB/page")
				}
			}
		})
	}
}
