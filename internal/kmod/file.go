package kmod

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxModule bounds a module, unpacked. Those that a guest needs have less than
// 1 MB; the largest drivers have some ten.
const maxModule = 64 << 20

// unpack reads a module, whatever it is compressed with.
func unpack(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a file", path) // a pipe would never end
	}
	data, err := decompress(f, path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

func decompress(r io.Reader, path string) ([]byte, error) {
	switch {
	case strings.HasSuffix(path, ".gz"):
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		r = z
	case strings.HasSuffix(path, ".xz"):
		z, err := xz.NewReader(r)
		if err != nil {
			return nil, err
		}
		r = z
	case strings.HasSuffix(path, ".zst"):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxModule))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		r = z
	}
	data, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errors.New("cut short")
	case err != nil:
		return nil, err
	case len(data) > maxModule:
		return nil, fmt.Errorf("more than %d MiB", maxModule>>20)
	}
	return data, nil
}

// modinfo is what a module says about itself.
type modinfo struct {
	release string   // that it was built for
	depends []string // names of the modules whose symbols it uses
}

// parseModinfo reads the section .modinfo: strings KEY=VALUE, each with a zero
// byte behind it (include/linux/moduleparam.h, scripts/mod/modpost.c).
func parseModinfo(data []byte) (modinfo, error) {
	var info modinfo
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return info, errors.New("not a kernel module")
	}
	s := f.Section(".modinfo")
	if s == nil || s.Type == elf.SHT_NOBITS || s.Flags&elf.SHF_COMPRESSED != 0 {
		return info, errors.New("not a kernel module: no .modinfo")
	}
	text, err := s.Data()
	if err != nil {
		return info, errors.New("not a kernel module: damaged")
	}
	for field := range strings.SplitSeq(string(text), "\x00") {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "vermagic":
			info.release, _, _ = strings.Cut(value, " ")
		case "depends":
			for d := range strings.SplitSeq(value, ",") {
				if d = strings.TrimSpace(d); d != "" {
					info.depends = append(info.depends, nameOf(d))
				}
			}
		}
	}
	return info, nil
}
