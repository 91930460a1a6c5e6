package queue

import (
	"errors"
	"strings"
	"testing"

	natsd "github.com/nats-io/nats-server/v2/server"
)

// An orchestrator that has opened its port and does not listen to heartbeats yet
// is one that may come.
func TestServerNotReady(t *testing.T) {
	ns, err := natsd.NewServer(&natsd.Options{Host: "127.0.0.1", Port: natsd.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	defer ns.WaitForShutdown()
	defer ns.Shutdown()
	if !ns.ReadyForConnections(patience) {
		t.Fatal("not ready")
	}
	_, err = Connect(t.Context(), WorkerOptions{Name: "w1", URL: ns.ClientURL(), Announce: Announce{Slots: 1}})
	if !errors.Is(err, ErrUnreachable) || strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
}
