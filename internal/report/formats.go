package report

import "io"

// Format is a form that a result is written in. Text is none of them: it depends
// on the reader's terminal.
type Format struct {
	Name        string // as in --format
	ContentType string // as in HTTP
	Extension   string // of a file, with its dot
	Write       func(w io.Writer, result any) error
}

// Formats are the forms of a result besides text. Mail is that of a bisection
// alone.
func Formats() []Format {
	return []Format{
		{"json", "application/json", ".json", JSON},
		{"html", "text/html; charset=utf-8", ".html", HTML},
		{"markdown", "text/markdown; charset=utf-8", ".md", Markdown},
		{"junit", "application/xml", ".xml", JUnit},
		{"kcidb", "application/json", ".kcidb.json", KCIDB},
		{"mail", "text/plain; charset=utf-8", ".txt", Mail},
	}
}

// FormatNamed finds a format.
func FormatNamed(name string) (f Format, ok bool) {
	for _, f := range Formats() {
		if f.Name == name {
			return f, true
		}
	}
	return Format{}, false
}
