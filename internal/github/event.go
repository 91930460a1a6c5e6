package github

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Kind says what has happened.
type Kind string

// What is told of.
const (
	PullChanged Kind = "pull"    // opened, pushed to, closed: ask what it is now
	Pushed      Kind = "push"    // to a branch
	Commented   Kind = "comment" // with a command in it
	Rerun       Kind = "rerun"   // somebody wants a check run again
	Pressed     Kind = "pressed" // a button of a check run
)

// Event is something that has happened, of a webhook or seen by polling.
type Event struct {
	Kind   Kind   `json:"kind"`
	Repo   string `json:"repo"`             // OWNER/NAME
	Number int    `json:"number,omitempty"` // of the pull request or issue
	// Of a comment.
	Comment int64  `json:"comment,omitempty"`
	Author  string `json:"author,omitempty"`
	Body    string `json:"body,omitempty"`
	// At is when it was written, by GitHub's clock; zero where that is not told.
	At time.Time `json:"at,omitzero"`
	// Of a push. Before is "" for a branch that is new.
	Branch string `json:"branch,omitempty"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// Of a check run, or of all of a commit: then there is no Job.
	Job    string `json:"job,omitempty"`
	SHA    string `json:"sha,omitempty"`
	Button string `json:"button,omitempty"`

	id string
}

// Look is an event of our own: that a pull request may have changed while nobody
// listened. when tells one such question from another.
func Look(repo string, number int, when time.Time) Event {
	return Event{Kind: PullChanged, Repo: repo, Number: number, id: fmt.Sprintf("look %s#%d %d", repo, number, when.UnixNano())}
}

// polled is how an event that was seen by polling is recorded: as a delivery of
// our own.
const polled = "polled"

// Delivery is the event as a webhook would have brought it: the id is the same
// whenever the same is seen.
func (e Event) Delivery() (id, event string, body []byte, err error) {
	body, err = json.Marshal(e)
	sum := sha256.Sum256([]byte(e.id))
	return polled + "-" + hex.EncodeToString(sum[:16]), polled, body, err
}

// zeros is the object id of a branch that is not there.
var zeros = strings.Repeat("0", 40)

// command is how a comment begins a line that is for us.
const command = "/kbisect"

// Decode reads a delivery: ok is false for what does not matter here. The
// payload is signed, but what people wrote is in it: nothing is taken on trust.
func Decode(event string, body []byte) (e Event, ok bool, err error) {
	if event == polled {
		err = json.Unmarshal(body, &e)
		return e, err == nil, err
	}
	if !wanted[event] {
		return e, false, nil
	}
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return e, false, fmt.Errorf("webhook %s: %w", event, err)
	}
	e = Event{Repo: p.Repository.FullName, Author: p.Sender.Login}
	switch event {
	case "pull_request":
		e.Kind, e.Number = PullChanged, p.Number
		switch p.Action {
		case "opened", "reopened", "synchronize", "closed", "ready_for_review":
			ok = true
		case "edited": // of interest when it is meant for another branch
			ok = len(p.Changes.Base) > 0
		}
	case "push":
		branch, isBranch := strings.CutPrefix(p.Ref, "refs/heads/")
		e.Kind, e.Branch, e.Before, e.After = Pushed, branch, p.Before, p.After
		if e.Before == zeros {
			e.Before = ""
		}
		ok = isBranch && !p.Deleted && e.After != zeros
	case "issue_comment":
		e, ok = commented(e.Repo, p.Comment, p.Issue.Number)
		ok = ok && p.Action == "created"
	case "check_run":
		e.Job, e.SHA = p.CheckRun.ExternalID, p.CheckRun.HeadSHA
		switch p.Action {
		case "rerequested":
			e.Kind, ok = Rerun, true
		case "requested_action":
			e.Kind, e.Button, ok = Pressed, p.RequestedAction.Identifier, true
		}
	case "check_suite":
		e.Kind, e.SHA, ok = Rerun, p.CheckSuite.HeadSHA, p.Action == "rerequested"
	}
	if ok && !RepoName(e.Repo) {
		return e, false, fmt.Errorf("webhook %s: no repository", event)
	}
	return e, ok, nil
}

// wanted are the events that may matter.
var wanted = map[string]bool{"pull_request": true, "push": true, "issue_comment": true, "check_run": true, "check_suite": true}

// payload is what matters of all events. The library's types want dates in one
// form, and GitHub's own examples have another.
type payload struct {
	Action, Ref, Before, After string
	Deleted                    bool
	Number                     int
	Repository                 struct {
		FullName string `json:"full_name"`
	}
	Sender  account
	Changes struct{ Base json.RawMessage }
	Issue   struct{ Number int }
	Comment comment

	CheckRun struct {
		ExternalID string `json:"external_id"`
		HeadSHA    string `json:"head_sha"`
	} `json:"check_run"`
	CheckSuite struct {
		HeadSHA string `json:"head_sha"`
	} `json:"check_suite"`
	RequestedAction struct{ Identifier string } `json:"requested_action"`
}

type account struct{ Login string }

// comment is one on an issue or a pull request.
type comment struct {
	ID        int64
	Body      string
	User      account
	CreatedAt string `json:"created_at"`
}

// maxComment is the most of a comment that is read: GitHub's own limit.
const maxComment = 65536

// commented is a comment, if there may be a command in it.
func commented(repo string, c comment, number int) (Event, bool) {
	body := c.Body
	if len(body) > maxComment {
		body = body[:maxComment]
	}
	e := Event{Kind: Commented, Repo: repo, Number: number, Comment: c.ID, Author: c.User.Login, Body: body}
	e.At, _ = time.Parse(time.RFC3339, c.CreatedAt)
	e.id = fmt.Sprintf("comment %s %d", repo, c.ID)
	return e, number > 0 && e.Comment > 0 && strings.Contains(body, command)
}

// cutLast cuts at the last sep.
func cutLast(s string, sep byte) (before, after string) {
	i := strings.LastIndexByte(s, sep)
	return s[:max(i, 0)], s[i+1:]
}
