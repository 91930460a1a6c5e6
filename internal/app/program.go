package app

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
	"github.com/kernel-bisect/kbisect/internal/runner"
	"github.com/kernel-bisect/kbisect/internal/settings"
	"github.com/kernel-bisect/kbisect/vmimage"
)

// directorySettings is the settings file of a directory of programs.
const directorySettings = "kbisect.yaml"

// defaultTestTimeout is the time limit of a program that brings no other.
const defaultTestTimeout = time.Minute

// fileName is what a file may be called in the guest: its name becomes part of
// a test's.
var fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// brought is what the user brings with one --program or --script.
type brought struct {
	files    []vmimage.File
	guest    settings.Guest // what they want of it
	programs []runner.Program
}

// bring adds the user's programs and scripts to the request.
func (p *planFlags) bring(ctx context.Context, o *options, r *request) error {
	for _, file := range p.programs {
		st, err := os.Stat(file)
		if err != nil {
			return usagef("--program %v", err)
		}
		var b brought
		if st.IsDir() {
			b, err = p.bringDirectory(file)
		} else {
			b, err = p.bringFile(ctx, o, "program", file)
		}
		if err == nil {
			err = r.add(b, "--program "+file)
		}
		if err != nil {
			return err
		}
	}
	for _, file := range p.scripts {
		st, err := os.Stat(file)
		switch {
		case err != nil:
			return usagef("--script %v", err)
		case st.IsDir():
			return usagef("--script %s: a directory; use --program", file)
		}
		b, err := p.bringFile(ctx, o, "script", file)
		if err == nil {
			err = r.add(b, "--script "+file)
		}
		if err != nil {
			return err
		}
	}
	return r.fits()
}

func (p *planFlags) bringFile(ctx context.Context, o *options, kind, file string) (brought, error) {
	var none brought
	data, err := os.ReadFile(file)
	if err != nil {
		return none, usagef("--%s %v", kind, err)
	}
	s, err := settingsBeside(file)
	if err != nil {
		return none, err
	}
	base := filepath.Base(file)
	if kind == "program" && strings.HasSuffix(base, ".c") {
		base = strings.TrimSuffix(base, ".c")
		if data, err = o.compile(ctx, file); err != nil {
			return none, err
		}
	}
	if !fileName.MatchString(base) {
		return none, usagef("--%s %s: the file's name must be made of letters, digits, dots, dashes", kind, file)
	}
	if err := runnable(kind, file, data); err != nil {
		return none, err
	}
	return brought{
		files:    []vmimage.File{{Name: base, Data: data}},
		guest:    s.Guest,
		programs: []runner.Program{p.programOf(kind+"/"+base, base, data, s.Program)},
	}, nil
}

// bringDirectory takes a directory the way kselftest installs one: every
// executable is a program, the rest is data for them.
func (p *planFlags) bringDirectory(dir string) (brought, error) {
	var none brought
	abs, err := filepath.Abs(dir)
	if err != nil {
		return none, err
	}
	prefix := filepath.Base(abs)
	if !fileName.MatchString(prefix) {
		return none, usagef("--program %s: the directory's name must be made of letters, digits, dots, dashes", dir)
	}
	d, err := settingsOf(dir)
	if err != nil {
		return none, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return none, usagef("--program %v", err)
	}
	b := brought{guest: d.Guest}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		st, err := os.Stat(path) // of what a link points to
		if err != nil {
			return none, usagef("--program %v", err)
		}
		wanted := st.Mode()&0o111 != 0
		if d.Programs != nil {
			_, wanted = d.Programs[e.Name()]
		}
		if !st.Mode().IsRegular() || !wanted && notForGuest(e.Name()) {
			continue
		}
		if !fileName.MatchString(e.Name()) {
			return none, usagef("--program %s: the file's name must be made of letters, digits, dots, dashes", path)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return none, usagef("--program %v", err)
		}
		b.files = append(b.files, vmimage.File{Name: e.Name(), Data: data})
		if !wanted {
			continue
		}
		if err := runnable("program", path, data); err != nil {
			if d.Programs == nil {
				return none, usagef("%v (to run only some of the directory, name them below programs: in its %s)", err, directorySettings)
			}
			return none, err
		}
		if other := besideNames(path); len(other) > 0 {
			return none, usagef("--program %s: of a directory all settings stand in its %s", other[0], directorySettings)
		}
		b.programs = append(b.programs, p.programOf("program/"+prefix+"/"+e.Name(), e.Name(), data, d.Of(e.Name())))
	}
	for _, name := range slices.Sorted(maps.Keys(d.Programs)) {
		if !slices.ContainsFunc(b.files, func(f vmimage.File) bool { return f.Name == name }) {
			return none, usagef("%s: programs: there is no file %s", filepath.Join(dir, directorySettings), name)
		}
	}
	if len(b.programs) == 0 {
		return none, usagef("--program %s: no executable in it; a C source is compiled when it is named itself", dir)
	}
	return b, nil
}

// notForGuest says what of a directory no program reads: what it was built
// from, and what is ours.
func notForGuest(name string) bool {
	switch filepath.Ext(name) {
	case ".c", ".h", ".o", ".d", ".mk", ".yaml":
		return true
	}
	return strings.HasPrefix(name, ".") || name == "Makefile"
}

// programOf is a file as the guest starts it.
func (p *planFlags) programOf(test, base string, data []byte, s settings.Program) runner.Program {
	path := vmimage.UserDir + "/" + base
	var argv []string
	for _, k := range slices.Sorted(maps.Keys(s.Env)) {
		argv = append(argv, k+"="+s.Env[k])
	}
	if len(argv) > 0 {
		argv = slices.Insert(argv, 0, "/bin/env")
	}
	if !isELF(data) && !strings.HasPrefix(string(data), "#!") {
		argv = append(argv, "/bin/sh")
	}
	limit := defaultTestTimeout
	if s.Timeout != 0 {
		limit = time.Duration(s.Timeout)
	}
	if p.testTimeout != 0 { // said now
		limit = p.testTimeout
	}
	return runner.Program{Name: test, Argv: append(append(argv, path), s.Args...), Limit: limit, Needs: s.Needs}
}

// add puts what one flag brings beside what others did. All files lie in one
// directory of one guest, which has to suit everybody.
func (r *request) add(b brought, flag string) error {
	for _, f := range b.files {
		if slices.ContainsFunc(r.Files, func(g vmimage.File) bool { return g.Name == f.Name }) {
			return usagef("%s: another one brings a file %s already, and they lie in one directory of the guest", flag, f.Name)
		}
	}
	for _, x := range b.programs {
		for _, n := range x.Needs {
			if err := agentproto.CheckNeed(n); err != nil {
				return usagef("the settings of %s: needs: %v", x.Name, err)
			}
		}
		for _, y := range r.Programs {
			// Tests of a program are named below it.
			if strings.HasPrefix(y.Name, x.Name+"/") || strings.HasPrefix(x.Name, y.Name+"/") {
				return usagef("%s: the tests of %s and of %s could not be told apart by name", flag, x.Name, y.Name)
			}
		}
	}
	if len(r.Programs) == 0 && len(r.Tests) == 0 {
		r.Guest = b.guest
	} else {
		profile, err := profileOf(r.Profile)
		if err != nil {
			return err
		}
		if r.Guest, err = r.Guest.And(b.guest, profile.Machine); err != nil {
			return usagef("%s: its settings do not go with those of another one: %v; run them apart", flag, err)
		}
	}
	r.Files, r.Programs = append(r.Files, b.files...), append(r.Programs, b.programs...)
	return nil
}

// fits says whether the guest can hold the files.
func (r *request) fits() error {
	profile, err := profileOf(r.Profile)
	if err != nil {
		return err
	}
	total := 0
	for _, f := range r.Files {
		total += len(f.Data)
	}
	// The guest unpacks them from memory into memory, and wants to run as well.
	if memory := r.Guest.On(profile.Machine).MemoryMiB; total>>20 > memory/4 {
		return usagef("--program: %d MiB of files are too much for a guest of %d MiB: it needs four times as much (memory: in the settings)", total>>20, memory)
	}
	return nil
}

// besideNames are the settings files that exist beside a program: FILE.yaml,
// and for FILE.c and the like also the one without that ending.
func besideNames(file string) []string {
	names := []string{file + ".yaml"}
	if short := strings.TrimSuffix(file, filepath.Ext(file)); short != file && filepath.Base(short) != "" {
		names = append(names, short+".yaml")
	}
	return slices.DeleteFunc(names, func(n string) bool {
		_, err := os.Stat(n)
		return errors.Is(err, fs.ErrNotExist)
	})
}

func settingsBeside(file string) (settings.File, error) {
	names := besideNames(file)
	if len(names) == 0 {
		return settings.File{}, nil
	}
	if len(names) > 1 {
		return settings.File{}, usagef("%s and %s are both there; one file has the settings", names[0], names[1])
	}
	return readSettings(names[0], settings.ParseFile)
}

func settingsOf(dir string) (settings.Directory, error) {
	name := filepath.Join(dir, directorySettings)
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return settings.Directory{}, nil
	}
	return readSettings(name, settings.ParseDirectory)
}

func readSettings[T any](name string, parse func([]byte) (T, error)) (T, error) {
	var none T
	text, err := os.ReadFile(name)
	if err != nil {
		return none, usagef("%v", err)
	}
	s, err := parse(text)
	if err != nil {
		return none, usagef("%s: %v", name, err)
	}
	return s, nil
}
