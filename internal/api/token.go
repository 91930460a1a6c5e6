package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Scope is what a token allows.
type Scope string

// The scopes. A token of Submit may read as well, one of Admin may do all.
const (
	Read   Scope = "read"
	Submit Scope = "submit"
	Admin  Scope = "admin"
)

// Token is what is kept of a token. The secret itself is not.
type Token struct {
	ID      string
	Name    string            // whose it is: the owner of the jobs submitted with it
	Hash    [sha256.Size]byte // of the secret
	Scopes  []Scope
	Expires time.Time // zero is never
}

// Tokens are the known tokens. One that is not known is *NotFound.
type Tokens interface {
	ByID(ctx context.Context, id string) (Token, error)
}

// Allows says whether the token has a scope.
func (t Token) Allows(s Scope) bool {
	switch {
	case slices.Contains(t.Scopes, Admin), slices.Contains(t.Scopes, s):
		return true
	default:
		return s == Read && slices.Contains(t.Scopes, Submit)
	}
}

// tokenPrefix lets scanners for leaked secrets know what they see.
const tokenPrefix = "kb_"

// letters of a token: no case, no padding, nothing that a shell or URL treats.
var letters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Mint makes a token. text is what its owner uses, kb_<id>_<secret>, shown once
// and kept nowhere.
func Mint(name string, scopes []Scope, expires time.Time) (text string, t Token, err error) {
	if name == "" || len(scopes) == 0 {
		return "", t, errors.New("a token needs a name and a scope")
	}
	for _, s := range scopes {
		if s != Read && s != Submit && s != Admin {
			return "", t, fmt.Errorf("no scope %q: use read, submit or admin", s)
		}
	}
	var id [5]byte
	var secret [32]byte
	_, _ = rand.Read(id[:]) // never fails
	_, _ = rand.Read(secret[:])
	t = Token{ID: letters.EncodeToString(id[:]), Name: name, Scopes: scopes, Expires: expires}
	s := letters.EncodeToString(secret[:])
	t.Hash = Hash(s)
	return tokenPrefix + t.ID + "_" + s, t, nil
}

// Hash of a secret, as it is stored. A secret has 256 random bits: there is
// nothing that a slow hash would protect.
func Hash(secret string) [sha256.Size]byte { return sha256.Sum256([]byte(secret)) }

// splitToken takes kb_<id>_<secret> apart.
func splitToken(text string) (id, secret string, ok bool) {
	text, ok = strings.CutPrefix(text, tokenPrefix)
	if !ok || len(text) > 100 {
		return "", "", false
	}
	id, secret, ok = strings.Cut(text, "_")
	isLetters := func(s string) bool {
		return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == ""
	}
	return id, secret, ok && isLetters(id) && isLetters(secret)
}

var errNoToken = errors.New("the token is not known, or has expired")

// authenticate finds the token of a text, errNoToken for one that is not valid.
func authenticate(ctx context.Context, tokens Tokens, text string, now time.Time) (Token, error) {
	id, secret, ok := splitToken(text)
	if !ok {
		return Token{}, errNoToken
	}
	t, err := tokens.ByID(ctx, id)
	var none *NotFound
	if errors.As(err, &none) {
		return Token{}, errNoToken
	}
	if err != nil {
		return Token{}, err
	}
	got := Hash(secret)
	if subtle.ConstantTimeCompare(got[:], t.Hash[:]) != 1 || !t.Expires.IsZero() && !now.Before(t.Expires) {
		return Token{}, errNoToken
	}
	return t, nil
}
