package patchmail

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"mime/quotedprintable"
	"slices"
	"strings"
	"testing"
)

const diff = "---\n mm/memory.c | 1 +\n\ndiff --git a/mm/memory.c b/mm/memory.c\nindex 111..222 100644\n--- a/mm/memory.c\n+++ b/mm/memory.c\n@@ -1 +1,2 @@\n x\n+y\n-- \n2.39\n"

// mailOf writes a mail; more are further header lines.
func mailOf(id, subject, body string, more ...string) []byte {
	h := "From: A U Thor <author@example.org>\nDate: Mon, 2 Jan 2023 15:04:05 +0000\n"
	if id != "" {
		h += "Message-ID: <" + id + "@example.org>\n"
	}
	for _, m := range more {
		h += m + "\n"
	}
	return []byte(h + "Subject: " + subject + "\n\n" + body)
}

func patch(id, subject string, more ...string) []byte {
	return mailOf(id, subject, "why\n"+diff, more...)
}

// said is a series in one line.
func said(s Series) string {
	out := fmt.Sprintf("v%d %q", s.Version, s.Title)
	if s.Others != nil {
		out += fmt.Sprint(" besides ", s.Others)
	}
	if s.Base != "" {
		out += " on " + s.Base
	}
	for _, p := range s.Patches {
		out += fmt.Sprintf(", %d %s", p.Number, p.Subject)
	}
	return out
}

func encoded(body string) string {
	var b strings.Builder
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(body))
	_ = w.Close()
	return b.String()
}

func TestFind(t *testing.T) {
	cover := mailOf("c", "[PATCH 0/2] mm: two fixes", "Hello.\n\nbase-commit: 0123456789abcdef0123456789abcdef01234567\nprerequisite-patch-id: 89abcdef0123456789abcdef0123456789abcdef\n")
	one, two := patch("1", "[PATCH 1/2] mm: one"), patch("2", "[PATCH 2/2] mm: two")
	reply := mailOf("r", "Re: [PATCH 1/2] mm: one", "> diff --git a/x b/x\n\nReviewed-by: R <r@example.org>\n")
	for _, c := range []struct {
		name string
		mail [][]byte
		want string
	}{
		{"something else beside it", [][]byte{one, []byte("\x00\n\n"), two}, `v1 "", 1 mm: one, 2 mm: two`},
		{"a patch", [][]byte{patch("1", "[PATCH] mm: one")}, `v1 "mm: one", 1 mm: one`},
		{"without a prefix", [][]byte{patch("1", "mm: one")}, `v1 "mm: one", 1 mm: one`},
		{"in order", [][]byte{cover, one, two}, `v1 "mm: two fixes" on 0123456789abcdef0123456789abcdef01234567, 1 mm: one, 2 mm: two`},
		{"out of order, with a reply", [][]byte{two, reply, one}, `v1 "", 1 mm: one, 2 mm: two`},
		{"twice, from two lists", [][]byte{one, two, one, two}, `v1 "", 1 mm: one, 2 mm: two`},
		{"one without a number twice", [][]byte{patch("1", "[PATCH] mm: one"), patch("1", "[PATCH] mm: one")}, `v1 "mm: one", 1 mm: one`},
		{"sent once more", [][]byte{one, two, patch("3", "[RESEND PATCH 1/2] mm: one", "Date: Tue, 3 Jan 2023 15:04:05 +0000")}, `v1 "", 1 mm: one, 2 mm: two`},
		{"a reply with a patch in it", [][]byte{one, two, patch("3", "Re: [PATCH 1/2] mm: one")}, `v1 "", 1 mm: one, 2 mm: two`},
		{"the newest of three versions", [][]byte{one, two, patch("3", "[PATCH v3 1/1] mm: both"), patch("4", "[PATCH v2 1/2] mm: one"), mailOf("5", "[PATCH v3 0/1] mm: one fix", "hi\n")},
			`v3 "mm: one fix" besides [1 2], 1 mm: both`},
		{"an older version is not whole", [][]byte{one, patch("3", "[PATCH v2 1/1] mm: both")}, `v2 "mm: both" besides [1], 1 mm: both`},
		{"a newer version that is announced only", [][]byte{one, two, mailOf("5", "[PATCH v2 0/2] mm: two fixes", "soon\n")}, `v1 "", 1 mm: one, 2 mm: two`},
		{"prefixes of trees", [][]byte{patch("1", "[RFC PATCH mm-unstable v2 1/2] mm: one"), patch("2", "[RFC,PATCH,v2,2/2] mm: two")}, `v2 "", 1 mm: one, 2 mm: two`},
		{"prefixes in two brackets", [][]byte{patch("1", "[PATCH v4][RESEND] mm: one")}, `v4 "mm: one", 1 mm: one`},
		{"PATCHv2", [][]byte{patch("1", "[PATCHv2 01/01] mm: one")}, `v2 "mm: one", 1 mm: one`},
		{"numbers with zeros", [][]byte{patch("2", "[PATCH 02/02] mm: two"), patch("1", "[PATCH 01/02] mm: one")}, `v1 "", 1 mm: one, 2 mm: two`},
		{"without numbers", [][]byte{patch("1", "[PATCH] mm: one"), patch("2", "[PATCH] mm: two")}, `v1 "", 1 mm: one, 2 mm: two`},
		{"no message ids", [][]byte{patch("", "[PATCH 2/2] mm: two"), patch("", "[PATCH 1/2] mm: one")}, `v1 "", 1 mm: one, 2 mm: two`},
		{"a separator before it", [][]byte{append([]byte("From mboxrd@z Thu Jan  1 00:00:00 1970\n"), one...), two}, `v1 "", 1 mm: one, 2 mm: two`},
		{"the base below the patch", [][]byte{patch("1", "[PATCH] mm: one"), mailOf("2", "[PATCH] mm: two", diff+"\nbase-commit: abcdef0123\n")}, `v1 "" on abcdef0123, 1 mm: one, 2 mm: two`},
		{"quoted-printable", [][]byte{mailOf("1", "=?UTF-8?Q?mm:_gr=C3=B6=C3=9Fer?=", encoded("Grüße\n"+diff), "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: quoted-printable")}, `v1 "mm: größer", 1 mm: größer`},
		{"base64 and latin1", [][]byte{mailOf("1", "=?iso-8859-1?B?"+base64.StdEncoding.EncodeToString([]byte("mm: gr\xf6\xdfer"))+"?=", base64.StdEncoding.EncodeToString([]byte("x\n"+diff)),
			"Content-Type: text/plain; charset=iso-8859-1", "Content-Transfer-Encoding: base64")}, `v1 "mm: größer", 1 mm: größer`},
		{"a charset of nobody", [][]byte{patch("1", "[PATCH] mm: one", "Content-Type: text/plain; charset=x-klingon")}, `v1 "mm: one", 1 mm: one`},
		{"a folded subject", [][]byte{patch("1", "[PATCH 1/1]\n mm: one that\n\tgoes on")}, `v1 "mm: one that goes on", 1 mm: one that goes on`},
		{"with a signature beside it", [][]byte{mailOf("1", "[PATCH] mm: one", "--x\nContent-Type: text/plain\n\n"+diff+"\n--x\nContent-Type: application/pgp-signature\n\nsig\n--x--\n",
			"MIME-Version: 1.0", "Content-Type: multipart/signed; boundary=x")}, `v1 "mm: one", 1 mm: one`},
		{"CRLF", [][]byte{[]byte(strings.ReplaceAll(string(mailOf("1", "[PATCH] mm: one", diff+"\nbase-commit: abcdef0123\n")), "\n", "\r\n"))}, `v1 "mm: one" on abcdef0123, 1 mm: one`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Find(c.mail)
			if err != nil || said(s) != c.want {
				t.Errorf("%s, %v\nwant %s", said(s), err, c.want)
			}
			for _, p := range s.Patches {
				if !slices.ContainsFunc(c.mail, func(m []byte) bool { return string(m) == string(p.Raw) }) {
					t.Errorf("patch %d is not as it came", p.Number)
				}
			}
		})
	}
	if s, _ := Find([][]byte{one, cover, two}); !slices.Equal(s.Prerequisites, []string{"89abcdef0123456789abcdef0123456789abcdef"}) {
		t.Errorf("prerequisites %q", s.Prerequisites)
	}
}

func TestFindRefuses(t *testing.T) {
	one, two := patch("1", "[PATCH 1/3] mm: one"), patch("2", "[PATCH 2/3] mm: two")
	many := make([][]byte, MaxMessages+1)
	for _, c := range []struct {
		name string
		mail [][]byte
		want string
	}{
		{"nothing", nil, "0 mails without a patch"},
		{"a cover letter alone", [][]byte{mailOf("c", "[PATCH 0/2] mm: two fixes", "hi\n")}, "one mail without a patch"},
		{"replies only", [][]byte{patch("3", "Re: [PATCH 1/2] mm: one"), mailOf("r", "Re: x", "y")}, "2 mails without a patch"},
		{"one missing", [][]byte{one, two}, "the series lacks 3/3: fetch the whole thread"},
		{"most missing", [][]byte{patch("1", "[PATCH v2 4/20] mm: four")}, "version 2 lacks 1/20, 2/20, 3/20, 5/20, 6/20 and 14 more: fetch the whole thread"},
		{"the newest is not whole, the one before is", [][]byte{patch("1", "[PATCH 1/1] mm: one"), patch("2", "[PATCH v2 2/2] mm: two")}, "version 2 lacks 1/2: fetch the whole thread"},
		{"two series", [][]byte{patch("1", "[PATCH 1/1] mm: one"), patch("2", "[PATCH 1/1] fs: other")}, `two series: 1/1 is "mm: one", and "fs: other"`},
		{"two series of other lengths", [][]byte{one, patch("9", "[PATCH 1/1] fs: other")}, `two series: a patch 1/1 ("fs: other") beside those of 3`},
		{"one without a number", [][]byte{one, patch("9", "[PATCH] fs: other")}, `the series has numbered patches and one without a number: "fs: other"`},
		{"beyond its length", [][]byte{patch("1", "[PATCH 4/3] mm: four")}, `the series: a patch with the number 4/3: "mm: four"`},
		{"a patch for a cover letter", [][]byte{patch("1", "[PATCH 0/1] mm: nil")}, `the series: a patch with the number 0/1: "mm: nil"`},
		{"a number out of reach", [][]byte{patch("1", "[PATCH 1/999999] mm: one")}, "the series has 999999 patches: 10000 at most"},
		{"one that is broken", [][]byte{one, []byte("\x00\x1b\n\n" + diff), two}, "the series lacks 3/3: fetch the whole thread; of 3 messages, no mail can be made out in 2"},
		{"too many", many, "10001 messages: a series has 10000 at most"},
		{"control characters", [][]byte{patch("1", "[PATCH 1/1] mm: one"), patch("2", "[PATCH 1/1] \x1b[31mred\x07")}, `two series: 1/1 is "mm: one", and " [31mred "`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Find(c.mail)
			var e *Error
			if !errors.As(err, &e) || err.Error() != c.want {
				t.Errorf("%s, %v\nwant %s", said(s), err, c.want)
			}
		})
	}
}

// In whatever order the mails of a thread come, the series is the same.
func TestFindOrder(t *testing.T) {
	var thread [][]byte
	for v := 1; v <= 3; v++ {
		thread = append(thread, mailOf(fmt.Sprintf("%d.0", v), fmt.Sprintf("[PATCH v%d 0/9] cover %d", v, v), "x\n"))
		for n := 1; n <= 9; n++ {
			subject := fmt.Sprintf("[PATCH v%d %d/9] mm: patch %d", v, n, n)
			thread = append(thread, patch(fmt.Sprintf("%d.%d", v, n), subject), mailOf(fmt.Sprintf("%d.%d.r", v, n), "Re: "+subject, "Acked-by: me\n"))
		}
	}
	want, err := Find(thread)
	if err != nil || want.Version != 3 || len(want.Patches) != 9 {
		t.Fatal(said(want), err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		rng.Shuffle(len(thread), func(i, k int) { thread[i], thread[k] = thread[k], thread[i] })
		if got, err := Find(thread); err != nil || said(got) != said(want) {
			t.Fatal(said(got), err)
		}
	}
}

// Whatever is in a mail, there is a series or one line that says why not.
func FuzzFind(f *testing.F) {
	f.Add(patch("1", "[PATCH v2 1/2] mm: one"), patch("2", "[PATCH v2 2/2] mm: two"))
	f.Add(mailOf("c", "[PATCH 0/1] x", "base-commit: 0123456\n"), patch("2", "=?utf-8?b?AAAA?= [PATCH 1/1]"))
	f.Add([]byte("From x\n\n"), []byte("Subject: [PATCH 99999/99999]\nContent-Type: multipart/mixed; boundary=a\n\n--a\n\n--a--"))
	f.Add([]byte{0}, []byte("a: b\nc"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		s, err := Find([][]byte{a, b})
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x1b\x00") || len(err.Error()) > 500 {
				t.Errorf("%q", err)
			}
			return
		}
		if len(s.Patches) == 0 || s.Version < 1 {
			t.Errorf("%+v", s)
		}
		for i, p := range s.Patches {
			if p.Number != i+1 || string(p.Raw) != string(a) && string(p.Raw) != string(b) {
				t.Errorf("patch %d: %+v", i, p)
			}
		}
	})
}
