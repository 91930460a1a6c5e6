package ktap

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// kunitData is where the kernel keeps the outputs its own parser is tested with.
const kunitData = "tools/testing/kunit/test_data"

// kunitWant is what we make of them: the overall status, how many leaves have
// each status, and the reason. Where it is not what kunit_tool_test.py of the
// same directory expects, the entry says why.
var kunitWant = map[string]struct {
	want string
	why  string
}{
	"test_config_printk_time.log":                    {want: "pass map[pass:10]"},
	"test_insufficient_memory.log":                   {want: "error map[] no KTAP or TAP version line in the output"},
	"test_interrupted_tap_output.log":                {want: "pass map[pass:10]"},
	"test_is_test_passed-all_passed.log":             {want: "pass map[pass:10]"},
	"test_is_test_passed-all_passed_nested.log":      {want: "pass map[pass:7]"},
	"test_is_test_passed-failure-nested.log":         {want: "fail map[fail:1 pass:1] subtest 1"},
	"test_is_test_passed-failure.log":                {want: "fail map[fail:1 pass:9] example / example_simple_test"},
	"test_is_test_passed-kselftest.log":              {want: "pass map[pass:4 skip:1]"},
	"test_is_test_passed-missing_plan.log":           {want: "pass map[pass:10]"},
	"test_is_test_passed-no_tests_no_plan.log":       {want: "error map[error:1] suite / case: says ok, but its subtests reported nothing", why: "KUnit: one error, the suite passes"},
	"test_is_test_passed-no_tests_run_no_header.log": {want: "error map[] no KTAP or TAP version line in the output"},
	"test_is_test_passed-no_tests_run_with_header.log": {
		want: "skip map[] everything skipped", why: "KUnit: an error; a plan of nothing is how kselftest skips"},
	"test_kernel_panic_interrupt.log":                {want: "error map[error:2 pass:8] string-stream-test / missing results: 2 of 3 planned"},
	"test_multiple_prefixes.log":                     {want: "pass map[pass:10]"},
	"test_output_isolated_correctly.log":             {want: "pass map[pass:2]"},
	"test_output_with_prefix_isolated_correctly.log": {want: "pass map[pass:10]"},
	"test_parse_attributes.log":                      {want: "pass map[pass:1]"},
	"test_parse_ktap_output.log":                     {want: "pass map[pass:3]"},
	"test_parse_subtest_header.log":                  {want: "pass map[pass:1]"},
	"test_pound_no_prefix.log":                       {want: "pass map[pass:10]"},
	"test_pound_sign.log":                            {want: "pass map[pass:10]"},
	"test_skip_all_tests.log":                        {want: "skip map[skip:5] string-stream-test / string_stream_test_empty_on_creation: all tests skipped"},
	"test_skip_tests.log":                            {want: "pass map[pass:4 skip:1]"},
	"test_strip_hyphen.log":                          {want: "pass map[pass:2]"},
}

// The files are GPL-2.0 and stay where they are: in the kernel's tree at
// KBISECT_KUNIT_DATA, or in the repository of the end-to-end tests if
// tests/get-linux has made it.
func TestKUnitData(t *testing.T) {
	files := kunitFiles(t)
	known := 0
	for name, data := range files {
		want, ok := kunitWant[name]
		if !ok {
			t.Logf("%s is new, nothing is expected of it", name)
			Parse(data)
			continue
		}
		known++
		r := Parse(data)
		got := strings.TrimSpace(fmt.Sprintf("%s %v %s", r.Overall(), r.Count(), r.Reason()))
		// In 6.1 the kselftest output has no third result.
		old := strings.HasSuffix(name, "kselftest.log") && got == "pass map[pass:4]"
		if got != want.want && !old {
			t.Errorf("%s (%s)\n\tgot  %s\n\twant %s\n%s", name, want.why, got, want.want, describe(r))
		}
	}
	if known < 10 {
		t.Errorf("only %d of the %d known files", known, len(kunitWant))
	}
}

func kunitFiles(t *testing.T) map[string][]byte {
	files := make(map[string][]byte)
	if dir := os.Getenv("KBISECT_KUNIT_DATA"); dir != "" {
		names, err := filepath.Glob(filepath.Join(dir, "*.log"))
		if err != nil || len(names) == 0 {
			t.Fatalf("no *.log in KBISECT_KUNIT_DATA=%s (%v)", dir, err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files[filepath.Base(name)] = data
		}
		return files
	}
	repo := linuxRepo()
	list, err := exec.Command("git", "--git-dir", repo, "ls-tree", "--name-only", "HEAD", kunitData+"/").Output()
	if err != nil || len(list) == 0 {
		t.Skipf("no kernel at %s (%v): set KBISECT_KUNIT_DATA to %s of a kernel, or run tests/get-linux", repo, err, kunitData)
	}
	for name := range strings.Lines(string(list)) {
		name = strings.TrimSpace(name)
		if !strings.HasSuffix(name, ".log") {
			continue
		}
		data, err := exec.Command("git", "--git-dir", repo, "cat-file", "blob", "HEAD:"+name).Output()
		if err != nil {
			t.Fatalf("git cat-file %s: %v", name, err)
		}
		files[filepath.Base(name)] = data
	}
	return files
}

// linuxRepo is the repository tests/get-linux prints, which may not exist.
func linuxRepo() string {
	if repo := os.Getenv("KBISECT_LINUX"); repo != "" {
		if fi, err := os.Stat(filepath.Join(repo, ".git")); err == nil && fi.IsDir() {
			return filepath.Join(repo, ".git")
		}
		return repo
	}
	cache := os.Getenv("KBISECT_LINUX_CACHE")
	if cache == "" {
		user, _ := os.UserCacheDir()
		cache = filepath.Join(user, "kbisect-linux")
	}
	return filepath.Join(cache, "6.1.git")
}
