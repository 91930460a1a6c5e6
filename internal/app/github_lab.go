package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/kernel-bisect/kbisect/internal/artifact"
	"github.com/kernel-bisect/kbisect/internal/config"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/pulls"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// pullLab carries out the jobs of pull requests.
type pullLab struct {
	s     *service
	repos map[string]config.GitHubRepo // by OWNER/NAME
}

var _ pulls.Lab = (*pullLab)(nil)

// Submit implements pulls.Lab.
func (l *pullLab) Submit(ctx context.Context, j pulls.Job) (string, error) {
	r := l.repos[j.Repo]
	sub := submission{
		kind: j.Kind, repo: r.Repo, span: j.Base + ".." + j.Head, profile: j.Profile, tests: r.Tests, fresh: j.Fresh,
		priority: store.Normal, search: defaultSearch(), trusted: j.Trusted, owner: "github", label: j.Title, key: j.Owner + " " + j.Key,
	}
	if j.Stranger { // of earlier pushes, too: what they did not change is not built again
		sub.stranger = j.Owner
	}
	if j.Kind == "bisect" {
		sub.tests = []string{j.Test}
	}
	id, existing, err := l.s.submit(ctx, sub)
	var field *fieldError
	if isUsers(err) || errors.As(err, &field) {
		return "", pulls.Cannot("%v", err)
	}
	if err != nil || !existing {
		return id, err
	}
	// Closed and opened again, say: it goes on where it was cancelled.
	old, err := l.s.ws.store.Job(ctx, id)
	if err != nil {
		return id, err
	}
	ending, err := l.s.ws.store.CancelWanted(ctx)
	if err == nil && slices.Contains(ending, id) {
		return id, fmt.Errorf("%s is still being cancelled", id) // the same is asked for again soon
	}
	if err == nil && (old.Status == store.Cancelled || old.Status == store.Failed || old.Status == store.Interrupted) {
		err = l.s.retry(ctx, id)
	}
	return id, err
}

// Cancel implements pulls.Lab.
func (l *pullLab) Cancel(ctx context.Context, id string) error {
	err := l.s.cancel(ctx, id)
	if errors.Is(err, store.ErrEnded) || errors.Is(err, store.ErrNoJob) {
		return nil
	}
	return err
}

// Report implements pulls.Lab.
func (l *pullLab) Report(ctx context.Context, id string) (pulls.Report, error) {
	j, err := l.s.ws.store.Job(ctx, id)
	if errors.Is(err, store.ErrNoJob) {
		return pulls.Report{State: store.Failed, Problem: "the job is not on record any more"}, nil
	}
	if err != nil {
		return pulls.Report{}, err
	}
	req, err := decodeRequest(j.Request)
	if err != nil {
		return pulls.Report{}, err
	}
	rep := pulls.Report{State: j.Status, Problem: j.Error, Page: l.s.cfg.URL + "/jobs/" + id, Profile: req.Profile, Logs: map[string]string{}}
	if len(j.Result) == 0 {
		return rep, nil
	}
	switch j.Kind {
	case "series":
		res := &kernel.SeriesResult{}
		if err := json.Unmarshal(j.Result, res); err != nil {
			return rep, fmt.Errorf("job %s: %w", id, err)
		}
		res.Status = j.Status
		rep.Result, rep.Logs = res, buildLogs(res, func(b kernel.Build) string { return l.log(ctx, b) })
	case "bisect":
		res := &kernel.BisectResult{}
		if err := json.Unmarshal(j.Result, res); err != nil {
			return rep, fmt.Errorf("job %s: %w", id, err)
		}
		rep.Result = res
	}
	return rep, nil
}

// maxBuildLog bounds what is read of a log for remarks on lines.
const maxBuildLog = 8 << 20

// buildLogs are the logs of what was compiled.
func buildLogs(res *kernel.SeriesResult, log func(kernel.Build) string) map[string]string {
	logs := map[string]string{}
	for _, row := range res.Commits {
		if text := log(row.Build); text != "" {
			logs[row.SHA] = text
		}
	}
	return logs
}

// log is the log of a build, "" where there is none any more.
func (l *pullLab) log(ctx context.Context, b kernel.Build) string {
	if b.LogDigest == "" {
		return fileLog(b)
	}
	r, err := l.s.artifacts.Get(ctx, artifact.Log, b.LogDigest)
	if err != nil {
		return ""
	}
	defer func() { _ = r.Close() }()
	text, _ := io.ReadAll(io.LimitReader(r, maxBuildLog))
	return string(text)
}

// fileLog is the log of a build that was made on this machine.
func fileLog(b kernel.Build) string {
	if b.Log == "" {
		return ""
	}
	f, err := os.Open(b.Log)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	text, _ := io.ReadAll(io.LimitReader(f, maxBuildLog))
	return string(text)
}
