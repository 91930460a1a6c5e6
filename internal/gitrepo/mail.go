package gitrepo

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/patchmail"
)

// MaxMail bounds what is read of mail, in bytes. A thread on lore has some megabytes.
const MaxMail = 256 << 20

// Mail finds a series in a file or directory: a mailbox, plain or compressed, as
// git format-patch, b4 and lore write it, a Maildir, or a directory of patches.
// What is no series is a *UserError; name is what it calls the mail.
func (r *Repo) Mail(ctx context.Context, path, name string) (patchmail.Series, error) {
	mails, err := r.mails(ctx, path, name)
	if err != nil {
		return patchmail.Series{}, err
	}
	s, err := patchmail.Find(mails)
	if err != nil {
		err = userErrorf("%s: %v", name, err)
	}
	return s, err
}

// separator is what public-inbox writes before each mail: what follows is quoted as
// mboxrd says, https://www.loc.gov/preservation/digital/formats/fdd/fdd000385.shtml.
const separator = "From mboxrd@z Thu Jan  1 00:00:00 1970\n"

// Mailbox brings the mail that Mail reads at a path into one mailbox. owner is the
// data directory that git's processes belong to; errors are those of Mail.
func Mailbox(ctx context.Context, owner, path, name string) ([]byte, error) {
	mails, err := (&Repo{owner: owner}).mails(ctx, path, name)
	if err != nil {
		return nil, err
	}
	var box bytes.Buffer
	for _, m := range mails {
		if bytes.HasPrefix(m, []byte("From ")) { // no header: what separated it
			_, m, _ = bytes.Cut(m, []byte("\n"))
		}
		box.WriteString(separator)
		for line := range bytes.Lines(m) {
			if bytes.HasPrefix(bytes.TrimLeft(line, ">"), []byte("From ")) {
				box.WriteByte('>')
			}
			box.Write(line)
		}
		box.WriteString("\n\n") // a blank line, even where the last one has no end
	}
	return box.Bytes(), nil
}

// mails splits what there is into messages. It is git that knows where one ends.
func (r *Repo) mails(ctx context.Context, path, name string) ([][]byte, error) {
	boxes, err := mailboxes(path)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "kbisect-mail-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var mails [][]byte
	most := 0 // mails that there can be
	for i, box := range boxes {
		text, err := readMail(box)
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		// Before git makes a file of each.
		if most += 1 + bytes.Count(text, []byte("\nFrom ")); most > patchmail.MaxMessages {
			return nil, userErrorf("%s: more than %d mails", name, patchmail.MaxMessages)
		}
		out := filepath.Join(dir, strconv.Itoa(i))
		if err := os.Mkdir(out, 0o700); err != nil {
			return nil, err
		}
		// A file that is one mail may have no separator (-b). Archives of
		// public-inbox quote ">From " in the text of mails.
		args := []string{"mailsplit", "-d8", "-b", "-o" + out}
		if bytes.HasPrefix(text, []byte(separator[:len("From mboxrd@z ")])) {
			args = append(args, "--mboxrd")
		}
		if _, err := r.gitInput(ctx, dir, nil, bytes.NewReader(text), args...); err != nil {
			var ge *gitError
			if errors.As(err, &ge) {
				err = userErrorf("%s: no mailbox: %s", box, oneLine(ge.stderr))
			}
			return nil, err
		}
		split, err := filepath.Glob(filepath.Join(out, "*"))
		if err != nil {
			return nil, err
		}
		for _, file := range split {
			m, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			mails = append(mails, m)
		}
	}
	if len(mails) == 0 {
		return nil, userErrorf("%s: no mail in it", name)
	}
	return mails, nil
}

// mailboxes are the files that hold the mail.
func mailboxes(path string) ([]string, error) {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, userErrorf("%s: no such file", path)
	case err != nil:
		return nil, userErrorf("%v", err)
	case !st.IsDir():
		return []string{path}, nil
	}
	dirs := []string{path}
	if _, err := os.Stat(filepath.Join(path, "cur")); err == nil { // a Maildir
		dirs = []string{filepath.Join(path, "new"), filepath.Join(path, "cur")}
	}
	var files []string
	for _, d := range dirs {
		entries, err := os.ReadDir(d)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, userErrorf("%v", err)
		}
		for _, e := range entries {
			// What editors leave behind is no mail.
			if !e.Type().IsRegular() || e.Name()[0] == '.' || strings.HasSuffix(e.Name(), "~") {
				continue
			}
			if files = append(files, filepath.Join(d, e.Name())); len(files) > patchmail.MaxMessages {
				return nil, userErrorf("%s: more than %d files", path, patchmail.MaxMessages)
			}
		}
	}
	return files, nil
}

// readMail reads a file, and unpacks it if it is compressed.
func readMail(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, userErrorf("%v", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxMail+1))
	if err == nil && bytes.HasPrefix(text, []byte{0x1f, 0x8b}) {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(text)); err == nil {
			text, err = io.ReadAll(io.LimitReader(z, MaxMail+1))
		}
	}
	switch {
	case err != nil:
		return nil, userErrorf("%s: %v", path, err)
	case len(text) > MaxMail:
		return nil, userErrorf("%s: more than %d MiB of mail", path, MaxMail>>20)
	}
	return text, nil
}

// mostSaid bounds what is repeated of git's words, in bytes: a path of the kernel
// has 100, and one of a stranger's patch as many as it likes.
const mostSaid = 300

func oneLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	if len(line) > mostSaid {
		line = strings.ToValidUTF8(line[:mostSaid], "") + "…"
	}
	return line
}
