// Mkimage packs the guest image that vmimage embeds. `make build` runs it:
//
//	mkimage -agent FILE -repro FILE -busybox FILE -out DIR
//
// It writes image.cpio.zst, shell.cpio.zst and tests.json (the reproducers' --list) to DIR.
package main

import (
	"debug/elf"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/kernel-bisect/kbisect/vmimage"
)

func main() {
	agent := flag.String("agent", "", "guest-agent binary")
	repro := flag.String("repro", "", "reproducers binary")
	busybox := flag.String("busybox", "/bin/busybox", "static busybox binary")
	out := flag.String("out", "vmimage/embedded", "directory to write to")
	flag.Parse()
	if err := run(*agent, *repro, *busybox, *out); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func run(agent, repro, busybox, out string) error {
	var parts [3][]byte
	for i, f := range []string{agent, repro, busybox} {
		if err := static(f); err != nil {
			return err
		}
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		parts[i] = b
	}
	list, err := exec.Command(repro, "--list").Output()
	if err != nil {
		return fmt.Errorf("%s --list: %w", repro, err)
	}
	if _, err := vmimage.ParseTests(list); err != nil {
		return err
	}
	img, err := vmimage.Pack(parts[0], parts[1])
	if err != nil {
		return err
	}
	shell, err := vmimage.PackShell(parts[2])
	if err != nil {
		return err
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	for name, archive := range map[string][]byte{"shell": shell, "image": img} {
		if err := os.WriteFile(filepath.Join(out, name+".cpio.zst"), enc.EncodeAll(archive, nil), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(out, "tests.json"), list, 0o644)
}

// static refuses a dynamically linked program: the guest has no libraries, and
// the kernel's "not found" for the missing loader misleads.
func static(file string) error {
	f, err := elf.Open(file)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is dynamically linked; the guest needs a static program (Debian: busybox-static)", file)
		}
	}
	return nil
}
