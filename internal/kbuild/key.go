package kbuild

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Key is under which the cache keeps what Build or, clean, BuildClean makes of
// c. Of c only the tree counts.
func (b *Builder) Key(ctx context.Context, c kernel.Commit, clean bool) (string, error) {
	key, err := b.key(ctx, c)
	if err != nil || !clean {
		return key, err
	}
	return digestOf([]byte("clean " + key)), nil
}

// key is under which the cache keeps what Build makes of c.
func (b *Builder) key(ctx context.Context, c kernel.Commit) (string, error) {
	key, err := b.inputs(ctx, c)
	if err != nil || b.Apart == "" {
		return key, err
	}
	return digestOf([]byte("apart " + b.Apart + " " + key)), nil
}

// inputs identifies what a build depends on: the tree, the fragments that the
// configuration is composed of, the toolchain and our own settings. The final
// .config is a function of these, so it needs no checkout to know them.
func (b *Builder) inputs(ctx context.Context, c kernel.Commit) (string, error) {
	if b.toolchain == "" {
		d, err := toolchain(ctx, b.Sandbox)
		if err != nil {
			return "", err
		}
		b.toolchain = d
	}
	h := sha256.New()
	// v1 could be linked of what another commit's build had half written.
	fmt.Fprintf(h, "kbisect build v2\ntree %s\ntoolchain %s\n", c.Tree, b.toolchain)
	if b.Direct {
		fmt.Fprintln(h, "image vmlinux")
	}
	if b.Whole != nil {
		fmt.Fprintf(h, "whole %d\n%s\n", len(b.Whole), b.Whole)
	}
	for _, f := range b.Fragments {
		fmt.Fprintf(h, "fragment %s %d\n%s\n", f.Name, len(f.Text), f.Text)
	}
	fmt.Fprintln(h, strings.Join(reproducible, "\n"))
	return hex.EncodeToString(h.Sum(nil)), nil
}

// recipe is the inputs of no tree.
func (b *Builder) recipe(ctx context.Context) (string, error) {
	return b.inputs(ctx, kernel.Commit{})
}
