package app

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/imagecache"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/queue"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// A job's runs come from equal workers, the kind of which there is most.
func TestBiggest(t *testing.T) {
	worker := func(name string, slots int, connected bool, labels ...string) queue.WorkerStatus {
		return queue.WorkerStatus{Name: name, Connected: connected, Announce: queue.Announce{Slots: slots, Labels: labels}}
	}
	const guest = "guest:1"
	workers := []queue.WorkerStatus{
		worker("a", 2, true, guest, "accel:tcg", "qemu:7"),
		worker("b", 1, true, guest, "accel:kvm", "qemu:8", "cpus:4"),
		worker("c", 1, true, guest, "accel:kvm", "qemu:8", "cpus:9"),
		worker("d", 9, false, guest, "accel:tcg", "qemu:7"),
		worker("e", 9, true, "guest:2", "accel:tcg", "qemu:7"),
		worker("f", 9, true, guest),
	}
	needs, like, n := biggest(workers, []string{guest})
	if !slices.Equal(needs, []string{guest, "accel:tcg", "qemu:7"}) || like.Slots != 2 || n != 2 {
		t.Errorf("%q %+v, %d slots", needs, like, n)
	}
	workers[2].Announce.Slots = 2
	needs, like, n = biggest(workers, []string{guest})
	if !slices.Equal(needs, []string{guest, "accel:kvm", "qemu:8"}) || label(like, cpusLabel) != "9" || n != 3 {
		t.Errorf("%q %+v, %d slots", needs, like, n)
	}
	if needs, _, _ := biggest(workers, []string{"guest:3"}); needs != nil {
		t.Errorf("%q", needs)
	}
}

// A worker's build counts only as what came here: else a file that it names would
// be booted.
func TestKeptBuilds(t *testing.T) {
	cache, err := imagecache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := kernel.Kernel{Digest: strings.Repeat("d", 64), Image: "/etc/passwd", Config: "/etc/passwd"}
	for _, c := range []struct {
		name, key string
		status    kernel.BuildStatus
		want      string
	}{
		{"no key", "", kernel.BuildOK, "no key"},
		{"a path as key", "../../etc", kernel.BuildOK, "no key"},
		{"not here", strings.Repeat("a", 64), kernel.BuildOK, "did not come here"},
		{"failed, not here", strings.Repeat("a", 64), kernel.BuildFailed, "did not come here"},
		{"refused", "", kernel.BuildRefused, ""},
	} {
		k := elsewhere
		k.Key = c.key
		f := &fleet{leave: func(_ context.Context, b kernel.Build) kernel.Build { return b }}
		build := f.kept(cache, func(context.Context, kernel.Commit) (kernel.Build, error) {
			return kernel.Build{Status: c.status, Log: "/etc/passwd", Kernel: k}, nil
		})
		b, err := build(t.Context(), kernel.Commit{})
		if c.want == "" && (err != nil || b.Kernel.Image != "" || b.Log != "" || b.Status != c.status) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %+v, %v", c.name, b, err)
		}
	}
}

// A service that is stopped before it has begun is no failure.
func TestStoppedBeforeItBegan(t *testing.T) {
	st, err := store.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := (&service{ws: &workspace{store: st}}).run(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
