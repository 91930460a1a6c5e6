package app

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/config"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/store"
	"github.com/kernel-bisect/kbisect/kconfigs"
)

// submission is a job as somebody asks a service for it.
type submission struct {
	kind     string // check, series, bisect
	repo     string // name of a configured repository, or a directory where that is allowed
	rev      string // of a check
	span     string // BASE..HEAD of a series, or GOOD..BAD of a bisection
	mbox     []byte // patches of a series, on top of the base
	profile  string // "" for the first
	tests    []string
	script   string // shell script to run instead of tests
	runs     int    // 0 for the default
	priority store.Priority
	owner    string
	search   searchRequest
}

// fieldError is a mistake in one field of a submission.
type fieldError struct {
	field string
	err   error
}

func (e *fieldError) Error() string { return e.err.Error() }
func (e *fieldError) Unwrap() error { return e.err }

// submit checks a submission and queues its job. One that is queued or under
// way already is not queued twice.
func (s *service) submit(ctx context.Context, sub submission) (id string, existing bool, err error) {
	req, title, err := s.prepare(ctx, sub)
	if err != nil {
		return "", false, err
	}
	text, err := json.Marshal(req)
	if err != nil {
		return "", false, err
	}
	var r [4]byte
	if _, err := rand.Read(r[:]); err != nil {
		return "", false, err
	}
	id, existing, err = s.ws.store.Enqueue(ctx, store.NewJob{
		ID: req.Kind + "-" + hex.EncodeToString(r[:]), Kind: req.Kind, Title: title, Priority: sub.priority, Owner: sub.owner,
		Dedup: req.question(), Request: text,
	})
	if err == nil {
		s.nudge()
	}
	return id, existing, err
}

// chased names what a bisection runs.
func chased(r request) string {
	if len(r.Programs) > 0 {
		return r.Programs[0].Name
	}
	return strings.Join(r.Tests, " ")
}

// title is a job of the command line in a few words; a service's has the
// revisions as they were typed.
func (r request) title() string {
	span := kernel.Abbrev(r.Base) + ".." + kernel.Abbrev(r.Head)
	switch {
	case r.Kind == "bisect":
		return chased(r) + ", " + span
	case r.Kind == "series":
		return span
	case len(r.Kernels) > 0:
		names := make([]string, len(r.Kernels))
		for i, k := range r.Kernels {
			names[i] = filepath.Base(k)
		}
		return strings.Join(names, ", ")
	}
	return kernel.Abbrev(r.Head)
}

// question digests what a job is asked, without how it was typed and what was
// predicted when.
func (r request) question() string {
	r.Command, r.Search.Built, r.Search.Price = "", nil, 0
	text, _ := json.Marshal(r)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// prepare turns a submission into a request with the commits found.
func (s *service) prepare(ctx context.Context, sub submission) (request, string, error) {
	req := request{Kind: sub.kind, Profile: sub.profile, Tests: sub.tests, Runs: sub.runs, Search: sub.search}
	fail := func(field string, err error) (request, string, error) { return req, "", &fieldError{field, err} }
	if req.Profile == "" {
		req.Profile = kconfigs.Profiles()[0].Name
	}
	if _, err := profileOf(req.Profile); err != nil {
		return fail("profile", err)
	}
	if req.Runs == 0 {
		req.Runs = defaultRuns
	}
	if req.Runs < 1 || req.Runs > 10000 {
		return fail("runs", usagef("%d runs: 1 to 10000", req.Runs))
	}
	var err error
	if req.Repo, err = s.repoDir(ctx, sub.repo); err != nil {
		return fail("repo", err)
	}
	if sub.script != "" {
		if err := s.bringScript(ctx, &req, sub.script); err != nil {
			return fail("script", err)
		}
	}
	if _, err := req.programs(); err != nil {
		return fail("tests", err)
	}
	title := strings.TrimSpace(sub.span)
	switch sub.kind {
	case "check":
		title = sub.rev
		req, err = prepareCheck(ctx, s.ws, req, sub.rev)
	case "series":
		var r revRange
		if r, err = seriesSpan(sub.span); err != nil {
			break
		}
		if len(sub.mbox) > 0 {
			var remove func()
			if r.mbox, remove, err = spoolMbox(s.ws.data, sub.mbox); err != nil {
				break
			}
			defer remove()
			title = fmt.Sprintf("%d bytes of mail on %s", len(sub.mbox), r.base)
		}
		req, err = prepareSeries(ctx, s.ws, req, r)
	case "bisect":
		req.Runs = 1
		if err := chasesOne(req); err != nil {
			return fail("tests", err)
		}
		if err := req.Search.check(); err != nil {
			return fail("", err)
		}
		var good, bad string
		if good, bad, err = bisectSpan(sub.span); err != nil {
			break
		}
		title = chased(req) + ", " + title
		req, err = s.o.prepareBisect(ctx, s.ws, req, good, bad)
	default:
		return fail("kind", usagef("%q: check, series or bisect", sub.kind))
	}
	if err != nil {
		return fail("range", err)
	}
	req.Command = req.spoken()
	return req, title, nil
}

// defaultRuns is what --runs is by default.
const defaultRuns = 2

// bisectSpan splits GOOD..BAD.
func bisectSpan(span string) (good, bad string, err error) {
	good, bad, ok := strings.Cut(span, "..")
	good, bad = strings.TrimSpace(good), strings.TrimSpace(bad)
	if !ok || good == "" || bad == "" || strings.HasPrefix(bad, ".") {
		return "", "", usagef("%q: not a range; write GOOD..BAD", span)
	}
	return good, bad, nil
}

// seriesSpan splits BASE..HEAD; a mailbox needs the base alone.
func seriesSpan(span string) (revRange, error) {
	span = strings.TrimSpace(span)
	if !strings.Contains(span, "..") && span != "" {
		return revRange{base: span, head: "HEAD"}, nil
	}
	return seriesRange([]string{span}, "", "")
}

// spoolMbox keeps uploaded mails in a file while they are applied.
func spoolMbox(dir string, text []byte) (path string, remove func(), err error) {
	f, err := os.CreateTemp(dir, "upload-*.mbox")
	if err != nil {
		return "", nil, fmt.Errorf("upload: %w", err)
	}
	remove = func() { _ = os.Remove(f.Name()) }
	_, err = f.Write(text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		remove()
		return "", nil, fmt.Errorf("upload: %w", err)
	}
	return f.Name(), remove, nil
}

// spoken is the command line that asks for the same.
func (r request) spoken() string {
	words := []string{"orchestrator", r.Kind, "--repo", r.Repo, "--profile", r.Profile}
	switch r.Kind {
	case "check":
		words = append(words, "--rev", r.Head)
	case "series":
		words = append(words, r.Base+".."+r.Head)
	case "bisect":
		good, bad := r.Base, r.Head
		if r.Search.FindFix {
			good, bad = bad, good
			words = append(words, "--find-fix")
		}
		words = append(words, "--good", good, "--bad", bad)
	}
	for _, t := range r.Tests {
		words = append(words, "--test", t)
	}
	for _, p := range r.Programs {
		words = append(words, "--script", strings.TrimPrefix(p.Name, "script/"))
	}
	return (&options{args: words[1:]}).commandLine()
}

// repos are the repositories that a job may name: configured ones and, where
// people may do all, those of the jobs before.
func (s *service) repos(ctx context.Context) (map[string]string, error) {
	repos := maps.Clone(s.cfg.Repos)
	if repos == nil {
		repos = map[string]string{}
	}
	if s.cfg.Open != config.OpenAll {
		return repos, nil
	}
	jobs, err := s.ws.store.Jobs(ctx, 200)
	if err != nil {
		return nil, err
	}
	known := slices.Collect(maps.Values(repos))
	for _, j := range jobs {
		req, err := decodeRequest(j.Request)
		if err != nil || req.Repo == "" || slices.Contains(known, req.Repo) {
			continue
		}
		known = append(known, req.Repo)
		repos[req.Repo] = req.Repo
	}
	return repos, nil
}

// repoDir finds the directory of a repository.
func (s *service) repoDir(ctx context.Context, name string) (string, error) {
	name = strings.TrimSpace(name)
	repos, err := s.repos(ctx)
	if err != nil {
		return "", err
	}
	if dir, ok := repos[name]; ok {
		return dir, nil
	}
	switch {
	case name == "" && len(repos) == 1:
		for _, dir := range repos {
			return dir, nil
		}
	case name == "":
		return "", usagef("which repository?")
	case s.cfg.Open == config.OpenAll && filepath.IsAbs(name):
		return name, nil
	case s.cfg.Open == config.OpenAll:
		return "", usagef("%s: neither a configured repository nor the whole path of one", name)
	}
	return "", usagef("%s: no such repository here; there are %s", name, strings.Join(slices.Sorted(maps.Keys(repos)), ", "))
}

// prepareCheck finds the commit of a check.
func prepareCheck(ctx context.Context, ws *workspace, req request, rev string) (request, error) {
	_, c, err := (&subjectFlags{repo: req.Repo, rev: strings.TrimSpace(rev)}).source(ctx, ws.data)
	req.Head = c.SHA
	return req, err
}

// pastedScript is what a script is called that came without a file.
const pastedScript = "pasted.sh"

// bringScript adds a script to a request as --script does.
func (s *service) bringScript(ctx context.Context, req *request, text string) error {
	dir, err := os.MkdirTemp("", "kbisect-script-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, pastedScript)
	text = strings.ReplaceAll(text, "\r\n", "\n") // forms send that
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	return (&planFlags{scripts: []string{file}}).bring(ctx, s.o, req)
}
