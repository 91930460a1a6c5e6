package app

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// mostEarlier is how many series are looked through for the one of which this is a
// later version, or which stood on another base.
const mostEarlier = 50

// earlier finds the last series of the repository that had some of the patches as
// other commits, by subject and git-patch-id(1), and where it came to other
// verdicts. That is for people: what was seen on other trees is no evidence here.
// nil for none.
func (b *bench) earlier(ctx context.Context, commits []kernel.Commit, res *kernel.SeriesResult) (*kernel.Earlier, error) {
	jobs, err := b.ws.store.JobList(ctx, store.JobFilter{Kinds: []string{"series"}, Before: b.id, Limit: mostEarlier})
	if err != nil {
		return nil, err
	}
	ids := map[string]string{} // of commits that have been looked at
	for _, j := range jobs {
		if j, err = b.ws.store.Job(ctx, j.ID); err != nil {
			return nil, err
		}
		req, err := decodeRequest(j.Request)
		// Another version's, another question's, or nothing came of it.
		if err != nil || req.Repo != b.req.Repo || req.Profile != b.req.Profile || len(req.Carry)+len(b.req.Carry) > 0 || len(j.Result) == 0 {
			continue
		}
		var old kernel.SeriesResult
		if json.Unmarshal(j.Result, &old) != nil {
			continue
		}
		e := &kernel.Earlier{Job: j.ID, Base: old.Base.SHA}
		for i, c := range commits[:len(res.Commits)] {
			k := slices.IndexFunc(old.Commits, func(o kernel.CommitResult) bool { return o.Subject == c.Subject && o.SHA != c.SHA })
			if k < 0 {
				continue
			}
			same, err := b.samePatch(ctx, ids, c.SHA, old.Commits[k].SHA)
			if err != nil {
				return nil, err
			}
			if same {
				e.Patches = append(e.Patches, kernel.SamePatch{SHA: c.SHA, Was: old.Commits[k].SHA, Differs: differing(res.Commits[i].Tests, old.Commits[k].Tests)})
			}
		}
		if len(e.Patches) > 0 {
			return e, nil
		}
	}
	return nil, nil
}

// samePatch says whether two commits change the same.
func (b *bench) samePatch(ctx context.Context, ids map[string]string, shas ...string) (bool, error) {
	for _, sha := range shas {
		if _, ok := ids[sha]; ok {
			continue
		}
		if has, err := b.repo.Has(ctx, sha); err != nil || !has { // dropped since
			ids[sha] = ""
			if err != nil {
				return false, err
			}
			continue
		}
		c, err := b.repo.Commit(ctx, sha)
		if err == nil {
			ids[sha], err = b.repo.PatchID(ctx, c)
		}
		if err != nil {
			return false, err
		}
	}
	return ids[shas[0]] != "" && ids[shas[0]] == ids[shas[1]], nil
}

// differing are the tests that are good on one side and bad on the other, with what
// they were.
func differing(now, then []kernel.TestResult) map[string]kernel.Verdict {
	decided := func(v kernel.Verdict) bool { return v == kernel.Good || v == kernel.Bad }
	var out map[string]kernel.Verdict
	for _, t := range now {
		k := slices.IndexFunc(then, func(o kernel.TestResult) bool { return o.Name == t.Name })
		if k >= 0 && decided(t.Verdict) && decided(then[k].Verdict) && t.Verdict != then[k].Verdict {
			if out == nil {
				out = map[string]kernel.Verdict{}
			}
			out[t.Name] = then[k].Verdict
		}
	}
	return out
}
