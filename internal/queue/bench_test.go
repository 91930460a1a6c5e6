package queue

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkRoundTrip is Do to handle to answer on an idle queue.
func BenchmarkRoundTrip(b *testing.B) {
	s := start(b, Options{AckWait: 30 * time.Second})
	serve(b, connect(b, s, "w1", 1), echo)
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		at := time.Now()
		if _, err := s.Do(b.Context(), task("j", i)); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(at))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "median-µs")
}

// BenchmarkDispatch has 10 000 queued tasks and 50 workers of one slot. A
// dispatch is from the end of a worker's handler (its slot is free, tasks are
// queued; the answer goes out in between) to its next call.
func BenchmarkDispatch(b *testing.B) {
	for range b.N {
		s := start(b, Options{AckWait: 30 * time.Second})
		var done sync.WaitGroup
		for i := range 10_000 {
			done.Go(func() {
				if _, err := s.Do(context.Background(), task("j", i)); err != nil {
					b.Error(err)
				}
			})
		}
		eventually(b, "10 000 stored", func() bool { return stored(s) == 10_000 })
		var mu sync.Mutex
		var gaps []time.Duration
		for i := range 50 {
			var free time.Time
			serve(b, connect(b, s, fmt.Sprint("w", i), 1), func(_ context.Context, t Task) ([]byte, error) {
				if !free.IsZero() {
					mu.Lock()
					gaps = append(gaps, time.Since(free))
					mu.Unlock()
				}
				time.Sleep(100 * time.Millisecond)
				free = time.Now()
				return t.Body, nil
			})
		}
		done.Wait()
		slices.Sort(gaps)
		b.ReportMetric(float64(gaps[len(gaps)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(gaps[len(gaps)*99/100].Microseconds())/1000, "p99-ms")
		b.ReportMetric(peakRSS(b), "peak-MB")
	}
}

// peakRSS is the process's VmHWM in MB.
func peakRSS(b *testing.B) (mb float64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip(err)
	}
	if m := regexp.MustCompile(`VmHWM:\s+(\d+)`).FindSubmatch(status); m != nil {
		fmt.Sscan(string(m[1]), &mb)
	}
	return mb / 1024
}
