package web

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// formData is the form and what was wrong with it.
type formData struct {
	Choices
	Typed  map[string]string // field -> what the user wrote
	Errors map[string]string // field -> a sentence
}

// Error is what is wrong with a field, for the template.
func (d formData) Error(field string) string { return d.Errors[field] }

func (s *server) form(r *http.Request) (*page, error) {
	if s.ReadOnly {
		return nil, errReadOnly
	}
	d := formData{Choices: s.Choices, Typed: map[string]string{"kind": "series"}}
	// A link may fill the form in.
	for _, k := range fields {
		if v := r.URL.Query().Get(k); v != "" {
			d.Typed[k] = v
		}
	}
	return formPage(d), nil
}

func formPage(d formData) *page {
	return &page{name: "submit.html", Title: "New job", Nav: "submit", Data: d}
}

var fields = []string{"kind", "repo", "range", "tests", "profile", "find_fix"}

func (s *server) submit(w http.ResponseWriter, r *http.Request) {
	if s.ReadOnly {
		s.show(w, r, nil, errReadOnly)
		return
	}
	d := formData{Choices: s.Choices, Typed: map[string]string{}, Errors: map[string]string{}}
	for _, k := range fields {
		d.Typed[k] = strings.TrimSpace(r.PostFormValue(k))
	}
	f, err := s.read(d.Typed)
	id := ""
	if err == nil {
		id, err = s.Doer.Submit(r.Context(), f)
	}
	var bad *BadInput
	switch {
	case errors.As(err, &bad):
		d.Errors[bad.Field] = bad.Text
		p := formPage(d)
		p.Status = http.StatusUnprocessableEntity
		s.show(w, r, p, nil)
	case err != nil:
		s.show(w, r, nil, err)
	default:
		http.Redirect(w, r, "/jobs/"+url.PathEscape(id), http.StatusSeeOther)
	}
}

// read makes a Form of what was typed.
func (s *server) read(typed map[string]string) (Form, error) {
	f := Form{Kind: typed["kind"], Repo: typed["repo"], Profile: typed["profile"], FindFix: typed["find_fix"] != ""}
	if f.Repo == "" && len(s.Choices.Repos) == 1 {
		f.Repo = s.Choices.Repos[0]
	}
	if !slices.Contains(s.Choices.Repos, f.Repo) {
		return f, &BadInput{"repo", "Choose one of the repositories."}
	}
	if f.Profile != "" && !slices.ContainsFunc(s.Choices.Profiles, func(p Profile) bool { return p.Name == f.Profile }) {
		return f, &BadInput{"profile", "There is no such profile."}
	}
	f.Tests = strings.FieldsFunc(typed["tests"], func(r rune) bool { return unicode.IsSpace(r) || r == ',' })
	revs, err := revisions(typed["range"], f.Kind)
	if err != nil {
		return f, err
	}
	switch f.Kind {
	case "check":
		f.Rev = revs[0]
	case "series":
		f.Base, f.Head = revs[0], revs[1]
	case "bisect":
		f.Good, f.Bad = revs[0], revs[1]
		if f.FindFix {
			f.Good, f.Bad = revs[1], revs[0]
		}
		if len(f.Tests) != 1 {
			return f, &BadInput{"tests", "A bisection follows one test: name the one that fails."}
		}
	}
	return f, nil
}

// maxRange bounds what is typed into a line; a revision is never that long.
const maxRange = 300

// revisions reads OLD..NEW, or one revision for a check. What they mean only
// git knows.
func revisions(text, kind string) ([]string, error) {
	wrong := func(text string) ([]string, error) { return nil, &BadInput{"range", text} }
	switch {
	case !slices.Contains([]string{"check", "series", "bisect"}, kind):
		return nil, &BadInput{"kind", "Choose what to do."}
	case text == "":
		return wrong("Which commits? Paste a range, such as v6.1..my-branch.")
	case len(text) > maxRange:
		return wrong("That is too long for a range.")
	case strings.ContainsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return wrong("A range has no blanks in it: v6.1..my-branch.")
	}
	from, to, dots := strings.Cut(text, "..")
	switch {
	case strings.HasPrefix(from, "-") || strings.HasPrefix(to, "-"):
		return wrong("A revision does not start with a dash.")
	case kind == "check" && dots:
		return wrong("A check takes one commit. For several choose a series.")
	case kind == "check":
		return []string{from}, nil
	case !dots:
		return wrong("Two ends with two dots between them are needed: OLDER..NEWER, such as v6.1.." + from + ".")
	case strings.HasPrefix(to, ".") || strings.Contains(to, ".."):
		return wrong("Two ends with two dots between them are needed, not three: v6.1..my-branch.")
	case from == "":
		return wrong("The older end is missing in front of the dots.")
	case to == "":
		to = "HEAD"
	}
	return []string{from, to}, nil
}
