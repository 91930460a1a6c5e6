//go:build e2e

package tests

import (
	"context"
	"database/sql"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// flaky fails on the commits that have the planted bug, in 30 % of its runs.
const flaky = "programs/flaky.sh"

// jobsOf is how many jobs TestFlakyBisect makes, and kills of TestKillAnywhere:
// few in `make test`, ten and twenty for the goals of the search.
//
//	KBISECT_NOISE=10 go test -tags e2e -run 'TestFlaky|TestKillAnywhere' ./tests
func jobsOf(t *testing.T, few int) int {
	t.Helper()
	text := os.Getenv("KBISECT_NOISE")
	if text == "" {
		return few
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("KBISECT_NOISE: %v", err)
	}
	return n
}

func bisectFlaky() []string {
	return []string{"bisect", "--repo", seriesRepo, "--good", "base", "--bad", "series", "--script", flaky, "--fresh", "--no-confirm"}
}

func checkPlanted(t *testing.T, res kernel.BisectResult) {
	t.Helper()
	if res.Status != kernel.Found || res.Culprit == nil || res.Culprit.Subject != plantedSubject || res.Signature.Title != "missed COW" {
		t.Errorf("%s: %s: %+v, %+v (%s)", res.ID, res.Status, res.Culprit, res.Signature, res.Reason)
	}
	if made := recordedRuns(t, res.ID); made != res.Runs {
		t.Errorf("%s: %d runs on record, the result counts %d", res.ID, made, res.Runs)
	}
	fails, runs := 0, 0
	for _, s := range res.Steps {
		if s.Fails > 0 {
			fails, runs = fails+s.Fails, runs+s.Runs
		}
	}
	t.Logf("%s: %d runs, %.0f s; %d of %d fail where any does", res.ID, res.Runs, res.Seconds, fails, runs)
}

// A failure that shows in 30 % of the runs, and goes round the commit that does
// not compile, is found every time.
func TestFlakyBisect(t *testing.T) {
	for range jobsOf(t, 1) {
		checkPlanted(t, decode[kernel.BisectResult](t, 0, bisectFlaky()...))
	}
}

// kill -9 at any moment, over and over: no run is lost, none is counted twice, and
// the answer is the same.
func TestKillAnywhere(t *testing.T) {
	kills := 2 * jobsOf(t, 1)
	id, had := "", 0
	finish := func() {
		if id != "" {
			checkPlanted(t, decode[kernel.BisectResult](t, 0, "bisect", "--resume", id))
		}
		id, had = "", 0
	}
	old := newestJob(t)
	for killed := 0; killed < kills; {
		args := bisectFlaky()
		if id != "" {
			args = []string{"bisect", "--resume", id}
		}
		// The first runs come after some three seconds.
		if !killAfter(t, time.Duration(rand.Int64N(int64(12*time.Second))), args...) {
			id = newestJob(t)
			finish() // it was through: its result, from the record alone
			old = newestJob(t)
			continue
		}
		killed++
		waitNone(t)
		if id == "" && newestJob(t) != old { // else it had not got that far
			id = newestJob(t)
		}
		n := 0
		if id != "" {
			n = recordedRuns(t, id)
		}
		t.Logf("kill %d: %s with %d runs", killed, id, n)
		if n < had {
			t.Errorf("%s: %d runs on record, and before %d", id, n, had)
		}
		had = n
	}
	finish()
}

// killAfter starts a command and kills it with signal 9 after d. It returns false
// when the command was through before.
func killAfter(t *testing.T, d time.Duration, args ...string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	cmd := command(ctx, args...)
	err := cmd.Run()
	if err == nil {
		return false
	}
	if ctx.Err() == nil {
		t.Fatalf("%v: %v", args, err)
	}
	return true
}

// newestJob is the id of the job that was asked for last, "" when there is none.
func newestJob(t *testing.T) string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(home, "kbisect.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	id := ""
	_ = db.QueryRow("SELECT id FROM jobs ORDER BY rowid DESC LIMIT 1").Scan(&id)
	return id
}

// A series on a base that fails already, always or now and then, blames nobody.
func TestFlakyBase(t *testing.T) {
	for range jobsOf(t, 1) {
		flakyBase(t)
	}
}

func flakyBase(t *testing.T) {
	t.Helper()
	// The planted commit is the base, four commits stand on it. Six runs of each
	// leave one row in nine without a failure: rows differ by chance.
	r := run(t, "series", "--repo", seriesRepo, "series~4..series", "--test", plantedTest, "--script", flaky, "--runs", "6", "--fresh", "--format", "json")
	var res kernel.SeriesResult
	if err := json.Unmarshal([]byte(r.stdout), &res); err != nil {
		t.Fatalf("status %d: %v\n%s%s", r.status, err, r.stderr, r.stdout)
	}
	if len(res.Commits) != 4 || res.BaseRow == nil || len(res.BaseRow.Tests) != 2 || res.Base.Subject != plantedSubject {
		t.Fatalf("%+v", res)
	}
	if len(res.FirstBad) > 0 || len(res.OneOf) > 0 {
		t.Errorf("blamed: %v, %v", res.FirstBad, res.OneOf)
	}
	for _, row := range append([]kernel.CommitResult{*res.BaseRow}, res.Commits...) {
		for _, tr := range row.Tests {
			t.Logf("%.12s %s: %s, %d of %d fail", row.SHA, tr.Name, tr.Verdict, tr.Fails, tr.Runs)
		}
		if v := row.Tests[0]; v.Verdict != kernel.Bad || v.Fails != v.Runs {
			t.Errorf("%.12s, which always fails, is %+v", row.SHA, v)
		}
	}
}
