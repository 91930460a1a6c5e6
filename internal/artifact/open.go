package artifact

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/fileblob" // file://
	_ "gocloud.dev/blob/memblob"  // mem://, for tests
	_ "gocloud.dev/blob/s3blob"   // s3://, with the environment's credentials
)

// Open opens the bucket of a URL, s3://BUCKET?region=…&endpoint=… or the like as
// gocloud.dev/blob has it, or of a directory, which is made.
func Open(ctx context.Context, where string) (*Store, error) {
	address := where
	if filepath.IsAbs(where) {
		if err := os.MkdirAll(where, 0o755); err != nil {
			return nil, fmt.Errorf("artifacts: %w", err)
		}
		// Temporary files beside the objects, so that an object appears whole by a
		// rename; our own metadata is in the names.
		address = (&url.URL{Scheme: "file", Path: where, RawQuery: "no_tmp_dir=1&metadata=skip"}).String()
	}
	b, err := blob.OpenBucket(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("artifacts in %s: %w", where, err)
	}
	return &Store{b}, nil
}
