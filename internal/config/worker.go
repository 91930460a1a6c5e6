package config

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
)

// Worker is the configuration of `orchestrator worker`.
type Worker struct {
	// Server is the URL of the service's pages and API.
	Server string `yaml:"server"`
	// Queue is where the service gives out tasks: nats://HOST:PORT, or tls:// where
	// it has a certificate.
	Queue string `yaml:"queue"`
	// Name is which worker this is: the service has its secret's hash under it.
	Name string `yaml:"name"`
	// SecretFile holds the secret; without it $KBISECT_WORKER_SECRET does.
	SecretFile string `yaml:"secret_file"`
	// CA is a file of certificates to trust, PEM, besides the system's.
	CA string `yaml:"ca"`
	// Slots is how much to do at once, 1 by default.
	Slots int `yaml:"slots"`
	// Log is the form of the log: "json" or "text"; by default text on a terminal.
	Log string `yaml:"log"`
}

// ParseWorker reads a file of a name, as Parse does.
func ParseWorker(name, dir string, text []byte) (*Worker, error) {
	w := &Worker{Slots: 1}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s: more than %d bytes", name, maxFile)
	}
	err := decode(text, w)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New(name + ": " + placed(err))
	}
	for _, file := range []*string{&w.SecretFile, &w.CA} {
		if *file != "" && !filepath.IsAbs(*file) {
			*file = filepath.Join(dir, *file)
		}
	}
	if err := w.check(); err != nil {
		return nil, fmt.Errorf("%s: %w%s", name, err, lineOf(text, err))
	}
	return w, nil
}

func (w *Worker) check() error {
	server, serr := url.Parse(w.Server)
	queue, qerr := url.Parse(w.Queue)
	switch {
	case serr != nil || server.Host == "" || server.Scheme != "http" && server.Scheme != "https":
		return &keyError{"$.server", fmt.Sprintf("%q is no URL such as https://kbisect.example.org", w.Server)}
	case qerr != nil || queue.Port() == "" || queue.Scheme != "nats" && queue.Scheme != "tls":
		return &keyError{"$.queue", fmt.Sprintf("%q is no address such as tls://kbisect.example.org:4222", w.Queue)}
	case !WorkerName(w.Name):
		return &keyError{"$.name", fmt.Sprintf("%q is no name: letters, digits, _ and -, and not %s", w.Name, LocalWorker)}
	case w.Slots < 1 || w.Slots > maxSlots:
		return &keyError{"$.slots", fmt.Sprintf("%d: 1 to %d", w.Slots, maxSlots)}
	case w.Log != "" && w.Log != "json" && w.Log != "text":
		return &keyError{"$.log", fmt.Sprintf("%q: json or text", w.Log)}
	}
	return nil
}
