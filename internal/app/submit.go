package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/config"
	"github.com/kernel-bisect/kbisect/internal/console"
	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/kbuild"
	"github.com/kernel-bisect/kbisect/internal/kconfig"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/store"
	"github.com/kernel-bisect/kbisect/kconfigs"
)

// submission is a job as somebody asks a service for it.
type submission struct {
	kind     string // check, series, bisect
	repo     string // name of a configured repository, or a directory where that is allowed
	rev      string // of a check
	span     string // BASE..HEAD of a series, or GOOD..BAD of a bisection; of mail the base
	mbox     []byte // patches, on top of the base
	profile  string // "" for the first
	tests    []string
	kernel   string   // of a check: path of a ready image instead of repo and rev
	programs []upload // to run beside the tests, or instead of them
	runs     int      // 0 for the default
	maxRuns  int
	fresh    bool
	share    *bool // guests; nil: in a series
	priority store.Priority
	owner    string
	label    string // what the title begins with, "" for nothing
	key      string // of idempotency: asked twice with it, there is one job
	search   searchRequest
	stranger string // see request
	trusted  string // see request

	kconfig     []kbuild.Fragment
	carry       []gitrepo.Carry
	allowed     string // text of a file of complaints that do not count
	testTimeout time.Duration
}

// upload is a program that came without a file: C source if its name ends in
// .c, else a script.
type upload struct{ name, text, settings string }

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
	if sub.key != "" {
		sum := sha256.Sum256([]byte(sub.owner + "\x00" + sub.key))
		id = sub.kind + "-" + hex.EncodeToString(sum[:8])
		if _, err := s.ws.store.Job(ctx, id); err == nil || !errors.Is(err, store.ErrNoJob) {
			return id, err == nil, err
		}
	}
	req, title, err := s.prepare(ctx, sub)
	if err != nil {
		return "", false, err
	}
	text, err := json.Marshal(req)
	if err != nil {
		return "", false, err
	}
	if id == "" {
		id = newID(req.Kind)
	}
	if sub.label != "" {
		title = sub.label + ", " + kernel.Abbrev(req.Base) + ".." + kernel.Abbrev(req.Head)
	}
	id, existing, err = s.ws.store.Enqueue(ctx, store.NewJob{
		ID: id, Kind: req.Kind, Title: title, Priority: sub.priority, Owner: sub.owner,
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
	r.Command, r.Search.Built, r.Search.Price, r.Search.Read, r.Search.Nearer, r.Search.Forecast = "", nil, 0, nil, "", nil
	text, _ := json.Marshal(r)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// prepare turns a submission into a request with the commits found.
func (s *service) prepare(ctx context.Context, sub submission) (request, string, error) {
	req := request{Kind: sub.kind, Profile: sub.profile, Tests: sub.tests, Runs: sub.runs, MaxRuns: sub.maxRuns, Fresh: sub.fresh, Search: sub.search, Kconfig: sub.kconfig, Carry: sub.carry, TestTimeout: sub.testTimeout, Stranger: sub.stranger, Trusted: sub.trusted}
	fail := func(field string, err error) (request, string, error) { return req, "", &fieldError{field, err} }
	if req.ShareGuests = sub.kind == "series"; sub.share != nil {
		req.ShareGuests = *sub.share
	}
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
	if req.MaxRuns != 0 && req.MaxRuns < req.Runs && sub.kind != "bisect" {
		return fail("max_runs", usagef("%d runs at most, and %d at least", req.MaxRuns, req.Runs))
	}
	var err error
	if sub.kernel == "" {
		if sub.repo, req.Repo, err = s.repoDir(ctx, sub.repo); err != nil {
			return fail("repo", err)
		}
	}
	for _, f := range sub.kconfig {
		if _, err := kconfig.ParseFragment(f.Name, f.Text); err != nil {
			return fail("kconfig", usagef("%v", err))
		}
	}
	if sub.allowed != "" {
		if req.Allowed, err = console.ParseAllowed([]byte(sub.allowed)); err != nil {
			return fail("allow_console", usagef("%v", err))
		}
	}
	if err := s.bringUploads(ctx, &req, sub.programs); err != nil {
		return fail("programs", err)
	}
	if _, err := req.programs(); err != nil {
		return fail("tests", err)
	}
	title := strings.TrimSpace(sub.span)
	var r revRange
	var told []string
	tell := func(what string) { told = append(told, what) }
	if len(sub.mbox) > 0 {
		var remove func()
		r.base, r.name = title, "the mail"
		if r.mbox, remove, err = spoolMbox(s.ws.data, sub.mbox); err != nil {
			return req, "", err
		}
		defer remove()
	}
	switch sub.kind {
	case "check":
		title = sub.rev
		if sub.kernel != "" {
			title = "an uploaded kernel"
			_, err = (&subjectFlags{kernels: []string{sub.kernel}}).readyKernels(&req)
			break
		}
		req, err = prepareCheck(ctx, s.ws, req, sub.rev)
	case "series":
		if !r.brought() {
			if r, err = seriesSpan(sub.span); err != nil {
				break
			}
		}
		req, err = prepareSeries(ctx, s.ws, req, r, tell)
	case "bisect":
		req.Runs, req.MaxRuns, req.Search.MaxRuns = 1, 0, req.MaxRuns
		if err := chasesOne(req); err != nil {
			return fail("tests", err)
		}
		if err := req.Search.check(); err != nil {
			return fail("", err)
		}
		if !r.brought() {
			if r.base, r.head, err = bisectSpan(sub.span); err != nil {
				break
			}
		}
		req, err = s.o.prepareBisect(ctx, s.ws, req, r, tell)
	default:
		return fail("kind", usagef("%q: check, series or bisect", sub.kind))
	}
	if err != nil {
		if isUsers(err) && req.Repo != "" { // where a repository lies is nobody's business
			err = usagef("%s", strings.ReplaceAll(err.Error(), req.Repo, sub.repo))
		}
		return fail("range", err)
	}
	if told != nil {
		slices.Reverse(told) // what it is first, then on what, and why
		title = strings.Join(told, "; ")
	}
	if req.Kind == "bisect" {
		title = chased(req) + ", " + title
	}
	req.Command = req.spoken(sub.repo)
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
	return seriesRange([]string{span}, inputFlags{})
}

// spoken is the command line that asks for the same, of a repository by its
// name here.
func (r request) spoken(repo string) string {
	words := []string{"orchestrator", r.Kind, "--profile", r.Profile}
	if r.Repo != "" {
		words = append(words, "--repo", repo)
	}
	switch r.Kind {
	case "check":
		for _, k := range r.Kernels {
			words = append(words, "--kernel", k)
		}
		if r.Head != "" {
			words = append(words, "--rev", r.Head)
		}
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
	for _, f := range r.Kconfig {
		words = append(words, "--kconfig", f.Name)
	}
	for _, p := range r.Carry {
		words = append(words, "--carry", p.Name)
	}
	if r.TestTimeout != 0 {
		words = append(words, "--test-timeout", r.TestTimeout.String())
	}
	for _, t := range r.Tests {
		words = append(words, "--test", t)
	}
	for _, p := range r.Programs {
		kind, name, _ := strings.Cut(p.Name, "/")
		words = append(words, "--"+kind, name)
	}
	return (&options{args: words[1:]}).commandLine()
}

// repos are the repositories that a job may name: the configured ones, or, where
// people may do all and nothing is configured, those of the jobs before.
func (s *service) repos(ctx context.Context) (map[string]string, error) {
	repos := maps.Clone(s.cfg.Repos)
	if repos == nil {
		repos = map[string]string{}
	}
	if s.cfg.Open != config.OpenAll || len(repos) > 0 {
		return repos, nil
	}
	jobs, err := s.ws.store.Jobs(ctx, 200)
	if err != nil {
		return nil, err
	}
	for _, j := range jobs {
		req, err := decodeRequest(j.Request)
		if err != nil || req.Repo == "" {
			continue
		}
		if st, err := os.Stat(req.Repo); err == nil && st.IsDir() {
			repos[req.Repo] = req.Repo
		}
	}
	return repos, nil
}

// repoDir finds the directory of a repository, the only one there is for "".
func (s *service) repoDir(ctx context.Context, name string) (found, dir string, err error) {
	name = strings.TrimSpace(name)
	repos, err := s.repos(ctx)
	if err != nil {
		return "", "", err
	}
	names := slices.Sorted(maps.Keys(repos))
	if name == "" && len(names) == 1 {
		name = names[0]
	}
	if dir, ok := repos[name]; ok {
		return name, dir, nil
	}
	switch {
	case name == "":
		return "", "", usagef("which repository?")
	case s.cfg.Open == config.OpenAll && filepath.IsAbs(name):
		return name, name, nil
	case s.cfg.Open == config.OpenAll:
		return "", "", usagef("%s: neither a configured repository nor the whole path of one", name)
	}
	return "", "", usagef("%s: no such repository here; there are %s", name, strings.Join(names, ", "))
}

// prepareCheck finds the commit of a check.
func prepareCheck(ctx context.Context, ws *workspace, req request, rev string) (request, error) {
	repo, c, err := (&subjectFlags{repo: req.Repo, rev: strings.TrimSpace(rev)}).source(ctx, ws.data)
	if err != nil {
		return req, err
	}
	req.Head = c.SHA
	return req, req.prepareCarry(ctx, repo)
}

// bringUploads adds programs to a request as --program and --script do.
func (s *service) bringUploads(ctx context.Context, req *request, programs []upload) error {
	if len(programs) == 0 {
		return nil
	}
	dir, err := os.MkdirTemp("", "kbisect-programs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var flags planFlags
	for _, p := range programs {
		if !fileName.MatchString(p.name) {
			return usagef("%q: a name is made of letters, digits, dots and dashes", p.name)
		}
		file := filepath.Join(dir, p.name)
		text := strings.ReplaceAll(p.text, "\r\n", "\n") // forms send that
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		if p.settings != "" {
			if err := os.WriteFile(file+".yaml", []byte(p.settings), 0o600); err != nil {
				return err
			}
		}
		if strings.HasSuffix(p.name, ".c") {
			flags.programs = append(flags.programs, file)
		} else {
			flags.scripts = append(flags.scripts, file)
		}
	}
	if err := flags.bring(ctx, s.o, req); err != nil {
		if isUsers(err) { // where the files lay for a moment is nobody's business
			return usagef("%s", strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), ""))
		}
		return err
	}
	return nil
}
