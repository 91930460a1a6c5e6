package patchmail

import (
	"slices"
	"strings"
	"testing"
)

func TestFiles(t *testing.T) {
	const change = "diff --git a/mm/x.c b/mm/x.c\nindex 1234567..89abcde 100644\n--- a/mm/x.c\n+++ b/mm/x.c\n@@ -1,2 +1,2 @@ int f(void)\n x\n-y\n+z\n"
	for _, c := range []struct{ name, body, want string }{
		{"none", "hello\n", ""},
		{"a change", "why\n---\n mm/x.c | 2 +-\n\n" + change + "-- \n2.39\n", "mm/x.c mm/x.c 1234567"},
		{"two", change + strings.ReplaceAll(change, "x.c", "y.c"), "mm/x.c mm/x.c 1234567, mm/y.c mm/y.c 1234567"},
		{"a new file", "diff --git a/new b/new\nnew file mode 100644\nindex 000000000000..89abcde\n--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+x\n", " new "},
		{"a file that goes", "diff --git a/old b/old\ndeleted file mode 100644\nindex 1234567..0000000\n--- a/old\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n", "old  1234567"},
		{"an empty new file", "diff --git a/new b/new\nnew file mode 100644\nindex 0000000..e69de29\n", " new "},
		{"a rename", "diff --git a/a/x b/b/y\nsimilarity index 90%\nrename from a/x\nrename to b/y\nindex 1234567..89abcde 100644\n--- a/a/x\n+++ b/b/y\n@@ -1 +1 @@\n-x\n+y\n", "a/x b/y 1234567"},
		{"a whole rename", "diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to y\n", "x y "},
		{"a copy", "diff --git a/x b/y\nsimilarity index 100%\ncopy from x\ncopy to y\n", "x y "},
		{"a mode", "diff --git a/x.sh b/x.sh\nold mode 100644\nnew mode 100755\n", "x.sh x.sh "},
		{"a binary", "diff --git a/x.bin b/x.bin\nindex 1234567..89abcde 100644\nGIT binary patch\nliteral 1\nIcmZPo000310RR91\n\nliteral 0\nHcmV?d00001\n\n", "x.bin x.bin 1234567"},
		{"blanks", "diff --git a/a b c b/a b c\nindex 1234567..89abcde 100644\n--- a/a b c\t\n+++ b/a b c\t\n@@ -1 +1 @@\n-x\n+y\n", "a b c a b c 1234567"},
		{"odd characters", `diff --git "a/f\303\244\n" "b/f\303\244\n"` + "\nindex 1234567..89abcde\n", "fä\n fä\n 1234567"},
		{"lines that look like a header", "diff --git a/x b/x\nindex 1234567..89abcde\n--- a/x\n+++ b/x\n@@ -1,3 +1,2 @@\n--- a/y\n+++ b/y\n--- a/z\n\n\\ No newline at end of file\n", "x x 1234567"},
		{"CRLF", strings.ReplaceAll(change, "\n", "\r\n"), "mm/x.c mm/x.c 1234567"},
		{"not git's", "Index: x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-x\n+y\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, f := range (Patch{Raw: mailOf("1", "[PATCH] x", c.body)}).Files() {
				got = append(got, f.Old+" "+f.New+" "+f.Blob)
			}
			if s := strings.Join(got, ", "); s != c.want {
				t.Errorf("%q, want %q", s, c.want)
			}
		})
	}
	packed := mailOf("1", "[PATCH] x", encoded("Grüße\n"+change), "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: quoted-printable")
	if got := (Patch{Raw: packed}).Files(); !slices.Equal(got, []File{{"mm/x.c", "mm/x.c", "1234567"}}) {
		t.Errorf("encoded: %q", got)
	}
}

// Whatever a patch says, what is found stands in it.
func FuzzFiles(f *testing.F) {
	f.Add("diff --git a/x b/x\nindex 1234567..89abcde 100644\n--- a/x\n+++ b/x\n@@ -1,2 +1 @@\n x\n-y\n")
	f.Add("diff --git \"a/\\303\" \"b/\\303\"\nnew file mode 100644\nrename from x\nrename to \"\n@@ -99999999999999999999 +1 @@\n")
	f.Add("diff --git \n--- \n+++ \n@@ -1,9223372036854775807 +1 @@\ndiff --git a/x b/x")
	f.Fuzz(func(t *testing.T, body string) {
		p := Patch{Raw: []byte("Subject: x\n\n" + body)}
		text := string(p.Text())
		for _, file := range p.Files() {
			if file.Blob != "" && !strings.Contains(text, "index "+file.Blob) {
				t.Errorf("%+v", file)
			}
		}
		if n := len(p.Files()); n > strings.Count(text, "diff --git ") {
			t.Errorf("%d files", n)
		}
	})
}
