package kimage

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

var xenNote = []byte("\x04\x00\x00\x00\x04\x00\x00\x00\x12\x00\x00\x00Xen\x00\x00\x00\x00\x01")

// vmlinux makes a kernel of two segments, the first of which holds text and a note.
func vmlinux(text string, note []byte) []byte {
	const gap = 0x4000
	b := make([]byte, 3*gap)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], typeExec)
	le.PutUint16(b[18:], machineX86)
	le.PutUint64(b[24:], 0x1000000)
	le.PutUint64(b[32:], elfHeader)
	le.PutUint64(b[40:], 3*gap-64) // sections
	le.PutUint16(b[54:], progHeader)
	le.PutUint16(b[56:], 4)
	le.PutUint16(b[60:], 1)
	data := append([]byte(text+strings.Repeat("\x00", 4-len(text)%4)), note...)
	copy(b[gap:], data)
	copy(b[2*gap:], "data")
	for i, s := range []segment{
		{ptLoad, 5, gap, 0x81000000, 0x1000000, uint64(len(data)), 0x1000, 0x200000},
		{ptLoad, 6, 2 * gap, 0x81200000, 0x1200000, 4, 0x100, 0x200000},
		{0x6474e551, 6, 0, 0, 0, 0, 0, 16}, // PT_GNU_STACK
		{ptNote, 4, gap + uint64(len(data)-len(note)), 0x81000000, 0x1000000, uint64(len(note)), 0, 4},
	} {
		h := b[elfHeader+i*progHeader:]
		le.PutUint32(h, s.typ)
		le.PutUint32(h[4:], s.flags)
		for j, v := range []uint64{s.offset, s.vaddr, s.paddr, s.size, s.mem, s.align} {
			le.PutUint64(h[8+8*j:], v)
		}
	}
	return b
}

func TestPack(t *testing.T) {
	whole := vmlinux("Linux version 6.1.192 (", xenNote)
	got, err := Pack(whole)
	if err != nil || len(got) != 2*page+4 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	before, _ := segments(whole)
	after, err := segments(got)
	if err != nil || len(after) != len(before) || !pvh(got, after) {
		t.Fatalf("%+v, %v", after, err)
	}
	for i, s := range after {
		old := before[i]
		if !bytes.Equal(got[s.offset:s.offset+s.size], whole[old.offset:old.offset+old.size]) {
			t.Errorf("segment %d is another", i)
		}
		if old.offset = s.offset; s != old {
			t.Errorf("%+v, want %+v", s, old)
		}
	}
	if !bytes.Equal(got[24:32], whole[24:32]) || le.Uint64(got[40:]) != 0 || le.Uint16(got[60:]) != 0 {
		t.Error("entry or sections")
	}
	if release, err := Release(got); release != "6.1.192" || err != nil {
		t.Errorf("%q, %v", release, err)
	}
	if again, err := Pack(got); err != nil || !bytes.Equal(again, got) {
		t.Errorf("packed twice: %v", err)
	}
	// What is in none of the loaded segments changes nothing.
	copy(whole[0x2000:], "symbols")
	if again, _ := Pack(whole); !bytes.Equal(again, got) {
		t.Error("symbols are in it")
	}
	whole[0x4000]++
	if again, _ := Pack(whole); bytes.Equal(again, got) {
		t.Error("the text is not in it")
	}
}

func TestPackRefuses(t *testing.T) {
	change := func(f func(b []byte)) []byte {
		b := vmlinux("Linux version 6.1.192 (", xenNote)
		f(b)
		return b
	}
	for name, b := range map[string][]byte{
		"nothing":           nil,
		"32 bits":           change(func(b []byte) { b[4] = 1 }),
		"an object":         change(func(b []byte) { b[16] = 1 }),
		"for another":       change(func(b []byte) { b[18] = 183 }),
		"no segments":       change(func(b []byte) { b[56] = 0 }),
		"headers outside":   change(func(b []byte) { le.PutUint64(b[32:], 1<<63) }),
		"too many":          change(func(b []byte) { b[57] = 255 }),
		"a segment outside": change(func(b []byte) { le.PutUint64(b[elfHeader+8:], 1<<63) }),
		"one that ends so":  change(func(b []byte) { le.PutUint64(b[elfHeader+32:], 1<<63) }),
		"everything three times": change(func(b []byte) {
			for i := range 3 {
				le.PutUint64(b[elfHeader+i*progHeader+8:], 0)
				le.PutUint64(b[elfHeader+i*progHeader+32:], uint64(len(b)))
			}
		}),
		"another note":       vmlinux("x", []byte("\x04\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00\x00Xen\x00\x00\x00\x00\x01")),
		"a note of another":  vmlinux("x", []byte("\x04\x00\x00\x00\x04\x00\x00\x00\x12\x00\x00\x00GNU\x00\x00\x00\x00\x01")),
		"a note that is cut": vmlinux("x", xenNote[:12]),
		"an endless note":    vmlinux("x", []byte("\xff\xff\xff\xff\xff\xff\xff\xff\x12\x00\x00\x00GNU\x00")),
	} {
		if got, err := Pack(b); !errors.Is(err, ErrFormat) || got != nil {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func FuzzPack(f *testing.F) {
	f.Add(vmlinux("Linux version 6.1.192 (", xenNote))
	f.Add(vmlinux("", nil)[:0x200])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Pack(b)
		if err != nil {
			return
		}
		if again, err := Pack(got); err != nil || !bytes.Equal(again, got) {
			t.Errorf("packed twice: %v", err)
		}
	})
}
