// Package kimage reads and packs kernel images for x86: bzImages, and ELF files
// that are started at their PVH entry. It is pure. The bytes are a stranger's.
package kimage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"regexp"
	"strings"
)

// Offsets of the boot protocol, Documentation/arch/x86/boot.rst.
const (
	setupSects    = 0x1f1 // size of the setup code, in sectors behind the first
	magic         = 0x202 // "HdrS"
	protocol      = 0x206
	kernelVersion = 0x20e // where the version string stands, less 0x200
	sector        = 0x200
)

// maxVersion bounds the version string: release, builder, build number and
// date. Debian's have 100 bytes.
const maxVersion = 1 << 10

// ErrFormat says that a file is no x86 kernel image.
var ErrFormat = errors.New("not an x86 kernel image (bzImage, or vmlinux with a PVH entry)")

// release is what uname -r may be, as far as it can stand in a file name.
var release = regexp.MustCompile(`^[0-9][0-9A-Za-z.+~_-]*$`)

// Release returns the release of a kernel image, as uname -r will show it. It
// is "" when the image does not tell: the field is optional.
func Release(image []byte) (string, error) {
	if isELF(image) {
		return elfRelease(image)
	}
	if len(image) < kernelVersion+2 || string(image[magic:magic+4]) != "HdrS" {
		return "", ErrFormat
	}
	at := int(binary.LittleEndian.Uint16(image[kernelVersion:]))
	sects := int(image[setupSects])
	if sects == 0 {
		sects = 4 // what the protocol asks for, for very old images
	}
	if binary.LittleEndian.Uint16(image[protocol:]) < 0x200 || at == 0 || at >= sects*sector || at+sector >= len(image) {
		return "", nil
	}
	text := image[at+sector:]
	text = text[:min(len(text), maxVersion)]
	end := bytes.IndexByte(text, 0)
	if end < 0 {
		return "", nil
	}
	return firstWord(text[:end]), nil
}

// firstWord is the release that a text begins with, "" if that is none.
func firstWord(text []byte) string {
	word, _, _ := strings.Cut(string(text), " ")
	if !release.MatchString(word) || len(word) > 64 { // __NEW_UTS_LEN, include/uapi/linux/utsname.h
		return ""
	}
	return word
}
