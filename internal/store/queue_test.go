package store

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func enqueue(t *testing.T, s *Store, n NewJob) {
	t.Helper()
	id, existing, err := s.Enqueue(t.Context(), n)
	if err != nil || existing || id != n.ID {
		t.Fatalf("%s, %v, %v", id, existing, err)
	}
}

// next takes jobs until there are none, and returns their ids.
func next(t *testing.T, s *Store) string {
	t.Helper()
	var ids []string
	for {
		j, found, err := s.Next(t.Context(), Nightly)
		ok(t, err)
		if !found {
			return strings.Join(ids, " ")
		}
		ids = append(ids, j.ID)
	}
}

func TestQueueOrder(t *testing.T) {
	s := open(t, t.TempDir())
	for i, p := range []Priority{Nightly, Normal, Waiting, Normal, Nightly, Waiting} {
		enqueue(t, s, NewJob{ID: fmt.Sprint(i), Kind: "check", Priority: p})
	}
	if got := next(t, s); got != "2 5 1 3 0 4" {
		t.Errorf("taken in the order %s", got)
	}
	// Who was interrupted by a crash keeps its place.
	enqueue(t, s, NewJob{ID: "6", Kind: "check", Priority: Normal})
	if n, err := s.Requeue(t.Context()); n != 6 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if got := next(t, s); got != "2 5 1 3 6 0 4" {
		t.Errorf("after a crash in the order %s", got)
	}
}

func TestJobOfTheQueue(t *testing.T) {
	s := open(t, t.TempDir())
	ctx := t.Context()
	enqueue(t, s, NewJob{ID: "a", Kind: "series", Title: "v6.1..x", Priority: Waiting, Owner: "eve", Dedup: "d", Request: []byte("{}")})
	j, err := s.Job(ctx, "a")
	ok(t, err)
	if j.Status != Queued || j.Title != "v6.1..x" || j.Owner != "eve" || j.Dedup != "d" || j.Priority != Waiting || j.Attempt != 0 ||
		string(j.Request) != "{}" || j.Created.IsZero() || !j.Started.IsZero() || !j.Ended.IsZero() {
		t.Errorf("queued: %+v", j)
	}
	j, found, err := s.Next(ctx, Nightly)
	if err != nil || !found || j.ID != "a" || j.Status != Running || j.Attempt != 1 || j.Started.IsZero() || string(j.Request) != "{}" {
		t.Errorf("taken: %+v, %v, %v", j, found, err)
	}
	ok(t, s.SaveResult(ctx, "a", 1, []byte(`{"half": 1}`)))
	ok(t, s.Finish(ctx, "a", 1, Failed, "no such commit", nil))
	j, err = s.Job(ctx, "a")
	if err != nil || j.Status != Failed || j.Error != "no such commit" || string(j.Result) != `{"half": 1}` || j.Ended.IsZero() {
		t.Errorf("ended: %+v, %v", j, err)
	}
	ok(t, s.Retry(ctx, "a"))
	if j, err = s.Job(ctx, "a"); err != nil || j.Status != Queued || j.Error != "" || !j.Ended.IsZero() || len(j.Result) == 0 {
		t.Errorf("queued again: %+v, %v", j, err)
	}
	if j, _, err = s.Next(ctx, Nightly); err != nil || j.Attempt != 2 {
		t.Errorf("taken again: %+v, %v", j, err)
	}
	ok(t, s.Finish(ctx, "a", 2, Done, "", []byte(`{"all": 1}`)))
	if j, err = s.Job(ctx, "a"); err != nil || j.Status != Done || string(j.Result) != `{"all": 1}` {
		t.Errorf("done: %+v, %v", j, err)
	}
	if err := s.Finish(ctx, "a", 2, Queued, "", nil); err == nil {
		t.Error("a job ended as queued")
	}
}

func TestDedup(t *testing.T) {
	s := open(t, t.TempDir())
	ask := func(id, dedup, want string) {
		t.Helper()
		got, existing, err := s.Enqueue(t.Context(), NewJob{ID: id, Dedup: dedup})
		if err != nil || got != want || existing != (got != id) {
			t.Errorf("%s: %s, %v, %v", id, got, existing, err)
		}
	}
	ask("a", "x", "a")
	ask("b", "x", "a")
	ask("c", "y", "c")
	ask("d", "", "d")
	ask("e", "", "e") // no key is no equal key
	if got := next(t, s); got != "a c d e" {
		t.Error(got)
	}
	ask("f", "x", "a") // it runs
	ok(t, s.Cancel(t.Context(), "a"))
	ask("g", "x", "g") // who asks now is not to see it cancelled
	ok(t, s.Finish(t.Context(), "c", 1, Done, "", nil))
	ask("h", "y", "h") // it has ended
	if _, _, err := s.Enqueue(t.Context(), NewJob{ID: "a"}); err == nil {
		t.Error("an id was given twice")
	}
}

// What a terminal started goes back to nobody's queue; what was to be cancelled
// does not start again.
func TestRequeue(t *testing.T) {
	s := open(t, t.TempDir())
	ctx := t.Context()
	ok(t, s.NewJob(ctx, "terminal", "check", nil))
	for _, id := range []string{"lost", "unwanted"} {
		enqueue(t, s, NewJob{ID: id, Owner: "eve"})
	}
	next(t, s)
	ok(t, s.Cancel(ctx, "unwanted"))
	if ids, err := s.CancelWanted(ctx); err != nil || !slices.Equal(ids, []string{"unwanted"}) {
		t.Errorf("%v, %v", ids, err)
	}
	if n, err := s.Requeue(ctx); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for id, want := range map[string]string{"terminal": Interrupted, "lost": Queued, "unwanted": Cancelled} {
		if j, err := s.Job(ctx, id); err != nil || j.Status != want || j.Ended.IsZero() != (want == Queued) {
			t.Errorf("%+v, want %s (%v)", j, want, err)
		}
	}
	// A service that was given the terminal's job keeps it over a crash.
	ok(t, s.Retry(ctx, "terminal"))
	next(t, s)
	if n, err := s.Requeue(ctx); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// A process that was thought dead writes on: nothing of it is kept.
func TestStaleAttempt(t *testing.T) {
	s := open(t, t.TempDir())
	ctx := t.Context()
	enqueue(t, s, NewJob{ID: "a", Owner: "eve"})
	writes := func(attempt int) (errs []error) {
		f := Fenced{s, attempt}
		return []error{
			f.AppendRun(ctx, "a", "cell", kernel.Run{Outcome: kernel.Fail}),
			f.AppendBoot(ctx, "a", "cell", kernel.Boot{Status: kernel.BootOK}),
			s.SaveResult(ctx, "a", attempt, []byte("stale")),
			s.Finish(ctx, "a", attempt, Done, "", []byte("stale")),
		}
	}
	state := func() string {
		t.Helper()
		j, err := s.Job(ctx, "a")
		ok(t, err)
		_, booted, err := s.Boot(ctx, "cell", "")
		ok(t, err)
		return fmt.Sprintf("%s %q %d runs, booted %v", j.Status, j.Result, len(runs(t, s, "cell", "")), booted)
	}
	refused := func(when string, attempt int) {
		t.Helper()
		before := state()
		for i, err := range writes(attempt) {
			if !errors.Is(err, ErrStale) {
				t.Errorf("%s, write %d: %v", when, i, err)
			}
		}
		if after := state(); after != before {
			t.Errorf("%s: %s, and before %s", when, after, before)
		}
	}
	refused("queued", 0)
	next(t, s)
	refused("not started yet", 2)
	refused("none", 0)
	_, err := s.Requeue(ctx)
	ok(t, err)
	refused("queued again", 1)
	next(t, s)
	refused("another one runs", 1)
	for i, err := range writes(2) {
		if err != nil {
			t.Errorf("write %d of the running attempt: %v", i, err)
		}
	}
	refused("ended", 2)
}

// Several processes take jobs from one queue: each job goes to one of them.
func TestNextGivesEachJobOnce(t *testing.T) {
	dir := t.TempDir()
	stores := []*Store{open(t, dir), open(t, dir)}
	const n = 40
	for i := range n {
		enqueue(t, stores[0], NewJob{ID: fmt.Sprint(i)})
	}
	var mu sync.Mutex
	var got []string // mu guards it
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for {
				j, found, err := stores[i%2].Next(t.Context(), Nightly)
				if err != nil {
					t.Error(err)
				}
				if !found {
					return
				}
				mu.Lock()
				got = append(got, j.ID)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(got)
	if len(got) != n || len(slices.Compact(got)) != n {
		t.Errorf("taken: %v", got)
	}
}

func TestJobList(t *testing.T) {
	s := open(t, t.TempDir())
	ctx := t.Context()
	for i, kind := range []string{"check", "series", "bisect", "check", "series"} {
		enqueue(t, s, NewJob{ID: fmt.Sprint(i), Kind: kind, Title: []string{"100% of mm", "MM_all Ü", "fs!"}[i%3], Owner: "eve"})
	}
	_, _, err := s.Next(ctx, Nightly)
	ok(t, err)
	ok(t, s.SaveResult(ctx, "0", 1, []byte("{}")))
	for _, c := range []struct {
		f    JobFilter
		want string
	}{
		{JobFilter{Limit: 9}, "43210"},
		{JobFilter{Limit: 2}, "43"},
		{JobFilter{Limit: 2, Before: "3"}, "21"},
		{JobFilter{Limit: 9, Kinds: []string{"check"}}, "30"},
		{JobFilter{Limit: 9, Kinds: []string{"check", "bisect"}, Before: "3"}, "20"},
		{JobFilter{Limit: 9, Statuses: []string{Running}}, "0"},
		{JobFilter{Limit: 9, Statuses: []string{Queued}, Kinds: []string{"check"}}, "3"},
		{JobFilter{Limit: 9, Text: "mm"}, "4310"},
		{JobFilter{Limit: 9, Text: "mm_"}, "41"},
		{JobFilter{Limit: 9, Text: "0%"}, "30"},
		{JobFilter{Limit: 9, Text: "!"}, "2"},
		{JobFilter{Limit: 9, Text: "Ü"}, "41"},
		{JobFilter{Limit: 9, Text: "EVE"}, "43210"},
		{JobFilter{Limit: 9, Text: "' OR 1=1"}, ""},
		{JobFilter{Limit: 0}, ""},
	} {
		js, err := s.JobList(ctx, c.f)
		ok(t, err)
		got := ""
		for _, j := range js {
			got += j.ID
			if j.Result != nil {
				t.Errorf("%s comes with its result", j.ID)
			}
		}
		if got != c.want {
			t.Errorf("%+v: %s, want %s", c.f, got, c.want)
		}
	}
	if _, err := s.JobList(ctx, JobFilter{Before: "x", Limit: 9}); !errors.Is(err, ErrNoJob) {
		t.Errorf("before no job: %v", err)
	}
}

// modelJob is what is to be known of a job after any sequence of calls.
type modelJob struct {
	id, status, owner, dedup string
	priority                 Priority
	attempt                  int
	cancel                   bool
	runs                     int
}

// Any sequence of calls leaves every job in the state that its own calls say:
// none is lost, none runs twice, and a stale attempt changes nothing.
func TestAnySequenceOfCalls(t *testing.T) {
	s := open(t, t.TempDir())
	ctx := t.Context()
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		ok(t, checks.Value.Set("25")) // of about 30 calls each; -race makes them slow
	}
	rapid.Check(t, func(r *rapid.T) {
		must := func(err error) {
			if err != nil {
				r.Fatal(err)
			}
		}
		for _, table := range []string{"runs", "results", "jobs", "tests_on_kernels", "tests", "kernels"} {
			_, err := s.db.Exec(`DELETE FROM ` + table)
			must(err)
		}
		var model []*modelJob // in the order they were asked for
		var started []*Job    // every attempt that was ever begun
		pick := func() *modelJob {
			if len(model) == 0 {
				r.Skip("no job")
			}
			return rapid.SampledFrom(model).Draw(r, "job")
		}
		find := func(id string) *modelJob {
			i := slices.IndexFunc(model, func(m *modelJob) bool { return m.id == id })
			if i < 0 {
				r.Fatalf("a job %s", id)
			}
			return model[i]
		}
		// write is one of a stale or of the running attempt.
		write := func(do func(j *Job) error) (m *modelJob, current bool) {
			if len(started) == 0 {
				r.Skip("no attempt")
			}
			j := rapid.SampledFrom(started).Draw(r, "attempt")
			m = find(j.ID)
			current = m.status == Running && m.attempt == j.Attempt
			err := do(j)
			if current {
				must(err)
			} else if !errors.Is(err, ErrStale) {
				r.Fatalf("attempt %d of %+v: %v", j.Attempt, m, err)
			}
			return m, current
		}
		r.Repeat(map[string]func(*rapid.T){
			"enqueue": func(r *rapid.T) {
				m := &modelJob{id: fmt.Sprint(len(model)), status: Queued, owner: "eve", dedup: rapid.SampledFrom([]string{"", "x", "y"}).Draw(r, "dedup"),
					priority: Priority(rapid.IntRange(0, 2).Draw(r, "priority"))}
				want := m.id
				for _, o := range model {
					if m.dedup != "" && o.dedup == m.dedup && !ended(o.status) && !o.cancel {
						want = o.id
						break
					}
				}
				id, existing, err := s.Enqueue(ctx, NewJob{ID: m.id, Owner: m.owner, Dedup: m.dedup, Priority: m.priority})
				if err != nil || id != want || existing != (want != m.id) {
					r.Fatalf("%s, %v, %v, want %s", id, existing, err, want)
				}
				if !existing {
					model = append(model, m)
				} else {
					i := slices.IndexFunc(model, func(o *modelJob) bool { return o.id == want })
					model[i].priority = min(model[i].priority, m.priority)
				}
			},
			"terminal": func(*rapid.T) {
				m := &modelJob{id: fmt.Sprint(len(model)), status: Running, owner: CLI, priority: Normal}
				must(s.NewJob(ctx, m.id, "check", nil))
				model = append(model, m)
			},
			"next": func(*rapid.T) {
				var want *modelJob
				for _, m := range model {
					if m.status == Queued && (want == nil || m.priority < want.priority) {
						want = m
					}
				}
				least := Priority(rapid.IntRange(0, 2).Draw(r, "least"))
				if want != nil && want.priority > least {
					want = nil
				}
				j, found, err := s.Next(ctx, least)
				must(err)
				if found != (want != nil) || found && (j.ID != want.id || j.Attempt != want.attempt+1) {
					r.Fatalf("%+v, %v, want %+v", j, found, want)
				}
				if found {
					want.status, want.attempt = Running, want.attempt+1
					started = append(started, &j)
				}
			},
			"requeue": func(*rapid.T) {
				_, err := s.Requeue(ctx)
				must(err)
				for _, m := range model {
					switch {
					case m.status != Running:
					case m.cancel:
						m.status, m.cancel = Cancelled, false
					case m.owner == CLI && m.attempt == 0:
						m.status = Interrupted
					default:
						m.status = Queued
					}
				}
			},
			"cancel": func(*rapid.T) {
				m := pick()
				err := s.Cancel(ctx, m.id)
				switch {
				case ended(m.status):
					if !errors.Is(err, ErrEnded) {
						r.Fatalf("%+v: %v", m, err)
					}
					return
				case m.status == Queued:
					m.status = Cancelled
				default:
					m.cancel = true
				}
				must(err)
			},
			"retry": func(*rapid.T) {
				m := pick()
				err := s.Retry(ctx, m.id)
				if !ended(m.status) {
					if !errors.Is(err, ErrActive) {
						r.Fatalf("%+v: %v", m, err)
					}
					return
				}
				must(err)
				m.status = Queued
			},
			"finish": func(r *rapid.T) {
				status := rapid.SampledFrom([]string{Done, Failed, Cancelled, Interrupted}).Draw(r, "status")
				if m, current := write(func(j *Job) error { return s.Finish(ctx, j.ID, j.Attempt, status, "", nil) }); current {
					m.status, m.cancel = status, false
				}
			},
			"run": func(*rapid.T) {
				if m, current := write(func(j *Job) error { return Fenced{s, j.Attempt}.AppendRun(ctx, j.ID, "cell", kernel.Run{}) }); current {
					m.runs++
				}
			},
			"": func(*rapid.T) {
				jobs, err := s.Jobs(ctx, len(model)+1)
				must(err)
				slices.Reverse(jobs)
				if len(jobs) != len(model) {
					r.Fatalf("%d jobs, want %d", len(jobs), len(model))
				}
				var wanted []string
				total := 0
				for i, j := range jobs {
					m := model[i]
					if j.ID != m.id || j.Status != m.status || j.Attempt != m.attempt || j.Ended.IsZero() == ended(m.status) {
						r.Fatalf("%+v, want %+v", j, m)
					}
					if m.cancel {
						wanted = append(wanted, m.id)
					}
					total += m.runs
				}
				var runs int
				must(s.db.QueryRow(`SELECT COUNT(*) FROM runs`).Scan(&runs))
				if runs != total {
					r.Fatalf("%d runs, want %d", runs, total)
				}
				if ids, err := s.CancelWanted(ctx); err != nil || !slices.Equal(ids, wanted) {
					r.Fatalf("to be cancelled: %v, want %v (%v)", ids, wanted, err)
				}
			},
		})
	})
}
