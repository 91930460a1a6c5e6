package agent

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
)

// There is one list of features: the host plans by it what the agent looks for.
func TestEveryFeatureIsLookedFor(t *testing.T) {
	if got := slices.Sorted(maps.Keys(probes)); !slices.Equal(got, agentproto.Features) {
		t.Errorf("looked for are %q, the features are %q", got, agentproto.Features)
	}
}

func TestReadWord(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	for text, want := range map[string]string{
		"":                            "",
		"\n":                          "",
		"2097152\n":                   "2097152",
		"no newline":                  "no newline",
		"always [madvise] never\nx\n": "always [madvise] never",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := readWord(file); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := readWord(file + ".missing"); got != "" {
		t.Errorf("a missing file: %q", got)
	}
}

func TestBootArg(t *testing.T) {
	if got := bootArg("kbisect.no_such_argument"); got != "" {
		t.Errorf("%q", got)
	}
}

// VFIO is of use with edu only, and only where an IOMMU translates for it.
func TestHasEdu(t *testing.T) {
	bus := t.TempDir()
	device := func(name, vendor, id string, iommu bool) {
		dir := filepath.Join(bus, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"vendor": vendor, "device": id} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if !iommu {
			return
		}
		if err := os.Symlink("/sys/kernel/iommu_groups/1", filepath.Join(dir, "iommu_group")); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, vendor, id string
		iommu, want      bool
	}{
		{"0000:00:01.0", "0x8086", "0x29c0", true, false},
		{"0000:00:02.0", "0x1234", "0x1111", true, false},
		{"0000:00:03.0", "0x1234", "0x11e8", false, false},
		{"0000:00:04.0", "0x1234", "0x11e8", true, true},
	} {
		device(c.name, c.vendor, c.id, c.iommu)
		if got := hasEdu(bus); got != c.want {
			t.Errorf("with %+v: %v", c, got)
		}
	}
}

// Without a size there is no swap, and no attempt at it.
func TestSetUpSwapWithoutASize(t *testing.T) {
	for _, mib := range []string{"", "0", "-1", "x", "99999999999"} {
		if problems := setUpSwap(mib); problems != nil {
			t.Errorf("%q: %v", mib, problems)
		}
	}
}

// look must work on any Linux, this one included, and change nothing.
func TestLook(t *testing.T) {
	h := look()
	lookAtMemory(&h)
	if h.Release == "" || h.CPUs < 1 || h.MemoryKiB < 1<<10 || !slices.IsSorted(h.Features) {
		t.Errorf("%+v", h)
	}
	if d := h.ConfigCRC; d != "" && len(d) != 8 {
		t.Errorf("config CRC %q", d)
	}
	for _, size := range slices.Concat(h.THPSizes, h.HugetlbSizes) {
		if size < 1<<12 || size&(size-1) != 0 {
			t.Errorf("huge pages of %d bytes", size)
		}
	}
	if n := len(h.THPSizes); n != len(slices.Compact(slices.Sorted(slices.Values(h.THPSizes)))) {
		t.Errorf("a size twice: %v", h.THPSizes)
	}
}

// A virtio port shows an end of file while the host is away. That is no end.
func TestPortWaitsAtTheEnd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "port")
	writer, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	// More than once what a reader sees is an end, and something later.
	first := make(chan struct{})
	go func() {
		_, _ = port(int(writer.Fd())).Write([]byte("one"))
		<-first
		_, _ = port(int(writer.Fd())).Write([]byte("two"))
	}()
	buf := make([]byte, 3)
	for _, want := range []string{"one", "two"} {
		if _, err := io.ReadFull(port(fd), buf); err != nil || string(buf) != want {
			t.Fatalf("%q, %v; want %q", buf, err, want)
		}
		if want == "one" {
			close(first)
		}
	}
	_ = unix.Close(fd)
	if _, err := port(fd).Read(buf); !errors.Is(err, unix.EBADF) {
		t.Errorf("a broken port: %v", err)
	}
}

// A size that is for shared memory only has a directory, too.
func TestHugeSizes(t *testing.T) {
	dir := t.TempDir()
	for _, file := range []string{"hugepages-16kB/enabled", "hugepages-8kB/shmem_enabled", "hugepages-2048kB/enabled", "other/enabled"} {
		if err := os.MkdirAll(filepath.Join(dir, file), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := hugeSizes(dir, "enabled"), []int64{16, 2048}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A directory may be longer than what one call gives.
func TestNames(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for i := range 500 {
		want = append(want, fmt.Sprintf("a-rather-long-name-%03d", i))
		if err := os.WriteFile(filepath.Join(dir, want[i]), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := slices.Sorted(slices.Values(names(dir))); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := names(dir + "/" + want[0]); got != nil {
		t.Errorf("of a file: %q", got)
	}
}
