package app

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/queue"
)

// freePort is an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// far is a worker in a process of its own.
type far struct {
	t                  *testing.T
	name, config, home string
	bad, slow          string
	cmd                *exec.Cmd
	log                *bytes.Buffer
}

// withWorkers makes a service without slots of its own, and so many workers.
func withWorkers(t *testing.T, s *served, n int) []*far {
	t.Helper()
	dir := t.TempDir()
	s.listen = freePort(t)
	tasks := freePort(t)
	conf := fmt.Sprintf("slots: 0\nworkers:\n  listen: %s\n  secrets:\n", tasks)
	var workers []*far
	for i := range n {
		w := &far{t: t, name: fmt.Sprintf("far%d", i), home: filepath.Join(dir, fmt.Sprint("home", i)), bad: s.bad, slow: s.slow}
		conf += fmt.Sprintf("    %s: sha256:%s\n", w.name, queue.Hash("secret of "+w.name))
		w.config = filepath.Join(dir, w.name+".yaml")
		text := fmt.Sprintf("server: http://%s\nqueue: nats://%s\nname: %s\nslots: 2\n", s.listen, tasks, w.name)
		if err := os.WriteFile(w.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		workers = append(workers, w)
	}
	file := filepath.Join(dir, "serve.yaml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args = append(s.args, "--config", file)
	return workers
}

func (w *far) start() {
	w.t.Helper()
	w.cmd = exec.Command(os.Args[0], "worker", "--config", w.config)
	w.log = &bytes.Buffer{}
	w.cmd.Stderr = w.log
	w.cmd.Env = programEnv(w.home, w.bad, w.slow, secretVariable+"=secret of "+w.name)
	if err := w.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *far) kill() {
	_ = w.cmd.Process.Kill()
	_ = w.cmd.Wait()
}

// stop ends it in order.
func (w *far) stop() {
	w.t.Helper()
	_ = w.cmd.Process.Signal(os.Interrupt)
	if err := w.cmd.Wait(); err != nil {
		w.t.Errorf("%s stopped: %v\n%s", w.name, err, w.log)
	}
}

// Killing the orchestrator, a worker, or both at any moment changes no answer,
// loses no run and makes none twice.
func TestWorkersSurviveKill(t *testing.T) {
	t.Parallel()
	want := undisturbed(t)

	kills, slow := 6, "4ms"
	if os.Getenv("KBISECT_NOISE") != "" {
		kills, slow = 50, "10ms"
	}
	s, _ := newServed(t, 30, 24, slow)
	workers := withWorkers(t, s, 2)
	s.start()
	for _, w := range workers {
		w.start()
	}
	s.threeJobs()
	said := map[string]int{}
	for i := range kills {
		time.Sleep(time.Duration(rand.Int64N(int64(700 * time.Millisecond))))
		w := workers[rand.IntN(len(workers))]
		what := []string{"worker", "service", "both"}[i%3]
		said[what]++
		if what != "service" {
			w.kill()
		}
		if what != "worker" {
			s.kill()
			s.start()
		}
		if what != "service" {
			w.start()
		}
	}
	s.settle()
	for _, w := range workers {
		w.stop()
	}
	s.stop()
	jobs, runs := s.jobs()
	if diff := cmp.Diff(want, answers(t, jobs, runs)); diff != "" {
		t.Errorf("after kills %v:\n%s\n%s", said, diff, s.log)
	}
	t.Logf("kills: %v", said)
}

// What is wrong with a worker's configuration or secret is one line.
func TestWorkerRefused(t *testing.T) {
	t.Parallel()
	s, _ := newServed(t, 3, 2, "1ms")
	w := withWorkers(t, s, 1)[0]
	s.start()
	defer s.stop()
	good, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to, want string }{
		{"name: far0", "name: far9", "wrong name or secret"},
		{"slots: 2", "slots: none", "line 4"},
		{"server:", "sever:", "unknown field"},
		{"slots: 2", "secret_file: nowhere", "nowhere"},
		{"slots: 2", "ca: nowhere", "nowhere"},
	} {
		if err := os.WriteFile(w.config, []byte(strings.Replace(string(good), c.from, c.to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		w.start()
		err := w.cmd.Wait()
		said := strings.TrimSpace(w.log.String())
		if err == nil || !strings.Contains(said, c.want) || strings.Contains(said, "secret of") {
			t.Errorf("%s: %v, %q", c.to, err, said)
		}
	}
	for _, path := range []string{"/worker/kernels/x", "/worker/git/x/info/refs", "/worker/files/x"} {
		resp, err := http.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}
