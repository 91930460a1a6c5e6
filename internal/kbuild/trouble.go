package kbuild

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// trouble is what a program says when the machine lacks something.
type trouble struct{ sign, why string }

const (
	diskFull  = "the disk is full: free some space under {dir} or use another --data-dir"
	noMemory  = "most likely for want of memory: use fewer --jobs"
	allKilled = "a build step was killed, " + noMemory
)

var troubles = []trouble{
	{"No space left on device", diskFull},
	{"Disk quota exceeded", "the disk quota is used up: free some space under {dir} or use another --data-dir"},
	{"Killed signal terminated", "the compiler was killed, " + noMemory},
	{"internal compiler error: Killed", "the compiler was killed, " + noMemory},
	{"] Killed", allKilled},  // make
	{" Killed  ", allKilled}, // sh
	{"] Error 137", allKilled},
	{"virtual memory exhausted", "the compiler ran out of memory: use fewer --jobs"},
	{"out of memory allocating", "the compiler ran out of memory: use fewer --jobs"},
	{"bwrap: ", "the build sandbox does not work ({line}): see `orchestrator doctor`, or use --no-sandbox for sources you trust"},
	{"Cannot allocate memory", "out of memory: use fewer --jobs"},
	{"Resource temporarily unavailable", "the process limit is reached"},
}

var (
	// What gcc quotes of the source, and what nobody failed for.
	quotedLine = regexp.MustCompile(`^(\s*\d*\s*\||(\S+: )*(warning|note): )`)
	// "ld: …", "make[1]: …", "/bin/sh: 1: …": a program about itself. A place
	// in a file ("mm/x.c:3:4: …", "Makefile:3: *** …") is none.
	ownWords = regexp.MustCompile(`^(\{standard input\}|[^\s:]+): |^virtual memory exhausted`)
	// gcc gives the place it had read to when it could not write.
	fatalWords = regexp.MustCompile(`^\S+:\d+:(\d+:)? (fatal error: .*: (No space left on device|Disk quota exceeded|Cannot allocate memory|Resource temporarily unavailable)$|internal compiler error: Killed)`)

	compilerError = regexp.MustCompile(`^(.*?):(\d+):(?:\d+:)? (?:fatal )?error: (.*)$`)
	// Errors that only the sources can have: of the assembler, the linker, make.
	sourceError = regexp.MustCompile(`^[^\s:]+:\d+: Error: |^\{standard input\}:\d+: Error: |undefined reference|No rule to make target|^[^\s:]+:\d+: \*\*\* `)

	// "/bin/sh: 1: bc: not found", "x.sh: line 2: bc: command not found".
	notFound = regexp.MustCompile(`^\S+: (?:(?:line )?\d+: )?(\S+): (?:command )?not found$`)
	// The same of make, env and sh, but they may speak of any file: it counts
	// only with one of exitNoProgram.
	notStarted    = regexp.MustCompile(`^(?:make(?:\[\d+\])?|\S*env|\S*sh): (?:(?:line )?\d+: )?['‘"]?([^\s'’"]+)['’"]?: (?:No such file or directory|Permission denied)$`)
	exitNoProgram = regexp.MustCompile(`^make(\[\d+\])?: \*\*\* \[.*\] Error 12[67]$`)
	// Libraries of the programs that the kernel's build makes for itself, and
	// the C library where only such programs use one.
	hostFile = regexp.MustCompile(`fatal error: ((?:gelf|libelf|openssl/\w+)\.h): No such file or directory` +
		`|(?:^|/)(?:scripts|tools)/\S+ fatal error: ((?:stdio|stdlib|string|unistd|errno|limits|sys/types|sys/stat)\.h): No such file or directory` +
		`|cannot find (-l(?:elf|crypto|ssl|c))\b` +
		`|please install (libelf)`)
	programName = regexp.MustCompile(`^[\w/][\w.+/-]*$`)
)

// signs is what the output of a command tells about whose fault a failure is.
type signs struct {
	src, obj string // the trees, as the command sees them

	inTree     bool   // an error of the commit's own files was seen
	sure       string // the first line in which a program complains of the machine
	maybe      string // the first line with such words that anybody may have said
	missing    string // a program or header of the machine, missed before any error in the tree
	notStarted string // the same, if an exit code confirms it
	ownMissing bool   // a program of the tree is missed: the commit's doing
	confirmed  bool   // a step failed for what is missing
}

// note judges one line of output.
func (s *signs) note(line string) {
	if quotedLine.MatchString(line) {
		return
	}
	s.noteMissing(line)
	if slices.ContainsFunc(troubles, func(t trouble) bool { return strings.Contains(line, t.sign) }) {
		switch {
		case ownWords.MatchString(line) || fatalWords.MatchString(line):
			first(&s.sure, line)
			return
		case !compilerError.MatchString(line):
			first(&s.maybe, line)
		}
	}
	if m := compilerError.FindStringSubmatch(line); m != nil && s.own(m[1]) || sourceError.MatchString(line) {
		s.inTree = true
	}
}

func (s *signs) noteMissing(line string) {
	if s.inTree {
		return // a consequence, or no matter: the commit does not build anyway
	}
	if m := hostFile.FindStringSubmatch(line); m != nil {
		first(&s.missing, strings.Join(m[1:], ""))
		s.confirmed = true
	} else if m := notFound.FindStringSubmatch(line); m != nil {
		s.missed(&s.missing, m[1])
	} else if m := notStarted.FindStringSubmatch(line); m != nil {
		s.missed(&s.notStarted, m[1])
	} else if exitNoProgram.MatchString(line) && !s.ownMissing {
		s.confirmed = true
		first(&s.missing, s.notStarted)
		first(&s.missing, "a program ("+line+")")
	}
}

func (s *signs) missed(where *string, name string) {
	if !programName.MatchString(name) || strings.Contains(name, "/") && s.own(name) {
		s.ownMissing = s.ownMissing || s.missing == ""
	} else if !s.ownMissing {
		first(where, name)
	}
}

// own says whether a path is of the trees; relative ones are.
func (s *signs) own(path string) bool {
	return !filepath.IsAbs(path) || strings.HasPrefix(path, s.src+"/") || strings.HasPrefix(path, s.obj+"/")
}

func first(where *string, s string) {
	if *where == "" {
		*where = s
	}
}

// why says what the machine lacks, "" if the failure is the commit's.
func (s *signs) why() string {
	line := s.sure
	if line == "" && s.missing != "" && (s.confirmed || !s.inTree) {
		return fmt.Sprintf("%s is missing on this machine: install the build tools with deploy/install-deps", s.missing)
	}
	if line == "" && !s.inTree {
		line = s.maybe
	}
	for _, t := range troubles {
		if line != "" && strings.Contains(line, t.sign) {
			return strings.ReplaceAll(t.why, "{line}", line)
		}
	}
	return ""
}

// minFree is too little for the next object file, whatever the programs said:
// not all of them say it when they cannot write.
const minFree = 1 << 20

// hostTrouble recognises the failures that say nothing about the commit.
func (m *makeRun) hostTrouble(code int) error {
	if code == 128+int(syscall.SIGKILL) { // as bwrap and sh put it
		return errors.New("make was killed, " + noMemory)
	}
	why := m.signs.why()
	var st syscall.Statfs_t
	if why == "" && syscall.Statfs(m.b.Objects, &st) == nil && st.Blocks > 0 && st.Bavail*uint64(st.Bsize) < minFree { //nolint:gosec // never negative
		why = diskFull
	}
	if why == "" {
		return nil
	}
	return errors.New(strings.ReplaceAll(why, "{dir}", m.b.Owner))
}
