package gitrepo

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"crypto/sha1" //nolint:gosec // git's
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bundle packs revisions of the user's repository.
func (u *user) bundle(revs ...string) string {
	u.t.Helper()
	path := filepath.Join(u.t.TempDir(), "x.bundle")
	u.git(append([]string{"bundle", "create", "--quiet", path}, revs...)...)
	return path
}

// A bundle comes into the mirror of somebody who has what it stands on, and their
// repository stays as it is.
func TestUnbundle(t *testing.T) {
	u, base, _ := mailed(t)
	u.git("tag", "-a", "-m", "x", "v2", "series~1")
	one, several, whole := u.bundle(base+"..series"), u.bundle(base+"..series", "v2"), u.bundle("series")
	want, tagged := u.git("rev-parse", "series"), u.git("rev-parse", "series~1")
	u.git("tag", "--delete", "v2")
	u.git("branch", "-D", "series")
	u.git("reflog", "expire", "--expire=now", "--all")
	u.git("prune", "--expire=now")
	unchanged(t, u.dir)
	r := u.open()
	if ok, _ := r.Has(t.Context(), want); ok {
		t.Fatal("the user has it already")
	}
	b, err := r.Unbundle(t.Context(), one)
	if err != nil || b.Base != base || len(b.Refs) != 1 || b.Refs[0] != (Ref{"refs/heads/series", want}) {
		t.Fatalf("%+v, %v", b, err)
	}
	cs, err := r.Range(t.Context(), b.Base, want)
	if err != nil || len(cs) != 2 || cs[0].SHA != tagged {
		t.Errorf("%v, %v", cs, err)
	}
	if _, err := r.git(t.Context(), r.mirror, "prune", "--expire=now"); err != nil {
		t.Fatal(err)
	}
	if ok, _ := r.Has(t.Context(), want); !ok {
		t.Error("it was pruned")
	}
	if b, err := r.Unbundle(t.Context(), several); err != nil || b.Base != base || len(b.Refs) != 2 {
		t.Errorf("two refs: %+v, %v", b, err)
	}
	if b, err := u.open().Unbundle(t.Context(), whole); err != nil || b.Base != "" || len(b.Needs) != 0 {
		t.Errorf("all of a history: %+v, %v", b, err)
	}
}

func TestBundleFind(t *testing.T) {
	a, b := strings.Repeat("a", 40), strings.Repeat("b", 40)
	two := Bundle{Refs: []Ref{{"refs/heads/main", a}, {"refs/tags/v1", b}}}
	for _, c := range []struct {
		b          Bundle
		name, want string
	}{
		{two, "main", a}, {two, "v1", b}, {two, "refs/heads/main", a}, {two, "heads/main", a},
		{two, "", "it has several refs, say which with BASE..HEAD: refs/heads/main, refs/tags/v1"},
		{two, "v2", "it has no v2; there are refs/heads/main, refs/tags/v1"},
		{Bundle{Refs: []Ref{{"HEAD", a}, {"refs/heads/main", a}}}, "", a},
	} {
		got, err := c.b.Find(c.name)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q: %s, want %s", c.name, got, c.want)
		}
	}
}

// object writes one as it is, without git's checks.
func (u *user) object(kind, content string) string {
	u.t.Helper()
	path := filepath.Join(u.t.TempDir(), "object")
	write(u.t, path, content)
	return u.git("hash-object", "-w", "--literally", "-t", kind, path)
}

// tree makes a tree that has ten names for an object.
func (u *user) tree(mode, id string) string {
	u.t.Helper()
	var s strings.Builder
	for i := range 10 {
		fmt.Fprintf(&s, "%s %d\x00%s", mode, i, unhex(u.t, id))
	}
	return u.object("tree", s.String())
}

func unhex(t *testing.T, id string) string {
	t.Helper()
	b, err := hex.DecodeString(id)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// pack is a pack of objects as git has it, each given by its type and size, what
// stands before its content, and its content.
func pack(objects ...[]byte) []byte {
	var b bytes.Buffer
	b.WriteString("PACK")
	_ = binary.Write(&b, binary.BigEndian, []uint32{2, uint32(len(objects))})
	for _, o := range objects {
		b.Write(o)
	}
	sum := sha1.Sum(b.Bytes()) //nolint:gosec // git's
	return append(b.Bytes(), sum[:]...)
}

func packed(kind byte, before string, content []byte) []byte {
	size := len(content)
	head := []byte{kind<<4 | byte(size&15)}
	for size >>= 4; size > 0; size >>= 7 {
		head[len(head)-1] |= 0x80
		head = append(head, byte(size&0x7f))
	}
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	_, _ = w.Write(content)
	_ = w.Close()
	return append(append(head, before...), z.Bytes()...)
}

func TestUnbundleRefuses(t *testing.T) {
	u, base, _ := mailed(t)
	good := read(t, u.bundle(base+"..series"))
	header := fmt.Sprintf("# v2 git bundle\n-%s base\n%s refs/heads/x\n\n", base, base)
	// A commit with what git's own commands do not make.
	u.git("checkout", "--quiet", "series")
	evil := func(mode string) string {
		blob := strings.Fields(u.git("ls-tree", "series", "new"))[2]
		tree := u.object("tree", mode+" .git\x00"+unhex(t, blob))
		return u.git("commit-tree", "-p", base, "-m", "x", tree)
	}
	bomb := u.tree("100644", strings.Fields(u.git("ls-tree", "series", "new"))[2])
	for range 4 { // a hundred thousand files
		bomb = u.tree("40000", bomb)
	}
	long := base // three commits with all of them, and two without
	for i := range 5 {
		long = u.git("commit-tree", "-p", long, "-m", "x", []string{bomb, base + "^{tree}"}[i%2])
	}
	for range 2 { // ten million files
		bomb = u.tree("40000", bomb)
	}
	zeros := u.object("blob", string(make([]byte, 5<<20)))
	ref := func(sha string) string {
		u.git("update-ref", "refs/heads/ref", sha)
		return read(t, u.bundle(base+"..ref"))
	}
	gone := u.commit("not here", "a", "b")
	u.commit("on top", "a", "c")
	orphan := strings.ReplaceAll(read(t, u.bundle(gone+"..series")), gone, strings.Repeat("ab", 20))
	fat := u.tree("100644", zeros)
	for range 2 { // a thousand files of 5 MiB
		fat = u.tree("40000", fat)
	}
	small := packed(3, "", []byte("x"))
	for _, c := range []struct{ name, text, says string }{
		{"empty", "", "no git bundle"},
		{"mail", "From x\n", "no git bundle"},
		{"half a header", header[:60], "ends in its header"},
		{"a line without end", "# v2 git bundle\n" + strings.Repeat("x", 1<<20), "ends in its header, or has a very long line there"},
		{"no ref", "# v2 git bundle\n-" + base + " base\n\n", "without a ref"},
		{"too many refs", "# v2 git bundle\n" + strings.Repeat(base+" refs/heads/x\n", maxNames+1), "more than 1000 names"},
		{"another hash", "# v3 git bundle\n@object-format=sha256\n" + header[16:], `of a kind that is not taken: "@object-format=sha256"`},
		{"not all objects", "# v3 git bundle\n@filter=blob:none\n" + header[16:], `of a kind that is not taken: "@filter=blob:none"`},
		{"an option for a name", "# v2 git bundle\n" + base + " --upload-pack=touch\n\n", "of a kind that is not taken"},
		{"no pack", header, "git does not take it: "},
		{"half a pack", good[:len(good)-30], "git does not take it: "},
		{"a damaged pack", good[:len(good)-40] + strings.Repeat("x", 40), "git does not take it: "},
		{"an older world", orphan, "it stands on commit " + strings.Repeat("ab", 20) + ", which the repository lacks: fetch that first"},
		{"a ref that is a blob", "# v2 git bundle\n" + u.git("rev-parse", base+":mm/memory.c") + " refs/heads/x\n\n" + good[strings.Index(good, "PACK"):], "refs/heads/x is no commit"},
		{"a ref that is not there", "# v2 git bundle\n" + strings.Repeat("ab", 20) + " refs/heads/x\n\n" + good[strings.Index(good, "PACK"):], "refs/heads/x is no commit"},
		{"a file .git", ref(evil("100644")), "hasDotgit"},
		{"a bomb of names", ref(u.git("commit-tree", "-p", base, "-m", "x", bomb)), "one of its commits changes far more than 200000 files"},
		{"more than a series", ref(long), "its commits change more than 200000 files: clone it"},
		{"a bomb of bytes", ref(u.git("commit-tree", "-p", base, "-m", "x", fat)), "its commits write more than 4 GiB"},
		{"a delta that is too large for memory", header + string(pack(small, packed(6, string(rune(len(small))), []byte{1, 0x80, 0x80, 0x80, 0x80, 0x08, 0x90, 1}))), "over limit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := u.open()
			path := filepath.Join(t.TempDir(), "x.bundle")
			write(t, path, c.text)
			_, err := r.Unbundle(t.Context(), path)
			var ue *UserError
			if !errors.As(err, &ue) || !strings.HasPrefix(err.Error(), path+": ") || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want a UserError of one line that says %q", err, c.says)
			}
			if left, _ := filepath.Glob(filepath.Join(r.mirror, "objects/pack/tmp_*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
	r := u.open()
	for path, says := range map[string]string{"no/such": "no such file", t.TempDir(): "not a file"} {
		var ue *UserError
		if _, err := r.Unbundle(t.Context(), path); !errors.As(err, &ue) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", path, err, says)
		}
	}
	large := filepath.Join(t.TempDir(), "large")
	write(t, large, header)
	if err := os.Truncate(large, maxBundle+1); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Unbundle(t.Context(), large); err == nil || !strings.Contains(err.Error(), "more than 256 MiB") {
		t.Errorf("large: %v", err)
	}
}

// Whatever is in a bundle's header, there are refs or a line that says why not.
func FuzzParseBundle(f *testing.F) {
	sha := strings.Repeat("ab", 20)
	f.Add([]byte("# v2 git bundle\n-" + sha + " x\n" + sha + " refs/heads/x\n\nPACK"))
	f.Add([]byte("# v3 git bundle\n@object-format=sha1\n" + sha + " HEAD\n\n"))
	f.Add([]byte("# v2 git bundle\n-" + sha + "\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := parseBundle(bufio.NewReader(bytes.NewReader(text)))
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x1b\x00") || len(err.Error()) > 500 {
				t.Errorf("%q", err)
			}
			return
		}
		if len(b.Refs) == 0 {
			t.Error("no refs")
		}
		for _, ref := range b.Refs {
			if !objectID.MatchString(ref.SHA) || strings.HasPrefix(ref.Name, "-") {
				t.Errorf("%q", ref)
			}
		}
	})
}
