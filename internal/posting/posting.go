// Package posting says what of a job is shown at GitHub: commit statuses, check
// runs with annotations, and the one comment on a pull request. It is pure: the
// same results give the same postings, so that what is there already is seen to
// be there. It must not know how they get to GitHub.
package posting

import "github.com/kernel-bisect/kbisect/internal/kernel"

// Pull is a pull request, or what was pushed to a branch, as far as postings
// speak of it.
type Pull struct {
	Repo   string // OWNER/NAME
	Number int    // 0 for a branch
	Head   string // object id
	Page   string // of the repository: https://github.com/OWNER/NAME
	// LeftOut is how many of its oldest commits are not tested, because there are
	// more than the configuration allows.
	LeftOut int
	// Waits is why nothing is tested yet, "" when it is: a line for the status.
	Waits string
	// Problem is why it cannot be tested, "" when it can.
	Problem string
	// Unchanged counts the commits that are in it since the last push: those whose
	// object id is the same, and those that are the same patch on the same tree.
	Unchanged int
}

// Report is one job of a pull request: its series with one profile.
type Report struct {
	// State is how far the job is: queued, running, done, failed, cancelled or
	// interrupted (of package store).
	State string
	// Problem is why a failed job could not find out, on one line.
	Problem string
	// Result is what there is, with its Profile and, once begun, Total; its ID is
	// the job's.
	Result *kernel.SeriesResult
	// Page is the job's page, "" where nobody serves it.
	Page string
	// Patches are the changes of its commits by their object ids, as far as known.
	Patches map[string]Patch
	// Logs are the logs of their builds by object ids, as far as there are any.
	Logs map[string]string
	// Commits are the object ids of the series, oldest first, also of those that
	// the job has not come to.
	Commits []string
}

// Status is a commit status.
// Source: docs.github.com/rest/commits/statuses.
type Status struct {
	SHA         string `json:"sha"`
	Context     string `json:"context"`     // kbisect/build/PROFILE and the like: stable, lower case
	State       string `json:"state"`       // pending, success, failure, error
	Description string `json:"description"` // at most 140 characters
	URL         string `json:"url"`         // of the job's page; "" for none
}

// Check is a check run, which only a GitHub App may post.
// Source: docs.github.com/rest/checks/runs.
type Check struct {
	SHA         string       `json:"sha"`
	Name        string       `json:"name"`
	Job         string       `json:"job"`        // becomes the external id
	Status      string       `json:"status"`     // queued, in_progress, completed
	Conclusion  string       `json:"conclusion"` // success, failure, neutral, cancelled, skipped, timed_out, action_required; "" until completed
	Title       string       `json:"title"`
	Summary     string       `json:"summary"` // Markdown, at most 65,535 characters
	URL         string       `json:"url"`
	Annotations []Annotation `json:"annotations"` // at most 50: one request
	Actions     []Action     `json:"actions"`     // at most 3
}

// Annotation is a remark at lines of a file of the commit.
type Annotation struct {
	Path    string `json:"path"`
	Start   int    `json:"start"` // line, from 1
	End     int    `json:"end"`
	Level   string `json:"level"`   // notice, warning, failure
	Title   string `json:"title"`   // at most 255 characters
	Message string `json:"message"` // at most 64 KB
}

// Action is a button of a check run.
type Action struct {
	ID          string `json:"id"`          // at most 20 characters
	Label       string `json:"label"`       // at most 20
	Description string `json:"description"` // at most 40
}
