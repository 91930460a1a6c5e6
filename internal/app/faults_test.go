package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

	"github.com/kernel-bisect/kbisect/internal/dispatch"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/queue"
)

var (
	undisturbedOnce sync.Once
	calmAnswers     map[string]string
)

// undisturbed are the answers of threeJobs on a service that nothing happens to.
func undisturbed(t *testing.T) map[string]string {
	t.Helper()
	undisturbedOnce.Do(func() {
		calm, _ := newServed(t, 30, 24, "1ms")
		calm.start()
		calm.threeJobs()
		calm.settle()
		calm.stop()
		jobs, runs := calm.jobs()
		calmAnswers = answers(t, jobs, runs)
	})
	if calmAnswers == nil {
		t.Fatal("the undisturbed service has failed, in another test")
	}
	return calmAnswers
}

// settle waits until no job is queued or under way.
func (s *served) settle() {
	for s.active() > 0 {
		time.Sleep(100 * time.Millisecond)
	}
}

// said counts the lines of a log that have one of some words.
func said(log string, words ...string) (lines []string) {
	for l := range strings.Lines(log) {
		for _, w := range words {
			if strings.Contains(l, w) {
				lines = append(lines, l)
				break
			}
		}
	}
	return lines
}

// readyz waits until the service says something about itself.
func (s *served) readyz(status int, words string) {
	s.t.Helper()
	for until := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		got, body := s.get("/readyz")
		if got == status && strings.Contains(body, words) {
			if strings.Count(body, "\n") != 1 {
				s.t.Errorf("readyz: %q is not one line", body)
			}
			return
		}
		if time.Now().After(until) {
			s.t.Fatalf("readyz: %d %q, not %d with %q\n%s", got, body, status, words, s.tail())
		}
	}
}

// tail is the log of a service, which it ends for that.
func (s *served) tail() string {
	s.kill()
	return s.log.String()
}

// mounted mounts a file system for a test, which is skipped if it may not.
func mounted(t *testing.T, source, kind, data string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(source, dir, kind, unix.MS_NODEV|unix.MS_NOSUID, data); err != nil {
		t.Skipf("a test of a full disk mounts one: %v (be root)", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fill takes all the room there is; what it returns gives it back.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
}

// Jobs wait while the disk is full, which is one line of the log, and come to
// the answer that they come to otherwise.
func TestServeDiskFull(t *testing.T) {
	t.Parallel()
	disk := mounted(t, "tmpfs", "tmpfs", "size=32m")
	want := undisturbed(t)
	s, _ := newServed(t, 30, 24, "3ms")
	s.home = filepath.Join(disk, "home")
	s.start()
	s.threeJobs()
	free := fill(t, disk)
	s.readyz(http.StatusServiceUnavailable, "disk full")
	time.Sleep(1200 * time.Millisecond) // they try again
	if status, body := s.get("/jobs"); status != http.StatusOK || !strings.Contains(body, "bisect") {
		t.Errorf("the pages of a full disk: %d\n%s", status, body)
	}
	status, _, body := s.post("/submit", map[string][]string{"kind": {"series"}, "repo": {"linux"}, "range": {"main~3..main"}, "tests": {"cow/fork-basic/base"}})
	if status != http.StatusInternalServerError || !strings.Contains(body, "try again") {
		t.Errorf("submit on a full disk: %d\n%s", status, body)
	}
	s.readyz(http.StatusServiceUnavailable, "")
	free()
	s.readyz(http.StatusOK, "ready")
	s.settle()
	s.stop()
	jobs, runs := s.jobs()
	if diff := cmp.Diff(want, answers(t, jobs, runs)); diff != "" {
		t.Errorf("after a full disk:\n%s\n%s", diff, s.log)
	}
	if lines := said(s.log.String(), "jobs wait until"); len(lines) != 1 || !strings.Contains(lines[0], "free some space") {
		t.Errorf("%d lines:\n%s", len(lines), strings.Join(lines, ""))
	}
	if lines := said(s.log.String(), "full", "no space"); len(lines) > 4 {
		t.Errorf("%d lines about a full disk:\n%s", len(lines), strings.Join(lines, ""))
	}
}

// A data directory in which nothing may be written is one line at the start.
func TestServeReadOnlyAtStart(t *testing.T) {
	t.Parallel()
	disk := mounted(t, "tmpfs", "tmpfs", "size=32m")
	s, _ := newServed(t, 3, 2, "1ms")
	s.home = filepath.Join(disk, "home")
	for _, fresh := range []bool{true, false} { // without a record, and with one
		if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "serve", "--listen", s.listen)
		cmd.Env = s.env()
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != exitInfra {
			t.Errorf("fresh %v: %v", fresh, err)
		}
		if text := string(out); strings.Count(text, "\n") != 1 || !strings.Contains(text, "read-only") || !strings.Contains(text, "--data-dir") {
			t.Errorf("fresh %v: %q", fresh, text)
		}
		if err := unix.Mount("", disk, "", unix.MS_REMOUNT, ""); err != nil {
			t.Fatal(err)
		}
		s.start()
		s.stop()
	}
}

// A file system that turns read-only under jobs, as a disk with errors does,
// harms none: started on a sound one they come to the answer that they come to
// otherwise.
func TestServeTurnsReadOnly(t *testing.T) {
	t.Parallel()
	image := filepath.Join(t.TempDir(), "disk")
	tool := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("a test of a failing disk makes one: %s: %v (be root)\n%s", args[0], err, out)
		}
	}
	tool("truncate", "-s", "64M", image)
	tool("/sbin/mkfs.ext4", "-q", image)
	disk := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	tool("mount", "-o", "loop", image, disk)
	t.Cleanup(func() { _ = exec.Command("umount", "--lazy", disk).Run() })
	want := undisturbed(t)
	s, _ := newServed(t, 30, 24, "3ms")
	s.home = filepath.Join(disk, "home")
	s.start()
	s.threeJobs()
	time.Sleep(500 * time.Millisecond)
	tool("mount", "-o", "remount,abort", disk)
	s.readyz(http.StatusServiceUnavailable, "jobs wait")
	time.Sleep(1200 * time.Millisecond) // they try again
	if status, body := s.get("/jobs"); status != http.StatusOK || !strings.Contains(body, "bisect") {
		t.Errorf("the pages of a disk with errors: %d\n%s", status, body)
	}
	s.stop()
	if lines := said(s.log.String(), "jobs wait until"); len(lines) != 1 {
		t.Errorf("%d lines:\n%s", len(lines), s.log)
	}
	if lines := said(s.log.String(), "error"); len(lines) > 5 {
		t.Errorf("%d lines:\n%s", len(lines), s.log)
	}
	tool("umount", disk)
	_ = exec.Command("/sbin/fsck.ext4", "-p", image).Run() // its status says that it mended something
	tool("mount", "-o", "loop", image, disk)
	s.start()
	s.settle()
	s.stop()
	jobs, runs := s.jobs()
	if diff := cmp.Diff(want, answers(t, jobs, runs)); diff != "" {
		t.Errorf("after a disk that turned read-only:\n%s\n%s", diff, s.log)
	}
}

// A worker that lies harms no job: what it makes up is refused, it gets no more
// tasks, and another does them.
func TestLyingWorker(t *testing.T) {
	t.Parallel()
	want := undisturbed(t)
	s, _ := newServed(t, 30, 24, "10ms")
	workers := withWorkers(t, s, 2)
	s.start()
	workers[1].start()
	tasks := queueURL(t, workers[0])
	digest, err := guestDigest()
	if err != nil {
		t.Fatal(err)
	}
	announce := queue.Announce{Slots: 1, Labels: []string{archLabel + "x86_64", guestLabel + digest, accelLabel + "simulated", qemuLabel + "none"}}
	raw, err := nats.Connect(tasks, nats.UserInfo("far0", "secret of far0"), nats.CustomInboxPrefix("_INBOX_far0"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	s.threeJobs()
	for _, c := range []struct {
		name string
		lie  func(task queue.Task, r *dispatch.Result)
	}{
		{"no outcome", func(_ queue.Task, r *dispatch.Result) { r.Run.Outcome = "great" }},
		{"another test", func(_ queue.Task, r *dispatch.Result) { r.Run.Test = "cow/other\x1b[31m" }},
		{"oversized log", func(_ queue.Task, r *dispatch.Result) {
			r.Run.Console = strings.Repeat("all is well \x1b]0;title\a\x00\xff\n", 100_000)
		}},
		{"another's tasks", func(task queue.Task, _ *dispatch.Result) {
			for _, other := range []struct{ attempt, seq int }{{task.Attempt + 1, task.Seq}, {task.Attempt - 1, task.Seq}, {task.Attempt, task.Seq + 1}, {task.Attempt, task.Seq - 1}} {
				m := nats.NewMsg("answer.far0")
				m.Header.Set("Kbisect", fmt.Sprintf(`{"v":1,"job":%q,"attempt":%d,"seq":%d}`, task.Job, other.attempt, other.seq))
				m.Data = []byte(`{"run":{"test":"cow/fork-basic/base","outcome":"fail"}}`)
				if reply, err := raw.RequestMsg(m, 5*time.Second); err != nil || string(reply.Data) != "drop" {
					t.Errorf("an answer for %v: %v", other, err)
				}
			}
			m := nats.NewMsg("answer.far1") // under another's name
			m.Header.Set("Kbisect", fmt.Sprintf(`{"v":1,"job":%q,"attempt":%d,"seq":%d}`, task.Job, task.Attempt, task.Seq))
			_ = raw.PublishMsg(m)
		}},
	} {
		conn, err := queue.Connect(t.Context(), queue.WorkerOptions{Name: "far0", Announce: announce, URL: tasks, Secret: "secret of far0"})
		if err != nil {
			t.Fatal(err)
		}
		lied := make(chan struct{})
		var once sync.Once
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = conn.Serve(ctx, func(ctx context.Context, task queue.Task) ([]byte, error) {
				r, err := simulatedAnswer(ctx, s.bad, task.Body)
				if r.Run.Test != "" {
					once.Do(func() {
						c.lie(task, &r)
						close(lied)
					})
				}
				if err != nil {
					return nil, err
				}
				return json.Marshal(r)
			})
		}()
		select {
		case <-lied:
		case <-ctx.Done():
			t.Errorf("%s: it had no run to lie about", c.name)
		}
		time.Sleep(50 * time.Millisecond) // its answer arrives
		cancel()
		<-served
	}
	workers[0].start() // what was for it alone would wait
	s.settle()
	for _, w := range workers {
		w.stop()
	}
	s.stop()
	jobs, runs := s.jobs()
	if diff := cmp.Diff(want, answers(t, jobs, runs)); diff != "" {
		t.Errorf("after lies:\n%s\n%s", diff, s.log)
	}
	log := s.log.String()
	for words, most := range map[string]int{"which is no outcome": 1, "is answered with one of": 1, "answer dropped": 10} {
		if lines := said(log, words); len(lines) == 0 || len(lines) > most {
			t.Errorf("%d lines with %q:\n%s", len(lines), words, log)
		}
	}
	if strings.Contains(log, "\x1b") || strings.Contains(log, "all is well") {
		t.Errorf("what a worker says is in the log:\n%s", log)
	}
}

// queueURL is where a worker has its tasks from.
func queueURL(t *testing.T, w *far) string {
	t.Helper()
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "queue: ")
	url, _, _ := strings.Cut(after, "\n")
	return url
}

// simulatedAnswer is what an honest worker makes of a task.
func simulatedAnswer(ctx context.Context, bad string, body []byte) (r dispatch.Result, err error) {
	var o dispatch.Order
	if err := json.Unmarshal(body, &o); err != nil {
		return r, err
	}
	switch o.Kind {
	case "build", "clean":
		r.Build = kernel.Build{Status: kernel.BuildOK, Kernel: kernel.Kernel{Digest: o.Commit.SHA, Release: "6.1.0-simulated"}}
	case "boot":
		r.Boot = kernel.Boot{Status: kernel.BootOK, Release: o.Kernel.Release}
	case "run":
		b := &simulatedBench{o.Kernel.Digest, func(sha string) bool { return strings.Contains(bad, sha) }, false, time.Millisecond}
		r.Run, err = b.Run(ctx, o.Programs[0].Program)
	}
	return r, err
}
