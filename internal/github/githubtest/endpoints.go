package githubtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v4"
	"github.com/gorilla/mux"
)

// answer is what an endpoint says: an error has a code from 400 on and a string.
type answer struct {
	code int
	body any
}

type endpoint func(s *Server, r *http.Request, repo *repo, body map[string]any) answer

func fail(code int, message string) answer {
	return answer{code, map[string]any{"message": message, "documentation_url": "https://docs.github.com/rest", "status": strconv.Itoa(code)}}
}

var notFound = fail(http.StatusNotFound, "Not Found")

// endpoints are what is served, by pattern. Those of a repository need its
// installation's token, or a personal one.
var endpoints = map[string]endpoint{
	"GET /app":                                                      getApp,
	"GET /repos/{owner}/{repo}/installation":                        getInstallation,
	"POST /app/installations/{id}/access_tokens":                    postToken,
	"GET /user":                                                     getUser,
	"GET /repos/{owner}/{repo}":                                     getRepo,
	"GET /repos/{owner}/{repo}/pulls":                               listPulls,
	"GET /repos/{owner}/{repo}/pulls/{number}":                      getPull,
	"GET /repos/{owner}/{repo}/issues/comments":                     listRepoComments,
	"GET /repos/{owner}/{repo}/issues/comments/{id}":                getComment,
	"PATCH /repos/{owner}/{repo}/issues/comments/{id}":              patchComment,
	"POST /repos/{owner}/{repo}/issues/comments/{id}/reactions":     postReaction,
	"GET /repos/{owner}/{repo}/issues/{number}/comments":            listComments,
	"POST /repos/{owner}/{repo}/issues/{number}/comments":           postComment,
	"POST /repos/{owner}/{repo}/statuses/{sha}":                     postStatus,
	"GET /repos/{owner}/{repo}/commits/{ref}/statuses":              listStatuses,
	"POST /repos/{owner}/{repo}/check-runs":                         postCheck,
	"GET /repos/{owner}/{repo}/check-runs/{id}":                     getCheck,
	"PATCH /repos/{owner}/{repo}/check-runs/{id}":                   patchCheck,
	"GET /repos/{owner}/{repo}/commits/{ref}/check-runs":            listChecks,
	"GET /repos/{owner}/{repo}/collaborators/{username}/permission": getPermission,
	"GET /repos/{owner}/{repo}/git/ref/{ref...}":                    getRef,
}

// prefix is that of an Enterprise Server's API.
const prefix = "/api/v3"

func (s *Server) handler() http.Handler {
	router := mux.NewRouter()
	digits := strings.NewReplacer("{id}", "{id:[0-9]+}", "{number}", "{number:[0-9]+}", "{ref...}", "{ref:.+}")
	for pattern, e := range endpoints {
		method, path, _ := strings.Cut(pattern, " ")
		router.HandleFunc(prefix+digits.Replace(path), func(w http.ResponseWriter, r *http.Request) {
			for k, v := range mux.Vars(r) {
				r.SetPathValue(k, v)
			}
			s.serve(w, r, e)
		}).Methods(method)
	}
	router.NotFoundHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.problem("%s %s is not served here", r.Method, r.URL.Path)
		http.NotFound(w, r)
	})
	return router
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, e endpoint) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	do := func(w http.ResponseWriter) { s.answer(w, r, body, e) }
	if f := s.fault(r); f != nil {
		s.note(r, 0)
		misbehave(w, r, f, do)
		return
	}
	do(w)
}

func (s *Server) note(r *http.Request, code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, Request{r.Method, strings.TrimPrefix(r.URL.Path, prefix), code})
}

// answer does what was asked and says so.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, body []byte, e endpoint) {
	a, link := s.do(r, body, e)
	text, err := json.Marshal(a.body)
	if err != nil {
		s.problem("%s %s: %v", r.Method, r.URL.Path, err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("X-RateLimit-Limit", "5000")
	h.Set("X-RateLimit-Remaining", "4999")
	h.Set("X-RateLimit-Reset", strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10))
	if s.o.Scopes != "" {
		h.Set("X-OAuth-Scopes", s.o.Scopes)
	}
	if link != "" {
		h.Set("Link", link)
	}
	if r.Method == http.MethodGet && a.code == http.StatusOK {
		sum := sha256.Sum256(text)
		tag := `"` + hex.EncodeToString(sum[:8]) + `"`
		h.Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			a.code, text = http.StatusNotModified, nil
		}
	}
	s.note(r, a.code)
	s.hold(r, body, a.code, h, text)
	w.WriteHeader(a.code)
	_, _ = w.Write(text)
}

// hold holds an exchange against the description.
func (s *Server) hold(r *http.Request, body []byte, code int, h http.Header, text []byte) {
	if s.contract == nil {
		return
	}
	plain := r.Clone(r.Context())
	plain.URL.Path = strings.TrimPrefix(r.URL.Path, prefix)
	// A ref is one parameter there, although it has slashes.
	if before, ref, ok := strings.Cut(plain.URL.Path, "/git/ref/"); ok {
		plain.URL.Path = before + "/git/ref/" + strings.ReplaceAll(ref, "/", "-")
	}
	plain.URL.RawPath = ""
	plain.RequestURI = ""
	if err := s.contract.checked(plain, body, code, h, text); err != nil {
		s.problem("%s %s -> %d: %.600v", r.Method, r.URL.Path, code, err)
	}
}

func (s *Server) do(r *http.Request, text []byte, e endpoint) (a answer, link string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var body map[string]any
	if len(bytes.TrimSpace(text)) > 0 {
		if err := json.Unmarshal(text, &body); err != nil {
			return fail(http.StatusBadRequest, "Problems parsing JSON"), ""
		}
	} else if r.Method == http.MethodPost && r.ContentLength > 0 {
		return fail(http.StatusBadRequest, "Body should be a JSON object"), ""
	}
	if why := s.refuse(r); why != nil {
		return *why, ""
	}
	var on *repo
	if owner := r.PathValue("owner"); owner != "" {
		if on = s.repos[owner+"/"+r.PathValue("repo")]; on == nil {
			return notFound, ""
		}
	}
	a = e(s, r, on, body)
	if list, ok := a.body.([]any); ok {
		a.body, link = page(r, list)
	}
	return a, link
}

// page is the part of a list that was asked for.
func page(r *http.Request, list []any) (part []any, link string) {
	size, n := 30, 1
	if v, err := strconv.Atoi(r.URL.Query().Get("per_page")); err == nil {
		size = min(max(v, 1), 100)
	}
	if v, err := strconv.Atoi(r.URL.Query().Get("page")); err == nil {
		n = max(v, 1)
	}
	from, to := min((n-1)*size, len(list)), min(n*size, len(list))
	if to < len(list) {
		q := r.URL.Query()
		q.Set("page", strconv.Itoa(n+1))
		link = fmt.Sprintf(`<http://%s%s?%s>; rel="next"`, r.Host, r.URL.Path, q.Encode())
	}
	return list[from:to], link
}

// refuse says why somebody may not ask, nil if they may.
func (s *Server) refuse(r *http.Request) *answer {
	bad := fail(http.StatusUnauthorized, "Bad credentials")
	path := strings.TrimPrefix(r.URL.Path, prefix)
	kind, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.HasPrefix(path, "/app") || strings.HasSuffix(path, "/installation") {
		if s.o.AppKey == nil {
			return &bad
		}
		token, err := jwt.ParseWithClaims(value, &jwt.RegisteredClaims{}, func(*jwt.Token) (any, error) { return s.o.AppKey, nil }, jwt.WithValidMethods([]string{"RS256"}))
		if err != nil || kind != "Bearer" {
			return &bad
		}
		claims, ok := token.Claims.(*jwt.RegisteredClaims)
		if !ok || claims.Issuer != strconv.FormatInt(s.o.AppID, 10) || claims.ExpiresAt == nil || time.Until(claims.ExpiresAt.Time) > 10*time.Minute {
			return &bad
		}
		return nil
	}
	end, installed := s.tokens[value]
	switch {
	case installed && time.Now().Before(end):
		return nil
	case s.o.Token != "" && value == s.o.Token:
		return nil
	}
	return &bad
}

// isApp says whether a request comes from the App, or a token like its.
func (s *Server) isApp(r *http.Request) bool {
	_, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	_, ok := s.tokens[value]
	return ok || strings.HasPrefix(value, "ghs_")
}

func (s *Server) by(r *http.Request) string {
	switch {
	case s.isApp(r) && s.o.AppKey != nil:
		return slug + "[bot]"
	case s.isApp(r):
		return "github-actions[bot]"
	}
	return s.o.Login
}

const slug = "kbisect-test"

// merged is an example of the description with our values.
func (s *Server) merged(example string, values map[string]any) map[string]any {
	out := s.contract.example(example)
	for k, v := range values {
		out[k] = v
	}
	return out
}

func text(v any) string { s, _ := v.(string); return s }

func number(r *http.Request, name string) int {
	n, _ := strconv.Atoi(r.PathValue(name))
	return n
}

func user(login string) map[string]any {
	kind := "User"
	if strings.HasSuffix(login, "[bot]") {
		kind = "Bot"
	}
	u := map[string]any{"login": login, "id": 1 + len(login), "node_id": "MDQ6VXNlcjE=", "avatar_url": "https://github.com/x.gif", "gravatar_id": "", "type": kind, "site_admin": false}
	for _, k := range []string{"url", "html_url", "followers_url", "following_url", "gists_url", "starred_url", "subscriptions_url", "organizations_url", "repos_url", "events_url", "received_events_url"} {
		u[k] = "https://api.github.com/users/x"
	}
	return u
}

func getApp(s *Server, _ *http.Request, _ *repo, _ map[string]any) answer {
	events := s.o.Events
	if events == nil {
		events = []string{"check_run", "check_suite", "issue_comment", "pull_request", "push"}
	}
	return answer{http.StatusOK, s.merged("integration", map[string]any{"id": s.o.AppID, "slug": slug, "name": "kbisect test", "events": events, "permissions": s.permissions()})}
}

func (s *Server) permissions() map[string]string {
	if s.o.Permissions != nil {
		return s.o.Permissions
	}
	return map[string]string{"checks": "write", "contents": "read", "issues": "write", "metadata": "read", "pull_requests": "write", "statuses": "write"}
}

const installation = 77

func getInstallation(s *Server, _ *http.Request, _ *repo, _ map[string]any) answer {
	if s.revoked {
		return notFound
	}
	return answer{http.StatusOK, s.merged("installation", map[string]any{"id": installation, "app_id": s.o.AppID, "permissions": s.permissions(), "events": []string{"push"}})}
}

func postToken(s *Server, r *http.Request, _ *repo, _ map[string]any) answer {
	if s.revoked || r.PathValue("id") != strconv.Itoa(installation) {
		return notFound
	}
	token := "ghs_" + random(18)
	s.tokens[token] = time.Now().Add(time.Hour)
	return answer{http.StatusCreated, map[string]any{"token": token, "expires_at": time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "permissions": s.permissions(), "repository_selection": "all"}}
}

func getUser(s *Server, r *http.Request, _ *repo, _ map[string]any) answer {
	if s.isApp(r) {
		return fail(http.StatusForbidden, "Resource not accessible by integration")
	}
	return answer{http.StatusOK, s.merged("private-user-response-with-public-and-private-profile-information", map[string]any{"login": s.o.Login, "user_view_type": "private"})}
}

func (s *Server) fullRepo(r *repo) map[string]any {
	owner, name, _ := strings.Cut(r.name, "/")
	return map[string]any{"full_name": r.name, "name": name, "clone_url": r.cloneURL, "html_url": s.URL + "/" + r.name, "private": false, "owner": user(owner),
		"permissions": map[string]any{"admin": false, "maintain": false, "push": true, "triage": true, "pull": true}}
}

func (s *Server) inRepo(base any, r *repo) map[string]any {
	out := map[string]any{}
	if m, ok := base.(map[string]any); ok {
		for k, v := range m {
			out[k] = v
		}
	}
	for k, v := range s.fullRepo(r) {
		out[k] = v
	}
	return out
}

func getRepo(s *Server, _ *http.Request, r *repo, _ map[string]any) answer {
	base := s.contract.example("full-repository-default-response")
	if len(base) == 0 {
		base = s.contract.example("full-repository")
	}
	for _, k := range []string{"source", "parent", "template_repository"} { // the examples' are against the description
		delete(base, k)
	}
	base["language"] = "C"
	return answer{http.StatusOK, s.inRepo(base, r)}
}

func (s *Server) pull(r *repo, p *Pull, example string) map[string]any {
	state := "open"
	if p.Closed {
		state = "closed"
	}
	m := s.merged(example, map[string]any{
		"number": p.Number, "state": state, "requested_teams": []any{}, // the example's is against the description
		"author_association": p.Association, "user": user(p.Author), "commits": len(p.Commits),
		"updated_at": r.updated[p.Number].Format(time.RFC3339), "html_url": fmt.Sprintf("%s/%s/pull/%d", s.URL, r.name, p.Number),
	})
	side := func(name, ref, sha string, fork bool) map[string]any {
		out := map[string]any{}
		old, _ := m[name].(map[string]any)
		for k, v := range old {
			out[k] = v
		}
		repo := s.inRepo(old["repo"], r)
		if fork {
			repo["full_name"], repo["pushed_at"] = p.Author+"/fork", p.pushed.Format(time.RFC3339)
		}
		owner, _, _ := strings.Cut(r.name, "/")
		out["ref"], out["sha"], out["repo"], out["label"], out["user"] = ref, sha, repo, owner+":"+ref, user(owner)
		return out
	}
	m["head"], m["base"] = side("head", "topic", p.Head, p.Fork), side("base", p.BaseRef, p.Base, false)
	return m
}

func getPull(s *Server, r *http.Request, on *repo, _ map[string]any) answer {
	p := on.pulls[number(r, "number")]
	if p == nil {
		return notFound
	}
	return answer{http.StatusOK, s.pull(on, p, "pull-request")}
}

func listPulls(s *Server, r *http.Request, on *repo, _ map[string]any) answer {
	var ps []*Pull
	for _, p := range on.pulls {
		if !p.Closed || r.URL.Query().Get("state") == "all" {
			ps = append(ps, p)
		}
	}
	slices.SortFunc(ps, func(a, b *Pull) int { return on.updated[b.Number].Compare(on.updated[a.Number]) })
	out := []any{}
	for _, p := range ps {
		m := s.pull(on, p, "pull-request")
		for _, k := range []string{"merged", "mergeable", "mergeable_state", "merged_by", "comments", "review_comments", "maintainer_can_modify", "commits", "additions", "deletions", "changed_files", "rebaseable"} {
			delete(m, k)
		}
		out = append(out, m)
	}
	return answer{http.StatusOK, out}
}

func (s *Server) comment(r *repo, c *Comment) map[string]any {
	return s.merged("issue-comment", map[string]any{
		"id": c.ID, "node_id": "MDE=", "body": c.Body, "user": user(c.User), "author_association": c.Association, "created_at": c.Created.Format(time.RFC3339), "updated_at": c.Updated.Format(time.RFC3339),
		"url": fmt.Sprintf("%s%s/repos/%s/issues/comments/%d", s.URL, prefix, r.name, c.ID), "html_url": fmt.Sprintf("%s/%s/pull/%d#issuecomment-%d", s.URL, r.name, c.Number, c.ID),
		"issue_url": fmt.Sprintf("%s%s/repos/%s/issues/%d", s.URL, prefix, r.name, c.Number),
	})
}

func (s *Server) issue(r *repo, n int) map[string]any {
	return map[string]any{"number": n, "state": "open", "url": fmt.Sprintf("%s%s/repos/%s/issues/%d", s.URL, prefix, r.name, n)}
}

func (s *Server) commentsOf(r *repo, keep func(*Comment) bool) []any {
	out := []any{}
	for _, c := range r.comments {
		if keep(c) {
			out = append(out, s.comment(r, c))
		}
	}
	return out
}

func listComments(s *Server, r *http.Request, on *repo, _ map[string]any) answer {
	return answer{http.StatusOK, s.commentsOf(on, func(c *Comment) bool { return c.Number == number(r, "number") })}
}

func listRepoComments(s *Server, r *http.Request, on *repo, _ map[string]any) answer {
	since, _ := time.Parse(time.RFC3339, r.URL.Query().Get("since"))
	return answer{http.StatusOK, s.commentsOf(on, func(c *Comment) bool { return !c.Updated.Before(since) })}
}

func (r *repo) commentByID(req *http.Request) *Comment {
	for _, c := range r.comments {
		if c.ID == int64(number(req, "id")) {
			return c
		}
	}
	return nil
}

// maxBody is the longest comment that GitHub takes.
const maxBody = 65536

func postComment(s *Server, r *http.Request, on *repo, body map[string]any) answer {
	b := text(body["body"])
	if b == "" || utf8.RuneCountInString(b) > maxBody {
		return fail(http.StatusUnprocessableEntity, "Validation Failed: body")
	}
	at := s.tick()
	c := &Comment{ID: s.id(), Number: number(r, "number"), User: s.by(r), Body: b, Association: "NONE", Created: at, Updated: at}
	on.comments = append(on.comments, c)
	return answer{http.StatusCreated, s.comment(on, c)}
}

func getComment(s *Server, r *http.Request, on *repo, _ map[string]any) answer {
	if c := on.commentByID(r); c != nil {
		return answer{http.StatusOK, s.comment(on, c)}
	}
	return notFound
}

func patchComment(s *Server, r *http.Request, on *repo, body map[string]any) answer {
	c := on.commentByID(r)
	b := text(body["body"])
	switch {
	case c == nil:
		return notFound
	case c.User != s.by(r):
		return fail(http.StatusForbidden, "Must have admin rights to Repository.")
	case b == "" || utf8.RuneCountInString(b) > maxBody:
		return fail(http.StatusUnprocessableEntity, "Validation Failed: body")
	}
	c.Body, c.Updated = b, s.tick()
	c.Edits++
	return answer{http.StatusOK, s.comment(on, c)}
}

func postReaction(s *Server, r *http.Request, on *repo, body map[string]any) answer {
	c := on.commentByID(r)
	content := text(body["content"])
	switch {
	case c == nil:
		return notFound
	case !slices.Contains([]string{"+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes"}, content):
		return fail(http.StatusUnprocessableEntity, "Validation Failed: content")
	}
	code := http.StatusOK
	if by := content + " " + s.by(r); !slices.Contains(c.Reactions, by) {
		c.Reactions = append(c.Reactions, by)
		code = http.StatusCreated
	}
	return answer{code, map[string]any{"id": 1, "node_id": "MDg=", "user": user(s.by(r)), "content": content, "created_at": s.clock.Format(time.RFC3339)}}
}

// limits of statuses. Source: docs.github.com/rest/commits/statuses.
const (
	maxDescription = 140
	maxStatuses    = 1000
)

func postStatus(s *Server, r *http.Request, on *repo, body map[string]any) answer {
	x := Status{ID: s.id(), SHA: r.PathValue("sha"), State: text(body["state"]), Context: text(body["context"]), Description: text(body["description"]), URL: text(body["target_url"]), By: s.by(r)}
	n := 0
	for _, y := range on.statuses {
		if y.SHA == x.SHA && y.Context == x.Context {
			n++
		}
	}
	if !on.known[x.SHA] || !slices.Contains([]string{"error", "failure", "pending", "success"}, x.State) ||
		utf8.RuneCountInString(x.Description) > maxDescription || n >= maxStatuses || x.URL != "" && !strings.HasPrefix(x.URL, "http") {
		return fail(http.StatusUnprocessableEntity, "Validation Failed: status")
	}
	on.statuses = append(on.statuses, x)
	s.tick()
	return answer{http.StatusCreated, s.status(x)}
}

func (s *Server) status(x Status) map[string]any {
	var target any
	if x.URL != "" {
		target = x.URL
	}
	return s.merged("status", map[string]any{"id": x.ID, "state": x.State, "context": x.Context, "description": x.Description, "target_url": target, "creator": user(x.By)})
}

func listStatuses(s *Server, r *http.Request, on *repo, _ map[string]any) answer {
	out := []any{}
	for _, x := range slices.Backward(on.statuses) {
		if x.SHA == r.PathValue("ref") {
			out = append(out, s.status(x))
		}
	}
	return answer{http.StatusOK, out}
}

func getPermission(s *Server, r *http.Request, on *repo, _ map[string]any) answer {
	p := on.permissions[r.PathValue("username")]
	if p == "" {
		p = "read" // of a public repository
	}
	if p == "gone" {
		return notFound
	}
	return answer{http.StatusOK, s.merged("repository-collaborator-permission", map[string]any{"permission": p, "role_name": p, "user": nil})}
}

func getRef(s *Server, r *http.Request, on *repo, _ map[string]any) answer {
	branch, ok := strings.CutPrefix(r.PathValue("ref"), "heads/")
	sha := on.branches[branch]
	if !ok || sha == "" {
		return notFound
	}
	return answer{http.StatusOK, s.merged("git-ref", map[string]any{"ref": "refs/heads/" + branch, "object": map[string]any{"type": "commit", "sha": sha, "url": "https://api.github.com/x"}})}
}
