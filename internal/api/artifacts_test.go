package api

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// What a stranger's patch made the compiler print is no page of ours.
func TestArtifacts(t *testing.T) {
	w := newWorld()
	h := New(w.options())
	token := w.mint(t, Read)
	log := "/api/v1/artifacts/log/" + strings.Repeat("ab", 32)
	for path, want := range map[string]int{
		log:                                      200,
		strings.Replace(log, "log", "kernel", 1): 404,
		strings.Replace(log, "log", "page", 1):   422,
		"/api/v1/artifacts/log/..%2f..%2fetc":    422,
	} {
		if got := ask(t, h, "GET", path, token, ""); got.Code != want {
			t.Errorf("%s: %d, want %d: %s", path, got.Code, want, got.Body)
		}
	}
	got := ask(t, h, "GET", log, token, "", "Range", "bytes=5-6")
	if got.Code != 206 || got.Body.String() != "mm" {
		t.Errorf("%d %q", got.Code, got.Body)
	}
	for k, want := range map[string]string{
		"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "default-src 'none'; sandbox", "ETag": `"` + strings.Repeat("ab", 32) + `"`,
	} {
		if v := got.Header().Get(k); v != want {
			t.Errorf("%s: %s", k, v)
		}
	}
	if again := ask(t, h, "GET", log, token, "", "If-None-Match", got.Header().Get("ETag")); again.Code != 304 {
		t.Error(again.Code)
	}
	kernel := httptest.NewRecorder()
	ServeArtifact(kernel, httptest.NewRequest("GET", "/", nil), "kernel", strings.Repeat("ab", 32), []byte("MZ"))
	if v := kernel.Header().Get("Content-Disposition"); v != `attachment; filename="kernel-abababababab"` {
		t.Error(v)
	}
}
