package gitrepo

import (
	"errors"
	"strings"
	"testing"
)

// A pull request's commits come from where it is published, on top of what the
// user's clone has, and the clone stays as it is.
func TestFetchRef(t *testing.T) {
	u := newUser(t)
	base := u.commit("base", "mm/memory.c", "int a;\n")
	r := u.open()
	there := newUser(t)
	there.git("fetch", "--quiet", u.dir, base)
	there.git("reset", "--quiet", "--hard", base)
	head := there.commit("change", "mm/memory.c", "int b;\n")
	there.git("update-ref", "refs/pull/7/head", head)
	from := Remote{URL: there.dir}
	for range 2 {
		got, err := r.FetchRef(t.Context(), from, "refs/pull/7/head")
		if err != nil || got != head {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if c, err := r.Resolve(t.Context(), head); err != nil || c.Subject != "change" {
		t.Errorf("%+v, %v", c, err)
	}
	if has, err := r.Has(t.Context(), head); !has || err != nil {
		t.Error(has, err)
	}
	if refs := u.git("for-each-ref"); strings.Contains(refs, "pull") {
		t.Errorf("the user's clone has %s", refs)
	}
	// Pushed anew, with other commits.
	there.git("reset", "--quiet", "--hard", base)
	other := there.commit("another", "mm/memory.c", "int c;\n")
	there.git("update-ref", "refs/pull/7/head", other)
	if got, err := r.FetchRef(t.Context(), from, "refs/pull/7/head"); err != nil || got != other {
		t.Errorf("%q, %v", got, err)
	}
	var ue *UserError
	for _, ref := range []string{"refs/pull/8/head", "--upload-pack=x", "refs/../x", ""} {
		if _, err := r.FetchRef(t.Context(), from, ref); !errors.As(err, &ue) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	if _, err := r.FetchRef(t.Context(), Remote{URL: "ext::sh -c 'touch /tmp/x'"}, "refs/pull/7/head"); err == nil {
		t.Error("a URL that is a command")
	}
}

// A hunk says in which function it is; a label at the start of a line is none.
func TestDiff(t *testing.T) {
	u := newUser(t)
	text := "static int wp_page_reuse(struct vm_fault *vmf)\n{\n\tint a = 1;\n\nout:\n\treturn a;\n}\n"
	u.commit("base", "mm/memory.c", text)
	sha := u.commit("break", "mm/memory.c", strings.Replace(text, "return a", "return 2", 1))
	r := u.open()
	c, err := r.Commit(t.Context(), sha)
	if err != nil {
		t.Fatal(err)
	}
	diff, err := r.Diff(t.Context(), c, 1<<20)
	if err != nil || !strings.Contains(string(diff), "\n@@ -6 +6 @@ static int wp_page_reuse(struct vm_fault *vmf)\n") {
		t.Errorf("%s, %v", diff, err)
	}
	if some, err := r.Diff(t.Context(), c, 40); err != nil || len(some) != 40 {
		t.Errorf("%d bytes, %v", len(some), err)
	}
	first, err := r.Commit(t.Context(), c.Parents[0])
	if err != nil {
		t.Fatal(err)
	}
	if diff, err := r.Diff(t.Context(), first, 1<<20); err != nil || !strings.Contains(string(diff), "+static int wp_page_reuse") {
		t.Errorf("a root commit: %s, %v", diff, err)
	}
}

func TestPatchID(t *testing.T) {
	u := newUser(t)
	base := u.commit("base", "a", "1\n2\n3\n")
	one := u.commit("one", "b", "x\n")
	u.git("reset", "--quiet", "--hard", base)
	u.commit("between", "c", "y\n")
	again := u.commit("one", "b", "x\n")
	other := u.commit("other", "b", "z\n")
	empty := u.commit("empty")
	r := u.open()
	ids := map[string]string{}
	for _, sha := range []string{one, again, other, empty} {
		c, err := r.Commit(t.Context(), sha)
		if err != nil {
			t.Fatal(err)
		}
		if ids[sha], err = r.PatchID(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if ids[one] == "" || ids[one] != ids[again] || ids[one] == ids[other] || ids[empty] != "" {
		t.Errorf("%q", ids)
	}
}
