package api

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// ArtifactPath names an artifact.
type ArtifactPath struct {
	Kind   string `path:"kind" enum:"log,kernel,config" doc:"log of a build, kernel image, or its configuration"`
	Digest string `path:"digest" pattern:"^[0-9a-f]{64}$" doc:"sha256, as log_digest, kernel.digest and kernel.config_digest of a result have it"`
}

func (s *server) artifactRoutes() {
	op := streamed(operation("GET", "/artifacts/{kind}/{digest}", "get-artifact", "runs", "Read the log of a build, or fetch a kernel; ranges are served", Read, 404),
		"text/plain", "application/octet-stream")
	partial := *op.Responses["200"]
	partial.Description = http.StatusText(http.StatusPartialContent)
	op.Responses["206"] = &partial
	register(s, op, func(ctx context.Context, in *ArtifactPath) (*huma.StreamResponse, error) {
		data, err := s.Artifacts.Artifact(ctx, in.Kind, in.Digest)
		if err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(huma.Context) {
			x := exchangeOf(ctx)
			ServeArtifact(x.w, x.r, in.Kind, in.Digest, data)
		}}, nil
	})
}

// ServeArtifact answers with an artifact, as what no browser takes for a page.
func ServeArtifact(w http.ResponseWriter, r *http.Request, kind, digest string, data []byte) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	name := kind + "-" + digest[:12]
	if kind == "kernel" {
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Content-Disposition", `attachment; filename="kernel-`+digest[:12]+`"`)
	} else {
		h.Set("Content-Disposition", `inline; filename="`+name+`.txt"`)
	}
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "private, max-age=31536000, immutable")
	h.Set("ETag", `"`+digest+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}
