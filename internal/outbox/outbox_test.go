package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/kernel-bisect/kbisect/internal/posting"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// forge is a forge in memory that fails as it is told: each post takes the next
// of fail.
type forge struct {
	fail     func() string // "", before, after (it was done), busy, refused, crash (done, and the process dies)
	crash    context.CancelFunc
	statuses map[string][]posting.Status // by sha and context, the oldest first
	checks   map[int]posting.Check
	comments map[int]Comment
	reacted  map[Reaction]bool
	calls    []time.Time
}

func newForge(fail func() string) *forge {
	return &forge{fail: fail, statuses: map[string][]posting.Status{}, checks: map[int]posting.Check{}, comments: map[int]Comment{}, reacted: map[Reaction]bool{}}
}

func (f *forge) do(ctx context.Context, change func()) error {
	f.calls = append(f.calls, time.Now())
	switch what := f.fail(); what {
	case "before":
		return errors.New("connection reset")
	case "after":
		change()
		return errors.New("502")
	case "busy":
		return &Busy{Until: time.Now().Add(time.Millisecond), Why: "slowly"}
	case "refused":
		return &Refused{"422"}
	case "crash":
		change()
		f.crash()
		return ctx.Err()
	}
	change()
	return nil
}

func (f *forge) PostStatus(ctx context.Context, _ string, s posting.Status, look bool) error {
	key := s.SHA + " " + s.Context
	have := f.statuses[key]
	if look && len(have) > 0 && have[len(have)-1] == s {
		return nil
	}
	return f.do(ctx, func() { f.statuses[key] = append(f.statuses[key], s) })
}

func (f *forge) PostCheck(ctx context.Context, _ string, c posting.Check, remote string, look bool) (string, error) {
	id, err := strconv.Atoi(remote)
	if err != nil && look {
		for n, x := range f.checks {
			if x.SHA == c.SHA && x.Name == c.Name {
				id = n
			}
		}
	}
	if id == 0 {
		id = len(f.checks) + 1
	}
	return strconv.Itoa(id), f.do(ctx, func() { f.checks[id] = c })
}

func (f *forge) PostComment(ctx context.Context, _ string, c Comment, remote string, _ bool) (string, error) {
	id, err := strconv.Atoi(remote)
	if err != nil {
		for n, x := range f.comments {
			if x.Number == c.Number && x.Marker == c.Marker {
				id = n
			}
		}
	}
	if id == 0 {
		id = len(f.comments) + 1
	}
	return strconv.Itoa(id), f.do(ctx, func() { f.comments[id] = c })
}

func (f *forge) React(ctx context.Context, _ string, r Reaction) error {
	return f.do(ctx, func() { f.reacted[r] = true })
}

func must[T any](t interface{ Fatal(...any) }) func(T, error) T {
	return func(v T, err error) T {
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Whatever fails and whenever the process dies, in the end the forge shows what
// was wanted last, once.
func TestExactInTheEnd(t *testing.T) {
	record := must[*store.Store](t)(store.Open(t.Context(), t.TempDir()))
	defer func() { _ = record.Close() }()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		repo := fmt.Sprintf("o/r%d", n) // its letters are its own
		kinds := []string{"", "", "", "before", "after", "busy", "crash"}
		quiet := false
		f := newForge(func() string {
			if quiet {
				return ""
			}
			return rapid.SampledFrom(kinds).Draw(t, "fault")
		})
		statuses, comments := map[string]posting.Status{}, map[int]string{}
		var checked posting.Check
		drain := func() {
			ctx, crash := context.WithCancel(context.Background())
			defer crash()
			f.crash = crash
			w := NewWriter(impatient{record}, f, 0, zap.NewNop())
			for ctx.Err() == nil {
				if next, err := w.Drain(ctx); err != nil || next.IsZero() {
					return
				}
			}
		}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			var l store.Letter
			var err error
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				s := posting.Status{SHA: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "sha"), Context: "kbisect/series", State: rapid.SampledFrom([]string{"pending", "success"}).Draw(t, "state")}
				statuses[s.SHA+" "+s.Context] = s
				l, err = StatusLetter(repo, s)
			case 1:
				c := Comment{Number: rapid.IntRange(1, 2).Draw(t, "number"), Marker: "series", Body: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "body")}
				comments[c.Number] = c.Body
				l, err = CommentLetter(repo, c)
			case 2:
				checked = posting.Check{SHA: "a", Name: "kbisect/cow", Title: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "title")}
				l, err = CheckLetter(repo, checked)
			case 3:
				l, err = ReactionLetter(repo, Reaction{7, "eyes"})
			}
			must[store.Letter](t)(l, err)
			must[bool](t)(record.Want(context.Background(), l))
			if rapid.Bool().Draw(t, "drain") {
				drain()
			}
		}
		quiet = true
		drain()
		for key, want := range statuses {
			got := f.statuses[key]
			if len(got) == 0 || got[len(got)-1] != want {
				t.Errorf("%s: %+v, want %+v", key, got, want)
			}
			for i := 1; i < len(got); i++ {
				if got[i] == got[i-1] {
					t.Errorf("%s: twice: %+v", key, got)
				}
			}
		}
		if len(f.comments) != len(comments) {
			t.Errorf("%d comments, want %d", len(f.comments), len(comments))
		}
		for _, c := range f.comments {
			if comments[c.Number] != c.Body {
				t.Errorf("comment on %d: %q", c.Number, c.Body)
			}
		}
		if checked.Name != "" && (len(f.checks) != 1 || f.checks[1].Title != checked.Title) {
			t.Errorf("%+v", f.checks)
		}
		if waiting, givenUp, err := record.OutboxLength(context.Background()); waiting+givenUp != 0 || err != nil {
			t.Error(waiting, givenUp, err)
		}
	})
}

// impatient is a record that lets everything be due at once: the test is not
// about waiting.
type impatient struct{ *store.Store }

func (r impatient) Due(ctx context.Context, at time.Time) (store.Letter, bool, time.Time, error) {
	return r.Store.Due(ctx, at.Add(time.Hour))
}

// one is a record of one letter, in memory.
type one struct {
	letter    store.Letter
	sent      bool
	notBefore time.Time
	problem   string
}

func (o *one) Due(_ context.Context, at time.Time) (store.Letter, bool, time.Time, error) {
	if o.sent {
		return store.Letter{}, false, time.Time{}, nil
	}
	return o.letter, !at.Before(o.notBefore), o.notBefore, nil
}
func (o *one) Sending(context.Context, string) error { o.letter.Attempts++; return nil }
func (o *one) Sent(context.Context, string, string, string) error {
	o.sent = true
	return nil
}
func (o *one) Postpone(_ context.Context, _ string, until time.Time, problem string, came bool) error {
	o.notBefore, o.problem, o.letter.Sending = until, problem, came
	return nil
}
func (o *one) GiveUp(_ context.Context, _, _, problem string) error {
	o.sent, o.problem = true, problem
	return nil
}

// A letter that fails is tried again after one second, then two, and so on; one
// that the forge wants to wait for when it says.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		faults := []string{"before", "before", "after", "hour", ""}
		f := newForge(nil)
		var looked []bool
		record := &one{letter: must[store.Letter](t)(StatusLetter("o/r", posting.Status{SHA: "a"}))}
		f.fail = func() string {
			looked = append(looked, record.letter.Sending)
			fault := faults[0]
			faults = faults[1:]
			return fault
		}
		ctx, stop := context.WithCancel(t.Context())
		w := NewWriter(record, hourly{f}, time.Second, zap.NewNop())
		go w.Run(ctx)
		time.Sleep(2 * time.Hour)
		stop()
		synctest.Wait()
		var at []time.Duration
		for _, c := range f.calls {
			at = append(at, c.Sub(start))
		}
		// The pause follows from the attempts before it; between two letters is a second.
		want := []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second}
		if !record.sent || len(at) != 5 || !slices.Equal(at[:4], want) || at[4] < time.Hour {
			t.Errorf("sent %v at %v", record.sent, at)
		}
		if !slices.Equal(looked, []bool{false, true, true, true, true}) {
			t.Errorf("looked %v", looked)
		}
	})
}

// hourly is a forge that is busy for an hour when told so.
type hourly struct{ *forge }

func (h hourly) PostStatus(ctx context.Context, repo string, s posting.Status, look bool) error {
	h.calls = append(h.calls, time.Now())
	switch h.fail() {
	case "before", "after":
		return errors.New("502")
	case "hour":
		return &Busy{Until: time.Now().Add(time.Hour), Why: "limit"}
	}
	return nil
}

// What is not taken is given up; the next content is tried.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	record := must[*store.Store](t)(store.Open(t.Context(), dir))
	defer func() { _ = record.Close() }()
	faults := []string{"refused", ""}
	f := newForge(func() string {
		fault := faults[0]
		faults = faults[1:]
		return fault
	})
	w := NewWriter(record, f, 0, zap.NewNop())
	for _, state := range []string{"pending", "success"} {
		must[bool](t)(record.Want(t.Context(), must[store.Letter](t)(StatusLetter("o/r", posting.Status{SHA: "a", State: state}))))
		must[time.Time](t)(w.Drain(t.Context()))
	}
	if got := f.statuses["a "]; len(got) != 1 || got[0].State != "success" {
		t.Errorf("%+v", got)
	}
}

// Where a link leads is nothing to post anew for.
func TestLinksAreNotSeen(t *testing.T) {
	a := must[store.Letter](t)(StatusLetter("o/r", posting.Status{SHA: "a", State: "success", URL: "x"}))
	b := must[store.Letter](t)(StatusLetter("o/r", posting.Status{SHA: "a", State: "success", URL: "y"}))
	c := must[store.Letter](t)(StatusLetter("o/r", posting.Status{SHA: "a", State: "failure", URL: "y"}))
	if a.Digest != b.Digest || b.Digest == c.Digest || a.Place != c.Place {
		t.Error(a, b, c)
	}
}
