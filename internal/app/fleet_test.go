package app

import (
	"slices"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/queue"
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
	needs, like := biggest(workers, []string{guest})
	if !slices.Equal(needs, []string{guest, "accel:tcg", "qemu:7"}) || like.Slots != 2 {
		t.Errorf("%q %+v", needs, like)
	}
	workers[2].Announce.Slots = 2
	needs, like = biggest(workers, []string{guest})
	if !slices.Equal(needs, []string{guest, "accel:kvm", "qemu:8"}) || label(like, cpusLabel) != "9" {
		t.Errorf("%q %+v", needs, like)
	}
	if needs, _ := biggest(workers, []string{"guest:3"}); needs != nil {
		t.Errorf("%q", needs)
	}
}
