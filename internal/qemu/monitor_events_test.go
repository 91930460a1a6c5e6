package qemu

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/digitalocean/go-qemu/qmp"
	"golang.org/x/sys/unix"
)

// An event that shares a packet with the reply to the capabilities is what
// go-qemu's own monitor loses.
func TestEventWithTheCapabilitiesReply(t *testing.T) {
	got := make(chan qmp.Event, 8)
	m, f := newFake(t, patient, func(ev qmp.Event) { got <- ev })
	go func() {
		// The greeting too: nothing of what the reader holds may be lost.
		f.say(greeting + "\r\n" + `{"event": "RESUME", "timestamp": {"seconds": 1, "microseconds": 1}}`)
		c, _ := f.next()
		f.say(`{"return": {}, "id": %q}`+"\r\n"+`{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}`, c.ID)
	}()
	if err := m.Connect(); err != nil {
		t.Fatal(err)
	}
	if ev := <-got; ev.Event != "RESUME" {
		t.Errorf("first event %+v", ev)
	}
	if ev := <-got; ev.Event != "SHUTDOWN" || ev.Data["reason"] != "guest-reset" {
		t.Errorf("second event %+v", ev)
	}
}

func TestEventsBetweenReplies(t *testing.T) {
	const n = 20
	var seen []string // written by the reading goroutine, read after its end
	m := connect(t, patient, func(ev qmp.Event) { seen = append(seen, ev.Event) }, func(f *fakeQMP) {
		for i := range n {
			c, _ := f.next()
			f.say(`{"event": "BEFORE_%d"}`, i)
			f.answer(c, fmt.Sprint(i))
			f.say(`{"event": "AFTER_%d"}`, i)
		}
		_ = f.conn.Close()
	})
	events, err := m.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if got, err := run(t, m, "query-status"); err != nil || got != fmt.Sprint(i) {
			t.Fatalf("reply %d: %s, %v", i, got, err)
		}
	}
	<-m.Done()
	var want, subscribed []string
	for i := range n {
		want = append(want, fmt.Sprintf("BEFORE_%d", i), fmt.Sprintf("AFTER_%d", i))
	}
	for ev := range events {
		subscribed = append(subscribed, ev.Event)
	}
	for who, got := range map[string][]string{"onEvent": seen, "subscriber": subscribed} {
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s saw %v, want %v", who, got, want)
		}
	}
}

// A flood of events with a subscriber that reads nothing must block neither
// commands nor the other subscriber.
func TestEventFloodWithAStalledSubscriber(t *testing.T) {
	const flood = 20 * eventBacklog
	n := 0
	m := connect(t, patient, func(qmp.Event) { n++ }, func(f *fakeQMP) {
		for c, ok := f.next(); ok; c, ok = f.next() {
			for range flood {
				f.say(`{"event": "RTC_CHANGE", "data": {"offset": 78}}`)
			}
			f.answer(c, "1")
			if c.Execute == "quit" {
				_ = f.conn.Close()
			}
		}
	})
	stalled, err := m.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"query-status", "stop", "quit"} {
		if _, err := run(t, m, c); err != nil {
			t.Fatal(err)
		}
	}
	<-m.Done()
	if n != 3*flood {
		t.Errorf("onEvent saw %d of %d events", n, 3*flood)
	}
	kept := 0
	for range stalled {
		kept++
	}
	if kept != eventBacklog {
		t.Errorf("%d events kept for the stalled subscriber, want %d", kept, eventBacklog)
	}
}

func TestSubscriptionEndsWithItsContext(t *testing.T) {
	m := connect(t, patient, nil, echo)
	ctx, cancel := context.WithCancel(t.Context())
	events, err := m.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, ok := <-events; ok {
		t.Error("an event out of nothing")
	}
	if got, err := run(t, m, "stop"); err != nil || got != `"stop"` {
		t.Errorf("after the subscription: %s, %v", got, err)
	}
}

// Answers may come in any order and must go to whom they belong.
func TestConcurrentRun(t *testing.T) {
	const callers, each = 16, 20
	m := connect(t, patient, nil, func(f *fakeQMP) {
		var held []command
		for c, ok := f.next(); ok; c, ok = f.next() {
			// As many as are certain to come are held back and answered
			// the newest first.
			if held = append(held, c); len(held) < callers {
				continue
			}
			for i := range held {
				c := held[len(held)-1-i]
				f.say(`{"event": "NOISE"}`)
				f.answer(c, fmt.Sprintf("%q", c.Execute))
			}
			held = nil
		}
	})
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for j := range each {
				name := fmt.Sprintf("cmd-%d-%d", i, j)
				if got, err := run(t, m, name); err != nil || got != `"`+name+`"` {
					t.Errorf("%s: %s, %v", name, got, err)
					_ = m.Disconnect() // the others would wait for this one
					return
				}
			}
		})
	}
	wg.Wait()
}

// getfd is how a snapshot's file reaches QEMU.
func TestRunWithFile(t *testing.T) {
	received := make(chan string, 1)
	m := connect(t, patient, nil, func(f *fakeQMP) {
		line, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
		n, k, _, _, err := f.conn.ReadMsgUnix(line, oob)
		if err != nil {
			t.Error(err)
		}
		received <- readPassed(t, oob[:k])
		f.r = bufio.NewReader(io.MultiReader(bytes.NewReader(line[:n]), f.conn))
		echo(f)
	})
	file, err := memfd("test")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte("the snapshot"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := m.RunWithFile([]byte(`{"execute": "getfd", "arguments": {"fdname": "state"}}`), int(file.Fd())); err != nil {
		t.Fatal(err)
	}
	if got := <-received; got != "the snapshot" {
		t.Errorf("the file that arrived holds %q", got)
	}
}

// readPassed returns the content of the one file in a control message.
func readPassed(t *testing.T, oob []byte) string {
	t.Helper()
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(msgs) != 1 {
		t.Errorf("%d control messages, %v", len(msgs), err)
		return ""
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		t.Errorf("%d descriptors, %v", len(fds), err)
		return ""
	}
	f := os.NewFile(uintptr(fds[0]), "passed")
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// Whatever QEMU sends, and its guest may have taken it over, the monitor does
// not panic, does not answer a command with another's reply, and keeps lines
// apart.
func FuzzDispatch(f *testing.F) {
	for _, s := range []string{
		greeting, `{"return": {}, "id": "1"}`, `{"id": "1", "error": {"class": "x", "desc": "y"}}`, `{"id": "1", "error": 5}`,
		`{"event": "STOP"}`, `{"event": "X", "data": {"a": [1, null]}, "timestamp": {"seconds": -1}}`, "{\"id\": \"2\"}\r\n{\"id\": \"1\"}\n\n", `{"ID": "1"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := NewMonitor(nil, patient, func(ev qmp.Event) {
			if ev.Event == "" {
				t.Error("an event without a name")
			}
		})
		mine := make(chan reply, 1)
		m.pending["1"] = mine
		m.subs[make(chan qmp.Event, 1)] = struct{}{} // stalls at once
		r := bufio.NewReaderSize(bytes.NewReader(data), 16)
		lines := 0
		for {
			line, err := readLine(r)
			if err != nil {
				break
			}
			if lines++; bytes.ContainsAny(line, "\n") {
				t.Errorf("two lines in one: %q", line)
			}
			m.dispatch(line)
		}
		if lines != bytes.Count(data, []byte("\n")) {
			t.Errorf("%d lines read of %q", lines, data)
		}
		if len(mine) == 1 {
			var msg struct{ ID string }
			if r := <-mine; r.err == nil && (json.Unmarshal(r.out, &msg) != nil || msg.ID != "1") {
				t.Errorf("%q taken for an answer", r.out)
			}
		}
	})
}
