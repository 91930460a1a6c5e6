package pulls

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/github"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/posting"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// stage is a forge with one pull request, whose commits are what it says.
type stage struct {
	now       github.Pull
	submitted []string        // heads
	running   bool            // what was submitted has not ended
	lost      map[string]bool // commits that nobody has any more
}

func (s *stage) Pull(context.Context, string, int) (github.Pull, error) { return s.now, nil }
func (s *stage) MayWrite(_ context.Context, _, user string, _ bool) (bool, error) {
	return user == "dev", nil
}
func (s *stage) Series(_ context.Context, _ Repo, p github.Pull) (Series, error) {
	return Series{Tip: p.Base, Base: p.Base, Head: p.Head, Commits: []Commit{{SHA: p.Head}}}, nil
}
func (s *stage) Pushed(_ context.Context, _ Repo, _, before, after string) (Series, string, error) {
	return Series{Base: before, Head: after, Commits: []Commit{{SHA: after}}}, "", nil
}
func (s *stage) Patch(_ context.Context, _, sha string) (posting.Patch, error) {
	if s.lost[sha] {
		return posting.Patch{}, errors.New("bad object " + sha)
	}
	return posting.Patch{}, nil
}
func (s *stage) Submit(_ context.Context, j Job) (string, error) {
	s.submitted = append(s.submitted, j.Head)
	return fmt.Sprintf("job %d %s", len(s.submitted), j.Head), nil
}
func (s *stage) Cancel(context.Context, string) error { return nil }
func (s *stage) Report(_ context.Context, id string) (Report, error) {
	if s.running {
		return Report{State: store.Running, Profile: "cow"}, nil
	}
	sha := id[strings.LastIndex(id, " ")+1:]
	return Report{State: store.Done, Profile: "cow", Result: &kernel.SeriesResult{ID: id, Profile: "cow", Status: "done", Total: 1,
		Commits: []kernel.CommitResult{{SHA: sha, Build: kernel.Build{Status: kernel.BuildOK}, Tests: []kernel.TestResult{{Name: "t", Verdict: kernel.Good, Runs: 2}}}}}}, nil
}

func (s *stage) follower(t *testing.T) (*Follower, *store.Store) {
	t.Helper()
	record, err := store.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = record.Close() })
	return &Follower{Forge: s, Tree: s, Lab: s, Record: record, Nudge: func() {}, Log: zap.NewNop(), Profiles: []string{"cow"},
		Repos: map[string]Repo{"a/b": {Name: "a/b", Profiles: []string{"cow"}, MaxCommits: 5, Branches: []string{"main"}, Statuses: true, Comment: true}}}, record
}

// What a stranger pushes after a maintainer has said ok waits, however late we hear
// of both, and in whatever order.
func TestApproval(t *testing.T) {
	looked, pushed := strings.Repeat("a", 40), strings.Repeat("b", 40)
	said := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, body string
		pushed     time.Time
		trusted    bool
		want       string // tested
	}{
		{"before", "/kbisect ok", said.Add(-time.Second), false, pushed},
		{"after", "/kbisect ok", said.Add(time.Second), false, ""},
		{"in the same second", "/kbisect ok", said, false, ""},
		{"after, and these are meant", "/kbisect ok " + pushed[:12], said.Add(time.Second), false, pushed},
		{"after, and others are meant", "/kbisect ok " + looked[:12], said.Add(time.Second), false, ""},
		{"to test, before", "/kbisect test", said.Add(-time.Second), false, pushed},
		{"to test, after", "/kbisect test", said.Add(time.Second), false, ""},
		{"once more, after", "/kbisect retest", said.Add(time.Second), false, ""},
		{"to test, after, by somebody known", "/kbisect test", said.Add(time.Second), true, pushed},
		{"the repository is gone", "/kbisect ok", time.Time{}, false, pushed},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &stage{now: github.Pull{Number: 1, Open: true, Head: pushed, Base: "base", BaseRef: "main", Fork: true, Stranger: !c.trusted, Pushed: c.pushed}}
			f, _ := s.follower(t)
			// The round of polling has the push before the comment.
			for _, e := range []github.Event{
				{Kind: github.PullChanged, Repo: "a/b", Number: 1},
				{Kind: github.Commented, Repo: "a/b", Number: 1, Comment: 7, Author: "dev", Body: c.body, At: said},
			} {
				if err := f.Handle(t.Context(), "d", e); err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.Join(s.submitted, " "); c.trusted && !strings.Contains(got, c.want) || !c.trusted && got != c.want {
				t.Errorf("tested %q, want %q", got, c.want)
			}
		})
	}
}

// A pull request that nobody has looked at, as one that was closed before the service
// was there, has no series to post; a bisection may be asked for there.
func TestUnseen(t *testing.T) {
	s := &stage{now: github.Pull{Number: 1, Head: strings.Repeat("a", 40), Base: "base", BaseRef: "main"}}
	f, record := s.follower(t)
	for i, body := range []string{"/kbisect cancel", "/kbisect bisect good=v1 bad=v2 test=t"} {
		if err := f.Handle(t.Context(), "d", github.Event{Kind: github.Commented, Repo: "a/b", Number: 1, Comment: int64(7 + i), Author: "dev", Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.SyncAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	for {
		l, ok, _, err := record.Due(t.Context(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if strings.Contains(string(l.Content), "waits for its turn") {
			t.Errorf("%s: %.200s", l.Place, l.Content)
		}
		if err := record.Sent(t.Context(), l.Place, l.Digest, "1"); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.submitted) != 1 {
		t.Errorf("submitted %v", s.submitted)
	}
}

// Each check of a commit that is to run again says so; once is enough.
func TestRerunOnce(t *testing.T) {
	head := strings.Repeat("a", 40)
	s := &stage{now: github.Pull{Number: 1, Open: true, Head: head, Base: "base", BaseRef: "main"}, running: true}
	f, _ := s.follower(t)
	handle := func(e github.Event) {
		t.Helper()
		e.Repo, e.Author = "a/b", "dev"
		if err := f.Handle(t.Context(), e.Job, e); err != nil {
			t.Fatal(err)
		}
	}
	handle(github.Event{Kind: github.PullChanged, Number: 1})
	for range 2 {
		handle(github.Event{Kind: github.Rerun, Job: "job 1 " + head, SHA: head})
	}
	if len(s.submitted) != 2 {
		t.Errorf("submitted %d times, want 2", len(s.submitted))
	}
	handle(github.Event{Kind: github.Rerun, Job: "job 2 " + head, SHA: head})
	if len(s.submitted) != 3 {
		t.Errorf("submitted %d times, want 3: that was another press", len(s.submitted))
	}
}

// A commit that nobody has any more keeps nothing back.
func TestLostCommit(t *testing.T) {
	head := strings.Repeat("a", 40)
	s := &stage{now: github.Pull{Number: 1, Open: true, Head: head, Base: "base", BaseRef: "main"}, lost: map[string]bool{head: true}}
	f, record := s.follower(t)
	if err := f.Handle(t.Context(), "d", github.Event{Kind: github.PullChanged, Repo: "a/b", Number: 1}); err != nil {
		t.Fatal(err)
	}
	if err := f.SyncAll(t.Context()); err != nil {
		t.Error(err)
	}
	l, ok, _, err := record.Due(t.Context(), time.Now())
	if err != nil || !ok || !strings.Contains(string(l.Content), head) {
		t.Errorf("nothing is posted: %+v, %v", l, err)
	}
}
