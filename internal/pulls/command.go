package pulls

import (
	"fmt"
	"regexp"
	"strings"
)

// Command is what somebody asks for in a comment.
type Command struct {
	Verb     string   // test, retest, bisect, cancel, ok, help
	Profiles []string // of test; none for those that are configured
	Good     string   // of bisect
	Bad      string   // of bisect; "" for the head of the pull request
	Test     string   // of bisect; "" for the first that is bad
	SHA      string   // of ok: what was looked at, or how it begins; "" for what there is
}

// Help is what can be asked for, as Markdown.
const Help = "| comment | what it does |\n| --- | --- |\n" +
	"| `/kbisect test [PROFILE…]` | test every commit, with other profiles if named |\n" +
	"| `/kbisect retest` | test again, without what is on record |\n" +
	"| `/kbisect bisect good=REV [bad=REV] [test=NAME]` | find the commit that made a test fail |\n" +
	"| `/kbisect cancel` | stop what is under way |\n" +
	"| `/kbisect ok [SHA]` | test the commits of somebody new, as they are now |\n" +
	"| `/kbisect help` | this |\n"

// maxCommands bounds what one comment asks for.
const maxCommands = 5

var word = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/~^@{}*+-]{0,199}$`)

// ParseCommands finds the commands of a comment: lines that begin with /kbisect,
// but for those that are quoted or code. problem is what is wrong with the first
// one that cannot be understood, in a sentence for who wrote it.
func ParseCommands(body string) (commands []Command, problem string) {
	fence := ""
	for line := range strings.SplitSeq(strings.ReplaceAll(body, "\r", "\n"), "\n") {
		text := strings.TrimLeft(line, " ")
		if ticks := fenced(text); ticks != "" && (fence == "" || strings.HasPrefix(ticks, fence)) {
			if fence == "" {
				fence = ticks
			} else {
				fence = ""
			}
			continue
		}
		fields := strings.Fields(text)
		if fence != "" || len(line)-len(text) > 3 || len(fields) == 0 || fields[0] != "/kbisect" {
			continue
		}
		c, problem := parseCommand(fields[1:])
		if problem != "" {
			return commands, problem
		}
		if commands = append(commands, c); len(commands) == maxCommands {
			break
		}
	}
	return commands, ""
}

// fenced are the characters that begin or end a block of code, "" for a line
// that does neither.
func fenced(line string) string {
	for _, c := range []string{"`", "~"} {
		if n := len(line) - len(strings.TrimLeft(line, c)); n >= 3 {
			return line[:n]
		}
	}
	return ""
}

var objectID = regexp.MustCompile(`^[0-9a-f]{7,40}$`)

func parseCommand(words []string) (c Command, problem string) {
	if len(words) == 0 {
		return Command{Verb: "help"}, ""
	}
	c.Verb = words[0]
	args := words[1:]
	for _, a := range args {
		_, value, named := strings.Cut(a, "=")
		if !named {
			value = a
		}
		if !word.MatchString(value) || strings.Contains(value, "..") {
			return c, fmt.Sprintf("%s: this is no name", quote(a))
		}
	}
	switch c.Verb {
	case "test":
		c.Profiles = append(c.Profiles, args...)
	case "bisect":
		for _, a := range args {
			key, value, _ := strings.Cut(a, "=")
			switch {
			case key == "good" && c.Good == "" && value != "":
				c.Good = value
			case key == "bad" && c.Bad == "" && value != "":
				c.Bad = value
			case key == "test" && c.Test == "" && value != "":
				c.Test = value
			default:
				return c, fmt.Sprintf("%s: bisect takes good=REV, bad=REV and test=NAME, each once", quote(a))
			}
		}
		if c.Good == "" {
			return c, "bisect needs good=REV: a commit, tag or branch on which the test passes"
		}
	case "ok":
		if len(args) > 1 || len(args) == 1 && !objectID.MatchString(args[0]) {
			return c, "ok takes the head that was looked at, seven digits of it at least, or nothing"
		}
		c.SHA = strings.Join(args, "")
	case "retest", "cancel", "help":
		if len(args) > 0 {
			return c, fmt.Sprintf("%s takes nothing more, and there is %s", c.Verb, quote(args[0]))
		}
	default:
		return c, fmt.Sprintf("%s: no such command", quote(c.Verb))
	}
	return c, ""
}

// quote shows a stranger's word as code that cannot end.
func quote(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == '`' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if len(s) > 60 {
		s = s[:60] + "..."
	}
	return "`" + s + "`"
}
