package kimage

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"
)

// image makes a header that points to a version string.
func image(version string) []byte {
	b := make([]byte, 0x2000)
	b[setupSects] = 15
	copy(b[magic:], "HdrS")
	binary.LittleEndian.PutUint16(b[protocol:], 0x20f)
	binary.LittleEndian.PutUint16(b[kernelVersion:], 0x300)
	copy(b[0x500:], version)
	return b
}

func TestRelease(t *testing.T) {
	change := func(f func(b []byte)) []byte {
		b := image("6.1.0 x")
		f(b)
		return b
	}
	for _, c := range []struct {
		name  string
		image []byte
		want  string
		err   error
	}{
		{"Debian", image("5.10.0-46-cloud-amd64 (debian-kernel@lists.debian.org) #1 SMP Debian 5.10.262-1 (2026-07-31)\x00"), "5.10.0-46-cloud-amd64", nil},
		{"with a plus", image("6.12.117+deb12-cloud-amd64 (x) #1\x00"), "6.12.117+deb12-cloud-amd64", nil},
		{"one word", image("6.1.192\x00"), "6.1.192", nil},
		{"a path", image("../../etc #1\x00"), "", nil},
		{"a slash", image("6.1/../x #1\x00"), "", nil},
		{"control characters", image("6.1\x1b[31m #1\x00"), "", nil},
		{"too long for uname", image("6." + strings.Repeat("1", 100) + " #1\x00"), "", nil},
		{"empty", image("\x00"), "", nil},
		{"no end", change(func(b []byte) {
			for i := 0x500; i < len(b); i++ {
				b[i] = '1'
			}
		}), "", nil},
		{"no version", change(func(b []byte) { b[kernelVersion], b[kernelVersion+1] = 0, 0 }), "", nil},
		{"outside of the setup code", change(func(b []byte) { binary.LittleEndian.PutUint16(b[kernelVersion:], 16*0x200) }), "", nil},
		{"outside of the file", change(func(b []byte) { b[setupSects] = 255; binary.LittleEndian.PutUint16(b[kernelVersion:], 0x1fff) }), "", nil},
		{"old protocol", change(func(b []byte) { binary.LittleEndian.PutUint16(b[protocol:], 0x105) }), "", nil},
		{"no magic", make([]byte, 4096), "", ErrFormat},
		{"short", image("x")[:0x20e], "", ErrFormat},
		{"nothing", nil, "", ErrFormat},
		{"an ELF file", []byte("\x7fELF"), "", ErrFormat},
		{"vmlinux", vmlinux("Linux version 6.1.192 (kbisect@kbisect) #1\n\x00", xenNote), "6.1.192", nil},
		{"vmlinux without a banner", vmlinux("Linux", xenNote), "", nil},
		{"vmlinux with another's banner", vmlinux("Linux version ../6.1 ", xenNote), "", nil},
		{"vmlinux that is not started by PVH", vmlinux("Linux version 6.1.192 (", nil), "", ErrFormat},
	} {
		got, err := Release(c.image)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %q, %v; want %q, %v", c.name, got, err, c.want, c.err)
		}
	}
}

func FuzzRelease(f *testing.F) {
	f.Add(image("6.1.0-1 #1\x00"))
	f.Add(image("6.1.0-1")[:0x504])
	if b, err := os.ReadFile("/boot/vmlinuz"); err == nil {
		f.Add(b[:min(len(b), 0x8000)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Release(b)
		if err != nil && got != "" || len(got) > 64 || strings.ContainsAny(got, "/\x00 \n") || strings.Contains(got, "..") && strings.HasPrefix(got, ".") {
			t.Errorf("%q, %v", got, err)
		}
	})
}
