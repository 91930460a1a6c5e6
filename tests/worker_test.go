//go:build e2e

package tests

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
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

// yaml is the lines for a configuration that `orchestrator token` prints.
func yaml(r result) string {
	_, lines, _ := strings.Cut(r.stderr, "\n\n")
	return lines
}

// worker starts `orchestrator worker`, with the kernels of the other tests, and
// waits until it works.
func worker(t *testing.T, config string) *exec.Cmd {
	t.Helper()
	cmd := command(context.WithoutCancel(t.Context()), "worker", "--config", config)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	works := make(chan bool, 1)
	go func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if strings.Contains(lines.Text(), " works for ") {
				works <- true
			} else if os.Getenv("KBISECT_VERBOSE") != "" {
				t.Log(lines.Text())
			}
		}
		works <- false
	}()
	if !<-works {
		t.Fatal("the worker does not start")
	}
	return cmd
}

// A service that has no machine of its own has its jobs done by a worker, over
// TCP; killing that one, the service, or both changes no answer.
func TestWorker(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	listen, tasks := freePort(t), freePort(t)
	token, secret := run(t, "token", "e2e"), run(t, "token", "--worker", "far")
	serveConfig := write("serve.yaml", fmt.Sprintf("slots: 0\n%s%s", yaml(token), strings.Replace(yaml(secret), "workers:\n", "workers:\n  listen: "+tasks+"\n", 1)))
	write("secret", secret.stdout)
	workerConfig := write("worker.yaml", fmt.Sprintf("server: http://%s\nqueue: nats://%s\nname: far\nsecret_file: secret\n", listen, tasks))

	start := func() *server {
		return serve(t, "--config", serveConfig, "--listen", listen, "--data-dir", filepath.Join(dir, "home"))
	}
	s, w := start(), worker(t, workerConfig)
	ask := func(kind string, what map[string]any) string {
		what["repo"], what["tests"], what["fresh"] = "linux", []string{plantedTest}, true
		return s.ask(t, strings.TrimSpace(token.stdout), kind, what)
	}
	bisect := ask("bisect", map[string]any{"good": "base", "bad": "series", "no_confirm": true})
	series := ask("series", map[string]any{"base": "series~5", "head": "series", "runs": 10})
	for _, victim := range []string{"worker", "service", "both"} {
		time.Sleep(4 * time.Second)
		if victim != "service" {
			_ = w.Process.Kill()
			_ = w.Wait()
			waitNone(t)
		}
		if victim != "worker" {
			_ = s.cmd.Process.Kill()
			<-s.gone
			_ = s.cmd.Wait()
			s = start()
		}
		if victim != "service" {
			w = worker(t, workerConfig)
		}
	}
	for s.working(t) {
		time.Sleep(200 * time.Millisecond)
	}
	results := map[string]string{}
	for _, id := range []string{bisect, series} {
		results[id] = s.get(t, "/api/v1/jobs/"+id+"/result?format=json")
	}
	// Logs and kernels are at the service, by their digests.
	var made kernel.SeriesResult
	if err := json.Unmarshal([]byte(results[series]), &made); err != nil {
		t.Fatal(err)
	}
	for _, c := range made.Commits {
		if log := s.get(t, "/artifacts/log/"+c.Build.LogDigest); !strings.Contains(log, " vmlinux") {
			t.Errorf("%s: its log of %d bytes is none of a build", c.Subject, len(log))
		}
		for kind, want := range map[string]string{"kernel": c.Build.Kernel.Digest, "config": c.Build.Kernel.ConfigDigest} {
			if sum := sha256.Sum256([]byte(s.get(t, "/artifacts/"+kind+"/"+want))); hex.EncodeToString(sum[:]) != want {
				t.Errorf("%s: the %s %s is another", c.Subject, kind, want)
			}
		}
	}
	_ = w.Process.Signal(syscall.SIGINT)
	if err := w.Wait(); err != nil {
		t.Errorf("the worker ended with %v", err)
	}
	s.end(t, syscall.SIGINT)
	var b kernel.BisectResult
	if err := json.Unmarshal([]byte(results[bisect]), &b); err != nil {
		t.Fatal(err)
	}
	if b.Status != kernel.Found || b.Culprit == nil || b.Culprit.Subject != plantedSubject {
		t.Errorf("bisect: %s, %v", b.Status, b.Culprit)
	}
	r := made
	if r.Status != "done" || len(r.Commits) != 5 || len(r.FirstBad) != 1 {
		t.Errorf("series: %s, %d commits, first bad %v", r.Status, len(r.Commits), r.FirstBad)
	}
}
