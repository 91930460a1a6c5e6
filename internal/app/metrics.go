package app

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

// metrics are what /metrics shows. Names and units follow Prometheus' practice.
type metrics struct {
	registry *prometheus.Registry
	jobs     *prometheus.CounterVec
	builds   *prometheus.CounterVec
	building prometheus.Histogram
	runs     *prometheus.CounterVec
	running  prometheus.Histogram
	kernels  prometheus.Gauge
}

// newMetrics makes them; queued and busy count jobs, tasks what is queued for
// workers, and slots what these do at once.
func newMetrics(queued, busy, tasks, slots func() float64) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		jobs:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kbisect_jobs_total", Help: "Jobs that ended, by kind and status."}, []string{"kind", "status"}),
		builds:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kbisect_builds_total", Help: "Kernels asked for: cached, ok, failed, or refused by the configuration."}, []string{"result"}),
		building: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kbisect_build_seconds", Help: "Wall time of builds that were made.", Buckets: prometheus.ExponentialBuckets(5, 2, 11)}),
		runs:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kbisect_runs_total", Help: "Runs that were made, by outcome."}, []string{"outcome"}),
		running:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kbisect_run_seconds", Help: "Wall time of runs.", Buckets: prometheus.ExponentialBuckets(0.05, 2, 14)}),
		kernels:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "kbisect_kernels_up", Help: "Booted kernels from which guests are forked."}),
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kbisect_jobs_queued", Help: "Jobs that wait for their turn."}, queued)
	m.registry.MustRegister(m.jobs, m.builds, m.building, m.runs, m.running, m.kernels, waiting,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kbisect_jobs_running", Help: "Jobs under way."}, busy),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kbisect_tasks_queued", Help: "Builds, boots and runs that no worker has yet."}, tasks),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kbisect_worker_slots", Help: "What all connected workers do at once."}, slots),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// watchOutbox shows what is to be posted to GitHub: letters that wait, those that
// are not taken, and deliveries of GitHub that are to be dealt with.
func (m *metrics) watchOutbox(waiting, refused, deliveries func() float64) {
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kbisect_outbox_letters", Help: "Postings to GitHub that are yet to be sent."}, waiting),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kbisect_outbox_refused", Help: "Postings that GitHub does not take."}, refused),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kbisect_deliveries_open", Help: "Deliveries of GitHub, and jobs that went on, of which it is yet to be worked out what follows."}, deliveries))
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// measure counts what a job's lab does.
func (m *metrics) measure(l *job.Lab) {
	if build := l.Build; build != nil {
		l.Build = func(ctx context.Context, c kernel.Commit) (kernel.Build, error) {
			start := time.Now()
			b, err := build(ctx, c)
			if err == nil {
				m.built(b, time.Since(start))
			}
			return b, err
		}
	}
	boot := l.Boot
	l.Boot = func(ctx context.Context, k kernel.Kernel) (job.Bench, kernel.Boot, error) {
		bench, how, err := boot(ctx, k)
		if bench == nil {
			return bench, how, err
		}
		m.kernels.Inc()
		return &countedBench{bench, m}, how, err
	}
}

func (m *metrics) built(b kernel.Build, took time.Duration) {
	if b.Cached {
		m.builds.WithLabelValues("cached").Inc()
		return
	}
	m.builds.WithLabelValues(string(b.Status)).Inc()
	m.building.Observe(took.Seconds())
}

// countedBench counts the runs of a bench.
type countedBench struct {
	job.Bench
	m *metrics
}

func (b *countedBench) Run(ctx context.Context, p runner.Program) (kernel.Run, error) {
	r, err := b.Bench.Run(ctx, p)
	if err == nil {
		b.m.ran(r)
	}
	return r, err
}

func (b *countedBench) RunTogether(ctx context.Context, ps []runner.Program) (map[string]kernel.Run, error) {
	runs, err := b.Bench.RunTogether(ctx, ps)
	for _, r := range runs {
		b.m.ran(r)
	}
	return runs, err
}

func (b *countedBench) Close() {
	b.m.kernels.Dec()
	b.Bench.Close()
}

func (m *metrics) ran(r kernel.Run) {
	m.runs.WithLabelValues(string(r.Outcome)).Inc()
	m.running.Observe(r.Duration.Seconds())
}
