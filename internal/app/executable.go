package app

import (
	"bytes"
	"debug/elf"
	"slices"
	"strings"
)

// guestShells are the interpreters that the guest image has.
var guestShells = []string{"/bin/sh", "/bin/busybox", "/bin/awk", "/bin/env"}

func isELF(data []byte) bool { return bytes.HasPrefix(data, []byte(elf.ELFMAG)) }

// runnable refuses what cannot start in the guest: there it would only be a
// puzzling "no such file".
func runnable(kind, file string, data []byte) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return usagef("--%s %s: empty", kind, file)
	}
	first, _, _ := bytes.Cut(data, []byte("\n"))
	switch {
	case bytes.HasPrefix(data, []byte("#!")):
		if bytes.HasSuffix(first, []byte("\r")) {
			return usagef("--%s %s: has DOS line ends, which the guest's shell does not take", kind, file)
		}
		words := strings.Fields(string(first[2:]))
		if len(words) == 0 || !slices.Contains(guestShells, words[0]) {
			return usagef("--%s %s: the guest has no interpreter %q, only busybox: %s", kind, file, strings.Join(words, " "), strings.Join(guestShells, ", "))
		}
	case kind == "script" && (isELF(data) || bytes.IndexByte(data, 0) >= 0):
		return usagef("--script %s: not a script; use --program", file)
	case kind == "script":
	case !isELF(data):
		return usagef("--program %s: neither a C source (.c) nor an executable", file)
	default:
		return staticELF(file, data)
	}
	return nil
}

// staticELF refuses a program for another machine or with a loader: the guest
// has no libraries.
func staticELF(file string, data []byte) error {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return usagef("--program %s: a broken executable: %v", file, err)
	}
	switch {
	case f.Machine != elf.EM_X86_64 || f.Class != elf.ELFCLASS64:
		return usagef("--program %s: for %s (%d bit); the guest is x86_64", file, strings.TrimPrefix(f.Machine.String(), "EM_"), int(f.Class)*32)
	case f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN:
		return usagef("--program %s: not an executable but an object file or the like (%s)", file, f.Type)
	}
	starts := false
	for _, p := range f.Progs {
		switch {
		case p.Type == elf.PT_INTERP:
			return usagef("--program %s: dynamically linked, and the guest has no libraries: link it with -static", file)
		case p.Type == elf.PT_LOAD && (p.Off > uint64(len(data)) || p.Filesz > uint64(len(data))-p.Off):
			return usagef("--program %s: a part of it is missing: %d bytes are not the whole of it", file, len(data))
		case p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && f.Entry >= p.Vaddr && f.Entry-p.Vaddr < p.Memsz:
			starts = true
		}
	}
	// A static PIE has neither a loader nor libraries; a shared library has the
	// one without the other.
	if libs, _ := f.ImportedLibraries(); len(libs) > 0 || !starts {
		return usagef("--program %s: not a program but a library or the like: nothing in it starts", file)
	}
	return nil
}
