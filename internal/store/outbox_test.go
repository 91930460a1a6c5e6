package store

import (
	"testing"
	"time"
)

func TestOutbox(t *testing.T) {
	s := open(t, t.TempDir())
	ctx, at := t.Context(), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := func(place, content string, changed bool) {
		t.Helper()
		if got, err := s.Want(ctx, Letter{Place: place, Content: []byte(content), Digest: "d" + content}); err != nil || got != changed {
			t.Errorf("Want %s %s: %v, %v", place, content, got, err)
		}
	}
	due := func(place, content string, sending bool) Letter {
		t.Helper()
		l, ok, _, err := s.Due(ctx, at)
		if err != nil || ok != (place != "") || l.Place != place || string(l.Content) != content || l.Sending != sending {
			t.Errorf("Due: %+v, %v, %v; want %q %q", l, ok, err, place, content)
		}
		return l
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	due("", "", false)
	want("a", "1", true)
	want("b", "1", true)
	want("a", "1", false)
	want("a", "2", true) // goes behind b: the newest wish holds, in its place
	due("b", "1", false)
	do(s.Sending(ctx, "b"))
	if l := due("b", "1", true); l.Attempts != 1 {
		t.Error(l)
	}
	// It changed while it was sent: what came is not what is wanted.
	want("b", "2", true)
	do(s.Sent(ctx, "b", "d1", "77"))
	due("a", "2", false)
	do(s.Postpone(ctx, "a", at.Add(time.Minute), "502", true))
	if l := due("b", "2", false); l.Remote != "77" {
		t.Error(l)
	}
	do(s.Sent(ctx, "b", "d2", "77"))
	want("b", "2", false)
	if _, ok, next, err := s.Due(ctx, at); ok || err != nil || !next.Equal(at.Add(time.Minute)) {
		t.Error(ok, next, err)
	}
	at = at.Add(time.Minute)
	due("a", "2", true)
	do(s.GiveUp(ctx, "a", "d2", "422"))
	due("", "", false)
	if w, g, err := s.OutboxLength(ctx); w != 0 || g != 1 || err != nil {
		t.Error(w, g, err)
	}
	want("a", "3", true)
	due("a", "3", false)
	do(s.GiveUp(ctx, "a", "d2", "late")) // of what is not wanted any more
	due("a", "3", false)
}

func TestDeliveries(t *testing.T) {
	s := open(t, t.TempDir())
	ctx := t.Context()
	for i, id := range []string{"x", "y", "x"} {
		fresh, err := s.Deliver(ctx, Delivery{ID: id, Event: "push", Body: []byte("body of " + id)})
		if err != nil || fresh != (i < 2) {
			t.Errorf("%s: %v, %v", id, fresh, err)
		}
	}
	got, err := s.Undelivered(ctx, 10)
	if err != nil || len(got) != 2 || got[0].ID != "x" || string(got[1].Body) != "body of y" || got[1].Event != "push" {
		t.Errorf("%+v, %v", got, err)
	}
	if err := s.DealtWith(ctx, "x", ""); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Undelivered(ctx, 10); err != nil || len(got) != 1 || got[0].ID != "y" {
		t.Errorf("%+v, %v", got, err)
	}
	if fresh, err := s.Deliver(ctx, Delivery{ID: "x"}); fresh || err != nil {
		t.Error("delivered twice", err)
	}
	// What came to nothing is taken again where somebody may have asked for that.
	if err := s.DealtWith(ctx, "y", "no such repository"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		id          string
		anew, fresh bool
	}{{"y", false, false}, {"x", true, false}, {"y", true, true}, {"y", true, false}} {
		if fresh, err := s.Deliver(ctx, Delivery{ID: c.id, Event: "push", Body: []byte("again"), Anew: c.anew}); fresh != c.fresh || err != nil {
			t.Errorf("%+v: %v, %v", c, fresh, err)
		}
	}
	if got, err := s.Undelivered(ctx, 10); err != nil || len(got) != 1 || got[0].ID != "y" || string(got[0].Body) != "again" {
		t.Errorf("%+v, %v", got, err)
	}
	if err := s.DealtWith(ctx, "y", ""); err != nil {
		t.Fatal(err)
	}
	if err := s.ForgetDeliveries(ctx, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if fresh, err := s.Deliver(ctx, Delivery{ID: "x"}); !fresh || err != nil {
		t.Error("not forgotten", err)
	}
	if got, err := s.Undelivered(ctx, 10); err != nil || len(got) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestPulls(t *testing.T) {
	s := open(t, t.TempDir())
	ctx := t.Context()
	save := func(name string, open bool, text string, jobs ...string) {
		t.Helper()
		if err := s.SavePull(ctx, name, open, []byte(text), jobs); err != nil {
			t.Fatal(err)
		}
	}
	save("a/b#1", true, `{"n":1}`, "series-1")
	save("a/b#2", true, `{"n":2}`, "series-2", "series-3")
	save("a/b#1", false, `{"n":11}`)
	if p, err := s.Pull(ctx, "a/b#1"); string(p) != `{"n":11}` || err != nil {
		t.Errorf("%s, %v", p, err)
	}
	save("a/b#3", false, `{"n":3}`, "series-3")
	if ps, err := s.PullsOf(ctx, "series-3"); len(ps) != 2 || string(ps[0]) != `{"n":2}` || string(ps[1]) != `{"n":3}` || err != nil {
		t.Errorf("%s, %v", ps, err)
	}
	if ps, err := s.PullsOf(ctx, "series-9"); ps != nil || err != nil {
		t.Errorf("%s, %v", ps, err)
	}
	if c, err := s.Cursor(ctx, "a/b"); c != nil || err != nil {
		t.Errorf("%s, %v", c, err)
	}
	for _, want := range []string{`{"x":1}`, `{"x":2}`} {
		if err := s.SaveCursor(ctx, "a/b", []byte(want)); err != nil {
			t.Fatal(err)
		}
		if c, err := s.Cursor(ctx, "a/b"); string(c) != want || err != nil {
			t.Errorf("%s, %v", c, err)
		}
	}
	if ps, err := s.OpenPulls(ctx); len(ps) != 1 || string(ps[0]) != `{"n":2}` || err != nil {
		t.Errorf("%s, %v", ps, err)
	}
}
