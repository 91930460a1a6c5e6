package posting

import (
	"fmt"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/report"
)

// States of a commit status. Source: docs.github.com/rest/commits/statuses.
const (
	success = "success"
	failure = "failure"
	pending = "pending"
	unknown = "error" // it could not be found out
)

// maxDescription is what GitHub takes, in characters.
const maxDescription = 140

// Contexts are slugs that do not change from push to push, so that branches can
// be protected by them.
func contextBuild(profile string) string { return slug("kbisect/build/" + profile) }
func contextTest(profile string) string  { return slug("kbisect/test/" + profile) }

const contextSeries = "kbisect/series"

func slug(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', strings.ContainsRune("/_.-", r):
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, s)
}

// under says whether a job is yet to say something.
func (rep Report) under() bool { return rep.State == "queued" || rep.State == "running" }

// Statuses are those of all commits that are through, and of the head, on which
// people and branch protection look.
func Statuses(p Pull, reports []Report) []Status {
	var out []Status
	for _, rep := range reports {
		through := map[string]bool{}
		for _, r := range rep.rows() {
			through[r.SHA] = true
			b, t := r.build(), r.test()
			out = append(out,
				Status{r.SHA, contextBuild(rep.Result.Profile), b.state, short(b.why, maxDescription), rep.Page},
				Status{r.SHA, contextTest(rep.Result.Profile), t.state, short(t.why, maxDescription), rep.Page})
		}
		if !through[p.Head] && p.Head != "" {
			state, why := pending, "waits for its turn"
			if !rep.under() {
				state, why = unknown, short(rep.ended(), maxDescription)
			}
			out = append(out,
				Status{p.Head, contextBuild(rep.Result.Profile), state, why, rep.Page},
				Status{p.Head, contextTest(rep.Result.Profile), state, why, rep.Page})
		}
	}
	if p.Head != "" {
		j := whole(p, reports)
		if j.steady != "" {
			j.why = j.steady
		}
		page := ""
		if len(reports) > 0 {
			page = reports[0].Page
		}
		out = append(out, Status{p.Head, contextSeries, j.state, short(j.why, maxDescription), page})
	}
	return out
}

// ended says why a job that does nothing any more did not come to an end.
func (rep Report) ended() string {
	switch {
	case rep.Problem != "":
		return rep.State + ": " + rep.Problem
	case rep.State == "done":
		return "not tested"
	}
	return rep.State
}

// whole judges all jobs of a pull request.
func whole(p Pull, reports []Report) judgement {
	if p.Waits != "" {
		return judgement{state: pending, why: p.Waits}
	}
	if p.Problem != "" {
		return judgement{state: unknown, why: "cannot be tested: " + p.Problem}
	}
	if len(reports) == 0 {
		return judgement{state: pending, why: "waits for its turn"}
	}
	worst := judgement{state: success, why: ""}
	under, through, total := false, 0, 0
	rank := map[string]int{success: 0, unknown: 1, failure: 2}
	for _, rep := range reports {
		under = under || rep.under()
		through += len(rep.Result.Commits)
		total += max(len(rep.Commits), rep.Result.Total)
		if j := rep.judge(); rank[j.state] > rank[worst.state] || worst.why == "" {
			worst = j
		}
	}
	switch {
	case under && worst.state == failure:
		return judgement{state: pending, why: fmt.Sprintf("%d of %d commits tested so far: %s", through, total, worst.why), steady: fmt.Sprintf("testing %d commits: %s", total, worst.why)}
	case under && through == 0:
		return judgement{state: pending, why: fmt.Sprintf("%d commits to test", total)}
	case under:
		return judgement{state: pending, why: fmt.Sprintf("%d of %d commits tested, nothing bad so far", through, total), steady: fmt.Sprintf("testing %d commits, nothing bad so far", total)}
	}
	return worst
}

// judge judges one job, as far as it is.
func (rep Report) judge() judgement {
	worst := judgement{state: success, why: ""}
	rank := map[string]int{success: 0, unknown: 1, failure: 2}
	for _, r := range rep.rows() {
		for _, j := range []judgement{r.build(), r.test()} {
			if rank[j.state] > rank[worst.state] {
				worst = j
			}
		}
	}
	if rep.State != "done" && !rep.under() && worst.state != failure {
		return judgement{state: unknown, why: rep.ended()}
	}
	worst.why = rep.sentence()
	return worst
}

// sentence is the verdict of a job in one line, without how far it is.
func (rep Report) sentence() string {
	res := *rep.Result
	res.Status, res.Total = "done", 0
	if rep.under() && len(res.Commits) == 0 {
		return "nothing yet"
	}
	var down []string // what does not come up, and whose fault that is
	for _, r := range rep.rows() {
		why := ""
		switch {
		case r.build().state == failure && r.ours():
			why = "does not build"
		case r.Build.Status == kernel.BuildOK && r.Boot.Status == kernel.BootFailed && r.test().state == failure:
			why = "does not boot"
		default:
			continue
		}
		down = append(down, fmt.Sprintf("%s %q %s", kernel.Abbrev(r.SHA), short(r.Subject, 60), why))
	}
	if len(down) > 1 {
		down = []string{fmt.Sprintf("%s, and %d more do not build or boot", down[0], len(down)-1)}
	}
	s, err := report.Verdict(&res)
	switch {
	case err != nil:
		return rep.State
	case len(down) == 0:
		return s
	case len(res.FirstBad) == 0:
		return down[0]
	}
	return s + "; " + down[0]
}
