package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// wanted is a request of one kind.
type wanted interface {
	request(files *uploaded) (Request, error)
}

// SubmitKey tells a request that is sent again from a new one.
type SubmitKey struct {
	Key string `header:"Idempotency-Key" maxLength:"200" pattern:"^[\\x21-\\x7e]+$" patternDescription:"letters without blanks" doc:"Sending the same key again gives the job of the first time"`
}

// mboxInput is of a series whose body is the mailbox itself.
type mboxInput struct {
	SubmitKey
	Repo    string   `query:"repo" maxLength:"100" doc:"With a mailbox as body"`
	Base    string   `query:"base" maxLength:"200" doc:"With a mailbox as body"`
	Profile string   `query:"profile" maxLength:"100" doc:"With a mailbox as body"`
	Tests   []string `query:"test,explode" maxItems:"200" doc:"With a mailbox as body; repeatable"`
}

type submitted struct {
	Location string `header:"Location"`
	Body     Submitted
}

const (
	jsonType      = "application/json"
	multipartType = "multipart/form-data"
	mboxType      = "application/mbox"
	mailType      = "message/rfc822"
)

func (s *server) submitRoutes() {
	submitRoute(s, Check, "Test one kernel: a commit, or an uploaded image", []part{kernelPart, modulesPart},
		func(ctx context.Context, in *SubmitKey) (*submitted, error) {
			return submit[CheckRequest](ctx, s, Check, in.Key, nil)
		})
	submitRoute(s, Series, "Test every commit of a series: a range, or a mailbox on a base", []part{mboxPart},
		func(ctx context.Context, in *mboxInput) (*submitted, error) {
			return submit[SeriesRequest](ctx, s, Series, in.Key, in)
		})
	submitRoute(s, Bisect, "Find the commit that made a test fail, or that repaired it: in a range, or in a mailbox", []part{mboxPart},
		func(ctx context.Context, in *SubmitKey) (*submitted, error) {
			return submit[BisectRequest](ctx, s, Bisect, in.Key, nil)
		})
	for kind, schema := range map[Kind]*huma.Schema{Check: schemaOf[CheckRequest](s), Series: schemaOf[SeriesRequest](s), Bisect: schemaOf[BisectRequest](s)} {
		op := s.api.OpenAPI().Paths[prefix+"/jobs/"+string(kind)].Post
		op.RequestBody = &huma.RequestBody{Required: true, Content: requestTypes(kind, schema)}
	}
}

// submitRoute adds a route. Its body is read by this package, not by huma: it may
// be one of several types, and files are streamed to disk.
func submitRoute[I any](s *server, kind Kind, summary string, parts []part, handle func(context.Context, *I) (*submitted, error)) {
	op := operation("POST", "/jobs/"+string(kind), "submit-"+string(kind), "submit", summary, Submit, 400, 409, 413, 415)
	op.DefaultStatus = http.StatusCreated
	op.MaxBodyBytes = s.Limits.JSON
	for _, p := range parts {
		op.MaxBodyBytes += p.limit(&s.Limits)
	}
	register(s, op, handle)
}

// requestTypes describe the bodies that a kind takes.
func requestTypes(kind Kind, schema *huma.Schema) map[string]*huma.MediaType {
	types := map[string]*huma.MediaType{jsonType: {Schema: schema}}
	binary := func(what string) *huma.Schema {
		return &huma.Schema{Type: "string", Format: "binary", Description: what}
	}
	form := func(files map[string]*huma.Schema, required string) {
		files["request"] = schema
		types[multipartType] = &huma.MediaType{
			Schema:   &huma.Schema{Type: "object", Properties: files, Required: []string{"request", required}},
			Encoding: map[string]*huma.Encoding{"request": {ContentType: jsonType}},
		}
	}
	switch kind {
	case Check:
		form(map[string]*huma.Schema{"kernel": binary("A bootable image"), "modules": binary("A tar archive of its lib/modules, for a kernel that needs some")}, "kernel")
	case Series, Bisect:
		form(map[string]*huma.Schema{"mbox": binary("The patches")}, "mbox")
		if kind == Bisect { // its test does not go into an address
			break
		}
		types[mboxType] = &huma.MediaType{Schema: binary("The patches, for ?repo= and ?base=")}
		types[mailType] = &huma.MediaType{Schema: binary("One patch, for ?repo= and ?base=")}
	}
	return types
}

// submit reads a request, checks it and hands it over.
func submit[T any, P interface {
	*T
	wanted
}](ctx context.Context, s *server, kind Kind, key string, mbox *mboxInput) (*submitted, error) {
	x := exchangeOf(ctx)
	var want P = new(T)
	files, err := s.read(x, want, schemaOf[T](s), mbox)
	defer files.remove()
	if err != nil {
		return nil, err
	}
	r, err := want.request(files)
	if err != nil {
		return nil, err
	}
	r.Kind, r.Owner, r.Key = kind, x.token.Name, key
	id, existing, err := s.Submitter.Submit(ctx, r)
	if err != nil {
		return nil, err
	}
	url := prefix + "/jobs/" + id
	return &submitted{Location: url, Body: Submitted{ID: id, URL: url, Existing: existing}}, nil
}

func (c *CheckRequest) request(files *uploaded) (Request, error) {
	r := Request{Repo: c.Repo, Rev: c.Rev, Plan: c.Plan, Kernel: files.kernel, Modules: files.modules}
	switch {
	case files.kernel == "" && files.modules != "":
		return r, &BadInput{"", "modules without a kernel: upload both"}
	case files.kernel != "" && (c.Repo != "" || c.Rev != ""):
		return r, &BadInput{"repo", "an uploaded kernel is of no repository: leave repo and rev out"}
	case files.kernel == "" && c.Repo == "":
		return r, &BadInput{"repo", "name a repository, see /api/v1/repos, or upload a kernel"}
	case files.kernel == "" && c.Rev == "":
		return r, &BadInput{"rev", "which commit?"}
	}
	return r, revision("rev", c.Rev)
}

func (c *SeriesRequest) request(files *uploaded) (Request, error) {
	r := Request{Repo: c.Repo, Base: c.Base, Head: c.Head, Plan: c.Plan, Mbox: files.mbox}
	switch {
	case files.mbox != nil && c.Head != "":
		return r, &BadInput{"head", "a mailbox is applied to base: leave head out"}
	case files.mbox == nil && c.Head == "":
		return r, &BadInput{"head", "where does the series end? Name its last commit, or upload a mailbox"}
	case files.mbox == nil && c.Base == "":
		return r, &BadInput{"base", "what does the series stand on?"}
	}
	if err := revision("base", c.Base); err != nil {
		return r, err
	}
	return r, revision("head", c.Head)
}

func (c *BisectRequest) request(files *uploaded) (Request, error) {
	r := Request{Repo: c.Repo, Good: c.Good, Bad: c.Bad, Base: c.Base, Plan: c.Plan, Search: c.Search, Mbox: files.mbox}
	switch {
	case len(c.Tests)+len(c.Programs) != 1:
		return r, &BadInput{"tests", "a bisection follows one test: name the one that fails, or send one program"}
	case c.ShareGuests != nil && *c.ShareGuests:
		return r, &BadInput{"share_guests", "a bisection gives every run a guest of its own"}
	case files.mbox != nil && c.Good != "":
		return r, &BadInput{"good", "a mailbox brings both ends, and base says what it stands on: leave good and bad out"}
	case files.mbox != nil && c.Bad != "":
		return r, &BadInput{"bad", "a mailbox brings both ends, and base says what it stands on: leave good and bad out"}
	case files.mbox == nil && c.Base != "":
		return r, &BadInput{"base", "base is for a mailbox; of a range it is good"}
	case files.mbox == nil && c.Good == "":
		return r, &BadInput{"good", "name a commit that passes, or upload a mailbox"}
	case files.mbox == nil && c.Bad == "":
		return r, &BadInput{"bad", "name a commit that fails, or upload a mailbox"}
	}
	for _, f := range [][2]string{{"good", c.Good}, {"bad", c.Bad}, {"base", c.Base}} {
		if err := revision(f[0], f[1]); err != nil {
			return r, err
		}
	}
	return r, nil
}

// revision refuses a range, which the pattern cannot.
func revision(field, rev string) error {
	if strings.Contains(rev, "..") {
		return &BadInput{field, "that is a range: one commit is wanted"}
	}
	return nil
}
