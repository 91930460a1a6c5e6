package kmod

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

const release = "6.1.0-9-test"

// object makes the smallest ELF file with a section .modinfo.
func object(fields ...string) []byte {
	info := []byte(strings.Join(fields, "\x00") + "\x00")
	names := []byte("\x00.modinfo\x00.shstrtab\x00")
	var b bytes.Buffer
	put := func(v ...any) {
		for _, x := range v {
			_ = binary.Write(&b, binary.LittleEndian, x)
		}
	}
	b.WriteString("\x7fELF\x02\x01\x01")
	b.Write(make([]byte, 9))
	at := uint64(64 + len(info) + len(names))
	put(uint16(1), uint16(62), uint32(1), uint64(0), uint64(0), at, uint32(0), uint16(64), uint16(0), uint16(0), uint16(64), uint16(3), uint16(2))
	b.Write(info)
	b.Write(names)
	b.Write(make([]byte, 64))
	section := func(name, kind uint32, offset, size int) {
		put(name, kind, uint64(0), uint64(0), uint64(offset), uint64(size), uint32(0), uint32(0), uint64(1), uint64(0))
	}
	section(1, 1, 64, len(info))
	section(10, 3, 64+len(info), len(names))
	return b.Bytes()
}

func module(depends string) []byte {
	return object("license=GPL", "depends="+depends, "vermagic="+release+" SMP preempt mod_unload ")
}

// squeeze compresses as the ending says.
func squeeze(t testing.TB, path string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch filepath.Ext(path) {
	case ".gz":
		w = gzip.NewWriter(&b)
	case ".xz":
		// As kmod's own build does: scripts/Makefile.modinst has --check=crc32.
		w, err = xz.WriterConfig{CheckSum: xz.CRC32, DictCap: 1 << 20}.NewWriter(&b)
	case ".zst":
		w, err = zstd.NewWriter(&b)
	default:
		return data
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tree writes a module tree below a new directory and returns its path.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "lib/modules", release)
	for path, content := range files {
		file := filepath.Join(dir, path)
		data := []byte(content)
		if isModule(path) {
			data = squeeze(t, path, module(content))
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// stock is shaped as Debian's 6.1; the content of a module is its depends.
var stock = map[string]string{
	"modules.builtin":                                   "kernel/fs/ext4/ext4.ko\nkernel/lib/crc32c-intel.ko\n",
	"kernel/drivers/virtio/virtio.ko":                   "",
	"kernel/drivers/virtio/virtio_ring.ko.xz":           "virtio",
	"kernel/drivers/virtio/virtio_pci.ko.zst":           "virtio_ring,virtio,virtio_pci_modern_dev,crc32c-intel",
	"kernel/drivers/virtio/virtio_pci_modern_dev.ko.gz": "",
	"kernel/drivers/char/virtio_console.ko":             "virtio_ring,virtio",
	"kernel/drivers/block/zram/zram.ko":                 "zsmalloc",
	"kernel/mm/zsmalloc.ko":                             "",
	"kernel/crypto/lzo-rle.ko":                          "",
	"kernel/x/broken.ko":                                "zsmalloc,nowhere",
}

func with(base map[string]string, more map[string]string) map[string]string {
	out := maps.Clone(base)
	maps.Copy(out, more)
	return out
}

// dep is what depmod makes of stock.
const dep = `kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko.xz: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio_pci.ko.zst: kernel/drivers/virtio/virtio_pci_modern_dev.ko.gz kernel/drivers/virtio/virtio_ring.ko.xz kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio_pci_modern_dev.ko.gz:
kernel/drivers/char/virtio_console.ko: kernel/drivers/virtio/virtio_ring.ko.xz kernel/drivers/virtio/virtio.ko
kernel/drivers/block/zram/zram.ko: kernel/mm/zsmalloc.ko
kernel/mm/zsmalloc.ko:
kernel/crypto/lzo-rle.ko:
kernel/x/broken.ko: kernel/mm/zsmalloc.ko kernel/x/nowhere.ko
`

func pick(t *testing.T, dir string, want ...string) (string, string, error) {
	t.Helper()
	tr, err := Open(dir)
	if err != nil {
		return "", "", err
	}
	mods, missing, err := tr.Pick(want...)
	var names, lacks []string
	for _, m := range mods {
		names = append(names, m.Name)
		if !bytes.HasPrefix(m.Data, []byte("\x7fELF")) {
			t.Errorf("%s is not unpacked", m.Name)
		}
	}
	for _, m := range missing {
		lacks = append(lacks, m.String())
	}
	return strings.Join(names, " "), strings.Join(lacks, "; "), err
}

func TestPick(t *testing.T) {
	for _, c := range []struct {
		name   string
		files  map[string]string
		want   string
		mods   string
		lacks  string
		broken string
	}{
		{"dependencies first, each once", stock, "virtio_pci virtio_console zram",
			"virtio virtio_ring virtio_pci_modern_dev virtio_pci virtio_console zsmalloc zram", "", ""},
		{"dashes are underscores", stock, "lzo-rle lzo_rle", "lzo_rle", "", ""},
		{"built in", stock, "ext4 crc32c_intel", "", "", ""},
		{"not there", stock, "gup_test zsmalloc", "zsmalloc", "module gup_test is neither there nor built in", ""},
		{"a dependency is not there", stock, "broken zsmalloc", "zsmalloc", "module broken needs nowhere, which is neither there nor built in", ""},
		{"nothing wanted", stock, "", "", "", ""},
		{"itself", with(stock, map[string]string{"kernel/a.ko": "b", "kernel/b.ko": "a"}), "a", "", "", "module a needs itself"},
		{"modules.dep lists one of them", with(stock, map[string]string{"modules.dep": "kernel/mm/zsmalloc.ko:\n"}), "zram virtio_console", "zsmalloc zram virtio virtio_ring virtio_console", "", ""},
		{"updates win", with(stock, map[string]string{"updates/dkms/zram.ko": ""}), "zram", "zram", "", ""},
	} {
		check := func(t *testing.T, files map[string]string) {
			t.Helper()
			mods, lacks, err := pick(t, tree(t, files), strings.Fields(c.want)...)
			if (err != nil) != (c.broken != "") || err != nil && !strings.Contains(err.Error(), c.broken) {
				t.Fatalf("%v, want %q", err, c.broken)
			}
			if mods != c.mods || lacks != c.lacks {
				t.Errorf("%q, missing %q; want %q, %q", mods, lacks, c.mods, c.lacks)
			}
		}
		t.Run(c.name, func(t *testing.T) { check(t, c.files) })
		if c.files["modules.dep"] == "" && c.name != "updates win" && c.name != "itself" { // depmod's own list is another there
			t.Run(c.name+", with modules.dep", func(t *testing.T) {
				// depmod names what virtio_pci needs in another order, as good as this one.
				c.mods = strings.Replace(c.mods, "virtio virtio_ring virtio_pci_modern_dev", "virtio_pci_modern_dev virtio virtio_ring", 1)
				check(t, with(c.files, map[string]string{"modules.dep": dep}))
			})
		}
	}
}

// Without modules.builtin a dependency that is not there may be built in.
func TestPickWithoutBuiltin(t *testing.T) {
	files := maps.Clone(stock)
	delete(files, "modules.builtin")
	mods, lacks, err := pick(t, tree(t, files), "broken", "ext4")
	if err != nil || mods != "zsmalloc broken" || lacks != "module ext4 is neither there nor built in" {
		t.Errorf("%q, %q, %v", mods, lacks, err)
	}
}

// The same wish gives the same modules in the same order.
func TestPickIsDeterministic(t *testing.T) {
	dir := tree(t, stock)
	first, _, _ := pick(t, dir, "zram", "virtio_pci")
	for range 20 {
		if again, _, _ := pick(t, dir, "zram", "virtio_pci"); again != first {
			t.Fatalf("%q and %q", first, again)
		}
	}
}

func TestBadTrees(t *testing.T) {
	for _, c := range []struct {
		name, file string
		data       []byte
		err        string
	}{
		{"another release", "kernel/z.ko", object("vermagic=5.10.0-1 SMP"), `z.ko: built for "5.10.0-1", not for ` + release},
		{"not an object", "kernel/z.ko", []byte("hello"), "z.ko: not a kernel module"},
		{"an object without modinfo", "kernel/z.ko", object("")[:63], "not a kernel module"},
		{"no xz", "kernel/z.ko.xz", []byte("hello, hello, hello"), "z.ko.xz: "},
		{"no zstd", "kernel/z.ko.zst", []byte("hello, hello, hello"), "z.ko.zst: "},
		{"no gzip", "kernel/z.ko.gz", []byte("hello, hello, hello"), "z.ko.gz: "},
		{"cut short", "kernel/z.ko.gz", squeeze(t, ".gz", module(""))[:60], "z.ko.gz: cut short"},
		{"empty xz", "kernel/z.ko.xz", nil, "z.ko.xz: "},
		{"a bomb", "kernel/z.ko.gz", squeeze(t, ".gz", make([]byte, maxModule+1)), "more than 64 MiB"},
		{"dep outside", "modules.dep", []byte("../../../etc/z.ko:\n"), "modules.dep: line 1: not a module below this directory"},
		{"absolute dep", "modules.dep", []byte("\n/lib/z.ko:\n"), "modules.dep: line 2: not a module below"},
		{"dep without a colon", "modules.dep", []byte("kernel/z.ko\n"), "line 1"},
		{"dep of rubbish", "modules.dep", []byte("kernel/z.ko: sh\n"), `line 1: "sh" is no module`},
		{"dep of what is gone", "modules.dep", []byte("kernel/z.ko:\n"), "kernel/z.ko: no such file"},
		{"a huge list", "modules.dep", make([]byte, maxList+1), "not a list of modules"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := tree(t, stock)
			if err := os.WriteFile(filepath.Join(dir, c.file), c.data, 0o644); err != nil {
				t.Fatal(err)
			}
			_, _, err := pick(t, dir, "z")
			if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want %q", err, c.err)
			}
		})
	}
}

func TestTrees(t *testing.T) {
	dir := tree(t, stock)
	root := filepath.Join(dir, "../../..")
	for _, given := range []string{dir, filepath.Dir(dir), root} {
		if got, err := Trees(given); err != nil || !slices.Equal(got, []string{dir}) {
			t.Errorf("%s: %q, %v", given, got, err)
		}
	}
	// A merged /usr shows one tree twice, and Debian's newest have it there only.
	if err := os.Mkdir(filepath.Join(root, "usr"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../lib", filepath.Join(root, "usr/lib")); err != nil {
		t.Fatal(err)
	}
	if got, err := Trees(root); err != nil || !slices.Equal(got, []string{dir}) {
		t.Errorf("merged /usr: %q, %v", got, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "../6.12.0/"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "../7.3.4/kernel"), 0o755); err != nil { // no lists at all
		t.Fatal(err)
	}
	if got, err := Trees(root); err != nil || len(got) != 2 {
		t.Errorf("%q, %v", got, err)
	}
	for given, want := range map[string]string{
		root + "/nosuch":              "no such file",
		t.TempDir():                   "holds no kernel modules",
		dir + "/modules.builtin":      "not a directory",
		dir + "/kernel/drivers/block": "holds no kernel modules",
	} {
		if _, err := Trees(given); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", given, err, want)
		}
	}
}

func FuzzDep(f *testing.F) {
	f.Add([]byte(dep))
	f.Add([]byte("a.ko: a.ko\n# x\n\nb.ko.xz:"))
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := parseDep(text)
		if err != nil && entries != nil {
			t.Error("entries with an error")
		}
		for name, e := range entries {
			if !filepath.IsLocal(e.path) || nameOf(e.path) != name {
				t.Errorf("%q is %q", name, e.path)
			}
		}
		// Whatever the list says, a walk over it ends.
		tr := &Tree{Dir: t.TempDir(), Release: release, entries: entries, builtin: map[string]bool{}}
		for name := range entries {
			_, _, _ = tr.Pick(name)
		}
	})
}

func FuzzModinfo(f *testing.F) {
	f.Add(module("virtio,virtio-ring"))
	f.Add(object("depends=,,a", "vermagic"))
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := parseModinfo(data)
		for _, d := range info.depends {
			if d == "" || err != nil {
				t.Errorf("%q, %v", info, err)
			}
		}
	})
}
