// Package artifact keeps what jobs leave for people: logs, kernels and their
// configurations, by the digest of their bytes and compressed, in a directory or
// an object store. It must not know which job left what.
package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// Kind is what an artifact is. It decides how it is shown and for how long it is
// kept, so that it is a part of its name.
type Kind string

// The kinds.
const (
	Log    Kind = "log"    // of a build
	Kernel Kind = "kernel" // bootable image
	Config Kind = "config" // of a kernel
)

// Kinds are all.
var Kinds = []Kind{Log, Kernel, Config}

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Valid says whether a kind and a digest may name an artifact.
func Valid(k Kind, digest string) bool {
	return slices.Contains(Kinds, k) && digestForm.MatchString(digest)
}

// Store is a bucket of artifacts.
type Store struct{ bucket *blob.Bucket }

// Close gives the bucket up.
func (s *Store) Close() error { return s.bucket.Close() }

// suffix says how objects are compressed.
const suffix = ".zst"

func name(k Kind, digest string) string {
	return string(k) + "/" + digest[:2] + "/" + digest + suffix
}

// parse is the kind and digest of an object, false for what is not ours.
func parse(object string) (Kind, string, bool) {
	parts := strings.Split(strings.TrimSuffix(object, suffix), "/")
	if len(parts) != 3 || !strings.HasSuffix(object, suffix) || !Valid(Kind(parts[0]), parts[2]) || parts[1] != parts[2][:2] {
		return "", "", false
	}
	return Kind(parts[0]), parts[2], true
}

// fresh is how old an object may be and is not written again. What is left again
// starts a new life: retention counts from the last time.
const fresh = 24 * time.Hour

// Put keeps data and returns its digest: sha256, in hexadecimal.
func (s *Store) Put(ctx context.Context, k Kind, data []byte) (string, error) {
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	if !Valid(k, digest) {
		return "", fmt.Errorf("artifacts: %q is no kind", k)
	}
	at := name(k, digest)
	if a, err := s.bucket.Attributes(ctx, at); err == nil && time.Since(a.ModTime) < fresh {
		return digest, nil
	}
	var packed bytes.Buffer
	z, err := zstd.NewWriter(&packed, zstd.WithEncoderConcurrency(1))
	if err == nil {
		_, err = z.Write(data)
	}
	if err == nil {
		err = z.Close()
	}
	if err == nil {
		err = s.bucket.WriteAll(ctx, at, packed.Bytes(), &blob.WriterOptions{ContentType: "application/zstd"})
	}
	if err != nil {
		return "", fmt.Errorf("keep %s %.12s: %w", k, digest, err)
	}
	return digest, nil
}

// Get opens an artifact; one that is not there is fs.ErrNotExist. Bytes that are
// not those of the digest end in an error.
func (s *Store) Get(ctx context.Context, k Kind, digest string) (io.ReadCloser, error) {
	if !Valid(k, digest) {
		return nil, fs.ErrNotExist
	}
	r, err := s.bucket.NewReader(ctx, name(k, digest), nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, fmt.Errorf("%s %.12s: %w", k, digest, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s %.12s: %w", k, digest, err)
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("read %s %.12s: %w", k, digest, err)
	}
	return &checked{z: z, under: r, hash: sha256.New(), want: digest}, nil
}

// checked compares what was read with its digest.
type checked struct {
	z     *zstd.Decoder
	under io.Closer
	hash  hash.Hash
	want  string
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.z.Read(p)
	c.hash.Write(p[:n])
	if errors.Is(err, io.EOF) && hex.EncodeToString(c.hash.Sum(nil)) != c.want {
		return n, fmt.Errorf("artifact %.12s is damaged", c.want)
	}
	return n, err
}

func (c *checked) Close() error {
	c.z.Close()
	return c.under.Close()
}

// Keep is for how long each kind is kept after it was last left; 0 is for ever.
type Keep map[Kind]time.Duration

// expired says whether an artifact's time is over.
func (k Keep) expired(kind Kind, left, now time.Time) bool {
	return k[kind] > 0 && now.Sub(left) > k[kind]
}

// Sweep deletes what has had its time, and returns how many that were and their
// bytes.
func (s *Store) Sweep(ctx context.Context, keep Keep, now time.Time) (n int, size int64, err error) {
	for i := s.bucket.List(nil); ; {
		o, err := i.Next(ctx)
		if errors.Is(err, io.EOF) {
			return n, size, nil
		}
		if err != nil {
			return n, size, fmt.Errorf("list artifacts: %w", err)
		}
		kind, _, ours := parse(o.Key)
		if !ours || !keep.expired(kind, o.ModTime, now) {
			continue
		}
		if err := s.bucket.Delete(ctx, o.Key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
			return n, size, fmt.Errorf("delete %s: %w", o.Key, err)
		}
		n, size = n+1, size+o.Size
	}
}
