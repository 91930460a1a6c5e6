// Package settings reads the YAML beside a program that a user brings: its
// arguments and environment, what it needs of the guest, its time limit, and
// what the guest must be like. It must not know how programs are found or run.
package settings

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Program is how one program is run.
type Program struct {
	Args    []string          `yaml:"args"`
	Env     map[string]string `yaml:"env"`
	Needs   []string          `yaml:"needs"`   // what the guest must have, or the program is skipped
	Timeout Duration          `yaml:"timeout"` // 0 for the default
}

// Guest is what the guest must be like, for all programs in it.
type Guest struct {
	Cmdline string `yaml:"cmdline"` // further kernel arguments
	Memory  Size   `yaml:"memory"`  // 0 for the profile's
	Swap    Size   `yaml:"swap"`    // 0 for the profile's
}

// On is a machine that is like that.
func (g Guest) On(m kernel.Machine) kernel.Machine {
	if g.Memory != 0 {
		m.MemoryMiB = int(g.Memory)
	}
	if g.Swap != 0 {
		m.SwapMiB = int(g.Swap)
	}
	m.Cmdline = strings.TrimSpace(without(m.Cmdline, g.Cmdline) + " " + g.Cmdline)
	return m
}

// without takes out of a command line the arguments that another one sets, too:
// of hugepages= the kernel takes the first.
func without(cmdline, other string) string {
	set := map[string]bool{}
	for _, arg := range strings.Fields(other) {
		name, _, _ := strings.Cut(arg, "=")
		set[name] = true
	}
	return strings.Join(slices.DeleteFunc(strings.Fields(cmdline), func(arg string) bool {
		name, _, _ := strings.Cut(arg, "=")
		return set[name]
	}), " ")
}

// And is a guest on machine m that suits two programs: it has the larger of the
// sizes, and both kernel command lines.
func (g Guest) And(o Guest, m kernel.Machine) (Guest, error) {
	mine, others := g.On(m), o.On(m) // what says nothing wants the machine as it is
	g.Memory, g.Swap = Size(max(mine.MemoryMiB, others.MemoryMiB)), Size(max(mine.SwapMiB, others.SwapMiB))
	if g.Cmdline == o.Cmdline {
		return g, nil
	}
	for _, a := range strings.Fields(g.Cmdline) {
		for _, b := range strings.Fields(o.Cmdline) {
			// The kernel takes the last one of most, and of some each.
			if name, _, _ := strings.Cut(a, "="); name == strings.SplitN(b, "=", 2)[0] {
				return g, fmt.Errorf("cmdline: both say %s, %s and %s", name, a, b)
			}
		}
	}
	g.Cmdline = strings.TrimSpace(g.Cmdline + " " + o.Cmdline)
	return g, g.check()
}

// File is the file beside one program.
type File struct {
	Program `yaml:",inline"`
	Guest   `yaml:",inline"`
}

// Directory is kbisect.yaml in a directory of programs. What stands at its top
// holds for each program that says nothing else.
type Directory struct {
	Program `yaml:",inline"`
	Guest   `yaml:",inline"`
	// Programs are the ones to run, with what is special about them; nil for
	// every executable of the directory.
	Programs map[string]*Program `yaml:"programs"`
}

// Of is how a program of the directory is run.
func (d *Directory) Of(name string) Program {
	p := d.Program
	own := d.Programs[name]
	if own == nil {
		return p
	}
	if own.Args != nil {
		p.Args = own.Args
	}
	if own.Needs != nil {
		p.Needs = own.Needs
	}
	if own.Timeout != 0 {
		p.Timeout = own.Timeout
	}
	if len(own.Env) > 0 {
		p.Env = maps.Clone(p.Env)
		if p.Env == nil {
			p.Env = map[string]string{}
		}
		maps.Copy(p.Env, own.Env)
	}
	return p
}

// Limits of what a file may ask for.
const (
	maxFile    = 64 << 10
	maxTimeout = 24 * time.Hour
	maxMemory  = 64 << 10 // MiB
	minMemory  = 128      // MiB: a kernel and the guest image
	maxCmdline = 1024     // the kernel takes 2048, and kbisect's own are about 200
)

// ParseFile decodes the file beside one program. Errors are one line and start
// with the number of the offending one.
func ParseFile(text []byte) (File, error) {
	var f File
	if err := decode(text, &f); err != nil {
		return f, err
	}
	return f, cmp.Or(f.Program.check(), f.Guest.check())
}

// ParseDirectory decodes kbisect.yaml.
func ParseDirectory(text []byte) (Directory, error) {
	var d Directory
	if err := decode(text, &d); err != nil {
		return d, err
	}
	if err := cmp.Or(d.Program.check(), d.Guest.check()); err != nil {
		return d, err
	}
	for _, name := range slices.Sorted(maps.Keys(d.Programs)) {
		if p := d.Programs[name]; p != nil {
			if err := p.check(); err != nil {
				return d, fmt.Errorf("programs: %s: %w", name, err)
			}
		}
	}
	return d, nil
}

// decode is strict: what is not understood would otherwise be a setting that
// silently does nothing.
func decode(text []byte, into any) (err error) {
	if len(text) > maxFile {
		return fmt.Errorf("more than %d bytes", maxFile)
	}
	defer func() {
		if recover() != nil { // go-yaml 1.19.2 on a tag without a value, "a: !b]"
			err = errors.New("no YAML")
		}
	}()
	err = yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(into)
	if err == nil || err.Error() == "EOF" { // nothing but comments
		return nil
	}
	return errors.New(oneLine(err))
}

// position is how the library says where: [line:column].
var position = regexp.MustCompile(`^\[(\d+):\d+\] `)

// oneLine takes the first line of an error: an excerpt of the file follows it.
func oneLine(err error) string {
	said, _, _ := strings.Cut(yaml.FormatError(err, false, false), "\n")
	return position.ReplaceAllString(said, "line $1: ")
}

var envRE = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (p *Program) check() error {
	for _, k := range slices.Sorted(maps.Keys(p.Env)) {
		if !envRE.MatchString(k) {
			return fmt.Errorf("env: %q is not a variable's name", k)
		}
		if strings.ContainsRune(p.Env[k], 0) {
			return fmt.Errorf("env: %s has a NUL byte", k)
		}
	}
	for _, a := range p.Args {
		if strings.ContainsRune(a, 0) {
			return fmt.Errorf("args: %q has a NUL byte", a)
		}
	}
	return nil
}

func (g *Guest) check() error {
	if len(g.Cmdline) > maxCmdline {
		return fmt.Errorf("cmdline: more than %d bytes", maxCmdline)
	}
	if i := strings.IndexFunc(g.Cmdline, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
		return fmt.Errorf("cmdline: %q is not printable ASCII", g.Cmdline)
	}
	if g.Memory != 0 && g.Memory < minMemory {
		return fmt.Errorf("memory: %d MiB is too little, at least %d MiB", g.Memory, minMemory)
	}
	return nil
}

// Duration is a time limit: 90s, 2m30s, or a number of seconds as kselftest's
// own settings files have it.
type Duration time.Duration

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (d *Duration) UnmarshalYAML(node ast.Node) error {
	text := scalar(node)
	v, err := time.ParseDuration(text)
	if err != nil {
		v, err = time.ParseDuration(text + "s")
	}
	if err != nil || v < time.Second || v > maxTimeout {
		return at(node, "timeout: %q is no time between 1s and 24h, such as 90s", text)
	}
	*d = Duration(v)
	return nil
}

// Size is an amount of memory in MiB: 512M, 2G.
type Size int

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (s *Size) UnmarshalYAML(node ast.Node) error {
	text := scalar(node)
	var n int
	var unit string
	_, err := fmt.Sscanf(text, "%d%s", &n, &unit)
	if unit == "G" && n <= maxMemory {
		n *= 1024
	} else if unit != "M" {
		n = 0
	}
	if err != nil || n < 1 || n > maxMemory {
		return at(node, "%q is no size between 1M and 64G, such as 512M", text)
	}
	*s = Size(n)
	return nil
}

func scalar(node ast.Node) string {
	if s, ok := node.(*ast.StringNode); ok {
		return s.Value
	}
	return node.String()
}

func at(node ast.Node, format string, args ...any) error {
	return fmt.Errorf("[%d:1] %s", node.GetToken().Position.Line, fmt.Sprintf(format, args...))
}
