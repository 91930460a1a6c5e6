// Package patchmail finds a patch series in a heap of mail: what a list archive
// gives for a thread, with cover letter, replies, earlier versions and patches in
// whatever order they arrived. Pure: it reads messages and chooses among them, and
// git applies what it chose. It must not know where mail comes from.
package patchmail

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset" // what mail is written in
	"github.com/emersion/go-message/mail"
)

// Series is one version of a patch series, complete and in the order in which it
// applies.
type Series struct {
	Title   string // of the cover letter, or of a patch that is alone
	Version int    // 1 for what names none
	Others  []int  // versions that the mail holds besides
	Patches []Patch
	// Base is the commit that it says it applies to ("base-commit:", git
	// format-patch --base), "" if it does not say.
	Base string
	// Prerequisites are the patch ids of what it needs on top of that, in order.
	Prerequisites []string
}

// Patch is a mail with a patch.
type Patch struct {
	Number  int    // of the series, from 1
	Subject string // without the prefix in brackets
	Date    time.Time
	Raw     []byte // the message as it came
}

// Error says why there is no series, in one line.
type Error struct{ Reason string }

func (e *Error) Error() string { return e.Reason }

func fail(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...)} }

// Bounds on what is looked at. A series on lore has a few hundred mails at most;
// a patch that adds a firmware image or a driver has some megabytes.
const (
	MaxMessages = 10_000
	maxBody     = 64 << 20
)

// Find chooses the newest version of the series that some messages hold. Every
// error is an *Error.
func Find(messages [][]byte) (Series, error) {
	if len(messages) > MaxMessages {
		return Series{}, fail("%d messages: a series has %d at most", len(messages), MaxMessages)
	}
	var letters []letter
	var broken []string
	seen := map[string]bool{}
	for i, raw := range messages {
		l, ok := read(raw)
		if !ok {
			broken = append(broken, strconv.Itoa(i+1))
			continue
		}
		// A mail to several lists comes once from each.
		if l.id != "" && seen[l.id] {
			continue
		}
		seen[l.id] = true
		letters = append(letters, l)
	}
	s, err := newest(letters)
	if err != nil && broken != nil { // what they are may be what is missing
		err = fail("%v; of %s, no mail can be made out in %s", err, counted(len(messages), "message"), Some(broken))
	}
	return s, err
}

// counted is a number with its noun.
func counted(n int, noun string) string {
	if n == 1 {
		return "one " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// newest puts together the highest version among the patches.
func newest(letters []letter) (Series, error) {
	var patches []letter
	for _, l := range letters {
		if l.patch && !l.reply {
			patches = append(patches, l)
		}
	}
	if len(patches) == 0 {
		return Series{}, fail("%s without a patch", counted(len(letters), "mail"))
	}
	s := Series{}
	for _, p := range patches {
		s.Version = max(s.Version, p.version)
	}
	var mine []letter
	for _, p := range patches {
		switch {
		case p.version == s.Version:
			mine = append(mine, p)
		case !slices.Contains(s.Others, p.version):
			s.Others = append(s.Others, p.version)
		}
	}
	slices.Sort(s.Others)
	inOrder, err := number(s.Version, mine)
	if err != nil {
		return Series{}, err
	}
	cover := letter{}
	for _, l := range letters {
		if !l.patch && !l.reply && l.version == s.Version && l.numbered && l.number == 0 {
			cover = l
		}
	}
	for i, p := range inOrder {
		s.Patches = append(s.Patches, Patch{Number: i + 1, Subject: p.subject, Date: p.date, Raw: p.raw})
	}
	if s.Title = cover.subject; s.Title == "" && len(inOrder) == 1 {
		s.Title = inOrder[0].subject
	}
	// git format-patch puts the base into the first mail that it writes; people
	// put it where they like.
	for _, l := range append([]letter{cover}, inOrder...) {
		if l.base != "" {
			s.Base, s.Prerequisites = l.base, l.prerequisites
			break
		}
	}
	return s, nil
}

// number sorts the patches of one version, of which none may be missing.
func number(version int, patches []letter) ([]letter, error) {
	name := "the series"
	if version > 1 {
		name = fmt.Sprintf("version %d", version)
	}
	total, plain := 0, 0
	for _, p := range patches {
		if total = max(total, p.total); !p.numbered {
			plain++
		}
	}
	switch {
	case plain == len(patches): // single patches, in the order in which they came
		return patches, nil
	case plain > 0:
		i := slices.IndexFunc(patches, func(p letter) bool { return !p.numbered })
		return nil, fail("%s has numbered patches and one without a number: %s", name, clip(patches[i].subject))
	case total > MaxMessages:
		return nil, fail("%s has %d patches: %d at most", name, total, MaxMessages)
	}
	at := make([]*letter, total+1)
	for i := range patches {
		p := &patches[i]
		if p.total != total {
			return nil, fail("two series: a patch %d/%d (%s) beside those of %d", p.number, p.total, clip(p.subject), total)
		}
		if p.number > total || p.number == 0 {
			return nil, fail("%s: a patch with the number %d/%d: %s", name, p.number, p.total, clip(p.subject))
		}
		other := at[p.number]
		switch {
		case other == nil, other.subject == p.subject && p.date.After(other.date): // sent once more
			at[p.number] = p
		case other.subject != p.subject:
			return nil, fail("two series: %d/%d is %s, and %s", p.number, total, clip(other.subject), clip(p.subject))
		}
	}
	var out []letter
	var missing []string
	for n := 1; n <= total; n++ {
		if at[n] == nil {
			missing = append(missing, fmt.Sprintf("%d/%d", n, total))
			continue
		}
		out = append(out, *at[n])
	}
	if len(missing) > 0 {
		return nil, fail("%s lacks %s: fetch the whole thread", name, Some(missing))
	}
	return out, nil
}

// Some lists the first few of many, for one line.
func Some(list []string) string {
	if n := len(list); n > 5 {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:5], ", "), n-5)
	}
	return strings.Join(list, ", ")
}

// clip shortens what somebody wrote, for one line.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 60 {
		s = string(r[:60]) + "…"
	}
	return strconv.Quote(s)
}

// letter is what one mail is.
type letter struct {
	raw           []byte
	id            string
	date          time.Time
	subject       string // without prefixes
	reply         bool
	patch         bool // it holds a diff
	version       int
	numbered      bool
	number, total int
	base          string
	prerequisites []string
}

var words = &mime.WordDecoder{CharsetReader: message.CharsetReader}

// read takes a mail apart, false if it is none. A charset that nobody knows does
// not matter: git will say what it makes of it.
func read(raw []byte) (letter, bool) {
	l := letter{raw: raw, version: 1}
	e, err := message.Read(bytes.NewReader(separator.ReplaceAll(raw, nil)))
	if err != nil && !message.IsUnknownCharset(err) && !message.IsUnknownEncoding(err) {
		return l, false
	}
	h := mail.Header{Header: e.Header}
	l.id, _ = h.MessageID()
	l.date, _ = h.Date()
	subject := h.Get("Subject")
	if text, err := words.DecodeHeader(subject); err == nil {
		subject = text
	}
	l.prefix(subject)
	l.look(body(e))
	return l, true
}

// separator is the line before a mail in a mailbox.
var separator = regexp.MustCompile(`\A>?From [^\n]*\n`)

// body is the text of a mail, of all its parts that are text.
func body(e *message.Entity) []byte {
	var out bytes.Buffer
	_ = e.Walk(func(_ []int, part *message.Entity, err error) error {
		if err != nil && part == nil {
			return err
		}
		kind, _, _ := part.Header.ContentType()
		if kind != "" && !strings.HasPrefix(kind, "text/") {
			return nil
		}
		_, _ = io.Copy(&out, io.LimitReader(part.Body, int64(maxBody-out.Len())))
		return nil
	})
	return out.Bytes()
}

var (
	replied = regexp.MustCompile(`(?i)^\s*(re|aw|sv|fwd?|antw)\s*(\[\d+\])?:`)
	bracket = regexp.MustCompile(`^\s*\[([^\[\]]*)\]\s*`)
	counter = regexp.MustCompile(`^(\d{1,6})/(\d{1,6})$`)
	version = regexp.MustCompile(`(?i)^(?:patch|rfc)?v(\d{1,4})$`)
)

// prefix reads "[RFC PATCH mm v3 2/7] subject".
func (l *letter) prefix(subject string) {
	subject = strings.Join(strings.Fields(subject), " ")
	if at := replied.FindStringIndex(subject); at != nil {
		l.reply, subject = true, strings.TrimSpace(subject[at[1]:])
	}
	for {
		m := bracket.FindStringSubmatch(subject)
		if m == nil {
			break
		}
		subject = subject[len(m[0]):]
		for _, w := range strings.FieldsFunc(m[1], func(r rune) bool { return r == ' ' || r == ',' }) {
			if c := counter.FindStringSubmatch(w); c != nil {
				l.numbered = true
				l.number, _ = strconv.Atoi(c[1])
				l.total, _ = strconv.Atoi(c[2])
			} else if v := version.FindStringSubmatch(w); v != nil {
				l.version, _ = strconv.Atoi(v[1])
				l.version = max(l.version, 1)
			}
		}
	}
	l.subject = subject
}

var (
	diffLine = regexp.MustCompile(`(?m)^(diff --git |--- (a/|/dev/null)|Index: |GIT binary patch)`)
	baseLine = regexp.MustCompile(`(?m)^base-commit: ([0-9a-f]{7,64})\r?$`)
	needLine = regexp.MustCompile(`(?m)^prerequisite-patch-id: ([0-9a-f]{40,64})\r?$`)
)

// look finds a diff, and what the sender says it applies to.
func (l *letter) look(text []byte) {
	l.patch = diffLine.Match(text)
	if m := baseLine.FindSubmatch(text); m != nil {
		l.base = string(m[1])
	}
	for _, m := range needLine.FindAllSubmatch(text, -1) {
		l.prerequisites = append(l.prerequisites, string(m[1]))
	}
}
