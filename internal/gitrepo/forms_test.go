package gitrepo

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// note is a commit on its way into a mail.
type note struct{ subject, body, diff string }

// notes are those of a range, oldest first.
func (u *user) notes(rng string) (notes []note) {
	u.t.Helper()
	for _, sha := range strings.Fields(u.git("rev-list", "--reverse", rng)) {
		text := u.git("format-patch", "-1", "--stdout", "--binary", "--full-index", sha)
		notes = append(notes, note{u.git("log", "-1", "--format=%s", sha), u.git("log", "-1", "--format=%b", sha), text[strings.Index(text, "\n---\n")+1:] + "\n"})
	}
	return notes
}

const plain = "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit"

// mail is a mail with the note; more is further lines of its header.
func (n note) mail(prefix, more string) string {
	return letterOf(prefix+n.subject, more, n.body+"\n"+n.diff)
}

func letterOf(subject, more, body string) string {
	if !strings.HasPrefix(subject, "=?") {
		subject = mime.QEncoding.Encode("utf-8", subject)
	}
	return "From: Ann Author <ann@example.org>\nDate: Mon, 2 Jan 2023 15:04:05 +0000\nSubject: " + subject + "\n" + more + "\n\n" + body
}

// all are the mails of a series, NUMBER/TOTAL at the end of their prefix.
func all(notes []note, prefix, more string) (mails []string) {
	for i, n := range notes {
		mails = append(mails, n.mail(fmt.Sprintf("[%s %d/%d] ", prefix, i+1, len(notes)), more))
	}
	return mails
}

// box joins mails as git does, or as public-inbox does, which quotes what looks like
// the begin of the next mail.
func box(separator string, mails ...string) string {
	var s strings.Builder
	for _, m := range mails {
		if strings.Contains(separator, "mboxrd") {
			m = fromLine.ReplaceAllString(m, "\n>$1")
		}
		s.WriteString("From " + separator + " Thu Jan  1 00:00:00 1970\n" + m + "\n")
	}
	return s.String()
}

func zipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.String()
}

// recoded is a mail with another encoding of its body.
func recoded(mail, charset, encoding string, encode func(body string) string) string {
	header, body, _ := strings.Cut(mail, "\n\n")
	return strings.Replace(header, plain, "Content-Type: text/plain; charset="+charset+"\nContent-Transfer-Encoding: "+encoding, 1) + "\n\n" + encode(body)
}

func quoted(s string) string {
	var b strings.Builder
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

func in64(s string) string {
	e := base64.StdEncoding.EncodeToString([]byte(s))
	var b strings.Builder
	for ; len(e) > 76; e = e[76:] {
		b.WriteString(e[:76] + "\n")
	}
	return b.String() + e + "\n"
}

func latin1(s string) string {
	var b strings.Builder
	for _, r := range s {
		b.WriteByte(byte(r))
	}
	return b.String()
}

func each(mails []string, f func(string) string) (out []string) {
	for _, m := range mails {
		out = append(out, f(m))
	}
	return out
}

// forms is the repository that the tables below are about: commits as people make
// them, and mails of these in the shapes in which lists have them.
func forms(t *testing.T) (u *user, base string) {
	u = newUser(t)
	long := ""
	for n := range 40 {
		long += fmt.Sprintf("int line_%d;\n", n+1)
	}
	edit := func(from, to string) string { return strings.Replace(long, from, to, 1) }
	base = u.commit("base", "mm/tiny.c", long, "mm/old.c", long, "mm/fw.bin", "\x00\x01\x02", "tools/run.sh", "#!/bin/sh\n", "Documentation/größe.rst", "groß\n")
	on := func(branch string) { u.git("checkout", "--quiet", "-B", branch, base) }
	on("series")
	long = edit("line_5;", "line_five;")
	u.commit("mm: first, and größer\n\nWhy: it was too small, naïvely.\n\nSigned-off-by: Ann Author <ann@example.org>", "mm/tiny.c", long)
	u.commit("mm: a second subject that is so long that every mail program between here and there has folded it, größer\n\nWhy = because.\n", "mm/tiny.c", edit("line_20;", "line_twenty; /* größer */"))
	u.commit("mm: third", "mm/new.c", "int new;\n", "Documentation/größe.rst", "größer\n")
	on("from")
	u.commit("mm: lines that look like mail\n\nFrom the beginning it was so.\n>From here on it is not.\nFrom ann@example.org Mon Sep 17 00:00:00 2001\nSubject: not the next mail\n", "mm/tiny.c", edit("int line_1;", "From ann@example.org Mon Sep 17 00:00:00 2001\n>From it\nint line_1;"))
	on("odd")
	u.git("mv", "mm/old.c", "mm/renamed.c")
	u.git("update-index", "--chmod=+x", "tools/run.sh")
	u.git("commit", "--quiet", "-m", "mm: move and mark")
	u.git("checkout", "--quiet", "--force", "odd")
	u.commit("mm: data\n\nBinary.", "mm/fw.bin", "\x00\xff\xfe\x00data")
	on("japan")
	u.commit("mm: 日本\n\n日本.", "mm/tiny.c", edit("line_9;", "line_nine;"))
	on("bob")
	u.git("commit", "--quiet", "--allow-empty", "-m", "not this one")
	on("bob")
	write(t, filepath.Join(u.dir, "mm/tiny.c"), edit("line_9;", "line_nine;"))
	u.git("commit", "--quiet", "--all", "--author", "Bob Zoë <bob@example.org>", "-m", "mm: by somebody else\n\nSent by Ann.")
	u.git("checkout", "--quiet", "main")
	return u, base
}

// Series as lists and people have them come out as they were meant.
func TestForms(t *testing.T) {
	u, base := forms(t)
	series := u.notes(base + "..series")
	mails := all(series, "PATCH", plain)
	one := func(branch string) note { return u.notes(base + ".." + branch)[0] }
	cover := letterOf("[PATCH 0/3] mm: a cover letter", plain, "Hello.\n\n mm/tiny.c | 4 ++--\n 1 file changed\n\n-- \n2.39\n")
	reply := letterOf("Re: [PATCH 2/3] "+series[1].subject, plain, "> diff --git a/mm/tiny.c b/mm/tiny.c\n> @@ -1 +1 @@\n\nFine.\n\nReviewed-by: R <r@example.org>\n")
	fixup := letterOf("Re: [PATCH 2/3] "+series[1].subject, plain, "Fold this in:\n\n"+one("bob").diff)
	old := func(v string) []string { return all(append(u.notes(base+"..from"), series[:1]...), v, plain) }
	version := func(v string) []string { return all(series, v, plain) }
	join := func(lists ...[]string) (out []string) {
		for _, l := range lists {
			out = append(out, l...)
		}
		return out
	}
	const git, lore, b4 = "0123456789012345678901234567890123456789", "mboxrd@z", "git@z"
	file := func(text string) []string { return []string{"x", text} }
	folded := func(m string) string {
		header, body, _ := strings.Cut(m, "\n\n")
		lines := strings.Split(header, "\n")
		for i, l := range lines {
			if words := strings.SplitAfter(l, " "); strings.HasPrefix(l, "Subject: [") && len(words) > 8 {
				lines[i] = strings.TrimRight(strings.Join(words[:6], ""), " ") + "\n " + strings.TrimRight(strings.Join(words[6:9], ""), " ") + "\n\t" + strings.Join(words[9:], "")
			}
		}
		return strings.Join(lines, "\n") + "\n\n" + body
	}
	raw := func(m string) string { // no RFC 2047, as some senders have it
		header, body, _ := strings.Cut(m, "\n\n")
		text, err := new(mime.WordDecoder).DecodeHeader(header)
		if err != nil {
			t.Fatal(err)
		}
		return text + "\n\n" + body
	}
	attached := func(n note, kind, encoding string, encode func(string) string) string {
		return letterOf("[PATCH] "+n.subject, "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"=-x\"",
			"This is a multi-part message.\n--=-x\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"+n.body+"\n\n--=-x\n"+
				"Content-Type: "+kind+"; name=\"0001.patch\"\nContent-Transfer-Encoding: "+encoding+"\nContent-Disposition: attachment; filename=\"0001.patch\"\n\n"+encode(n.diff)+"\n--=-x--\n")
	}
	same := func(s string) string { return s }
	for _, c := range []struct {
		name  string
		files []string // name and content
		want  string   // the commits that are meant, "" for the series
	}{
		{"git format-patch", file(u.git("format-patch", "--stdout", base+"..series") + "\n"), ""},
		{"git format-patch --attach", file(u.git("format-patch", "--stdout", "--attach", base+"..series") + "\n"), ""},
		{"git format-patch --inline", file(u.git("format-patch", "--stdout", "--inline", base+"..series") + "\n"), ""},
		{"a lore thread with replies and three versions", file(box(lore, join(version("PATCH v2"), []string{cover, reply}, version("PATCH v3"), old("PATCH"))...)), ""},
		{"b4 am with a cover letter", file(box(b4, join([]string{cover}, mails)...)), ""},
		{"quoted-printable", file(box(git, each(mails, func(m string) string { return recoded(m, "utf-8", "quoted-printable", quoted) })...)), ""},
		{"base64", file(box(git, each(mails, func(m string) string { return recoded(m, "UTF-8", "base64", in64) })...)), ""},
		{"raw UTF-8 in the header", file(box(git, each(mails, raw)...)), ""},
		{"folded and encoded", file(box(git, each(mails, func(m string) string { return strings.ReplaceAll(folded(m), "?= =?", "?=\n =?") })...)), ""},
		{"format=flowed", file(box(git, each(mails, func(m string) string {
			header, body, _ := strings.Cut(strings.Replace(m, "charset=utf-8", "charset=utf-8; format=flowed", 1), "\n\n")
			return header + "\n\n" + strings.ReplaceAll(body, "\n ", "\n  ") // stuffed
		})...)), ""},
		{"CRLF", file(strings.ReplaceAll(box(git, mails...), "\n", "\r\n")), ""},
		{"a Maildir", []string{"d/cur/1:2,S", mails[1], "d/new/2", mails[0], "d/cur/3:2,", mails[2], "d/cur/4:2,", cover, "d/tmp/5", "half a mail"}, ""},
		{"a directory", []string{"d/0001-x.patch", mails[0], "d/0002-x.patch", mails[1], "d/0003-x.patch", mails[2], "d/0000-cover-letter.patch", cover, "d/0002-x.patch~", "an editor's"}, ""},
		{"compressed", []string{"x.gz", zipped(box(lore, mails...))}, ""},
		{"out of order", file(box(lore, mails[2], reply, mails[0], cover, mails[1])), ""},
		{"from two lists", file(box(lore, join(each(mails, func(m string) string { return "Message-ID: <1@x>\nList-Id: <a>\n" + m })[:1], mails)...)), ""},
		{"a single patch without a number", file(series[0].mail("[PATCH] ", plain)), base + "..series~2"},
		{"a patch without any prefix", file(series[0].mail("", plain)), base + "..series~2"},
		{"[PATCH RESEND v2 01/03]", file(box(git, each(version("PATCH RESEND v2"), func(m string) string {
			return strings.NewReplacer(" 1/3]", " 01/03]", " 2/3]", " 02/03]", " 3/3]", " 03/03]", "_1/3]", "_01/03]", "_2/3]", "_02/03]", "_3/3]", "_03/03]").Replace(m)
		})...)), ""},
		{"[RFC PATCH bpf-next 1/3]", file(box(git, version("RFC PATCH bpf-next")...)), ""},
		{"[PATCH 6.1.y 1/3]", file(box(git, version("PATCH 6.1.y")...)), ""},
		{"[PATCH mm-hotfixes-unstable v12 1/3]", file(box(git, join(old("PATCH v9"), version("PATCH mm-hotfixes-unstable v12"))...)), ""},
		{"a scissors line", file(letterOf("[PATCH] what this is about", plain, "Hi all,\n\nthis is it.\n\n-- >8 --\nSubject: [PATCH] "+series[0].subject+"\n\n"+series[0].body+"\n"+series[0].diff)), base + "..series~2"},
		{"sent by another", file(one("bob").mail("[PATCH] ", plain)), "the mail's sender"},
		{"written by another", file(letterOf("[PATCH] "+one("bob").subject, plain, "From: Bob Zoë <bob@example.org>\n\n"+one("bob").body+"\n"+one("bob").diff)), base + "..bob"},
		{"lines that begin with From, from lore", file(box(lore, one("from").mail("[PATCH] ", plain))), base + "..from"},
		{"lines that begin with From, as a file", []string{"d/1", one("from").mail("[PATCH] ", plain)}, base + "..from"},
		{"a rename, a mode and binary data", file(box(git, all(u.notes(base+"..odd"), "PATCH", plain)...)), base + "..odd"},
		{"iso-2022-jp", file(letterOf("=?ISO-2022-JP?B?"+base64.StdEncoding.EncodeToString([]byte("[PATCH] mm: \x1b$BF|K\\\x1b(B"))+"?=",
			"Content-Type: text/plain; charset=ISO-2022-JP\nContent-Transfer-Encoding: 7bit", "\x1b$BF|K\\\x1b(B.\n"+one("japan").diff)), base + "..japan"},
		{"an attachment", file(attached(series[0], "text/x-patch; charset=utf-8", "8bit", same)), base + "..series~2"},
		{"an attachment in base64", file(attached(series[0], "text/x-diff; charset=utf-8", "base64", in64)), base + "..series~2"},
		{"signed", file(letterOf("[PATCH] "+series[0].subject, "MIME-Version: 1.0\nContent-Type: multipart/signed; boundary=\"=-x\"; micalg=pgp-sha512; protocol=\"application/pgp-signature\"",
			"--=-x\n"+plain+"\n\n"+series[0].body+"\n"+series[0].diff+"\n--=-x\nContent-Type: application/pgp-signature; name=signature.asc\n\n-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n\n--=-x--\n")), base + "..series~2"},
		{"a reply with a patch in it", file(box(lore, join(mails, []string{fixup})...)), ""},
		{"latin1", file(box(git, each(mails[:1], func(m string) string {
			m = strings.Replace(recoded(m, "iso-8859-1", "8bit", latin1), "[PATCH 1/3]", "[PATCH]", 1)
			return strings.Replace(m, "=?utf-8?q?[PATCH_1/3]_mm:_first,_and_gr=C3=B6=C3=9Fer?=", "=?iso-8859-1?q?[PATCH]_mm:_first,_and_gr=F6=DFer?=", 1)
		})...)), base + "..series~2"},
		{"base-commit and prerequisites", file(u.git("format-patch", "--stdout", "--cover-letter", "--base="+base, "series~1..series") + "\n"), "series~1..series"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := lay(t, c.files)
			r := u.open()
			on, want := base, c.want
			switch {
			case want == "":
				want = base + "..series"
			case strings.HasPrefix(want, "series~1"):
				on = u.git("rev-parse", "series~1")
			}
			s, err := r.Mail(t.Context(), path, path)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(c.name, "base-commit") && (s.Base != base || len(s.Prerequisites) != 2) {
				t.Errorf("base %s, prerequisites %q", s.Base, s.Prerequisites)
			}
			commits, there, err := r.Worktree(filepath.Join(t.TempDir(), "src")).Apply(t.Context(), on, path, s)
			if err != nil || len(there) > 0 {
				t.Fatalf("%v, there %q", err, there)
			}
			const format = "--format=%an <%ae> %T%n%B"
			meant := u.git("log", format, strings.Replace(want, "the mail's sender", base+"..bob", 1))
			if want == "the mail's sender" {
				meant = strings.Replace(meant, "Bob Zoë <bob@", "Ann Author <ann@", 1)
			}
			got, err := r.git(t.Context(), r.mirror, "log", format, on+".."+commits[len(commits)-1].SHA)
			if d := cmp.Diff(meant, got); err != nil || d != "" {
				t.Errorf("%v (-meant +got):\n%s", err, d)
			}
		})
	}
}

// lay writes files below a new directory, and returns the path of the first one, or
// of the directory that it is in.
func lay(t *testing.T, files []string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		write(t, filepath.Join(dir, files[i]), files[i+1])
	}
	top, _, _ := strings.Cut(files[0], "/")
	return filepath.Join(dir, top)
}

// What is no series is refused in a line that says what is wrong with it.
func TestFormsRefused(t *testing.T) {
	u, base := forms(t)
	series := u.notes(base + "..series")
	mails := all(series, "PATCH", plain)
	other := u.notes(base + "..odd")
	whole := zipped(box("mboxrd@z", mails...))
	cover := letterOf("[PATCH 0/3] mm: a cover letter", plain, "Hello.\n")
	git := func(m ...string) []string { return []string{"x", box("mboxrd@z", m...)} }
	for _, c := range []struct {
		name  string
		files []string
		says  string
	}{
		{"a patch is missing", git(mails[0], mails[2], cover), "the series lacks 2/3: fetch the whole thread"},
		{"all patches are missing", git(cover), "one mail without a patch"},
		{"the newest version is not whole", git(append(all(series, "PATCH v2", plain)[1:], mails...)...), "version 2 lacks 1/3: fetch the whole thread"},
		{"two series", git(append(mails, all(append(other, other[0]), "PATCH", plain)...)...), `two series: 1/3 is "mm: first, and größer", and "mm: move and mark"`},
		{"two series of other lengths", git(append(mails, all(other, "PATCH", plain)...)...), `two series: a patch 1/2 ("mm: move and mark") beside those of 3`},
		{"a number beyond the total", git(append(mails, other[0].mail("[PATCH 4/3] ", plain))...), `a patch with the number 4/3: "mm: move and mark"`},
		{"one without a number", git(append(mails, other[0].mail("[PATCH] ", plain))...), `one without a number: "mm: move and mark"`},
		{"half an archive", []string{"x.gz", whole[:len(whole)/2]}, "unexpected EOF"},
		{"an archive that is none", []string{"x.gz", "\x1f\x8bnot at all"}, "gzip"},
		{"an empty file", []string{"x", ""}, "no mail in it"},
		{"an empty directory", []string{"d/.hidden", mails[0]}, "no mail in it"},
		{"a Maildir with unfinished mail", []string{"d/cur/.keep", "", "d/tmp/1", mails[0]}, "no mail in it"},
		{"HTML alone", git(letterOf("[PATCH] "+series[0].subject, "Content-Type: text/html; charset=utf-8", "<pre>\n"+strings.NewReplacer("<", "&lt;", "diff ", "<b>diff</b> ", "---", "<i>---</i>").Replace(series[0].diff)+"</pre>\n")), "one mail without a patch"},
		{"a patch in a ZIP file", git(letterOf("[PATCH] x", "MIME-Version: 1.0\nContent-Type: application/zip\nContent-Transfer-Encoding: base64", in64("PK\x03\x04"))), "one mail without a patch"},
		{"no patch at all", git(letterOf("lunch?", plain, "At noon.\n")), "one mail without a patch"},
		{"a picture", []string{"x", "\x89PNG\r\n\x1a\n\x00\x00"}, "0 mails without a patch; of one message, no mail can be made out in 1"},
		{"lines that a mailer wrapped", git(strings.Replace(series[0].mail("[PATCH] ", plain), " int line_4;", " int\nline_4;", 1)), `patch 1 of 1 ("mm: first, and größer") does not apply`},
		{"tabs and blanks that a mailer ate", git(strings.Replace(series[0].mail("[PATCH] ", plain), "\n int line_4;", "\n  int  line_4;", 1)), `patch 1 of 1 ("mm: first, and größer") does not apply at mm/tiny.c:2; three-way merge: impossible, the patch does not fit the files that it was made from: somebody edited it`},
		{"a patch that is cut off", git(strings.SplitAfter(series[0].mail("[PATCH] ", plain), "line_five")[0] + "\n"), `patch 1 of 1 ("mm: first, and größer") does not apply; three-way merge: impossible, corrupt patch at line`},
		{"paths that lead out", git(strings.ReplaceAll(series[0].mail("[PATCH] ", plain), "mm/tiny.c", "../../tiny.c")), `patch 1 of 1 ("mm: first, and größer") does not apply`},
		{"git's own directory", git(strings.ReplaceAll(series[2].mail("[PATCH] ", plain), "mm/new.c", ".git/hooks/x")), `patch 1 of 1 ("mm: third") does not apply`},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := lay(t, c.files)
			r := u.open()
			_, err := r.Worktree(filepath.Join(t.TempDir(), "src")).ApplyMbox(t.Context(), base, path)
			var ue *UserError
			var ae *ApplyError
			switch {
			case err == nil || !strings.Contains(err.Error(), c.says) || strings.ContainsAny(err.Error(), "\n\r\x1b"):
				t.Errorf("%v, want a line that says %q", err, c.says)
			case !errors.As(err, &ae) && (!errors.As(err, &ue) || !strings.HasPrefix(err.Error(), path+": ")):
				t.Errorf("%v is not the user's, or names no file", err)
			}
		})
	}
}
