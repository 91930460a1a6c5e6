// Package outbox takes what is to be shown at a forge there: one letter after
// the other, again while it fails, and never twice. It must not know what a
// forge is like, nor why something is shown.
package outbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/posting"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// Comment is a comment on an issue or a pull request, of which there is one for
// each marker.
type Comment struct {
	Number int
	Marker string // hidden in the comment: it is found again by it
	Body   string // without the marker
}

// Reaction is an emoji on a comment: eyes, confused, +1.
type Reaction struct {
	Comment int64
	Content string
}

// envelope is a letter's content: one of the four.
type envelope struct {
	Repo     string          `json:"repo"` // OWNER/NAME
	Status   *posting.Status `json:"status,omitempty"`
	Check    *posting.Check  `json:"check,omitempty"`
	Comment  *Comment        `json:"comment,omitempty"`
	Reaction *Reaction       `json:"reaction,omitempty"`
}

// seal makes a letter. Where a link leads is nothing that people see: a job that
// finds what an earlier one found posts nothing.
func seal(e envelope, seen any, place ...string) (store.Letter, error) {
	content, err := json.Marshal(e)
	if err != nil {
		return store.Letter{}, err
	}
	text, err := json.Marshal(seen)
	if err != nil {
		return store.Letter{}, err
	}
	sum := sha256.Sum256(text)
	return store.Letter{Place: strings.Join(place, " "), Content: content, Digest: hex.EncodeToString(sum[:])}, nil
}

// StatusLetter is a commit status.
func StatusLetter(repo string, s posting.Status) (store.Letter, error) {
	return seal(envelope{Repo: repo, Status: &s}, []string{s.State, s.Description}, "status", repo, s.SHA, s.Context)
}

// CheckLetter is a check run. Its job is seen: buttons act on it.
func CheckLetter(repo string, c posting.Check) (store.Letter, error) {
	return seal(envelope{Repo: repo, Check: &c}, c, "check", repo, c.SHA, c.Name)
}

// CommentLetter is a comment.
func CommentLetter(repo string, c Comment) (store.Letter, error) {
	return seal(envelope{Repo: repo, Comment: &c}, c.Body, "comment", fmt.Sprintf("%s#%d", repo, c.Number), c.Marker)
}

// ReactionLetter is a reaction.
func ReactionLetter(repo string, r Reaction) (store.Letter, error) {
	return seal(envelope{Repo: repo, Reaction: &r}, r.Content, "reaction", fmt.Sprintf("%s/%d", repo, r.Comment), r.Content)
}

// Forge is where letters go. look says that an earlier attempt may have come
// through: the forge is asked first, and what is there is not made again. remote
// is the id of what is there already, "" for nothing; it may be gone by now.
// What will never be taken is *Refused, a wish to wait *Busy; after any other
// error it is not known whether it came through.
type Forge interface {
	PostStatus(ctx context.Context, repo string, s posting.Status, look bool) error
	PostCheck(ctx context.Context, repo string, c posting.Check, remote string, look bool) (string, error)
	PostComment(ctx context.Context, repo string, c Comment, remote string, look bool) (string, error)
	React(ctx context.Context, repo string, r Reaction) error
}

// Refused says that the forge does not take it, now or later.
type Refused struct{ Why string }

func (e *Refused) Error() string { return e.Why }

// Busy says that the forge took nothing, and wants to be left alone until then.
type Busy struct {
	Until time.Time
	Why   string
}

func (e *Busy) Error() string { return e.Why }

// Record keeps letters: see the methods of store.Store.
type Record interface {
	Due(ctx context.Context, at time.Time) (l store.Letter, ok bool, next time.Time, err error)
	Sending(ctx context.Context, place string) error
	Sent(ctx context.Context, place, digest, remote string) error
	Postpone(ctx context.Context, place string, until time.Time, problem string, came bool) error
	GiveUp(ctx context.Context, place, digest, problem string) error
}

// Writer sends letters. There is one: a forge wants to be written to by one hand.
type Writer struct {
	Record Record
	Forge  Forge
	// Pace is the time between two letters: GitHub asks for a second between
	// requests that change something.
	// Source: docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api.
	Pace time.Duration
	Log  *zap.Logger

	wake chan struct{}
}

// NewWriter makes a writer.
func NewWriter(r Record, f Forge, pace time.Duration, log *zap.Logger) *Writer {
	return &Writer{Record: r, Forge: f, Pace: pace, Log: log, wake: make(chan struct{}, 1)}
}

// Nudge tells that there are new letters.
func (w *Writer) Nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// everySoOften is when the record is looked at without a nudge.
const everySoOften = time.Minute

// Run sends letters until ctx ends.
func (w *Writer) Run(ctx context.Context) {
	for ctx.Err() == nil {
		next, err := w.Drain(ctx)
		if err != nil && ctx.Err() == nil {
			w.Log.Error("the outbox cannot be read or written", zap.Error(err))
		}
		wait := everySoOften
		if !next.IsZero() {
			wait = min(wait, max(time.Until(next), 0))
		}
		rest(ctx, w.wake, wait)
	}
}

// Drain sends all letters that are due. next is when one that failed is due
// again, zero for none.
func (w *Writer) Drain(ctx context.Context) (next time.Time, err error) {
	for {
		l, ok, next, err := w.Record.Due(ctx, time.Now())
		if err != nil || !ok {
			return next, err
		}
		if err := w.send(ctx, l); err != nil {
			return time.Time{}, err
		}
		rest(ctx, nil, w.Pace)
		if ctx.Err() != nil {
			return time.Time{}, ctx.Err()
		}
	}
}

// rest waits for a time, or until somebody calls.
func rest(ctx context.Context, wake <-chan struct{}, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-wake:
	case <-t.C:
	}
}

// send sends one letter and records what became of it. An error is the record's.
func (w *Writer) send(ctx context.Context, l store.Letter) error {
	if err := w.Record.Sending(ctx, l.Place); err != nil {
		return err
	}
	remote, err := w.post(ctx, l)
	over := context.WithoutCancel(ctx) // what was done is recorded
	var refused *Refused
	var busy *Busy
	switch {
	case err == nil:
		return w.Record.Sent(over, l.Place, l.Digest, remote)
	case errors.As(err, &refused):
		w.Log.Error("the forge does not take this", zap.String("place", l.Place), zap.String("why", refused.Why))
		return w.Record.GiveUp(over, l.Place, l.Digest, refused.Why)
	case errors.As(err, &busy):
		w.Log.Info("the forge wants us to wait", zap.Time("until", busy.Until), zap.String("why", busy.Why))
		if err := w.Record.Postpone(over, l.Place, busy.Until, busy.Why, l.Sending); err != nil {
			return err
		}
		rest(ctx, nil, time.Until(busy.Until))
		return nil
	case ctx.Err() != nil:
		return w.Record.Postpone(over, l.Place, time.Now(), "interrupted", true)
	}
	again := time.Now().Add(pause(l.Attempts))
	w.Log.Warn("not sent, later again", zap.String("place", l.Place), zap.Int("attempt", l.Attempts+1), zap.Time("again", again), zap.Error(err))
	return w.Record.Postpone(over, l.Place, again, err.Error(), true)
}

// pause is how long to wait after so many attempts before: a second, twice as
// long each time, five minutes at most. GitHub's outages take minutes to hours.
func pause(attempts int) time.Duration {
	return min(time.Second<<min(attempts, 16), 5*time.Minute)
}

// post does what a letter says.
func (w *Writer) post(ctx context.Context, l store.Letter) (remote string, err error) {
	var e envelope
	if err := json.Unmarshal(l.Content, &e); err != nil {
		return "", &Refused{"not a letter: " + err.Error()}
	}
	switch {
	case e.Status != nil:
		return "", w.Forge.PostStatus(ctx, e.Repo, *e.Status, l.Sending)
	case e.Check != nil:
		return w.Forge.PostCheck(ctx, e.Repo, *e.Check, l.Remote, l.Sending)
	case e.Comment != nil:
		return w.Forge.PostComment(ctx, e.Repo, *e.Comment, l.Remote, l.Sending)
	case e.Reaction != nil:
		return "", w.Forge.React(ctx, e.Repo, *e.Reaction)
	}
	return "", &Refused{"a letter of a kind that is not known here"}
}
