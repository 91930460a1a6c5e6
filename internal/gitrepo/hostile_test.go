package gitrepo

import (
	"compress/gzip"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/patchmail"
)

// evil is a mail with a patch as no git format-patch writes one. headers go before
// what is missing of them.
func evil(headers, diff string) string {
	for _, h := range []string{"From: Eve <eve@example.org>\n", "Subject: [PATCH] mm: harmless\n"} {
		if name, _, _ := strings.Cut(h, " "); !strings.Contains(headers, name) {
			headers += h
		}
	}
	return "From 1234567890123456789012345678901234567890 Mon Sep 17 00:00:00 2001\n" + headers +
		"Date: Thu, 1 Jan 2026 00:00:00 +0000\n\nwhy\n---\n" + diff + "-- \n2.39\n\n"
}

const second = "Subject: [PATCH] mm: second\n"

// adds is the diff that makes a file; name may be quoted as git does it.
func adds(mode, name, line string) string {
	a, b := "a/"+name, "b/"+name
	if strings.HasPrefix(name, `"`) {
		a, b = `"a/`+name[1:], `"b/`+name[1:]
	}
	end := ""
	if mode == "120000" {
		end = "\\ No newline at end of file\n"
	}
	return "diff --git " + a + " " + b + "\nnew file mode " + mode + "\nindex 0000000..1234567\n--- /dev/null\n+++ " + b + "\n@@ -0,0 +1 @@\n+" + line + "\n" + end
}

// removes is the diff that deletes a file of mailed.
func removes(name string) string {
	d := "diff --git a/" + name + " b/" + name + "\ndeleted file mode 100644\nindex 1234567..0000000\n--- a/" + name + "\n+++ /dev/null\n@@ -1,8 +0,0 @@\n"
	return strings.ReplaceAll(d, "a//dev/null", "/dev/null") + "-" + strings.ReplaceAll(strings.TrimSuffix(lines, "\n"), "\n", "\n-") + "\n"
}

// A patch from the Internet is refused in one line, or does to the worktree what
// it says and nothing else: nothing outside, nothing of git's own, and nothing that
// the next series would see.
func TestHostilePatches(t *testing.T) {
	u, base, mbox := mailed(t)
	outside, home := t.TempDir(), t.TempDir()
	write(t, filepath.Join(outside, "file"), "mine\n")
	// What the user has set up for git, and a patch might wake.
	ran := "touch " + outside + "/ran;cat"
	write(t, filepath.Join(home, ".gitconfig"), "[filter \"evil\"]\n\tsmudge = "+ran+"\n\tclean = "+ran+"\n[diff \"evil\"]\n\ttextconv = "+ran+"\n\tcommand = "+ran+
		"\n[merge \"evil\"]\n\tdriver = "+ran+"\n[core]\n\thooksPath = "+home+"\n")
	for _, hook := range []string{"applypatch-msg", "pre-applypatch", "post-applypatch", "post-checkout"} {
		write(t, filepath.Join(home, hook), "#!/bin/sh\ntouch "+outside+"/ran\n")
		if err := os.Chmod(filepath.Join(home, hook), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", home)
	unchanged(t, outside)
	unchanged(t, home)
	unchanged(t, u.dir)
	r := u.open()
	w := r.Worktree(filepath.Join(t.TempDir(), "src"))
	want, err := w.ApplyMbox(t.Context(), base, mbox)
	if err != nil {
		t.Fatal(err)
	}
	checkout(t, w, base)
	clean, mirror := files(t, w.Dir()), own(t, r)

	const beyond = "beyond a symbolic link"
	link := adds("120000", "a", outside)
	for _, c := range []struct {
		name, mail string
		refused    string            // what the error says, "" for a patch that is applied
		files      map[string]string // some of what is there then
	}{
		{"above", evil("", adds("100644", "../x", "x")), "invalid path '../x'", nil},
		{"above from inside", evil("", adds("100644", "mm/../../x", "x")), "invalid path", nil},
		{"absolute", evil("", adds("100644", outside+"/x", "x")), "invalid path", nil},
		{"copied from outside", evil("", "diff --git a/../../etc/passwd b/x\nsimilarity index 100%\ncopy from ../../etc/passwd\ncopy to x\n"), "etc/passwd", nil},
		{".git", evil("", adds("100644", ".git", "x")), "invalid path '.git'", nil},
		{".git/config", evil("", adds("100644", ".git/config", "x")), "invalid path", nil},
		{".git of a directory", evil("", adds("100644", "mm/.git/hooks/x", "x")), "invalid path", nil},
		{"other case", evil("", adds("100644", ".GIT/config", "x")), "invalid path", nil},
		{"NTFS: short name", evil("", adds("100644", "git~1/config", "x")), "invalid path", nil},
		{"NTFS: blank and dot", evil("", adds("100644", ".git. /config", "x")), "invalid path", nil},
		{"NTFS: stream", evil("", adds("100644", ".git::$INDEX_ALLOCATION/config", "x")), "invalid path", nil},
		{"NTFS: backslash", evil("", adds("100644", `".git\\hooks\\x"`, "x")), "invalid path", nil},
		{"HFS: ignored character", evil("", adds("100644", `".g\342\200\214it/config"`, "x")), "", map[string]string{".g\u200cit/config": "x\n"}}, // another name on Linux
		{"a link, and through it", evil("", link+adds("100644", "a/file", "x")), beyond, nil},
		{"a link, then through it", evil("", link) + evil(second, adds("100644", "a/file", "x")), "patch 2", nil},
		{"a link that moves", evil("", link) + evil(second, "diff --git a/a b/b\nsimilarity index 100%\nrename from a\nrename to b\n"+adds("100644", "b/file", "x")), "patch 2", nil},
		{"a link to .git", evil("", adds("120000", "a", ".git")) + evil(second, adds("100644", "a/hooks/x", "x")), "patch 2", nil},
		{"a link for a directory", evil("", removes("mm/memory.c")+removes(`mm/other fäle.c`)+adds("120000", "mm", outside)), "", map[string]string{"mm": "-> " + outside}},
		{"a link for .gitmodules", evil("", adds("120000", ".gitmodules", outside)), "invalid path", nil},
		{"a submodule", evil("", "diff --git a/sub b/sub\nnew file mode 160000\nindex 0000000..1234567\n--- /dev/null\n+++ b/sub\n@@ -0,0 +1 @@\n+Subproject commit 1234567890123456789012345678901234567890\n"+
			adds("100644", ".gitmodules", `[submodule "s"] path = sub, url = --upload-pack=x, update = !x`)), "", map[string]string{"sub": "a directory"}},
		{"attributes", evil("", adds("100644", ".gitattributes", "* filter=evil diff=evil merge=evil ident text eol=crlf")) + evil(second, adds("100644", "n", "$Id$")), "", map[string]string{"n": "$Id$\n"}},
		{"another encoding", evil("", adds("100644", ".gitattributes", "n text working-tree-encoding=UTF-16")) + evil(second, adds("100644", "n", "x")), "", map[string]string{"n": "x\n"}},
		{"a merge driver", evil("", adds("100644", ".gitattributes", "* merge=evil")) + evil(second, strings.Replace(removes("mm/memory.c"), "-1\n", "-one\n", 1)), "patch 2", nil},
		{"ignores all", evil("", adds("100644", ".gitignore", "*")) + evil(second, adds("100644", "n", "x")), "", map[string]string{"n": "x\n"}},
		{"setuid", evil("", adds("104755", "n", "x")), "", map[string]string{"n": "x\n"}},
		{"a pipe", evil("", adds("010644", "n", "x")), "", map[string]string{"n": "x\n"}},
		{"binary", evil("", "diff --git a/n b/n\nnew file mode 100644\nindex 0000000000000000000000000000000000000000..f76dd238ade08917e6712764a16a22005a50573d\nGIT binary patch\nliteral 1\nIcmZPo000310RR91\n\nliteral 0\nHcmV?d00001\n\n"),
			"", map[string]string{"n": "\x00"}},
		{"binary, damaged", evil("", "diff --git a/n b/n\nnew file mode 100644\nindex 0000000..f76dd23\nGIT binary patch\nliteral 99999999999999\nIcmZPo00031\n\nliteral 0\nHcmV?d00001\n\n"), "corrupt binary patch", nil},
		{"more lines than there are", evil("", strings.Replace(adds("100644", "n", "x"), "+1 @@", "+1,4000000000 @@", 1)), "corrupt patch", nil},
		{"more than a number", evil("", strings.Replace(adds("100644", "n", "x"), "+1 @@", "+1,99999999999999999999999 @@", 1)), "corrupt patch", nil},
		{"NUL in a file", evil("", adds("100644", "n", "x\x00y")), "", map[string]string{"n": "x\x00y\n"}},
		{"NUL in a path", evil("", adds("100644", `"n\000/x"`, "x")), "", map[string]string{"n": "x\n"}},
		{"NUL in the subject", evil("Subject: [PATCH] =?UTF-8?Q?a=00b?=\n", adds("100644", "n", "x")), "NUL byte in 'Subject'", nil},
		{"NUL in the text", strings.Replace(evil("", adds("100644", "n", "x")), "why", "w\x00y", 1), "NUL byte in commit log message", nil},
		{"lines and escapes in a path", evil("", adds("100644", `"n\n\033[31mx"`, "x")), "", map[string]string{"n\n\x1b[31mx": "x\n"}},
		{"lines and escapes in a conflict", evil("", adds("100644", `"n\n\033[31mx"`, "x")) + evil(second, adds("100644", `"n\n\033[31mx"`, "y")), `in n \x1b[31mx`, nil},
		{"a long path", evil("", adds("100644", strings.Repeat(strings.Repeat("d", 200)+"/", 21)+"x", "x")), "cannot create directory", nil},
		{"a long name", evil("", adds("100644", strings.Repeat("d", 300), "x")), "cannot stat", nil},
		{"no author", evil("From: <>\n", adds("100644", "n", "x")), "empty ident", nil},
		{"an author of brackets", evil("From: < > << > a\n", adds("100644", "n", "x")), "disallowed characters", nil},
		{"a charset that is a path", evil("Content-Type: text/plain; charset=../../etc/passwd\nContent-Transfer-Encoding: 8bit\n", adds("100644", "n", "ä")), "cannot convert from", nil},
		{"a subject of a megabyte", evil("Subject: [PATCH] "+strings.Repeat("x", 1<<20)+"\n", adds("100644", "n", "x")), "no mail can be made out", nil},
		{"a large patch", evil("", strings.Replace(adds("100644", "n", strings.TrimSuffix(strings.Repeat("x\n+", 1<<20), "\n+")), "+1 @@", "+1,1048576 @@", 1)), "", map[string]string{"n": strings.Repeat("x\n", 1<<20)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "mbox")
			write(t, path, c.mail)
			commits, err := w.ApplyMbox(t.Context(), base, path)
			if c.refused != "" {
				oneLineFor(t, err, c.refused)
			} else if err != nil || len(commits) != strings.Count(c.mail, "\nSubject: ") {
				t.Errorf("%d commits, %v", len(commits), err)
			}
			if c.files != nil {
				there := seen(t, w.Dir())
				for name, text := range c.files {
					if there[name] != text {
						t.Errorf("%q is %.80q, want %.80q", name, there[name], text)
					}
				}
			}
			checkout(t, w, base)
			if d := cmp.Diff(clean, seen(t, w.Dir())); d != "" {
				t.Errorf("the next series finds (-want +got):\n%s", d)
			}
			if d := cmp.Diff(mirror, own(t, r)); d != "" {
				t.Errorf("the mirror was changed (-before +after):\n%s", d)
			}
		})
	}
	if got, err := w.ApplyMbox(t.Context(), base, mbox); err != nil || !cmp.Equal(got, want) {
		t.Errorf("the next series: %v, %v", got, err)
	}
}

// oneLineFor wants an error for the user that says so.
func oneLineFor(t *testing.T, err error, says string) {
	t.Helper()
	var ae *ApplyError
	var ue *UserError
	if !errors.As(err, &ae) && !errors.As(err, &ue) {
		t.Fatalf("%T: %v", err, err)
	}
	if s := err.Error(); !strings.Contains(s, says) || len(s) > 1000 || strings.ContainsAny(s, "\n\r\x00\x1b") {
		t.Errorf("no clear line with %q: %.1200q", says, s)
	}
}

// seen is what stands in a worktree besides git's own file: text, where a link
// leads to, an empty directory; and what may be run as somebody else.
func seen(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	walk(t, dir, func(name, path string, info fs.FileInfo) {
		switch {
		case name == ".git":
		case info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeNamedPipe|fs.ModeDevice|fs.ModeSocket) != 0:
			t.Errorf("%s is %s", name, info.Mode())
		case info.Mode().IsRegular():
			out[name] = read(t, path)
		case info.Mode()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(path)
			out[name] = "-> " + to
		default:
			if inside, _ := os.ReadDir(path); len(inside) == 0 {
				out[name] = "a directory"
			}
		}
	})
	return out
}

// own is what a patch must not reach of a mirror: settings, hooks, all that is no
// object and says not where a worktree or a series is.
func own(t *testing.T, r *Repo) map[string]string {
	t.Helper()
	out := map[string]string{}
	walk(t, r.mirror, func(name, path string, info fs.FileInfo) {
		top, _, _ := strings.Cut(name, "/")
		if info.Mode().IsRegular() && top != "objects" && top != "refs" && top != "worktrees" && top != "logs" {
			out[name] = read(t, path)
		}
	})
	return out
}

// A commit's attributes end with it: what it had git write in another way, and no
// later commit differs in, is what is committed there.
func TestAttributesEnd(t *testing.T) {
	u := newUser(t)
	script := "#!/bin/sh\n# $Id$\n"
	base := u.commit("base", "x.sh", script)
	other := strings.Replace(script, "sh\n", "sh -e\n", 1)
	evil := u.commit("attributes", ".gitattributes", "*.sh text eol=crlf ident\n", "x.sh", other)
	u.git("rm", "--quiet", ".gitattributes")
	next := u.commit("none", "y", "y\n")
	for _, kept := range []bool{false, true} {
		w := u.open().Worktree(filepath.Join(t.TempDir(), "src"))
		w.Kept = kept
		for _, sha := range []string{base, evil, next} {
			checkout(t, w, sha)
		}
		if got := read(t, filepath.Join(w.Dir(), "x.sh")); got != other {
			t.Errorf("kept %v: %q, want %q", kept, got, other)
		}
	}
}

// Commits of others may hold trees that no git add makes.
func TestHostileTrees(t *testing.T) {
	u, base, _ := mailed(t)
	outside := t.TempDir()
	write(t, filepath.Join(outside, "file"), "mine\n")
	unchanged(t, outside)
	write(t, filepath.Join(u.dir, "to"), outside)
	blob := u.git("hash-object", "-w", "to")
	tree := func(entries ...string) string { // mode, name, object
		var b strings.Builder
		for i := 0; i < len(entries); i += 3 {
			id, _ := hex.DecodeString(entries[i+2])
			b.WriteString(entries[i] + " " + entries[i+1] + "\x00" + string(id))
		}
		cmd := exec.Command("git", "hash-object", "-t", "tree", "-w", "--literally", "--stdin")
		cmd.Dir, cmd.Stdin = u.dir, strings.NewReader(b.String())
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	sub := tree("100644", "file", blob)
	r := u.open()
	w := r.Worktree(filepath.Join(t.TempDir(), "src"))
	w.Kept = true
	checkout(t, w, base)
	clean, mirror := files(t, w.Dir()), own(t, r)
	for _, c := range []struct {
		name, tree, refused string
	}{
		{".git", tree("40000", ".git", sub), "invalid path '.git/file'"},
		{"short name of .git", tree("40000", "git~1", sub), "invalid path"},
		{"..", tree("40000", "..", sub), "invalid path"},
		{".", tree("40000", ".", sub), "invalid path"},
		{"a slash", tree("100644", "../x", blob), "invalid path"},
		{"a link and a directory of one name", tree("120000", "a", blob, "40000", "a", sub), ""},
		{"a submodule", tree("160000", "a", base), ""},
		{"setuid", tree("106777", "a", blob), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := w.Checkout(t.Context(), u.git("commit-tree", "-m", "x", "-p", base, c.tree))
			if c.refused != "" {
				oneLineFor(t, err, c.refused)
				if bad := new(CheckoutError); !errors.As(err, &bad) || !strings.HasPrefix(bad.Unbuildable(), "cannot be checked out: error: invalid path") {
					t.Errorf("the commit is not to blame: %v", err)
				}
			} else if err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(w.Dir()); err == nil {
				seen(t, w.Dir())
			}
			checkout(t, w, base)
			if d := cmp.Diff(clean, seen(t, w.Dir())); d != "" {
				t.Errorf("the next commit finds (-want +got):\n%s", d)
			}
			if d := cmp.Diff(mirror, own(t, r)); d != "" {
				t.Errorf("the mirror was changed (-before +after):\n%s", d)
			}
		})
	}
}

// What is said of a commit comes back field by field, whatever is in it.
func TestHostileWords(t *testing.T) {
	const acts = "\x1b[31m\x07\u009b\u202e<script>@all #1 --> ]]> [x](http://y)"
	u := newUser(t)
	base := u.commit("base", "f", "1\n")
	for i, subject := range []string{acts, strings.Repeat("x", 100_000), "", "\xff\xfe", "--format=%H", " \t "} {
		sha := u.commit(subject, "f", fmt.Sprint(i))
		got, err := u.open().Range(t.Context(), base, sha)
		want := strings.TrimSpace(subject)
		if !utf8.ValidString(want) {
			want = "ÿþ" // git takes it for Latin 1
		}
		if err != nil || len(got) != i+1 || got[i].SHA != sha || got[i].Subject != want || got[i].Author != "Ann Author <ann@example.org>" {
			t.Errorf("%.80q: %.80q, %v", subject, got, err)
		}
	}
}

// More than a series can have is refused before git makes a file of each.
func TestTooMuchMail(t *testing.T) {
	r := newUser(t).open()
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	for _, c := range []struct {
		name, says string
		make       func(f *os.File) error
	}{
		{"mails", fmt.Sprintf("more than %d mails", patchmail.MaxMessages), func(f *os.File) error {
			_, err := f.WriteString(strings.Repeat("From a Mon Sep 17 00:00:00 2001\n\n", patchmail.MaxMessages+1))
			return err
		}},
		{"bytes", "more than 256 MiB", func(f *os.File) error { return f.Truncate(MaxMail + 1) }},
		{"bytes that were packed", "more than 256 MiB", func(f *os.File) error {
			z, _ := gzip.NewWriterLevel(f, gzip.BestSpeed)
			for range MaxMail>>20 + 1 {
				if _, err := z.Write(make([]byte, 1<<20)); err != nil {
					return err
				}
			}
			return z.Close()
		}},
	} {
		f, err := os.Create(filepath.Join(t.TempDir(), "mbox"))
		if err == nil {
			err = errors.Join(c.make(f), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Mail(t.Context(), f.Name(), "the mail")
		oneLineFor(t, err, c.says)
		if left, _ := os.ReadDir(temp); len(left) > 0 {
			t.Errorf("%s: left behind: %v", c.name, left)
		}
	}
}

// Fields stay apart, whatever is in them.
func FuzzParseLog(f *testing.F) {
	f.Add("1", "2", "3 4", "mm: x", "A <a@b>")
	f.Add("", "\n", "", "\x1b[31m", "\xff\x01")
	f.Fuzz(func(t *testing.T, sha, tree, parents, subject, author string) {
		in := []string{sha, tree, parents, subject, author, sha, tree, parents, subject, author}
		for i := range in {
			in[i] = strings.ReplaceAll(in[i], "\x00", "") // git's objects have none
		}
		out := strings.Join(in, "\x00") + "\x00"
		got, err := parseLog(out)
		if err != nil || len(got) != 2 || got[0].SHA != in[0] || got[1].Subject != in[3] || got[1].Author != in[4] || len(got[0].Parents) != len(strings.Fields(in[2])) {
			t.Errorf("%q: %q, %v", out, got, err)
		}
		if _, err := parseLog(sha + tree + parents); err == nil && strings.Count(sha+tree+parents, "\x00")%5 != 4 && sha+tree+parents != "" && !strings.HasSuffix(parents, "\x00") {
			t.Errorf("%q is taken for a log", sha+tree+parents)
		}
	})
}

// What git am says of a stranger's patch names files and subjects of it.
func FuzzAm(f *testing.F) {
	f.Add("Applying: mm: x\nNo changes -- Patch already applied.\n")
	f.Add("error: patch failed: mm/memory.c:2\nerror: mm/memory.c: patch does not apply\nPatch failed at 0001 mm: first\n")
	f.Add("error: sha1 information is lacking or useless (n\n\x1b).\nPatch failed at 99999999999999999999 \n")
	f.Fuzz(func(t *testing.T, said string) {
		for _, s := range alreadyThere(said) {
			if strings.Contains(s, "\n") || !strings.Contains(said, s) {
				t.Errorf("%q: there already: %q", said, s)
			}
		}
		if s := (&ApplyError{Subject: said, At: []string{said, said}, Merge: said}).Error(); len(s) > 8*mostSaid || strings.Contains(s, "\n") {
			t.Errorf("%d bytes of %d", len(s), len(said))
		}
		for _, m := range noPlace.FindAllStringSubmatch(said, -1) {
			if m[1] != "" && m[2] != "" {
				t.Errorf("%q: two files in one line: %q", said, m)
			}
		}
	})
}
