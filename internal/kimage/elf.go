package kimage

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// ELF-64, as far as a loader goes (elf(5)).
const (
	elfHeader  = 64
	progHeader = 56
	typeExec   = 2
	machineX86 = 62
	ptLoad     = 1
	ptNote     = 4
	maxProgs   = 64
	// page is to what the parts of a packed file are aligned.
	page = 4096
)

// pvhEntry is the type of the note that holds the 32-bit entry point,
// XEN_ELFNOTE_PHYS32_ENTRY (include/xen/interface/elfnote.h).
const pvhEntry = 18

// segment is a program header.
type segment struct {
	typ, flags                             uint32
	offset, vaddr, paddr, size, mem, align uint64
}

var le = binary.LittleEndian

func isELF(b []byte) bool { return bytes.HasPrefix(b, []byte("\x7fELF")) }

// segments reads the program headers of an executable for x86-64; all lie inside b.
func segments(b []byte) ([]segment, error) {
	if len(b) < elfHeader || !isELF(b) || b[4] != 2 || b[5] != 1 || le.Uint16(b[16:]) != typeExec || le.Uint16(b[18:]) != machineX86 {
		return nil, ErrFormat
	}
	at, each, n := le.Uint64(b[32:]), le.Uint16(b[54:]), le.Uint16(b[56:])
	if each != progHeader || n == 0 || n > maxProgs || at > uint64(len(b)) || uint64(n)*progHeader > uint64(len(b))-at {
		return nil, ErrFormat
	}
	out := make([]segment, n)
	for i := range out {
		h := b[at+uint64(i)*progHeader:]
		s := segment{le.Uint32(h), le.Uint32(h[4:]), le.Uint64(h[8:]), le.Uint64(h[16:]), le.Uint64(h[24:]), le.Uint64(h[32:]), le.Uint64(h[40:]), le.Uint64(h[48:])}
		if s.offset > uint64(len(b)) || s.size > uint64(len(b))-s.offset {
			return nil, ErrFormat
		}
		out[i] = s
	}
	return out, nil
}

// pvh says whether one of the notes is that of the PVH entry.
func pvh(b []byte, all []segment) bool {
	for _, s := range all {
		if s.typ != ptNote {
			continue
		}
		for n := b[s.offset : s.offset+s.size]; len(n) >= 12; {
			name, desc := uint64(le.Uint32(n)), uint64(le.Uint32(n[4:]))
			if le.Uint32(n[8:]) == pvhEntry && bytes.HasPrefix(n[12:], []byte("Xen\x00")) {
				return true
			}
			next := 12 + (name+3)&^3 + (desc+3)&^3
			if next > uint64(len(n)) {
				break
			}
			n = n[next:]
		}
	}
	return false
}

// banner is how linux_banner begins (init/version-timestamp.c).
var banner = []byte("Linux version ")

func elfRelease(b []byte) (string, error) {
	all, err := segments(b)
	if err != nil || !pvh(b, all) {
		return "", ErrFormat
	}
	for _, s := range all {
		if s.typ != ptLoad {
			continue
		}
		data := b[s.offset : s.offset+s.size]
		for {
			i := bytes.Index(data, banner)
			if i < 0 {
				break
			}
			data = data[i+len(banner):]
			if word := firstWord(data[:min(len(data), maxVersion)]); word != "" {
				return word, nil
			}
		}
	}
	return "", nil
}

// Pack leaves of a vmlinux what a loader takes, close together: of 18 MB of a slim
// 6.1 half are gaps that the linker leaves so that pages of 2 MiB can be mapped from
// the file, and symbols. Equal contents give equal bytes. The error says why a file
// cannot be started at a PVH entry.
func Pack(b []byte) ([]byte, error) {
	all, err := segments(b)
	if err != nil {
		return nil, err
	}
	if !pvh(b, all) {
		return nil, fmt.Errorf("%w: no PVH entry", ErrFormat)
	}
	loaded := uint64(0)
	for _, s := range all {
		loaded += s.size
	}
	if loaded > 2*uint64(len(b)) { // a note lies within the text; a bomb has all of it many times
		return nil, ErrFormat
	}
	headers := elfHeader + len(all)*progHeader
	out := make([]byte, headers, headers+int(loaded)+len(all)*page) //nolint:gosec // not more than twice what is in memory
	copy(out, b[:elfHeader])
	le.PutUint64(out[32:], elfHeader) // the program headers follow
	clear(out[40:48])                 // no sections
	clear(out[58:64])
	place := make([]uint64, len(all))
	for i, s := range all {
		if s.typ == ptLoad {
			place[i], out = put(out, b[s.offset:s.offset+s.size])
		}
	}
	for i, s := range all {
		switch {
		case s.typ == ptNote:
			place[i] = inside(all, place, s)
			if place[i] == 0 {
				place[i], out = put(out, b[s.offset:s.offset+s.size])
			}
		case s.typ != ptLoad: // of no use to a loader
			s.size = 0
		}
		h := out[elfHeader+i*progHeader:]
		le.PutUint32(h, s.typ)
		le.PutUint32(h[4:], s.flags)
		for j, v := range []uint64{place[i], s.vaddr, s.paddr, s.size, s.mem, s.align} {
			le.PutUint64(h[8+8*j:], v)
		}
	}
	return out, nil
}

// put adds data at the next page and returns where.
func put(out, data []byte) (uint64, []byte) {
	at := (len(out) + page - 1) / page * page
	out = append(out, make([]byte, at-len(out))...)
	return uint64(at), append(out, data...)
}

// inside finds where a part of one of the loaded segments went; 0 if it is of none.
func inside(all []segment, place []uint64, part segment) uint64 {
	for i, s := range all {
		if s.typ == ptLoad && part.offset >= s.offset && part.offset-s.offset <= s.size && part.size <= s.size-(part.offset-s.offset) {
			return place[i] + part.offset - s.offset
		}
	}
	return 0
}
