package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/report"
)

// static/htmx.min.js is dist/htmx.min.js of htmx.org 2.0.11 from npm, as it is
// there; its licence (0BSD) stands beside it.
//
//go:embed templates static
var files embed.FS

// page is what a template shows.
type page struct {
	name string // file of its template
	part string // what of it to write; "" is the whole page

	Title    string
	Nav      string // the entry of the navigation it belongs to
	Status   int    // 0 is 200
	Events   string // address of the events that make it look again, "" for none
	ReadOnly bool
	Path     string
	Data     any
}

// pages are the templates by file, each with the frame and the parts that
// several have.
var pages = func() map[string]*template.Template {
	frame := template.Must(template.New("frame.html").Funcs(words).ParseFS(files, "templates/frame.html", "templates/parts.html"))
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		panic(err)
	}
	all := map[string]*template.Template{}
	for _, n := range names {
		all[path.Base(n)] = template.Must(template.Must(frame.Clone()).ParseFS(files, n))
	}
	return all
}()

func (p *page) write(w io.Writer) error {
	if p.Status == http.StatusNoContent {
		return nil
	}
	part := p.part
	if part == "" {
		part = "frame.html"
	}
	return pages[p.name].ExecuteTemplate(w, part, p)
}

// statics are the files of /static/, by name.
var statics = func() map[string][]byte {
	all := map[string][]byte{}
	names, err := fs.Glob(files, "static/*")
	if err != nil {
		panic(err)
	}
	for _, n := range names {
		if all[path.Base(n)], err = files.ReadFile(n); err != nil {
			panic(err)
		}
	}
	all["style.css"] = append([]byte(report.Style()), all["style.css"]...)
	return all
}()

// version is a digest of what the pages load, so that browsers may keep it.
var version = func() string {
	h := sha256.New()
	for _, n := range []string{"style.css", "live.js", "htmx.min.js", "icon.svg"} {
		h.Write(statics[n])
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}()

var types = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8",
}

func (s *server) static(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	b, ok := statics[name]
	if !ok {
		s.show(w, r, nil, ErrNotFound)
		return
	}
	w.Header().Set("Content-Type", types[path.Ext(name)])
	w.Header().Set("Cache-Control", "no-cache")
	if strings.HasPrefix(r.URL.RawQuery, "v="+version) {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	_, _ = w.Write(b)
}
