package artifact

import (
	"errors"
	"io/fs"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// The client of S3 against a server that speaks it.
func TestS3(t *testing.T) {
	b := s3mem.New()
	if err := b.CreateBucket("kb"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(gofakes3.New(b).Server())
	defer srv.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
	s := open(t, "s3://kb?region=us-east-1&use_path_style=true&endpoint="+srv.URL)
	d := put(t, s, Log, "hello")
	put(t, s, Log, "hello")
	if got, err := get(t, s, Log, d); got != "hello" || err != nil {
		t.Error(got, err)
	}
	if _, err := get(t, s, Kernel, d); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	n, _, err := s.Sweep(t.Context(), Keep{Log: time.Nanosecond}, time.Now().Add(time.Hour))
	if n != 1 || err != nil {
		t.Error(n, err)
	}
	if _, err := get(t, s, Log, d); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
