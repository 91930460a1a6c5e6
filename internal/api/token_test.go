package api

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestMint(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		text, token, err := Mint("jane", []Scope{Submit}, noon)
		ok(t, err)
		id, secret, valid := splitToken(text)
		if !valid || id != token.ID || Hash(secret) != token.Hash || len(secret) != 52 || seen[secret] || seen[id] {
			t.Fatalf("%s %+v", text, token)
		}
		seen[secret], seen[id] = true, true
		if strings.Contains(fmt.Sprintf("%+v", token), secret) || bytes.Contains(token.Hash[:], []byte(secret[:8])) {
			t.Error("the secret is kept")
		}
	}
	for _, c := range []struct {
		name   string
		scopes []Scope
	}{{"", []Scope{Read}}, {"x", nil}, {"x", []Scope{"root"}}} {
		if _, _, err := Mint(c.name, c.scopes, noon); err == nil {
			t.Errorf("%+v was made", c)
		}
	}
}

func TestSplitToken(t *testing.T) {
	for _, bad := range []string{"", "kb_", "kb__", "kb_a", "kb_a_", "kb__b", "KB_a_b", "kb_a_b_c", "kb_a_b c", "kb_a/../b_c", "kb_a_b\n", "kb_A_b", "kb_a_" + strings.Repeat("b", 1000)} {
		if id, secret, valid := splitToken(bad); valid {
			t.Errorf("%q: %q %q", bad, id, secret)
		}
	}
}

func TestAuthenticate(t *testing.T) {
	w := newWorld()
	text, token, err := Mint("jane", []Scope{Read}, noon)
	ok(t, err)
	w.tokens[token.ID] = token
	for _, c := range []struct {
		at   time.Time
		want error
	}{{noon.Add(-time.Second), nil}, {noon, errNoToken}, {noon.Add(time.Hour), errNoToken}} {
		if _, err := authenticate(t.Context(), w, text, c.at); !errors.Is(err, c.want) {
			t.Errorf("%v: %v", c.at, err)
		}
	}
	other, _, err := Mint("joe", []Scope{Admin}, noon)
	ok(t, err)
	forged := tokenPrefix + token.ID + other[strings.LastIndexByte(other, '_'):]
	if _, err := authenticate(t.Context(), w, forged, noon.Add(-time.Second)); !errors.Is(err, errNoToken) {
		t.Errorf("a known token with another secret: %v", err)
	}
	// What is no token is not even looked for.
	w.lookups = 0
	if _, err := authenticate(t.Context(), w, "kb_'; drop table tokens_x", noon); !errors.Is(err, errNoToken) || w.lookups != 0 {
		t.Errorf("%v, %d lookups", err, w.lookups)
	}
}
