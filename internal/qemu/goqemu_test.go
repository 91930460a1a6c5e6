package qemu

import (
	"testing"

	goqemu "github.com/digitalocean/go-qemu/qemu"
	"github.com/digitalocean/go-qemu/qmp/raw"
)

// The monitor is made to be used through go-qemu.
func TestUnderGoQEMU(t *testing.T) {
	m := connect(t, patient, nil, func(f *fakeQMP) {
		for c, ok := f.next(); ok; c, ok = f.next() {
			switch c.Execute {
			case "query-status":
				f.answer(c, `{"running": true, "singlestep": false, "status": "running"}`)
			case "query-version":
				f.answer(c, `{"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}`)
			default:
				f.say(`{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}`)
				f.answer(c, "{}")
			}
		}
	})
	status, err := raw.NewMonitor(m).QueryStatus()
	if err != nil || !status.Running {
		t.Errorf("raw: %+v, %v", status, err)
	}
	d, err := goqemu.NewDomain(m, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if v, err := d.Version(); err != nil || v != "7.2.22" { // fails with ids that are numbers
		t.Errorf("domain: %q, %v", v, err)
	}
	events, done, err := d.Events()
	if err != nil {
		t.Fatal(err)
	}
	defer close(done)
	if err := raw.NewMonitor(m).Stop(); err != nil {
		t.Fatal(err)
	}
	if ev := <-events; ev.Event != "STOP" {
		t.Errorf("event %+v", ev)
	}
}
