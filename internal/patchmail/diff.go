package patchmail

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"

	"github.com/emersion/go-message"
)

// File is what a patch says of a file that it changes.
type File struct {
	Old, New string // its path before and after the patch, "" where it is not there
	Blob     string // the object id that it has before, often abbreviated; "" if the patch does not say
}

// Path is the file's name, the new one if it has two.
func (f File) Path() string {
	if f.New != "" {
		return f.New
	}
	return f.Old
}

// Text is the mail without its headers, decoded.
func (p Patch) Text() []byte {
	e, _ := message.Read(bytes.NewReader(separator.ReplaceAll(p.Raw, nil)))
	if e == nil {
		return nil
	}
	return body(e)
}

var (
	indexLine = regexp.MustCompile(`^index ([0-9a-f]{4,64})\.\.([0-9a-f]{4,64})`)
	hunkLine  = regexp.MustCompile(`^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@`)
)

// Files are the files that a patch as git writes it changes, in its order.
func (p Patch) Files() (files []File) {
	var f *File
	before, after := 0, 0 // lines that are left of a hunk
	for line := range strings.Lines(string(p.Text())) {
		line = strings.TrimRight(line, "\r\n")
		if before > 0 || after > 0 {
			switch {
			case line == "" || line[0] == ' ':
				before--
				after--
			case line[0] == '-':
				before--
			case line[0] == '+':
				after--
			}
			continue
		}
		if names, ok := strings.CutPrefix(line, "diff --git "); ok {
			files = append(files, File{})
			f = &files[len(files)-1]
			// Two equal names; others are told again below.
			if a, b := names[:len(names)/2], names[(len(names)+1)/2:]; path(a, "a/") == path(b, "b/") {
				f.Old, f.New = path(a, "a/"), path(b, "b/")
			}
			continue
		}
		if f == nil {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(line, "new file mode "):
			f.Old = ""
		case strings.HasPrefix(line, "deleted file mode "):
			f.New = ""
		case strings.HasPrefix(line, "rename from "), strings.HasPrefix(line, "copy from "):
			f.Old = path(strings.TrimPrefix(rest, "from "), "")
		case strings.HasPrefix(line, "rename to "), strings.HasPrefix(line, "copy to "):
			f.New = path(strings.TrimPrefix(rest, "to "), "")
		case word == "---" && rest != "/dev/null":
			f.Old = path(rest, "a/")
		case word == "+++" && rest != "/dev/null":
			f.New = path(rest, "b/")
		case word == "index":
			if m := indexLine.FindStringSubmatch(line); m != nil && strings.Trim(m[1], "0") != "" {
				f.Blob = m[1]
			}
		case word == "@@":
			if m := hunkLine.FindStringSubmatch(line); m != nil {
				before, after = lines(m[1]), lines(m[2])
			}
		}
	}
	return files
}

// lines reads the length in a hunk's header, which is left out if it is 1.
func lines(s string) int {
	if s == "" {
		return 1
	}
	n, _ := strconv.Atoi(s)
	return n
}

// path reads a name as git writes it: quoted if it has odd characters, followed by
// a tab if it has blanks.
func path(s, prefix string) string {
	s = strings.TrimSuffix(s, "\t")
	if strings.HasPrefix(s, `"`) {
		if name, err := strconv.Unquote(s); err == nil {
			s = name
		}
	}
	return strings.TrimPrefix(s, prefix)
}
