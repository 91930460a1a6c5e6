package qemu

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFastest(t *testing.T) {
	for _, c := range []struct {
		name   string
		trials []Trial
		want   string
	}{
		{"none", nil, ""},
		{"all broken", []Trial{{Accel: "tcg", Error: "x"}, {Accel: "kvm", Error: "y"}}, ""},
		{"the faster", []Trial{{Accel: "tcg", Seconds: 0.3}, {Accel: "kvm", Seconds: 0.1}}, "kvm"},
		{"slow kvm", []Trial{{Accel: "tcg", Seconds: 0.3}, {Accel: "kvm", Seconds: 4.5}}, "tcg"},
		{"quick to fail", []Trial{{Accel: "tcg", Seconds: 0.3}, {Accel: "kvm", Seconds: 0.01, Error: "aborted"}}, "tcg"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := fastest(c.trials); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestRemembered(t *testing.T) {
	file := filepath.Join(t.TempDir(), "accel.json")
	for _, c := range []struct {
		text string
		ok   bool
	}{
		{`{"qemu": "QEMU 7.2", "boot": "b", "accel": "tcg"}`, true},
		{`{"qemu": "QEMU 7.2", "boot": "b"}`, false},
		{`{"accel": "tcg"`, false}, // cut off by a full disk
		{"", false},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, ok := remembered(file); ok != c.ok || ok && got.Accel != "tcg" {
			t.Errorf("%q: %+v, %v", c.text, got, ok)
		}
	}
	if _, ok := remembered(file + ".missing"); ok {
		t.Error("remembered out of nothing")
	}
}

// fakeQEMU is a script that answers --version and ends a probe as told for each
// accelerator. It counts the probes in a file.
func fakeQEMU(t *testing.T, version, tcg, kvm string) (path string, probes func() int) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "qemu")
	script := "#!/bin/sh\ncase \"$*\" in\n--version) echo '" + version + "'; echo 'Copyright';;\n" +
		"*'-accel tcg'*) echo x >>" + dir + "/probes; " + tcg + ";;\n*) " + kvm + ";;\nesac\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path, func() int {
		b, _ := os.ReadFile(filepath.Join(dir, "probes"))
		return bytes.Count(b, []byte("x"))
	}
}

const probeDone = "exit 85" // isa-debug-exit with the value 42

func TestChooseAccel(t *testing.T) {
	// Whether or not this machine has /dev/kvm: it aborts or cannot be opened.
	qemu, probes := fakeQEMU(t, "QEMU emulator version 7.2.22", probeDone, "echo 'kvm: no such luck' >&2; exit 1")
	cache := filepath.Join(t.TempDir(), "cache", "accel.json")
	for i, c := range []struct {
		name  string
		fresh bool
		want  int // probes so far
	}{{"measured", false, 1}, {"remembered", false, 1}, {"asked to measure again", true, 2}} {
		got, err := ChooseAccel(t.Context(), nil, t.TempDir(), qemu, cache, c.fresh)
		if err != nil || got.Accel != "tcg" || got.QEMU != "QEMU emulator version 7.2.22" || len(got.Trials) != 2 || got.Trials[1].Error == "" {
			t.Fatalf("%d %s: %+v, %v", i, c.name, got, err)
		}
		if n := probes(); n != c.want {
			t.Errorf("%s: %d probes, want %d", c.name, n, c.want)
		}
	}
	// Another boot or another QEMU: what works may have changed.
	for _, spoil := range []func(*Choice){func(c *Choice) { c.Boot = "another" }, func(c *Choice) { c.QEMU = "QEMU 9" }, func(c *Choice) { c.Cell = "none" }} {
		old, _ := remembered(cache)
		spoil(&old)
		old.Accel = "kvm"
		b, _ := json.Marshal(old)
		if err := os.WriteFile(cache, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := ChooseAccel(t.Context(), nil, t.TempDir(), qemu, cache, false); err != nil || got.Accel != "tcg" {
			t.Errorf("a stale memory %+v gives %+v, %v", old, got, err)
		}
	}
}

func TestNoAccelWorks(t *testing.T) {
	// Exit status 0 is a guest that ended without having done its work.
	qemu, _ := fakeQEMU(t, "QEMU", "exit 0", "echo 'kvm: no such luck' >&2; exit 1")
	cache := filepath.Join(t.TempDir(), "accel.json")
	if _, err := ChooseAccel(t.Context(), nil, t.TempDir(), qemu, cache, false); err == nil || !strings.Contains(err.Error(), "no accelerator") {
		t.Errorf("error %v", err)
	}
	if _, ok := remembered(cache); ok {
		t.Error("a failure was remembered")
	}
	if _, err := ChooseAccel(t.Context(), nil, t.TempDir(), filepath.Join(t.TempDir(), "missing"), "", false); err == nil {
		t.Error("a QEMU that is not there was chosen for")
	}
}

// QEMU finds the entry through the note, and the entry must be the code.
func TestProbeImage(t *testing.T) {
	img := probeImage()
	f, err := elf.NewFile(bytes.NewReader(img))
	if err != nil {
		t.Fatal(err)
	}
	if f.Class != elf.ELFCLASS32 || f.Machine != elf.EM_386 || f.Type != elf.ET_EXEC || len(f.Progs) != 2 {
		t.Fatalf("%+v", f.FileHeader)
	}
	load, note := f.Progs[0], f.Progs[1]
	if load.Type != elf.PT_LOAD || load.Off != 0 || load.Filesz != uint64(len(img)) || load.Memsz < load.Filesz {
		t.Errorf("load %+v of %d bytes", load.ProgHeader, len(img))
	}
	b := make([]byte, note.Filesz)
	if _, err := note.ReadAt(b, 0); err != nil || note.Type != elf.PT_NOTE {
		t.Fatalf("note %+v: %v", note.ProgHeader, err)
	}
	if le := binary.LittleEndian; le.Uint32(b[8:]) != 18 || string(b[12:16]) != "Xen\x00" || le.Uint64(b[16:]) != f.Entry {
		t.Errorf("note % x, entry %#x", b, f.Entry)
	}
	if code := img[f.Entry-load.Vaddr:]; code[0] != 0xb9 { // mov ecx, loops
		t.Errorf("code begins with % x", code[:8])
	}
}
