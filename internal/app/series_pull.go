package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/kernel-bisect/kbisect/internal/github"
	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/outbox"
	"github.com/kernel-bisect/kbisect/internal/pulls"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// pullFlags are those of a pull request that is tested once, without a service.
type pullFlags struct {
	pull string
	post bool
	most int

	client *github.Client
}

var pullForm = regexp.MustCompile(`^(?:https?://[^/]+/)?([^/#]+/[^/#]+)(?:#|/pull/)([1-9][0-9]{0,8})/?$`)

// parsePull reads OWNER/REPO#N, or the URL of a pull request.
func parsePull(text string) (repo string, number int, err error) {
	m := pullForm.FindStringSubmatch(text)
	if m == nil || !github.RepoName(m[1]) {
		return "", 0, usagef("--pr %q: OWNER/REPO#NUMBER, or the URL of a pull request", text)
	}
	number, err = strconv.Atoi(m[2])
	return m[1], number, err
}

// oneShotClient takes its credentials where GitHub's Actions have them.
func oneShotClient(post bool) (*github.Client, error) {
	token := ""
	for _, name := range []string{githubTokenVariable, "GITHUB_TOKEN", "GH_TOKEN"} {
		if v := os.Getenv(name); v != "" && token == "" {
			token = v
		}
		if err := os.Unsetenv(name); err != nil { // compilers are our children
			return nil, err
		}
	}
	if token == "" && post {
		return nil, usagef("--post needs a token: $GITHUB_TOKEN, or $%s", githubTokenVariable)
	}
	c, err := github.New(github.Options{API: os.Getenv("GITHUB_API_URL"), Credentials: github.Credentials{Token: token}, Anonymous: token == ""})
	if err != nil {
		return nil, usagef("$GITHUB_API_URL: %v", err)
	}
	return c, nil
}

// pullRequest tests a pull request, and posts the results or prints what it
// would post.
func (o *options) pullRequest(ctx context.Context, req request, dir string, f pullFlags) error {
	name, number, err := parsePull(f.pull)
	if err != nil {
		return err
	}
	if f.most < 1 || f.most > maxSeries {
		return usagef("--max-commits %d: 1 to %d", f.most, maxSeries)
	}
	if _, err := req.plan(); err != nil {
		return err
	}
	ws, err := o.openWorkspace(ctx)
	if err != nil {
		return err
	}
	defer ws.close()
	shot := &oneShot{o: o, ws: ws, client: f.client, dir: dir, post: f.post,
		repo: pulls.Repo{Name: name, Profiles: []string{req.Profile}, MaxCommits: f.most, Statuses: true, Checks: f.client.App(), Comment: true}}
	return shot.run(ctx, req, number)
}

// oneShot is a pull request that is tested once.
type oneShot struct {
	o      *options
	ws     *workspace
	client *github.Client
	dir    string
	post   bool
	repo   pulls.Repo
}

// find fetches the commits of a pull request and makes them what a request is about.
func (s *oneShot) find(ctx context.Context, number int, req *request) (now github.Pull, tree *pullTree, series pulls.Series, err error) {
	now, err = s.client.Pull(ctx, s.repo.Name, number)
	if errors.Is(err, github.ErrNoPull) {
		err = usagef("--pr: %v", err)
	}
	if err != nil {
		return now, nil, series, err
	}
	tree = &pullTree{data: s.ws.data, client: s.client, dirs: map[string]string{s.repo.Name: s.dir}}
	series, err = tree.Series(ctx, s.repo, now)
	if errors.Is(err, pulls.ErrCannot) {
		err = usagef("%s#%d: %v", s.repo.Name, number, err)
	}
	if err != nil {
		return now, nil, series, err
	}
	req.Base, req.Head, req.Stranger, req.Trusted = series.Base, series.Head, fmt.Sprintf("%s#%d", s.repo.Name, number), series.Trusted
	return now, tree, series, nil
}

// onKernel opens the repository, and sees that what a request stands on is a kernel.
func (s *oneShot) onKernel(ctx context.Context, req request) (*gitrepo.Repo, kernel.Commit, error) {
	repo, err := gitrepo.Open(ctx, s.ws.data, s.dir)
	if err != nil {
		return nil, kernel.Commit{}, err
	}
	base, err := repo.Commit(ctx, req.Base)
	if err != nil {
		return nil, base, err
	}
	return repo, base, repo.CheckKernel(ctx, base)
}

// bisectPull finds the commit of a pull request that broke a test, or repaired it.
// Nothing is posted.
func (o *options) bisectPull(ctx context.Context, req request, dir string, f pullFlags) error {
	name, number, err := parsePull(f.pull)
	if err != nil {
		return err
	}
	if err := chasesOne(req); err != nil {
		return err
	}
	ws, err := o.openWorkspace(ctx)
	if err != nil {
		return err
	}
	defer ws.close()
	shot := &oneShot{o: o, ws: ws, client: f.client, dir: dir, repo: pulls.Repo{Name: name, MaxCommits: maxSeries}}
	_, _, series, err := shot.find(ctx, number, &req)
	if err != nil {
		return err
	}
	if series.LeftOut > 0 {
		fmt.Fprintf(o.stderr, "%s#%d: the newest %d of %d commits\n", name, number, maxSeries, maxSeries+series.LeftOut)
	}
	repo, base, err := shot.onKernel(ctx, req)
	if err != nil {
		return err
	}
	head, err := repo.Commit(ctx, req.Head)
	if err != nil {
		return err
	}
	if err := o.aim(ctx, ws, repo, &req, base, head); err != nil {
		return err
	}
	id, err := ws.newJob(ctx, req)
	if err != nil {
		return err
	}
	return o.runBisect(ctx, ws, id, req)
}

func (s *oneShot) run(ctx context.Context, req request, number int) error {
	now, tree, series, err := s.find(ctx, number, &req)
	if err != nil {
		return err
	}
	if _, _, err := s.onKernel(ctx, req); err != nil {
		return err
	}
	id, err := s.ws.newJob(ctx, req)
	if err != nil {
		return err
	}
	p := &pulls.Pull{Repo: s.repo.Name, Number: number, Page: now.Page, Series: series, Jobs: []string{id}}
	if s.post {
		if err := s.show(ctx, tree, p); ctx.Err() != nil { // that it runs
			return err
		} else if err != nil { // in the end that counts; what is tested is for others, too
			fmt.Fprintf(s.o.stderr, "warning: %v\n", err)
		}
	}
	jobErr := s.o.runSeries(ctx, s.ws, id, req)
	// An end by ^C is told, too.
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), postWithin)
	defer cancel()
	if err := s.show(late, tree, p); err != nil {
		var status statusError // of what was found, which has been reported
		if errors.As(jobErr, &status) {
			return err
		}
		return errors.Join(jobErr, err)
	}
	return jobErr
}

// postWithin is how long posting may take: GitHub may want us to wait.
const postWithin = 10 * time.Minute

// show posts or prints how far the job is.
func (s *oneShot) show(ctx context.Context, tree *pullTree, p *pulls.Pull) error {
	wanted := &wanting{Store: s.ws.store}
	f := &pulls.Follower{Tree: tree, Lab: shotLab{s.ws.store}, Record: wanted, Nudge: func() {}, Log: s.o.logger()}
	if !s.post {
		out := s.o.stdout
		if s.o.format != "text" || s.o.output != "" {
			out = s.o.stderr // a program reads the other
		}
		fmt.Fprintf(out, "\nWith --post, this would be posted to %s#%d:\n", p.Repo, p.Number)
		f.Record = &printing{Store: s.ws.store, out: out}
		return f.Show(ctx, s.repo, p)
	}
	repo := s.repo
	if now, err := s.client.Pull(ctx, p.Repo, p.Number); err == nil && now.Head != p.Series.Head {
		// Whoever tests what was pushed since may have been faster.
		repo.Comment = false
		fmt.Fprintf(s.o.stderr, "%s#%d has other commits now, up to %s: the comment is left to who tests them\n", p.Repo, p.Number, kernel.Abbrev(now.Head))
	}
	if err := f.Show(ctx, repo, p); err != nil {
		return err
	}
	// What an earlier command could not post, with another token perhaps.
	if err := s.ws.store.Reopen(ctx, wanted.places); err != nil {
		return err
	}
	w := outbox.NewWriter(s.ws.store, s.client, s.o.pace, s.o.logger())
	for {
		next, err := w.Drain(ctx)
		if err != nil {
			return fmt.Errorf("posting: %w", err)
		}
		if next.IsZero() {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not all could be posted to %s#%d within %s (-v says why); run the same command again", p.Repo, p.Number, postWithin)
		case <-time.After(time.Until(next)):
		}
	}
	if givenUp, err := s.ws.store.GivenUp(ctx, wanted.places); err != nil {
		return err
	} else if givenUp > 0 {
		return fmt.Errorf("GitHub does not take %d of the postings to %s#%d: may the token write statuses, checks and comments? -v says more", givenUp, p.Repo, p.Number)
	}
	fmt.Fprintf(s.o.stderr, "posted to %s/pull/%d\n", p.Page, p.Number)
	return nil
}

// wanting notes what is wanted: the outbox has what earlier commands wanted, too.
type wanting struct {
	*store.Store
	places []string
}

func (w *wanting) Want(ctx context.Context, l store.Letter) (bool, error) {
	w.places = append(w.places, l.Place)
	return w.Store.Want(ctx, l)
}

// shotLab shows the job that this process carries out.
type shotLab struct{ store *store.Store }

func (l shotLab) Submit(context.Context, pulls.Job) (string, error) {
	return "", errors.New("no jobs of others are carried out here")
}
func (l shotLab) Cancel(context.Context, string) error { return nil }

func (l shotLab) Report(ctx context.Context, id string) (pulls.Report, error) {
	j, err := l.store.Job(ctx, id)
	if err != nil {
		return pulls.Report{}, err
	}
	req, err := decodeRequest(j.Request)
	if err != nil {
		return pulls.Report{}, err
	}
	rep := pulls.Report{State: j.Status, Problem: j.Error, Profile: req.Profile}
	if len(j.Result) > 0 {
		res := &kernel.SeriesResult{}
		if err := json.Unmarshal(j.Result, res); err != nil {
			return rep, err
		}
		res.Status = j.Status
		rep.Result, rep.Logs = res, buildLogs(res, fileLog)
	}
	return rep, nil
}

// printing is an outbox that is read at once.
type printing struct {
	*store.Store
	out io.Writer
}

func (p *printing) Want(_ context.Context, l store.Letter) (bool, error) {
	text, err := outbox.Text(l)
	fmt.Fprintf(p.out, "\n%s", text)
	return false, err
}

// prepare says what does not go together, and takes the token away before a
// compiler could see it.
func (f *pullFlags) prepare(args []string, in inputFlags) (err error) {
	switch {
	case f.pull == "" && f.post:
		return usagef("--post is for --pr")
	case f.pull != "" && (len(args) > 0 || in != inputFlags{}):
		return usagef("--pr brings its own commits: without BASE..HEAD, --mbox, --bundle and --base")
	case f.pull == "":
		return nil
	}
	f.client, err = oneShotClient(f.post)
	return err
}

// repoOf is the directory of a repository, this one by default.
func repoOf(dir string) (string, error) {
	if dir == "" {
		dir = "."
	}
	return filepath.Abs(dir)
}
