package app

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

// Who sends or reads slowly, or without end, does not keep a connection.
func TestServerLetsGo(t *testing.T) {
	const most = 30 * time.Second // of this test: what has no limit is held for as long
	for _, c := range []struct {
		name, send string
		hurry      func(s *http.Server) // the limit that is tested, a hundred times shorter
		want       string               // in the answer
	}{
		{"half a header", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", func(s *http.Server) { s.ReadHeaderTimeout /= 100 }, ""},
		{"half a body", "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx", func(s *http.Server) { s.ReadTimeout /= 100 }, "timeout"},
		{"chunks without end", "POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", func(s *http.Server) { s.ReadTimeout /= 100 }, "timeout"},
		{"nothing more", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", func(s *http.Server) { s.IdleTimeout /= 100 }, "200 OK"},
		{"a long header", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n", func(*http.Server) {}, "431"},
		{"two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", func(*http.Server) {}, "400"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			mux := http.NewServeMux()
			mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
			mux.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) {
				_, err := io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(w, "read "+errText(err))
			})
			conn := dial(t, mux, c.hurry)
			_ = conn.SetDeadline(time.Now().Add(most))
			if _, err := io.WriteString(conn, c.send); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(conn)
			if err != nil && !strings.Contains(err.Error(), "reset") || !strings.Contains(string(got), c.want) {
				t.Errorf("%v, %.300q", err, got)
			}
		})
	}
	t.Run("reads nothing", func(t *testing.T) {
		t.Parallel()
		through := make(chan struct{})
		conn := dial(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			defer close(through)
			for chunk := make([]byte, 1<<20); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}), func(s *http.Server) { s.WriteTimeout /= 100 })
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		select {
		case <-through:
		case <-time.After(most):
			t.Error("what nobody reads is still being written")
		}
	})
}

func errText(err error) string {
	switch {
	case err == nil:
		return "<nil>"
	case strings.Contains(err.Error(), "timeout"):
		return "timeout"
	}
	return err.Error()
}

// dial connects to a server of our own kind.
func dial(t *testing.T, h http.Handler, hurry func(*http.Server)) net.Conn {
	t.Helper()
	s := newServer(h, zap.NewNop())
	hurry(s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
