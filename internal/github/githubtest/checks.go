package githubtest

import (
	"net/http"
	"slices"
	"unicode/utf8"
)

// limits of check runs. Source: docs.github.com/rest/checks/runs.
const (
	maxAnnotations = 50
	maxSummary     = 65535
	maxActions     = 3
	maxWords       = 20
)

// take changes a check run as a request says, "" if it may be.
func (c *Check) take(body map[string]any) (wrong string) {
	set := func(key string, to *string) {
		if v, ok := body[key]; ok {
			*to = text(v)
		}
	}
	set("name", &c.Name)
	set("external_id", &c.ExternalID)
	set("details_url", &c.DetailsURL)
	set("conclusion", &c.Conclusion)
	if _, ok := body["conclusion"]; ok {
		c.Status = "completed"
	}
	set("status", &c.Status)
	if c.Status == "completed" && c.Conclusion == "" {
		return "completed without a conclusion"
	}
	if c.Status != "completed" {
		c.Conclusion = ""
	}
	if !slices.Contains([]string{"queued", "in_progress", "completed"}, c.Status) {
		return "status"
	}
	if !slices.Contains([]string{"", "action_required", "cancelled", "failure", "neutral", "success", "skipped", "timed_out"}, c.Conclusion) {
		return "conclusion"
	}
	if out, ok := body["output"].(map[string]any); ok {
		c.Title, c.Summary = text(out["title"]), text(out["summary"])
		if c.Title == "" || utf8.RuneCountInString(c.Summary) > maxSummary {
			return "output"
		}
		list, _ := out["annotations"].([]any)
		if len(list) > maxAnnotations {
			return "annotations"
		}
		for _, x := range list {
			m, _ := x.(map[string]any)
			start, _ := m["start_line"].(float64)
			end, _ := m["end_line"].(float64)
			a := Annotation{text(m["path"]), text(m["annotation_level"]), text(m["title"]), text(m["message"]), int(start), int(end)}
			if a.Path == "" || a.Message == "" || a.Start < 1 || a.End < a.Start || !slices.Contains([]string{"notice", "warning", "failure"}, a.Level) {
				return "annotation"
			}
			c.Annotations = append(c.Annotations, a) // GitHub adds them to those there are
		}
	}
	if list, ok := body["actions"].([]any); ok {
		c.Actions = nil
		for _, x := range list {
			m, _ := x.(map[string]any)
			if len(text(m["label"])) > maxWords || len(text(m["description"])) > 2*maxWords || len(text(m["identifier"])) > maxWords {
				return "actions"
			}
			c.Actions = append(c.Actions, text(m["identifier"]))
		}
		if len(c.Actions) > maxActions {
			return "actions"
		}
	}
	return ""
}

func (s *Server) check(c *Check) map[string]any {
	var conclusion, done, details any
	if c.Conclusion != "" {
		conclusion, done = c.Conclusion, "2026-01-02T03:04:05Z"
	}
	if c.DetailsURL != "" {
		details = c.DetailsURL
	}
	return s.merged("check-run", map[string]any{
		"id": c.ID, "name": c.Name, "head_sha": c.SHA, "status": c.Status, "conclusion": conclusion, "completed_at": done, "external_id": c.ExternalID, "details_url": details,
		"output": map[string]any{"title": c.Title, "summary": c.Summary, "text": nil, "annotations_count": len(c.Annotations), "annotations_url": "https://api.github.com/x"},
	})
}

func postCheck(s *Server, r *http.Request, on *repo, body map[string]any) answer {
	if !s.isApp(r) {
		return fail(http.StatusForbidden, "You must authenticate via a GitHub App.")
	}
	c := &Check{ID: s.id(), SHA: text(body["head_sha"]), Status: "queued"}
	if !on.known[c.SHA] || text(body["name"]) == "" {
		return fail(http.StatusUnprocessableEntity, "No commit found for SHA: "+c.SHA)
	}
	if wrong := c.take(body); wrong != "" {
		return fail(http.StatusUnprocessableEntity, "Invalid request: "+wrong)
	}
	on.checks = append(on.checks, c)
	return answer{http.StatusCreated, s.check(c)}
}

func (r *repo) checkByID(req *http.Request) *Check {
	for _, c := range r.checks {
		if c.ID == int64(number(req, "id")) {
			return c
		}
	}
	return nil
}

func getCheck(s *Server, r *http.Request, on *repo, _ map[string]any) answer {
	if c := on.checkByID(r); c != nil {
		return answer{http.StatusOK, s.check(c)}
	}
	return notFound
}

func patchCheck(s *Server, r *http.Request, on *repo, body map[string]any) answer {
	if !s.isApp(r) {
		return fail(http.StatusForbidden, "You must authenticate via a GitHub App.")
	}
	c := on.checkByID(r)
	if c == nil {
		return notFound
	}
	changed := *c
	if wrong := changed.take(body); wrong != "" {
		return fail(http.StatusUnprocessableEntity, "Invalid request: "+wrong)
	}
	*c = changed
	return answer{http.StatusOK, s.check(c)}
}

func listChecks(s *Server, r *http.Request, on *repo, _ map[string]any) answer {
	name := r.URL.Query().Get("check_name")
	runs := []any{}
	for _, c := range slices.Backward(on.checks) {
		if c.SHA == r.PathValue("ref") && (name == "" || c.Name == name) {
			runs = append(runs, s.check(c))
			if r.URL.Query().Get("filter") != "all" && name != "" {
				break
			}
		}
	}
	return answer{http.StatusOK, map[string]any{"total_count": len(runs), "check_runs": runs}}
}
