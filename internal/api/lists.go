package api

import (
	"context"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// TestList is a page of tests.
type TestList struct {
	Tests []TestStat `json:"tests" nullable:"false" doc:"By name"`
	Next  string     `json:"next,omitempty" doc:"For after=, if there are more"`
}

// KernelList is a page of kernels.
type KernelList struct {
	Kernels []KernelStat `json:"kernels" nullable:"false"`
	Next    string       `json:"next,omitempty" doc:"For after=, if there are more"`
}

// WorkerList has all workers.
type WorkerList struct {
	Workers []Worker `json:"workers" nullable:"false"`
}

// ProfileList has all profiles, the default first.
type ProfileList struct {
	Profiles []kernel.Profile `json:"profiles" nullable:"false"`
}

// RepoList has all repositories that jobs may name.
type RepoList struct {
	Repos []Repo `json:"repos" nullable:"false"`
}

// ServerVersion says what a server is.
type ServerVersion struct {
	Version string `json:"version" doc:"Of the program"`
	API     int    `json:"api" doc:"Grows when a client that knows an older one would misread an answer"`
}

type testsInput struct {
	Text  string `query:"text" maxLength:"200" doc:"A part of the name"`
	Flaky bool   `query:"flaky" doc:"Only those that pass and fail on one kernel"`
	After string `query:"after" maxLength:"500" doc:"Only tests after this one"`
	Limit int    `query:"limit" minimum:"1" maximum:"2000" default:"200"`
}

type testName struct {
	Name string `path:"name" maxLength:"500" pattern:"^[^\\x00-\\x1f\\x7f]+$" patternDescription:"the name of a test" example:"cow/fork-basic/swap"`
}

type kernelsInput struct {
	After string `query:"after" maxLength:"64" pattern:"^[0-9a-f]*$" patternDescription:"a digest" doc:"Only kernels after this digest"`
	Limit int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
}

type none struct{}

func (s *server) listRoutes() {
	register(s, operation("GET", "/tests", "list-tests", "record", "List tests over all kernels", Read), s.listTests)
	register(s, operation("GET", "/tests/{name...}", "get-test", "record", "Read what is known of a test, kernel by kernel", Read, 404),
		func(ctx context.Context, in *testName) (*body[TestHistory], error) {
			t, err := s.Record.Test(ctx, in.Name)
			t.On = orEmpty(t.On)
			return &body[TestHistory]{t}, err
		})
	register(s, operation("GET", "/kernels", "list-kernels", "record", "List kernels that were run", Read), s.listKernels)
	register(s, operation("GET", "/workers", "list-workers", "service", "List workers", Read),
		func(ctx context.Context, _ *none) (*body[WorkerList], error) {
			ws, err := s.Live.Workers(ctx)
			return &body[WorkerList]{WorkerList{orEmpty(ws)}}, err
		})
	register(s, operation("GET", "/profiles", "list-profiles", "service", "List profiles, the default first", Read),
		func(context.Context, *none) (*body[ProfileList], error) {
			return &body[ProfileList]{ProfileList{orEmpty(s.Profiles)}}, nil
		})
	register(s, operation("GET", "/repos", "list-repos", "service", "List the repositories that jobs may name", Read),
		func(context.Context, *none) (*body[RepoList], error) {
			return &body[RepoList]{RepoList{orEmpty(s.Repos)}}, nil
		})
	register(s, operation("GET", "/version", "get-version", "service", "Read the versions of program and API", Read),
		func(context.Context, *none) (*body[ServerVersion], error) {
			return &body[ServerVersion]{ServerVersion{s.Build, Version}}, nil
		})
}

func (s *server) listTests(ctx context.Context, in *testsInput) (*body[TestList], error) {
	tests, err := s.Record.Tests(ctx, TestFilter{Text: in.Text, Flaky: in.Flaky, After: in.After, Limit: in.Limit + 1})
	if err != nil {
		return nil, err
	}
	list := TestList{Tests: orEmpty(tests)}
	if len(tests) > in.Limit {
		list.Tests = tests[:in.Limit]
		list.Next = tests[in.Limit-1].Name
	}
	return &body[TestList]{list}, nil
}

func (s *server) listKernels(ctx context.Context, in *kernelsInput) (*body[KernelList], error) {
	kernels, err := s.Record.Kernels(ctx, in.After, in.Limit+1)
	if err != nil {
		return nil, err
	}
	list := KernelList{Kernels: orEmpty(kernels)}
	if len(kernels) > in.Limit {
		list.Kernels = kernels[:in.Limit]
		list.Next = kernels[in.Limit-1].Digest
	}
	return &body[KernelList]{list}, nil
}
