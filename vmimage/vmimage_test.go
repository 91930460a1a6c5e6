package vmimage

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/u-root/u-root/pkg/cpio"
)

func packed(t *testing.T) []byte {
	t.Helper()
	img, err := Pack([]byte("the agent"), []byte("the reproducers"))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func packedShell(t *testing.T) []byte {
	t.Helper()
	shell, err := PackShell([]byte("busybox itself"))
	if err != nil {
		t.Fatal(err)
	}
	return shell
}

// records reads an archive up to its trailer.
func records(t *testing.T, img []byte) map[string]cpio.Record {
	t.Helper()
	all, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(img)))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]cpio.Record{}
	for _, r := range all {
		out[r.Name] = r
	}
	return out
}

func content(t *testing.T, r cpio.Record) string {
	t.Helper()
	b := make([]byte, r.FileSize)
	if _, err := r.ReadAt(b, 0); err != nil {
		t.Fatalf("%s: %v", r.Name, err)
	}
	return string(b)
}

func TestPack(t *testing.T) {
	recs, shell := records(t, packed(t)), records(t, packedShell(t))
	for name, r := range shell {
		if _, twice := recs[name]; twice && name != "TRAILER!!!" {
			t.Errorf("%s is in both archives", name)
		}
		recs[name] = r
	}
	for name, want := range map[string]string{"init": "the agent", "bin/repro": "the reproducers", "bin/busybox": "busybox itself", "bin/sh": "busybox"} {
		if got := content(t, recs[name]); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
	for name, mode := range map[string]uint64{
		"init": cpio.S_IFREG | 0o755, "bin/repro": cpio.S_IFREG | 0o755, "bin/sh": cpio.S_IFLNK | 0o777, "tmp": cpio.S_IFDIR | 0o1777,
		"dev/console": cpio.S_IFCHR | 0o600, "proc": cpio.S_IFDIR | 0o755, "sys": cpio.S_IFDIR | 0o755, "user": cpio.S_IFDIR | 0o755,
	} {
		if got := recs[name].Mode; got != mode {
			t.Errorf("%s has mode %o, want %o", name, got, mode)
		}
	}
	if c := recs["dev/console"]; c.Rmajor != 5 || c.Rminor != 1 {
		t.Errorf("console is %d:%d", c.Rmajor, c.Rminor)
	}
	inodes := map[uint64]string{}
	for name, r := range recs {
		// Two files of one number would be hard links of each other, in one archive.
		if _, other := shell[name]; other {
			r.Ino += 1000
		}
		if other, ok := inodes[r.Ino]; ok {
			t.Errorf("%s and %s have one inode number", name, other)
		}
		inodes[r.Ino] = name
		if r.MTime != 0 || r.UID != 0 || r.GID != 0 || strings.HasPrefix(name, "/") {
			t.Errorf("%s: time %d, owner %d:%d", name, r.MTime, r.UID, r.GID)
		}
	}
}

func TestPackIsDeterministic(t *testing.T) {
	if !bytes.Equal(packed(t), packed(t)) || !bytes.Equal(packedShell(t), packedShell(t)) {
		t.Error("equal inputs give different images")
	}
}

func TestAppend(t *testing.T) {
	img := packed(t)
	for _, odd := range []int{0, 1, 4, 511, 512} { // sizes that need every kind of padding
		// Part of a larger buffer: what is behind the image is not Append's to write to.
		whole := append(bytes.Clone(img), bytes.Repeat([]byte("x"), 4096)...)
		copy(whole[len(img):], make([]byte, odd))
		img := whole[:len(img)+odd]
		before := bytes.Clone(whole)
		out, err := Append(img, []File{{"test", []byte("mine")}, {"data", []byte{0, 1, 2}}})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(out, img) || !bytes.Equal(whole, before) {
			t.Error("the image itself has changed")
		}
		// The kernel looks for the next archive at a multiple of four.
		at := len(img) + bytes.Index(out[len(img):], []byte("070701"))
		if at%4 != 0 || len(bytes.Trim(out[len(img):at], "\x00")) > 0 {
			t.Errorf("second archive at %d behind %d bytes", at, len(img))
		}
		recs := records(t, out[at:])
		if len(recs) != 2 || content(t, recs["user/test"]) != "mine" || recs["user/test"].Mode != cpio.S_IFREG|0o755 {
			t.Errorf("%+v", recs)
		}
		if again, _ := Append(img, []File{{"test", []byte("mine")}, {"data", []byte{0, 1, 2}}}); !bytes.Equal(again, out) {
			t.Error("equal inputs give different images")
		}
	}
	if out, err := Append(img, nil); err != nil || !bytes.Equal(out, img) {
		t.Errorf("nothing appended gives %d bytes of %d, %v", len(out), len(img), err)
	}
}

func TestPackModules(t *testing.T) {
	mods := []File{{"virtio", []byte("first")}, {"virtio_pci", []byte("second")}, {"lzo_rle", []byte("third")}}
	a, err := PackModules(mods)
	if err != nil {
		t.Fatal(err)
	}
	recs := records(t, a)
	if got := content(t, recs["modules/order"]); got != "virtio\nvirtio_pci\nlzo_rle\n" {
		t.Errorf("order %q", got)
	}
	if content(t, recs["modules/virtio_pci"]) != "second" || recs["modules"].Mode != cpio.S_IFDIR|0o755 {
		t.Errorf("%+v", recs)
	}
	if again, _ := PackModules(mods); !bytes.Equal(again, a) {
		t.Error("equal modules give different archives")
	}
	mods[0], mods[1] = mods[1], mods[0]
	if other, _ := PackModules(mods); bytes.Equal(other, a) {
		t.Error("another order gives the same archive")
	}
	img := packed(t)
	out := Join(img, a)
	if at := len(img) + (-len(img) & 511); !bytes.HasPrefix(out, img) || !bytes.Equal(out[at:], a) {
		t.Errorf("%d and %d bytes give %d", len(img), len(a), len(out))
	}
}

// The archives must be good for others than the library that wrote them.
func TestCpioReadsIt(t *testing.T) {
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip("cpio is not installed")
	}
	img := packed(t)
	out, err := Append(img, []File{{"test", []byte("mine")}})
	if err != nil {
		t.Fatal(err)
	}
	second := len(img) + (-len(img) & 511)
	for i, archive := range [][]byte{out, out[second:]} { // cpio stops at the first trailer
		cmd := exec.Command("cpio", "-it", "--quiet")
		cmd.Stdin, cmd.Stderr = bytes.NewReader(archive), os.Stderr
		list, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"init", "user/test"}[i]
		if !slices.Contains(strings.Fields(string(list)), want) {
			t.Errorf("archive %d has no %s: %s", i, want, list)
		}
	}
}

func TestParseTests(t *testing.T) {
	for _, c := range []struct{ text, err string }{
		{`[{"name": "cow/a/base", "class": "missed-cow", "needs": ["thp"], "timeout_seconds": 60}, {"name": "b"}]`, ""},
		{`[{"name": "a"}, {"name": "a"}]`, `"a" is empty or named twice`},
		{`[{"class": "x"}]`, "is empty or named"},
		{`[]`, "empty"},
		{``, "list of tests"},
		{`{"name": "a"}`, "list of tests"},
		{`[{"name": "a"}`, "list of tests"},
		{`[{"name": 5}]`, "list of tests"},
	} {
		tests, err := ParseTests([]byte(c.text))
		if c.err == "" {
			if err != nil || len(tests) != 2 || tests[0].Name != "cow/a/base" || tests[0].Timeout != 60 || tests[0].Needs[0] != "thp" {
				t.Errorf("%+v, %v", tests, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: error %v, want %q", c.text, err, c.err)
		}
	}
}

// With or without an image inside: either both are there and sound, or both
// say how to get them.
func TestEmbedded(t *testing.T) {
	tests, terr := Tests()
	img, ierr := Image()
	if errors.Is(terr, ErrNotBuilt) && errors.Is(ierr, ErrNotBuilt) {
		return
	}
	if terr != nil || ierr != nil || len(tests) == 0 {
		t.Fatalf("%d tests, %v; image: %v", len(tests), terr, ierr)
	}
	shell, err := Shell()
	if err != nil {
		t.Fatal(err)
	}
	for name, archive := range map[string][]byte{"init": img, ReproducerPath[1:]: img, "bin/busybox": shell} {
		if records(t, archive)[name].FileSize == 0 {
			t.Errorf("the embedded image has no %s", name)
		}
	}
}
