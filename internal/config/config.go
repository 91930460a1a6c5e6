// Package config reads the configuration files of `orchestrator serve` and
// `orchestrator worker`. What is in them is checked whole before anything starts.
// It must not know what is done with a setting.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// Config is the whole file. The zero value of a key is its default, which
// Parse fills in.
type Config struct {
	// Listen is the address of pages and API, HOST:PORT.
	Listen string `yaml:"listen"`
	// URL is how others reach the service, for links in what it sends out; by
	// default http://LISTEN.
	URL string `yaml:"url"`
	// Admin is the address of pprof, HOST:PORT; none without it.
	Admin string `yaml:"admin"`
	// Repos are the repositories that jobs may name: name -> directory.
	Repos map[string]string `yaml:"repos"`
	// Slots is how much this machine does at once, each with builds or guests of a
	// job: 2 by default, and with 0 all is left to workers on other machines.
	Slots *int `yaml:"slots"`
	// Artifacts is where logs and kernels are kept, and for how long.
	Artifacts Artifacts `yaml:"artifacts"`
	// Workers lets other machines carry jobs out.
	Workers Workers `yaml:"workers"`
	// Open says what people may do without a token: "nothing", "read" or "all".
	// By default all on a loopback address and read on any other.
	Open string `yaml:"open"`
	// Tokens let people do what Open does not, through the API. Only their
	// hashes are here.
	Tokens []Token `yaml:"tokens"`
	// GitHub lets pull requests be tested.
	GitHub *GitHub `yaml:"github"`
	// Log is the form of the log: "json" or "text"; by default text on a terminal.
	Log string `yaml:"log"`
}

// Artifacts is the store of what jobs leave for people.
type Artifacts struct {
	// URL is a directory, or s3://BUCKET?region=…; by default a directory beside
	// the record.
	URL string `yaml:"url"`
	// Logs and Kernels are for how many days logs of builds, and kernels with
	// their configurations, are kept: 90 and 14 by default, 0 is for ever.
	Logs    *int `yaml:"keep_logs"`
	Kernels *int `yaml:"keep_kernels"`
}

// Workers is how workers on other machines come in. They reach pages and API's
// address, too, for sources and kernels.
type Workers struct {
	// Listen is where they take tasks, HOST:PORT; none come without it.
	Listen string `yaml:"listen"`
	// Cert and Key are files of a certificate for Listen, PEM. Without them
	// everything goes in clear.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// Secrets are the hashes of their secrets by their names, as `orchestrator
	// token --worker` prints them: sha256: and 64 hexadecimal digits.
	Secrets map[string]string `yaml:"secrets"`
}

// Token is one entry, as `orchestrator token` prints it.
type Token struct {
	ID      string   `yaml:"id"`
	Name    string   `yaml:"name"`    // whose it is: the owner of the jobs submitted with it
	Hash    string   `yaml:"hash"`    // of the secret: sha256: and 64 hexadecimal digits
	Scopes  []string `yaml:"scopes"`  // read, submit, admin
	Expires Date     `yaml:"expires"` // zero is never
}

// Date is a day, YYYY-MM-DD, or a point in time as of RFC 3339.
type Date time.Time

// decode is strict.
func decode(text []byte, into any) (err error) {
	defer func() {
		if recover() != nil { // go-yaml 1.19.2 on a tag without a value, "a: !b]"
			err = errors.New("no YAML")
		}
	}()
	return yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(into)
}

// UnmarshalYAML implements yaml.BytesUnmarshaler.
func (d *Date) UnmarshalYAML(text []byte) error {
	s := strings.Trim(strings.TrimSpace(string(text)), `"'`)
	for _, form := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(form, s); err == nil {
			*d = Date(t)
			return nil
		}
	}
	return fmt.Errorf("%q is no date such as 2027-01-31", s)
}

// What Open may say.
const (
	OpenNothing = "nothing"
	OpenRead    = "read"
	OpenAll     = "all"
)

// LocalWorker is the worker inside the service.
const LocalWorker = "local"

// DefaultListen is where a service without configuration is: on this machine
// only.
const DefaultListen = "127.0.0.1:8080"

// maxFile bounds the file, maxSlots the jobs at once: more would wait for the
// same processors.
const (
	maxFile  = 256 << 10
	maxSlots = 256
)

// Parse reads a file of a name. Directories that are not absolute are below
// dir. A listen that is not "" takes the place of the file's, before what
// follows from it is filled in. An error is for its user: the line first, and the place in the file with
// a caret under it where the file itself is the matter.
func Parse(name, dir string, text []byte, listen string) (*Config, error) {
	c := &Config{}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s: more than %d bytes", name, maxFile)
	}
	err := decode(text, c)
	if err != nil && !errors.Is(err, io.EOF) { // a file of comments is one
		return nil, errors.New(name + ": " + placed(err))
	}
	if u := c.Artifacts.URL; u != "" && !strings.Contains(u, "://") && !filepath.IsAbs(u) {
		c.Artifacts.URL = filepath.Join(dir, u)
	}
	for _, file := range []*string{&c.Workers.Cert, &c.Workers.Key} {
		if *file != "" && !filepath.IsAbs(*file) {
			*file = filepath.Join(dir, *file)
		}
	}
	if g := c.GitHub; g != nil {
		for _, file := range []*string{&g.TokenFile, &g.App.KeyFile, &g.Webhook.SecretFile} {
			if *file != "" && !filepath.IsAbs(*file) {
				*file = filepath.Join(dir, *file)
			}
		}
	}
	for repo, path := range c.Repos {
		if path != "" && !filepath.IsAbs(path) {
			c.Repos[repo] = filepath.Join(dir, path)
		}
	}
	if listen != "" {
		c.Listen, c.URL = listen, ""
	}
	if err := c.Complete(); err != nil {
		return nil, fmt.Errorf("%s: %w%s", name, err, lineOf(text, err))
	}
	return c, nil
}

// position is how the library says where: [line:column].
var position = regexp.MustCompile(`^\[(\d+):\d+\] `)

// placed is the library's error with the excerpt and the caret that follow it.
func placed(err error) string {
	return position.ReplaceAllString(strings.TrimRight(yaml.FormatError(err, false, true), "\n"), "line $1: ")
}

// keyError is a value that will not do.
type keyError struct{ path, said string }

func (e *keyError) Error() string { return strings.TrimPrefix(e.path, "$.") + ": " + e.said }

// lineOf shows the place of a key with an unfit value, "" if the file does not
// have it.
func lineOf(text []byte, err error) string {
	var ke *keyError
	if !errors.As(err, &ke) {
		return ""
	}
	path, perr := yaml.PathString(ke.path)
	if perr != nil {
		return ""
	}
	var node ast.Node
	if node, perr = path.ReadNode(bytes.NewReader(text)); perr != nil || node == nil {
		return ""
	}
	source, perr := path.AnnotateSource(text, false)
	if perr != nil {
		return ""
	}
	return fmt.Sprintf(" (line %d)\n%s", node.GetToken().Position.Line, strings.TrimRight(string(source), "\n"))
}

var repoName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Complete fills in what was left out and checks all.
func (c *Config) Complete() error {
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if c.Slots == nil {
		two := 2
		c.Slots = &two
	}
	for days, by := range map[**int]int{&c.Artifacts.Logs: 90, &c.Artifacts.Kernels: 14} {
		if *days == nil {
			*days = &by
		}
	}
	if c.URL == "" {
		c.URL = "http://" + c.Listen
	}
	if c.Open == "" {
		c.Open = OpenRead
		if c.Loopback() {
			c.Open = OpenAll
		}
	}
	if err := address("listen", c.Listen); err != nil {
		return err
	}
	if c.Admin != "" {
		if err := address("admin", c.Admin); err != nil {
			return err
		}
	}
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return &keyError{"$.url", fmt.Sprintf("%q is no URL such as https://kbisect.example.org", c.URL)}
	}
	if err := c.checkWorkers(); err != nil {
		return err
	}
	for key, days := range map[string]int{"keep_logs": *c.Artifacts.Logs, "keep_kernels": *c.Artifacts.Kernels} {
		if days < 0 || days > 36500 {
			return &keyError{"$.artifacts." + key, fmt.Sprintf("%d: days, 0 for ever", days)}
		}
	}
	if !slices.Contains([]string{OpenNothing, OpenRead, OpenAll}, c.Open) {
		return &keyError{"$.open", fmt.Sprintf("%q: nothing, read or all", c.Open)}
	}
	if !slices.Contains([]string{"", "json", "text"}, c.Log) {
		return &keyError{"$.log", fmt.Sprintf("%q: json or text", c.Log)}
	}
	if err := c.checkTokens(); err != nil {
		return err
	}
	if err := c.checkGitHub(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.Repos)) {
		if !repoName.MatchString(name) {
			return &keyError{"$.repos", fmt.Sprintf("%q is no name: letters, digits, . _ and -", name)}
		}
		if c.Repos[name] == "" {
			return &keyError{"$.repos." + name, "no directory"}
		}
	}
	return nil
}

var workerName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// WorkerName says whether a worker on another machine may be called so.
func WorkerName(name string) bool { return workerName.MatchString(name) && name != LocalWorker }

func (c *Config) checkWorkers() error {
	w := c.Workers
	switch {
	case *c.Slots < 0 || *c.Slots > maxSlots:
		return &keyError{"$.slots", fmt.Sprintf("%d: 0 to %d", *c.Slots, maxSlots)}
	case *c.Slots == 0 && w.Listen == "":
		return &keyError{"$.slots", "0, and no workers.listen: nobody would carry jobs out"}
	case w.Listen == "" && (len(w.Secrets) > 0 || w.Cert != "" || w.Key != ""):
		return &keyError{"$.workers", "no listen, so that no worker can come"}
	case w.Listen == "":
		return nil
	case len(w.Secrets) == 0:
		return &keyError{"$.workers", "no secrets: `orchestrator token --worker NAME` makes one"}
	case (w.Cert == "") != (w.Key == ""):
		return &keyError{"$.workers", "cert and key go together"}
	}
	if err := address("workers.listen", w.Listen); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(w.Secrets)) {
		if !WorkerName(name) {
			return &keyError{"$.workers.secrets", fmt.Sprintf("%q is no name: letters, digits, _ and -, and not %s", name, LocalWorker)}
		}
		if !sha256Hex.MatchString(w.Secrets[name]) {
			return &keyError{"$.workers.secrets." + name, "not sha256: and 64 hexadecimal digits, as `orchestrator token --worker` prints it"}
		}
	}
	return nil
}

var sha256Hex = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func (c *Config) checkTokens() error {
	seen := map[string]bool{}
	for i, t := range c.Tokens {
		bad := func(key, format string, args ...any) error {
			return &keyError{fmt.Sprintf("$.tokens[%d].%s", i, key), fmt.Sprintf(format, args...)}
		}
		switch {
		case t.ID == "" || seen[t.ID]:
			return bad("id", "%q: each token has its own, as `orchestrator token` prints it", t.ID)
		case t.Name == "":
			return bad("name", "whose token is it?")
		case !sha256Hex.MatchString(t.Hash):
			return bad("hash", "not sha256: and 64 hexadecimal digits, as `orchestrator token` prints it")
		case len(t.Scopes) == 0:
			return bad("scopes", "none: read, submit or admin")
		}
		for _, s := range t.Scopes {
			if !slices.Contains([]string{"read", "submit", "admin"}, s) {
				return bad("scopes", "%q: read, submit or admin", s)
			}
		}
		seen[t.ID] = true
	}
	return nil
}

// Loopback says whether only this machine reaches the service.
func (c *Config) Loopback() bool {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func address(key, text string) error {
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return &keyError{"$." + key, fmt.Sprintf("%q is no HOST:PORT such as 127.0.0.1:8080", text)}
	}
	return nil
}
