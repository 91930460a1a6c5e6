package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/queue"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

// world is a worker's machine that writes down what is done on it.
type world struct {
	mu   sync.Mutex
	log  []string
	fail string // what fails: "boot", "dead" (boots as a failure), "run", "panic" (in a run)
}

func (w *world) did(format string, a ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf(format, a...))
}

func (w *world) Open(_ context.Context, request json.RawMessage, mirror string, progress func(Word)) (*Opened, error) {
	w.did("open %s %s", request, mirror)
	build := func(how string) func(context.Context, kernel.Commit) (kernel.Build, error) {
		return func(_ context.Context, c kernel.Commit) (kernel.Build, error) {
			progress(Word{Text: "half of " + c.SHA, Tail: "CC mm"})
			return kernel.Build{Status: kernel.BuildOK, Kernel: kernel.Kernel{Digest: how + c.SHA}}, nil
		}
	}
	return &Opened{
		Build: build("warm "), BuildClean: build("clean "), Close: func() { w.did("close lab") },
		Boot: func(ctx context.Context, k kernel.Kernel) (job.Bench, kernel.Boot, error) {
			w.did("boot %s", k.Digest)
			switch w.fail {
			case "boot":
				return nil, kernel.Boot{}, errors.New("no QEMU")
			case "dead":
				return nil, kernel.Boot{Status: kernel.BootFailed, Reason: "panic"}, nil
			}
			return &up{w, k.Digest, ctx}, kernel.Boot{Status: kernel.BootOK, Release: "6.1"}, nil
		},
	}, nil
}

type up struct {
	w      *world
	digest string
	life   context.Context //nolint:containedctx // of the boot: the runs are to have another
}

func (u *up) Guest() agentproto.Hello { return agentproto.Hello{Release: "6.1"} }
func (u *up) Close()                  { u.w.did("down %s", u.digest) }
func (u *up) PlanOut(runner.Program) (kernel.Run, bool) {
	return kernel.Run{}, false
}

func (u *up) Run(_ context.Context, p runner.Program) (kernel.Run, error) {
	if err := u.life.Err(); err != nil {
		return kernel.Run{}, fmt.Errorf("the kernel ended with the task that booted it: %w", err)
	}
	u.w.did("run %s on %s", p.Name, u.digest)
	if u.w.fail == "panic" {
		panic("a bug")
	}
	if u.w.fail == "run" {
		return kernel.Run{}, errors.New("no guest")
	}
	return kernel.Run{Test: p.Name, Outcome: kernel.Pass}, nil
}

func (u *up) RunTogether(_ context.Context, ps []runner.Program) (map[string]kernel.Run, error) {
	if u.w.fail == "panic" {
		panic("a bug")
	}
	runs := map[string]kernel.Run{}
	for _, p := range ps {
		if !p.Several {
			return nil, errors.New("Several got lost")
		}
		runs[p.Name] = kernel.Run{Test: p.Name, Outcome: kernel.Pass}
	}
	return runs, nil
}

// line is a queue with one worker at its end.
type line struct {
	station *Station
	tasks   []queue.Task
	lie     func(queue.Task, []byte) []byte // what is answered instead
	doubts  []string                        // whom nobody trusts any more, and why
	errs    []error                         // of the next tasks that are builds or for one worker only
}

func (l *line) Distrust(worker string, why error) {
	l.doubts = append(l.doubts, worker+": "+why.Error())
}

func (l *line) Do(ctx context.Context, t queue.Task) (queue.Answer, error) {
	l.tasks = append(l.tasks, t)
	if len(l.doubts) > 0 {
		return queue.Answer{}, queue.ErrNoWorker
	}
	if len(l.errs) > 0 && (t.Worker != "" || t.Kind == kindBuild) {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return queue.Answer{}, err
	}
	ctx, end := context.WithCancel(ctx)
	defer end() // as a worker's task ends
	t.Report = func(b []byte) { t.Progress(b) }
	body, err := l.station.Handle(ctx, t)
	if l.lie != nil {
		body = l.lie(t, body)
	}
	a := queue.Answer{Worker: "w1", Body: body}
	if err != nil {
		a.Err = err.Error()
	}
	return a, nil
}

// rig is a job's lab at one end and a machine at the other.
func rig() (*job.Lab, *line, *world, *[]string) {
	w := &world{}
	l := &line{station: NewStation(w, 1)}
	said := &[]string{}
	far := &Lab{Queue: l, Job: "j", Attempt: 3, Priority: 1, Needs: []string{"accel:tcg"}, Request: json.RawMessage(`{"kind":"check"}`), Mirror: "m.git",
		Progress: func(w Word) { *said = append(*said, w.Text+w.Tail) }}
	lab := &job.Lab{}
	far.Equip(lab, true)
	return lab, l, w, said
}

func test(name string) runner.Program {
	return runner.Program{Name: name, Argv: []string{"/x"}, Several: true}
}

func TestAJobsSteps(t *testing.T) {
	lab, l, w, said := rig()
	ctx := t.Context()
	b, err := lab.Build(ctx, kernel.Commit{SHA: "a"})
	if err != nil || b.Kernel.Digest != "warm a" {
		t.Errorf("%+v, %v", b, err)
	}
	if b, err = lab.BuildClean(ctx, kernel.Commit{SHA: "a"}); err != nil || b.Kernel.Digest != "clean a" {
		t.Errorf("%+v, %v", b, err)
	}
	bench, boot, err := lab.Boot(ctx, b.Kernel)
	if err != nil || boot.Release != "6.1" {
		t.Fatal(boot, err)
	}
	for range 2 {
		if r, err := bench.Run(ctx, test("t")); err != nil || r.Test != "t" || r.Outcome != kernel.Pass {
			t.Errorf("%+v, %v", r, err)
		}
	}
	runs, err := bench.RunTogether(ctx, []runner.Program{test("t"), test("u")})
	if err != nil || len(runs) != 2 {
		t.Errorf("%v, %v", runs, err)
	}
	needy := test("n")
	needy.Needs = []string{"thp"}
	if r, out := bench.PlanOut(needy); !out || r.Outcome != kernel.Skip || r.Reason == "" {
		t.Errorf("%+v, %v", r, out)
	}
	want := []string{`open {"kind":"check"} m.git`, "boot clean a", "run t on clean a", "run t on clean a"}
	if d := cmp.Diff(want, w.log); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"half of aCC mm", "half of aCC mm"}, *said); d != "" {
		t.Error(d)
	}
	for i, k := range l.tasks {
		if k.Job != "j" || k.Attempt != 3 || k.Seq != i+1 || k.Priority != 1 || k.Needs[0] != "accel:tcg" {
			t.Errorf("task %d: %+v", i, k)
		}
		if sticky := k.Kind == kindRun || k.Kind == kindTogether; sticky != (k.Worker == "w1") {
			t.Errorf("task %d, %s, is for worker %q", i, k.Kind, k.Worker)
		}
	}
}

// A worker that dies takes its kernels along: another boots them again.
func TestAnotherWorker(t *testing.T) {
	lab, l, w, _ := rig()
	bench, _, err := lab.Boot(t.Context(), kernel.Kernel{Digest: "k"})
	if err != nil {
		t.Fatal(err)
	}
	l.errs, l.station = []error{fmt.Errorf("task: %w", queue.ErrNoWorker)}, NewStation(w, 1)
	if r, err := bench.Run(t.Context(), test("t")); err != nil || r.Outcome != kernel.Pass {
		t.Errorf("%+v, %v", r, err)
	}
	if !slices.Equal(w.log[len(w.log)-2:], []string{"boot k", "run t on k"}) {
		t.Error(w.log)
	}
}

// What no worker can do waits, and says so; what cannot be done does not.
func TestNoWorker(t *testing.T) {
	lab, l, _, said := rig()
	none := fmt.Errorf("task: %w", queue.ErrNoWorker)
	l.errs = []error{none, none}
	if b, err := lab.Build(t.Context(), kernel.Commit{SHA: "a"}); err != nil || b.Status != kernel.BuildOK || len(l.tasks) != 3 || len(*said) != 3 {
		t.Errorf("%+v, %v, %d tasks, %q", b, err, len(l.tasks), *said)
	}
	l.errs = []error{queue.ErrGivenUp}
	if _, err := lab.Build(t.Context(), kernel.Commit{SHA: "a"}); !errors.Is(err, queue.ErrGivenUp) {
		t.Error(err)
	}
}

func TestFailures(t *testing.T) {
	lab, _, w, _ := rig()
	w.fail = "dead"
	if b, boot, err := lab.Boot(t.Context(), kernel.Kernel{Digest: "k"}); b != nil || boot.Reason != "panic" || err != nil {
		t.Errorf("%v %+v, %v", b, boot, err)
	}
	w.fail = "boot"
	if b, _, err := lab.Boot(t.Context(), kernel.Kernel{Digest: "k"}); b != nil || err == nil || err.Error() != "worker w1: no QEMU" {
		t.Errorf("%v, %v", b, err)
	}
	w.fail = ""
	bench, _, err := lab.Boot(t.Context(), kernel.Kernel{Digest: "k"})
	if err != nil {
		t.Fatal(err)
	}
	w.fail = "run"
	if _, err := bench.Run(t.Context(), test("t")); err == nil {
		t.Error("a run that could not be made is no error")
	}
	if last := w.log[len(w.log)-1]; last != "down k" {
		t.Errorf("a kernel whose guests fail stays up: %s", last)
	}
	w.fail = "dead"
	if _, err := bench.Run(t.Context(), test("t")); err == nil || !strings.Contains(err.Error(), "booted before and does not now: panic") {
		t.Error(err)
	}
}

// What a worker makes up is an error, not a result.
func TestLies(t *testing.T) {
	for name, lie := range map[string]Result{
		"another test":   {Run: kernel.Run{Test: "u", Outcome: kernel.Fail}},
		"no outcome":     {Run: kernel.Run{Test: "t", Outcome: "great"}},
		"nothing":        {},
		"iterations":     {Run: kernel.Run{Test: "t", Outcome: kernel.Pass, Iterations: 99}},
		"of the others":  {Runs: map[string]kernel.Run{"x": {Test: "x", Outcome: kernel.Pass}}},
		"under a name":   {Runs: map[string]kernel.Run{"t": {Test: "u", Outcome: kernel.Pass}}},
		"no build":       {Build: kernel.Build{Status: "fine"}},
		"no digest":      {Build: kernel.Build{Status: kernel.BuildOK}},
		"boot of a kind": {Boot: kernel.Boot{Status: "maybe"}},
		"back in time":   {Run: kernel.Run{Test: "t", Outcome: kernel.Pass, Duration: -1}},
		"many results":   {Run: kernel.Run{Test: "t", Outcome: kernel.Pass, Tests: make([]kernel.TestOutcome, maxTests+1)}},
		"no result":      {Run: kernel.Run{Test: "t", Outcome: kernel.Pass, Tests: []kernel.TestOutcome{{Outcome: "great"}}}},
		"known to be":    {Run: kernel.Run{Test: "t", Outcome: kernel.Pass, Known: "great"}},
	} {
		lab, l, _, _ := rig()
		bench, _, err := lab.Boot(t.Context(), kernel.Kernel{Digest: "k"})
		if err != nil {
			t.Fatal(err)
		}
		l.lie = func(queue.Task, []byte) []byte { b, _ := json.Marshal(lie); return b }
		if _, err := bench.Run(t.Context(), test("t")); err == nil || !strings.HasPrefix(err.Error(), "worker w1: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: believed as a run: %v", name, err)
		}
		if len(l.doubts) != 1 {
			t.Errorf("%s: %q", name, l.doubts)
		}
		l.doubts = nil
		if runs, err := bench.RunTogether(t.Context(), []runner.Program{test("t")}); err == nil && len(runs) > 0 {
			t.Errorf("%s: believed as runs", name)
		}
		l.doubts = nil
		if _, err := lab.Build(t.Context(), kernel.Commit{SHA: "a"}); err == nil {
			t.Errorf("%s: believed as a build", name)
		}
		l.doubts = nil
		if _, _, err := lab.Boot(t.Context(), kernel.Kernel{Digest: "k"}); err == nil {
			t.Errorf("%s: believed as a boot", name)
		}
		l.doubts = nil
		l.lie = func(queue.Task, []byte) []byte { return []byte(`{"run":{"test":"t","outcome":"pass"},"more":1}`) }
		if _, err := bench.Run(t.Context(), test("t")); err == nil {
			t.Errorf("%s: an answer of another version is believed", name)
		}
	}
}

// What a worker writes is cut to what an honest one keeps, and acts on no terminal.
func TestOversized(t *testing.T) {
	lab, l, _, _ := rig()
	bench, _, err := lab.Boot(t.Context(), kernel.Kernel{Digest: "k"})
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("\x1b[31mx\x00\u202e\xff\n", 200_000)
	sig := kernel.Signature{Kind: "fail", Title: long, Frames: slices.Repeat([]string{long}, 1000)}
	l.lie = func(queue.Task, []byte) []byte {
		sig.Frames = slices.Repeat([]string{"f\x1b[0m\n"}, 1000)
		b, _ := json.Marshal(Result{Run: kernel.Run{Test: "t", Outcome: kernel.Fail, Signature: sig, Reason: long, Output: long, Console: long,
			Tests: []kernel.TestOutcome{{Name: long, Outcome: kernel.Fail, Signature: sig, Reason: long, Output: long}}}})
		return b
	}
	r, err := bench.Run(t.Context(), test("t"))
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"output": r.Output, "console": r.Console, "output of a result": r.Tests[0].Output} {
		if len(text) > maxLog || strings.ContainsAny(text, "\x1b\x00\u202e") || !strings.Contains(text, "bytes cut") {
			t.Errorf("%s: %d bytes, %.80q", what, len(text), text)
		}
	}
	for what, text := range map[string]string{"reason": r.Reason, "title": r.Signature.Title, "frame": r.Signature.Frames[0], "name": r.Tests[0].Name, "title of a result": r.Tests[0].Signature.Title} {
		if len(text) > maxWords || strings.ContainsAny(text, "\x1b\x00\u202e\n") {
			t.Errorf("%s: %d bytes, %.80q", what, len(text), text)
		}
	}
	if len(r.Signature.Frames) != maxFrames || len(l.doubts) > 0 {
		t.Errorf("%d frames; %q", len(r.Signature.Frames), l.doubts)
	}
}

// Three kernels of a slot stay up; the one used least recently goes first, and
// after a minute without runs all do.
func TestKernelsStayUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lab, l, w, _ := rig()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { l.station.Keep(ctx) })
		benches := map[string]job.Bench{}
		for _, k := range []string{"a", "b", "c"} {
			b, _, err := lab.Boot(ctx, kernel.Kernel{Digest: k})
			if err != nil {
				t.Fatal(err)
			}
			benches[k] = b
		}
		run := func(k string) {
			if _, err := benches[k].Run(ctx, test("t")); err != nil {
				t.Fatal(err)
			}
		}
		run("a")
		if _, _, err := lab.Boot(ctx, kernel.Kernel{Digest: "d"}); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(w.log, "down b") || slices.Contains(w.log, "down a") || l.station.Up() != 3 {
			t.Error(w.log)
		}
		time.Sleep(idleFor / 2)
		run("a")
		time.Sleep(idleFor/2 + 2*sweepEvery)
		synctest.Wait()
		if l.station.Up() != 1 || slices.Contains(w.log, "down a") {
			t.Errorf("%d up: %v", l.station.Up(), w.log)
		}
		cancel()
		wg.Wait()
		if w.log[len(w.log)-1] != "close lab" || !slices.Contains(w.log, "down a") {
			t.Error(w.log)
		}
	})
}

// A kernel that is in use is not another task's: that one boots its own.
func TestOneUserAtATime(t *testing.T) {
	_, l, w, _ := rig()
	lab, err := l.station.open(t.Context(), Order{Request: json.RawMessage(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	k := kernel.Kernel{Digest: "k"}
	one, err := l.station.take(t.Context(), lab, k)
	if err != nil {
		t.Fatal(err)
	}
	two, err := l.station.take(t.Context(), lab, k)
	if err != nil || one == two {
		t.Fatal(err)
	}
	l.station.back(one)
	l.station.back(two)
	if three, err := l.station.take(t.Context(), lab, k); err != nil || three != one && three != two {
		t.Error(err)
	}
	if n := len(w.log); n != 3 {
		t.Error(w.log)
	}
}

func FuzzOrder(f *testing.F) {
	f.Add([]byte(`{"kind":"run","programs":[{"Name":"t","Argv":["x"]}]}`))
	f.Add([]byte(`{"kind":"together","programs":[{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := NewStation(&world{}, 1)
		_, _ = s.Handle(t.Context(), queue.Task{Body: text, Report: func([]byte) {}})
		_, _ = decodeResult(text)
	})
}

// A job that runs one kernel and builds the next has two orders under way, and
// the end of one does not silence the other.
func TestWordsOfTwoOrders(t *testing.T) {
	var heard []string
	hear := func(who string) func([]byte) {
		return func(b []byte) { heard = append(heard, who+" "+string(b)) }
	}
	var l lab
	l.say(Word{Text: "nobody listens"})
	first := l.listen(hear("first"))
	second := l.listen(hear("second"))
	l.say(Word{Text: "a"})
	second()
	l.say(Word{Text: "b"})
	first()
	l.say(Word{Text: "c"})
	if d := cmp.Diff([]string{`second {"text":"a"}`, `first {"text":"b"}`}, heard); d != "" {
		t.Error(d)
	}
}
