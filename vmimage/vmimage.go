// Package vmimage packs and carries the guest image: an initramfs with the
// agent as /init and the reproducers, and a second one with busybox, for what a
// user brings. The orchestrator embeds both, so that it is one file to copy. It
// must not know how a guest is started.
package vmimage

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// embedded holds image.cpio.zst, shell.cpio.zst and tests.json once `make build` has put them
// there, and always a .gitignore, so that the package compiles without them.
//
//go:embed all:embedded
var embedded embed.FS

// Paths in the guest.
const (
	ReproducerPath = "/bin/repro" // the multi-call binary; arguments: names of tests
	// ReproducerWaits is its argument for names that come later, as
	// agentproto.Prepare has it.
	ReproducerWaits = "--wait"
	UserDir         = "/user"    // what a user brought, see Append
	ModulesDir      = "/modules" // what the kernel needs loaded, see PackModules
)

// ErrNotBuilt says that the binary was compiled without a guest image.
var ErrNotBuilt = errors.New("this orchestrator was compiled without its guest image: build it with `make build`")

// Image returns the embedded initramfs, unpacked. It is kept compressed in the
// binary but given to the kernel plain: under emulation the kernel's own
// decompressor takes longer than the copy.
func Image() ([]byte, error) { return unpacked("image") }

// Shell returns the embedded archive with busybox, to stand behind an image whose
// guests run what a user brought. Others do without: for 2 MB more a boot takes
// 0.05 s of 1.1 longer (TCG).
func Shell() ([]byte, error) { return unpacked("shell") }

func unpacked(name string) ([]byte, error) {
	z, err := embedded.ReadFile("embedded/" + name + ".cpio.zst")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotBuilt
	}
	if err != nil {
		return nil, err
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	img, err := d.DecodeAll(z, nil)
	if err != nil {
		return nil, fmt.Errorf("embedded guest image (%s): %w", name, err)
	}
	return img, nil
}

// Tests returns the tests of the embedded reproducers, as their --list says.
func Tests() ([]kernel.Test, error) {
	b, err := embedded.ReadFile("embedded/tests.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotBuilt
	}
	if err != nil {
		return nil, err
	}
	return ParseTests(b)
}

// ParseTests decodes what the reproducers print for --list.
func ParseTests(b []byte) ([]kernel.Test, error) {
	var tests []kernel.Test
	if err := json.Unmarshal(b, &tests); err != nil {
		return nil, fmt.Errorf("list of tests: %w", err)
	}
	seen := map[string]bool{}
	for _, t := range tests {
		if t.Name == "" || seen[t.Name] {
			return nil, fmt.Errorf("list of tests: %q is empty or named twice", t.Name)
		}
		seen[t.Name] = true
	}
	if len(tests) == 0 {
		return nil, errors.New("list of tests: empty")
	}
	return tests, nil
}

// Pack returns the initramfs as a newc archive. Equal inputs give equal bytes:
// no times, no owners, no inode numbers of the build machine.
func Pack(agent, reproducers []byte) ([]byte, error) {
	return pack([]cpio.Record{
		cpio.Directory("dev", 0o755),
		// The kernel opens it for init before devtmpfs is mounted.
		cpio.CharDev("dev/console", 0o600, 5, 1),
		cpio.Directory("proc", 0o755),
		cpio.Directory("sys", 0o755),
		cpio.Directory("tmp", 0o1777),
		cpio.Directory("bin", 0o755),
		cpio.Directory("user", 0o755),
		cpio.StaticFile("init", string(agent), 0o755),
		cpio.StaticFile(ReproducerPath[1:], string(reproducers), 0o755),
	})
}

// PackShell returns an archive with busybox, to stand behind an image.
func PackShell(busybox []byte) ([]byte, error) {
	recs := []cpio.Record{cpio.StaticFile("bin/busybox", string(busybox), 0o755)}
	// What scripts use; /bin/busybox has the rest.
	for _, applet := range []string{
		"sh", "awk", "cat", "chmod", "cp", "cut", "date", "dd", "dmesg", "echo", "env", "expr", "false", "find", "free",
		"grep", "head", "hexdump", "kill", "ln", "ls", "mkdir", "mknod", "mount", "mv", "od", "printf", "ps", "pwd",
		"readlink", "rm", "sed", "seq", "sleep", "sort", "stat", "sync", "sysctl", "tail", "tee", "test", "timeout",
		"touch", "tr", "true", "umount", "uname", "uniq", "usleep", "wc", "xargs", "yes",
	} {
		recs = append(recs, cpio.Symlink("bin/"+applet, "busybox"))
	}
	return pack(recs)
}

// File is something a user brings into the guest, under UserDir.
type File struct {
	Name string // without a slash
	Data []byte
}

// Append returns image with files added as a further archive behind it: the
// kernel unpacks concatenated archives in order (Documentation/driver-api/early-userspace).
func Append(image []byte, files []File) ([]byte, error) {
	if len(files) == 0 {
		return image, nil
	}
	var recs []cpio.Record
	for _, f := range files {
		recs = append(recs, cpio.StaticFile(UserDir[1:]+"/"+f.Name, string(f.Data), 0o755))
	}
	more, err := pack(recs)
	if err != nil {
		return nil, err
	}
	return Join(image, more), nil
}

// PackModules returns an archive to stand behind an image: modules for the
// agent to load, in their order. Equal modules give equal bytes.
func PackModules(modules []File) ([]byte, error) {
	recs := []cpio.Record{cpio.Directory(ModulesDir[1:], 0o755)}
	var order strings.Builder
	for _, m := range modules {
		recs = append(recs, cpio.StaticFile(ModulesDir[1:]+"/"+m.Name, string(m.Data), 0o644))
		order.WriteString(m.Name + "\n")
	}
	recs = append(recs, cpio.StaticFile(ModulesDir[1:]+"/order", order.String(), 0o644))
	return pack(recs)
}

// Join puts an archive behind an image.
func Join(image, archive []byte) []byte {
	out := append(bytes.Clone(image), make([]byte, -len(image)&511)...)
	return append(out, archive...)
}

func pack(recs []cpio.Record) ([]byte, error) {
	cpio.MakeAllReproducible(recs)
	for i := range recs {
		recs[i].Ino = uint64(i + 1) // file contents of one inode number are taken for hard links
	}
	var buf bytes.Buffer
	w := cpio.Newc.Writer(&buf)
	if err := cpio.WriteRecords(w, recs); err != nil {
		return nil, fmt.Errorf("pack the guest image: %w", err)
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, fmt.Errorf("pack the guest image: %w", err)
	}
	return buf.Bytes(), nil
}
