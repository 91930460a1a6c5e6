// Package lore fetches the mails of a thread from a public-inbox archive, such as
// lore.kernel.org, and keeps them. It must not know what is in them.
package lore

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// DefaultArchive has the mail of all lists that lore knows.
const DefaultArchive = "https://lore.kernel.org/all"

const (
	// maxThread is how large a thread may be, compressed. The longest that people
	// have had have a few thousand mails, some 20 MB.
	maxThread = 128 << 20
	// freshFor is how long a thread is not asked for again: somebody tries a series
	// with one option and then with another.
	freshFor = 10 * time.Minute
	// keptFor is how long a thread that nobody asked for stays.
	keptFor  = 30 * 24 * time.Hour
	patience = 2 * time.Minute
)

// Archive is where threads are fetched from.
type Archive struct {
	URL    string // of one that has the message ids by themselves; "" for DefaultArchive
	Dir    string // keeps what was fetched
	Agent  string // how we call ourselves
	Client *http.Client
}

// Error says in one line why there is no thread.
type Error struct {
	Reason  string
	Network bool // the archive could not be asked: another time it may answer
}

func (e *Error) Error() string { return e.Reason }

func fail(format string, args ...any) error { return &Error{Reason: fmt.Sprintf(format, args...)} }

// messageID is what stands in angle brackets in a mail (RFC 5322, msg-id), as far as
// archives have it.
var messageID = regexp.MustCompile(`^<?([A-Za-z0-9!#$%&'*+/=?^_.{|}~-]+@[A-Za-z0-9.\[\]:_-]+)>?$`)

// Names says whether a word names a thread, by address or message id, and no file.
func Names(word string) bool {
	return strings.HasPrefix(word, "https://") || strings.HasPrefix(word, "http://") || messageID.MatchString(word)
}

// thread gives the address of the thread's mailbox for the address or id of one of
// its messages.
func (a Archive) thread(word string) (string, error) {
	if m := messageID.FindStringSubmatch(word); m != nil {
		archive := a.URL
		if archive == "" {
			archive = DefaultArchive
		}
		return strings.TrimSuffix(archive, "/") + "/" + url.PathEscape(m[1]) + "/t.mbox.gz", nil
	}
	u, err := url.Parse(word)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", fail("%q is no address of a thread", word)
	}
	// https://HOST/LIST/ID/ and what may follow: T/, t.mbox.gz, raw, #anchor
	parts := strings.Split(strings.Trim(u.EscapedPath(), "/"), "/")
	id := ""
	if len(parts) > 1 {
		id, _ = url.PathUnescape(parts[1]) // what EscapedPath gives is sound
	}
	if !strings.Contains(id, "@") {
		return "", fail("%q is no address of a message: https://lore.kernel.org/LIST/MESSAGE-ID/", word)
	}
	// The redirector of links in commits, which does not know of mailboxes.
	if parts[0] == "r" {
		parts[0] = "all"
	}
	site := url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host}
	return site.String() + "/" + parts[0] + "/" + parts[1] + "/t.mbox.gz", nil
}

// Fetch returns a file with the mailbox of a thread. Where the archive cannot be
// reached and the thread was fetched before, that is what it returns, with a remark.
// Errors of the user's or the archive's are an *Error.
func (a Archive) Fetch(ctx context.Context, word string) (file, remark string, err error) {
	address, err := a.thread(word)
	if err != nil {
		return "", "", err
	}
	sum := sha256.Sum256([]byte(address))
	file = filepath.Join(a.Dir, fmt.Sprintf("%x.mbox.gz", sum[:12]))
	st, statErr := os.Stat(file)
	if statErr == nil && time.Since(st.ModTime()) < freshFor {
		return file, "", nil
	}
	err = a.get(ctx, address, file)
	var refused *Error
	if err == nil || statErr != nil || errors.As(err, &refused) || ctx.Err() != nil {
		return file, "", explained(address, err)
	}
	return file, fmt.Sprintf("%v; this is the thread as of %s", explained(address, err), st.ModTime().UTC().Format(time.DateTime)), nil
}

// explained makes an error of the network a line.
func explained(address string, err error) error {
	var refused *Error
	if err == nil || errors.As(err, &refused) || errors.Is(err, context.Canceled) {
		return err
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return &Error{Reason: fmt.Sprintf("%s: %v", address, err), Network: true}
}

// get fetches a mailbox into a file, whole or not at all.
func (a Archive) get(ctx context.Context, address, file string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", a.Agent)
	// The mailbox is compressed itself; what is on the wire is what is kept.
	req.Header.Set("Accept-Encoding", "identity")
	client := a.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return fail("%s: the archive has no such message", address)
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("the archive answers %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	case resp.StatusCode != http.StatusOK:
		return fail("%s: the archive answers %d %s", address, resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	body := bufio.NewReader(resp.Body)
	head, err := body.Peek(len("From "))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !bytes.HasPrefix(head, []byte("\x1f\x8b")) && string(head) != "From " {
		return fail("%s: the archive answers with something else than a mailbox", address)
	}
	if err := os.MkdirAll(a.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(a.Dir, "new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	n, err := io.Copy(f, io.LimitReader(body, maxThread+1))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	switch {
	case err != nil:
		return err
	case n > maxThread:
		return fail("%s: more than %d MiB", address, maxThread>>20)
	}
	a.forget()
	return os.Rename(f.Name(), file)
}

// forget deletes what was fetched long ago.
func (a Archive) forget() {
	files, _ := filepath.Glob(filepath.Join(a.Dir, "*.mbox.gz"))
	for _, f := range files {
		if st, err := os.Stat(f); err == nil && time.Since(st.ModTime()) > keptFor {
			_ = os.Remove(f)
		}
	}
}
