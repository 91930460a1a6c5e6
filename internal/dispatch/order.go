// Package dispatch has a job's builds and runs done by workers: a lab whose every
// step is a task of the queue, and the station on which a worker carries such
// tasks out in a lab of its own. It must not know how kernels are built or guests
// are run, nor how tasks travel.
//
// An order says all that its step depends on, and a step may be done again: a
// worker that never saw the job builds, boots and runs what it is asked to. So a
// task that a dying worker took along goes to another, and the answer is the same.
package dispatch

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

// What an order may ask for.
const (
	kindBuild    = "build"
	kindClean    = "clean" // a build from nothing
	kindBoot     = "boot"
	kindRun      = "run"
	kindTogether = "together" // several tests in one guest
)

// Order is the body of a task.
type Order struct {
	Kind    string          `json:"kind"`
	Request json.RawMessage `json:"request"` // of the job: profile, configuration, what its guests have
	// Mirror names the repository at the orchestrator, as gitrepo does, "" for
	// none.
	Mirror   string        `json:"mirror,omitempty"`
	Commit   kernel.Commit `json:"commit,omitzero"` // of a build
	Kernel   kernel.Kernel `json:"kernel,omitzero"` // of a boot or run
	Programs []program     `json:"programs,omitempty"`
}

// program is a runner.Program on its way: that one is also what cells are made
// of, and so leaves out what does not influence a run.
type program struct {
	runner.Program
	Several bool `json:"several,omitempty"`
}

func pack(ps ...runner.Program) []program {
	out := make([]program, len(ps))
	for i, p := range ps {
		out[i] = program{p, p.Several}
	}
	return out
}

func unpack(ps []program) []runner.Program {
	out := make([]runner.Program, len(ps))
	for i, p := range ps {
		out[i] = p.Program
		out[i].Several = p.Several
	}
	return out
}

// Word is what a worker says while it carries out an order. Words may get lost.
type Word struct {
	Text string `json:"text,omitempty"` // how far it is
	Tail string `json:"tail,omitempty"` // last lines of the guest's console
}

// Result is the body of an answer: what the order's kind gives.
type Result struct {
	Build kernel.Build          `json:"build,omitzero"`
	Boot  kernel.Boot           `json:"boot,omitzero"`
	Guest agentproto.Hello      `json:"guest,omitzero"` // of a boot
	Run   kernel.Run            `json:"run,omitzero"`
	Runs  map[string]kernel.Run `json:"runs,omitempty"`
}

// decodeOrder reads the body of a task.
func decodeOrder(text []byte) (Order, error) {
	var o Order
	if err := strictly(text, &o); err != nil {
		return o, fmt.Errorf("order: %w", err)
	}
	switch {
	case o.Kind == kindRun && len(o.Programs) != 1, o.Kind == kindTogether && len(o.Programs) == 0:
		return o, fmt.Errorf("order: %s with %d programs", o.Kind, len(o.Programs))
	case o.Kind == kindTogether && len(o.Programs[0].Argv) == 0:
		return o, fmt.Errorf("order: a program without arguments")
	}
	return o, nil
}

// decodeResult reads the body of an answer, which a worker may have made up.
func decodeResult(text []byte) (Result, error) {
	var r Result
	if err := strictly(text, &r); err != nil {
		return r, fmt.Errorf("answer: %w", err)
	}
	return r, nil
}

// strictly refuses what the other side means and this one does not know.
func strictly(text []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}
