package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/config"
	"github.com/kernel-bisect/kbisect/internal/github"
	"github.com/kernel-bisect/kbisect/internal/outbox"
	"github.com/kernel-bisect/kbisect/internal/pulls"
	"github.com/kernel-bisect/kbisect/internal/store"
	"github.com/kernel-bisect/kbisect/kconfigs"
)

// Where secrets may be instead of in files.
const (
	githubTokenVariable = "KBISECT_GITHUB_TOKEN" //nolint:gosec // the name of one
	appKeyVariable      = "KBISECT_GITHUB_APP_KEY"
	webhookVariable     = "KBISECT_GITHUB_WEBHOOK_SECRET" //nolint:gosec // the name of one
)

// secret reads a secret from its file or else from the environment, and takes it
// out of there: compilers and guests are our children.
func secret(key, file, variable string) (string, error) {
	value := os.Getenv(variable)
	if err := os.Unsetenv(variable); err != nil {
		return "", err
	}
	if file == "" {
		return strings.TrimSpace(value), nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", usagef("%s: %v", key, err)
	}
	if st, err := os.Stat(file); err == nil && st.Mode().Perm()&0o004 != 0 {
		return "", usagef("%s: everybody may read %s: chmod o-r", key, file)
	}
	return strings.TrimSpace(string(text)), nil
}

// secrets are what the service knows of GitHub that others must not.
type secrets struct {
	cred    github.Credentials
	webhook []byte // nil for none
}

// readSecrets reads them as the configuration says.
func readSecrets(g *config.GitHub) (secrets, error) {
	token, err := secret("github.token_file", g.TokenFile, githubTokenVariable)
	if err != nil {
		return secrets{}, err
	}
	key, err := secret("github.app.key_file", g.App.KeyFile, appKeyVariable)
	if err != nil {
		return secrets{}, err
	}
	hook, err := secret("github.webhook.secret_file", g.Webhook.SecretFile, webhookVariable)
	if err != nil {
		return secrets{}, err
	}
	switch {
	case g.Webhook.SecretFile != "" && hook == "":
		return secrets{}, usagef("github.webhook.secret_file: it is empty, and anybody could send webhooks")
	case g.App.ID != 0 && key == "":
		return secrets{}, usagef("github.app: no key: key_file, or $%s", appKeyVariable)
	case g.App.ID == 0 && token == "":
		return secrets{}, usagef("github: no credentials: app, or token_file, or $%s", githubTokenVariable)
	}
	s := secrets{cred: github.Credentials{Token: token}, webhook: []byte(hook)}
	if g.App.ID != 0 {
		s.cred = github.Credentials{AppID: g.App.ID, Key: []byte(key)}
	}
	return s, nil
}

// forge is the service's side of GitHub.
type forge struct {
	s        *service
	cfg      *config.GitHub
	client   *github.Client
	follower *pulls.Follower
	writer   *outbox.Writer
	webhook  http.Handler // nil without a secret
	log      *zap.Logger

	wake chan struct{}
	mu   sync.Mutex
	jobs map[string]bool // of which something is to be posted
	busy int             // jobs of which that is being worked out
}

// newForge wires GitHub to a service.
func newForge(s *service, cfg *config.GitHub, known secrets) (*forge, error) {
	client, err := github.New(github.Options{URL: cfg.URL, Credentials: known.cred})
	if err != nil {
		return nil, usagef("github: %v", err)
	}
	h := &forge{s: s, cfg: cfg, client: client, log: s.log.Named("github"), wake: make(chan struct{}, 1), jobs: map[string]bool{}}
	h.writer = outbox.NewWriter(s.ws.store, client, cfg.PostingPace(), h.log)
	tree := &pullTree{data: s.ws.data, client: client, dirs: map[string]string{}, fetch: map[string]string{}}
	h.follower = &pulls.Follower{
		Forge: client, Tree: tree, Lab: &pullLab{s: s, repos: map[string]config.GitHubRepo{}}, Record: s.ws.store, Nudge: h.writer.Nudge,
		Repos: map[string]pulls.Repo{}, Log: h.log,
	}
	for _, p := range kconfigs.Profiles() {
		if len(p.Fragments) > 0 {
			h.follower.Profiles = append(h.follower.Profiles, p.Name)
		}
	}
	for _, r := range cfg.Repos {
		repo, err := followed(r, client.App())
		if err != nil {
			return nil, err
		}
		h.follower.Repos[r.Name] = repo
		h.follower.Lab.(*pullLab).repos[r.Name] = r
		tree.dirs[r.Name], tree.fetch[r.Name] = s.cfg.Repos[r.Repo], r.Fetch
	}
	count := func(of func(context.Context) (int, error)) func() float64 {
		return func() float64 {
			n, err := of(context.Background())
			if err != nil {
				return math.NaN() // unknown is not 0
			}
			return float64(n)
		}
	}
	s.metrics.watchOutbox(
		count(func(ctx context.Context) (int, error) { n, _, err := s.ws.store.OutboxLength(ctx); return n, err }),
		count(func(ctx context.Context) (int, error) { _, n, err := s.ws.store.OutboxLength(ctx); return n, err }),
		count(func(ctx context.Context) (int, error) {
			n, err := s.ws.store.DeliveriesOpen(ctx)
			h.mu.Lock()
			defer h.mu.Unlock()
			return n + len(h.jobs) + h.busy, err
		}))
	if len(known.webhook) > 0 {
		h.webhook, err = github.Webhook(known.webhook, func(ctx context.Context, id, event string, body []byte) error {
			return h.deliver(ctx, store.Delivery{ID: id, Event: event, Body: body, Anew: true})
		})
	}
	return h, err
}

// followed is a repository of the configuration as pulls has it.
func followed(r config.GitHubRepo, app bool) (pulls.Repo, error) {
	out := pulls.Repo{Name: r.Name, Profiles: r.Profiles, MaxCommits: r.MaxCommits, Branches: r.Branches, AdminsOnly: r.Commands == config.CommandsAdmin}
	if len(out.Profiles) == 0 {
		out.Profiles = []string{kconfigs.Profiles()[0].Name}
	}
	for _, p := range out.Profiles {
		if _, err := profileOf(p); err != nil {
			return out, fmt.Errorf("github: %s: %w", r.Name, err)
		}
	}
	post := r.Post
	if len(post) == 0 {
		post = []string{config.PostStatuses, config.PostComment}
		if app {
			post = append(post, config.PostChecks)
		}
	}
	if slices.Contains(post, config.PostChecks) && !app {
		return out, usagef("github: %s: checks are for Apps: a token posts statuses and comments", r.Name)
	}
	out.Statuses, out.Checks, out.Comment = slices.Contains(post, config.PostStatuses), slices.Contains(post, config.PostChecks), slices.Contains(post, config.PostComment)
	return out, nil
}

// deliver keeps what a webhook told, or what we saw ourselves.
func (h *forge) deliver(ctx context.Context, d store.Delivery) error {
	fresh, err := h.s.ws.store.Deliver(ctx, d)
	if err != nil {
		h.log.Error("a delivery cannot be kept", zap.String("delivery", d.ID), zap.Error(err))
		return err
	}
	if fresh {
		h.nudge()
	}
	return nil
}

func (h *forge) nudge() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// touch says that a job went on.
func (h *forge) touch(job string) {
	if h == nil {
		return
	}
	h.mu.Lock()
	h.jobs[job] = true
	h.mu.Unlock()
	h.nudge()
}

// How often things are looked at that nobody told of, how long deliveries are
// remembered (GitHub redelivers for three days), and how often one is tried.
// Source: docs.github.com/webhooks/testing-and-troubleshooting-webhooks/redelivering-webhooks.
const (
	forgeEvery  = 15 * time.Second
	forgetAfter = 7 * 24 * time.Hour
	batch       = 100
	maxAttempts = 40
)

// handleWithin bounds what follows from one event: a first fetch of a kernel's
// history takes minutes.
const handleWithin = 30 * time.Minute

// run follows what happens until ctx ends.
func (h *forge) run(ctx context.Context) {
	h.log.Info("following pull requests", zap.Strings("repos", slices.Sorted(maps.Keys(h.follower.Repos))), zap.Bool("webhook", h.webhook != nil),
		zap.Duration("poll", h.cfg.PollEvery(h.webhook != nil)), zap.Bool("app", h.client.App()))
	var all sync.WaitGroup
	all.Go(func() { h.writer.Run(ctx) })
	if every := h.cfg.PollEvery(h.webhook != nil); every > 0 {
		for _, r := range slices.Sorted(maps.Keys(h.follower.Repos)) {
			all.Go(func() { h.poll(ctx, h.follower.Repos[r], every) })
		}
	}
	if err := h.follower.SyncAll(ctx); err != nil && ctx.Err() == nil {
		h.log.Error("what is to be posted cannot be worked out", zap.Error(err))
	}
	h.catchUp(ctx)
	tries := attempts{}
	for ctx.Err() == nil {
		h.sync(ctx)
		h.deliveries(ctx, tries)
		t := time.NewTimer(forgeEvery)
		select {
		case <-ctx.Done():
		case <-h.wake:
		case <-t.C:
		}
		t.Stop()
	}
	all.Wait()
}

// catchUp asks about what may have happened while the service was not there, by way
// of deliveries: they are tried until GitHub answers.
func (h *forge) catchUp(ctx context.Context) {
	looks, err := h.follower.Looks(ctx, time.Now())
	if err != nil && ctx.Err() == nil {
		h.log.Error("open pull requests cannot be read", zap.Error(err))
	}
	for _, e := range looks {
		id, event, body, err := e.Delivery()
		if err != nil || h.deliver(ctx, store.Delivery{ID: id, Event: event, Body: body}) != nil {
			return // it has been logged
		}
	}
}

// sync posts what follows from jobs that went on.
func (h *forge) sync(ctx context.Context) {
	h.mu.Lock()
	jobs := h.jobs
	h.jobs = map[string]bool{}
	h.busy = len(jobs)
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		h.busy = 0
		h.mu.Unlock()
	}()
	for _, id := range slices.Sorted(maps.Keys(jobs)) {
		if err := h.follower.Sync(ctx, id); err != nil && ctx.Err() == nil {
			h.log.Error("what is to be posted of a job cannot be worked out", zap.String("job", id), zap.Error(err))
			h.mu.Lock()
			h.jobs[id] = true // at the next occasion
			h.mu.Unlock()
		}
	}
}

// attempts are the deliveries that could not be dealt with yet.
type attempts map[string]*attempt

type attempt struct {
	n     int
	again time.Time
}

// deliveries deals with what was delivered.
func (h *forge) deliveries(ctx context.Context, tries attempts) {
	for ctx.Err() == nil {
		open, err := h.s.ws.store.Undelivered(ctx, batch+len(tries))
		if err != nil {
			h.log.Error("deliveries cannot be read", zap.Error(err))
			return
		}
		done := 0
		for _, d := range open {
			if a := tries[d.ID]; a != nil && time.Now().Before(a.again) || ctx.Err() != nil {
				continue
			}
			if h.deal(ctx, d, tries) {
				done++
			}
		}
		if done == 0 {
			break
		}
	}
	if err := h.s.ws.store.ForgetDeliveries(ctx, time.Now().Add(-forgetAfter)); err != nil && ctx.Err() == nil {
		h.log.Warn("old deliveries cannot be forgotten", zap.Error(err))
	}
}

// deal handles one delivery, and says whether that is done with.
func (h *forge) deal(ctx context.Context, d store.Delivery, tries attempts) bool {
	e, ok, err := github.Decode(d.Event, d.Body)
	if err == nil && ok {
		err = h.handle(ctx, d.ID, e)
	}
	if ctx.Err() != nil {
		return false
	}
	problem := ""
	if err != nil {
		problem = oneLine(err.Error())
		if a := h.later(d, err, tries); a {
			return false
		}
	}
	delete(tries, d.ID)
	if err := h.s.ws.store.DealtWith(ctx, d.ID, problem); err != nil {
		h.log.Error("a delivery cannot be marked as done", zap.Error(err))
		return false
	}
	return true
}

// handle keeps a bug in one event from taking the service along.
func (h *forge) handle(ctx context.Context, id string, e github.Event) (err error) {
	defer func() {
		if r := recover(); r != nil {
			h.log.Error("an event panics", zap.Any("panic", r), zap.Stack("stack"))
			err = pulls.Cannot("a bug in kbisect: %v", r)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, handleWithin)
	defer cancel()
	return h.follower.Handle(ctx, id, e)
}

// later says whether a delivery that failed is tried again.
func (h *forge) later(d store.Delivery, err error, tries attempts) bool {
	var refused *outbox.Refused
	var busy *outbox.Busy
	if errors.Is(err, pulls.ErrCannot) || errors.As(err, &refused) {
		h.log.Warn("nothing follows from a delivery", zap.String("delivery", d.ID), zap.String("event", d.Event), zap.Error(err))
		return false
	}
	a := tries[d.ID]
	if a == nil {
		a = &attempt{}
		tries[d.ID] = a
	}
	a.n++
	if a.n > maxAttempts {
		h.log.Error("a delivery is given up", zap.String("delivery", d.ID), zap.Error(err))
		return false
	}
	a.again = time.Now().Add(min(time.Second<<min(a.n, 10), 5*time.Minute))
	if errors.As(err, &busy) {
		a.again = busy.Until
	}
	h.log.Warn("a delivery is dealt with later", zap.String("delivery", d.ID), zap.Time("again", a.again), zap.Error(err))
	time.AfterFunc(time.Until(a.again), h.nudge)
	return true
}

// poll asks a repository from time to time what has happened.
func (h *forge) poll(ctx context.Context, r pulls.Repo, every time.Duration) {
	cur := &github.Cursor{}
	if text, err := h.s.ws.store.Cursor(ctx, r.Name); err != nil {
		h.log.Error("how far a repository was read is not known", zap.Error(err))
	} else if text != nil {
		if err := json.Unmarshal(text, cur); err != nil {
			h.log.Error("how far a repository was read is not known", zap.Error(err))
		}
	}
	for ctx.Err() == nil {
		wait := every
		if err := h.pollOnce(ctx, r, cur); err != nil && ctx.Err() == nil {
			var busy *outbox.Busy
			if errors.As(err, &busy) {
				wait = max(wait, time.Until(busy.Until))
			}
			h.log.Warn("what happened cannot be asked for", zap.String("repo", r.Name), zap.Error(err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (h *forge) pollOnce(ctx context.Context, r pulls.Repo, cur *github.Cursor) error {
	next := *cur
	next.Branches = maps.Clone(cur.Branches)
	events, err := h.client.Poll(ctx, r.Name, r.Branches, &next)
	if err != nil {
		return err
	}
	for _, e := range events {
		id, event, body, err := e.Delivery()
		if err != nil {
			return err
		}
		if err := h.deliver(ctx, store.Delivery{ID: id, Event: event, Body: body}); err != nil {
			next.Forget()
			return err
		}
	}
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	*cur = next
	return h.s.ws.store.SaveCursor(ctx, r.Name, text)
}
