package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// The summaries are what follows from the runs that are not withdrawn: they
// change in the transaction that changes these.

// tally counts the runs of a test or kernel.
type tally struct{ runs, fails, skips int }

func (t *tally) add(o kernel.Outcome) {
	switch {
	case o.Bad():
		t.runs++
		t.fails++
	case o.Counts():
		t.runs++
	case o == kernel.Skip:
		t.skips++
	}
}

// none says whether there is nothing: an infra run tells of no test.
func (t tally) none() bool { return t.runs == 0 && t.skips == 0 }

// mixed says whether there are passes and failures.
func (t tally) mixed() bool { return t.fails > 0 && t.fails < t.runs }

// talliesOf counts what one run says of which tests: of its program, or of each
// of several tests in it, as reports do.
func talliesOf(r kernel.Run) map[string]tally {
	tallies := map[string]tally{}
	add := func(test string, o kernel.Outcome) {
		t := tallies[test]
		if t.add(o); !t.none() {
			tallies[test] = t
		}
	}
	if len(r.Tests) == 0 {
		add(r.Test, r.Outcome)
	}
	for _, o := range r.Tests {
		name := r.Test
		if o.Name != "" {
			name += "/" + o.Name
		}
		add(name, o.Outcome)
	}
	return tallies
}

// identity is what two runs on the same kernel have in common. Runs of older
// versions do not say which image they were on, but whose.
func identity(r kernel.Run) string {
	if r.Kernel == "" && r.Commit != "" {
		return "commit:" + r.Commit
	}
	return r.Kernel
}

// kernelOf returns the id of a run's kernel.
func kernelOf(ctx context.Context, tx *sql.Tx, r kernel.Run) (id int64, err error) {
	err = tx.QueryRowContext(ctx, `INSERT INTO kernels (identity, release, digest, commit_sha) VALUES (?, ?, ?, ?)
		ON CONFLICT (identity) DO UPDATE SET release = CASE WHEN kernels.release = '' THEN excluded.release ELSE kernels.release END
		RETURNING id`, identity(r), r.Release, r.Kernel, r.Commit).Scan(&id)
	return id, err
}

// count adds a run to the summaries.
func count(ctx context.Context, tx *sql.Tx, kern int64, r kernel.Run, when string) error {
	var own tally
	if own.add(r.Outcome); !own.none() {
		_, err := tx.ExecContext(ctx, `UPDATE kernels SET runs = runs + ?, fails = fails + ?, last_at = CASE WHEN ? > last_at THEN ? ELSE last_at END
			WHERE id = ?`, own.runs, own.fails, when, when, kern)
		if err != nil {
			return err
		}
	}
	for test, n := range talliesOf(r) {
		id, err := testID(ctx, tx, test)
		if err != nil {
			return err
		}
		var sum tally
		err = tx.QueryRowContext(ctx, `INSERT INTO tests_on_kernels (test, kernel, runs, fails, skips, last_at) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (test, kernel) DO UPDATE SET runs = tests_on_kernels.runs + excluded.runs, fails = tests_on_kernels.fails + excluded.fails,
				skips = tests_on_kernels.skips + excluded.skips,
				last_at = CASE WHEN excluded.last_at > tests_on_kernels.last_at THEN excluded.last_at ELSE tests_on_kernels.last_at END
			RETURNING runs, fails, skips`, id, kern, n.runs, n.fails, n.skips, when).Scan(&sum.runs, &sum.fails, &sum.skips)
		if err != nil {
			return err
		}
		before := tally{sum.runs - n.runs, sum.fails - n.fails, sum.skips - n.skips}
		kernels, flaky := 0, 0
		if before.none() {
			kernels = 1
		}
		if sum.mixed() && !before.mixed() && identity(r) != "" {
			flaky = 1
		}
		_, err = tx.ExecContext(ctx, `UPDATE tests SET runs = runs + ?, fails = fails + ?, skips = skips + ?, kernels = kernels + ?, flaky = flaky + ?,
			last_at = CASE WHEN ? > last_at THEN ? ELSE last_at END WHERE id = ?`, n.runs, n.fails, n.skips, kernels, flaky, when, when, id)
		if err != nil {
			return err
		}
	}
	return nil
}

// testID returns the id of a test.
func testID(ctx context.Context, tx *sql.Tx, name string) (id int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT id FROM tests WHERE name = ?`, name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = tx.QueryRowContext(ctx, `INSERT INTO tests (name) VALUES (?) RETURNING id`, name).Scan(&id)
	}
	return id, err
}

// recount takes runs that were withdrawn out of the summaries: it counts those
// that are left on their kernels.
func recount(ctx context.Context, tx *sql.Tx, kernels []int64) error {
	for _, k := range kernels {
		tests, err := column(ctx, tx, `SELECT test FROM tests_on_kernels WHERE kernel = ?`, k)
		if err != nil {
			return err
		}
		runs, err := countedRuns(ctx, tx, k)
		if err != nil {
			return err
		}
		for _, q := range []string{
			`DELETE FROM tests_on_kernels WHERE kernel = ?`,
			`UPDATE kernels SET runs = 0, fails = 0, last_at = '' WHERE id = ?`,
		} {
			if _, err := tx.ExecContext(ctx, q, k); err != nil {
				return err
			}
		}
		for _, t := range tests {
			_, err := tx.ExecContext(ctx, `UPDATE tests SET (runs, fails, skips, kernels, flaky, last_at) = (
				SELECT COALESCE(SUM(o.runs), 0), COALESCE(SUM(o.fails), 0), COALESCE(SUM(o.skips), 0), COUNT(*),
					COALESCE(SUM(CASE WHEN o.fails > 0 AND o.fails < o.runs AND k.identity <> '' THEN 1 ELSE 0 END), 0), COALESCE(MAX(o.last_at), '')
				FROM tests_on_kernels AS o JOIN kernels AS k ON k.id = o.kernel WHERE o.test = ?) WHERE id = ?`, t, t)
			if err != nil {
				return err
			}
		}
		for _, r := range runs {
			if err := count(ctx, tx, k, r.run, r.at); err != nil {
				return err
			}
		}
	}
	return nil
}

type countedRun struct {
	run kernel.Run
	at  string
}

// countedRuns are a kernel's runs that are not withdrawn.
func countedRuns(ctx context.Context, tx *sql.Tx, kern int64) ([]countedRun, error) {
	rows, err := tx.QueryContext(ctx, `SELECT run, at FROM runs WHERE kernel = ? AND id NOT IN (SELECT run FROM withdrawn) ORDER BY id`, kern)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var runs []countedRun
	for rows.Next() {
		var r countedRun
		var text string
		if err := rows.Scan(&text, &r.at); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(text), &r.run); err != nil {
			return nil, err
		}
		runs = append(runs, r)
	}
	return runs, rows.Err()
}

// column reads a query's one column of integers.
func column(ctx context.Context, tx *sql.Tx, query string, args ...any) ([]int64, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []int64
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, rows.Err()
}

// TestFilter says which tests are meant; what is empty does not matter.
type TestFilter struct {
	Text  string // part of the name, in any case
	Name  string // the whole name
	Flaky bool   // only those that passed and failed on one kernel
	After string // the name of a test: only those behind it
	Limit int    // how many at most
}

// TestStat is what all runs say of a test. Runs are those that are evidence.
type TestStat struct {
	Test               string
	Runs, Fails, Skips int
	Kernels            int
	Flaky              bool // on one and the same kernel it both passed and failed
	Last               time.Time
}

// TestStats returns the tests that are meant, by name. A test in a program
// with several is called as reports call it, PROGRAM/TEST.
func (s *Store) TestStats(ctx context.Context, f TestFilter) ([]TestStat, error) {
	var w where
	w.and("kernels > 0")
	if f.Text != "" {
		w.and(`lower(name) LIKE lower(?) ESCAPE '!'`, contains(f.Text))
	}
	if f.Name != "" {
		w.and("name = ?", f.Name)
	}
	if f.Flaky {
		w.and("flaky > 0")
	}
	if f.After != "" {
		w.and("name > ?", f.After)
	}
	return list(ctx, s.read, `SELECT name, runs, fails, skips, kernels, flaky, last_at FROM tests `+w.String()+` ORDER BY name LIMIT ?`,
		append(w.args, f.Limit), func(scan scanner) (t TestStat, err error) {
			var flaky int
			var last string
			err = scan(&t.Test, &t.Runs, &t.Fails, &t.Skips, &t.Kernels, &flaky, &last)
			t.Flaky, t.Last = flaky > 0, at(last)
			return t, err
		})
}

// TestOnKernel is what all runs of a test on a kernel say.
type TestOnKernel struct {
	Release, Digest, Commit string // each may be ""
	Runs, Fails, Skips      int
	Last                    time.Time
}

// TestHistory returns the kernels that a test ran on, the one used last first.
func (s *Store) TestHistory(ctx context.Context, test string, limit int) ([]TestOnKernel, error) {
	return list(ctx, s.read, `SELECT k.release, k.digest, k.commit_sha, o.runs, o.fails, o.skips, o.last_at
		FROM tests AS t JOIN tests_on_kernels AS o ON o.test = t.id JOIN kernels AS k ON k.id = o.kernel
		WHERE t.name = ? ORDER BY o.last_at DESC, k.id DESC LIMIT ?`, []any{test, limit}, func(scan scanner) (t TestOnKernel, err error) {
		var last string
		err = scan(&t.Release, &t.Digest, &t.Commit, &t.Runs, &t.Fails, &t.Skips, &last)
		t.Last = at(last)
		return t, err
	})
}

// KernelRow is what all runs on a kernel say. Two commits may give one image:
// Commit is the first that did.
type KernelRow struct {
	Release, Digest, Commit string // each may be ""
	Tests                   int
	Runs, Fails             int // executions of programs
	Last                    time.Time
}

// Kernels returns the kernels that were used last, at most limit; after is the
// digest of the last one of the list before, "" for the first.
func (s *Store) Kernels(ctx context.Context, after string, limit int) ([]KernelRow, error) {
	var w where
	w.and("last_at <> ''")
	if after != "" {
		w.and(`(last_at, id) < (SELECT last_at, id FROM kernels WHERE digest = ? ORDER BY id LIMIT 1)`, after)
	}
	return list(ctx, s.read, `SELECT release, digest, commit_sha, (SELECT COUNT(*) FROM tests_on_kernels WHERE kernel = kernels.id), runs, fails, last_at FROM kernels `+
		w.String()+` ORDER BY last_at DESC, id DESC LIMIT ?`, append(w.args, limit), func(scan scanner) (k KernelRow, err error) {
		var last string
		err = scan(&k.Release, &k.Digest, &k.Commit, &k.Tests, &k.Runs, &k.Fails, &last)
		k.Last = at(last)
		return k, err
	})
}

type scanner func(dest ...any) error

// list reads the rows of a query.
func list[T any](ctx context.Context, db *sql.DB, query string, args []any, read func(scan scanner) (T, error)) ([]T, error) {
	what := func(err error) error { return fmt.Errorf("read the record: %w", err) }
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, what(err)
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		x, err := read(rows.Scan)
		if err != nil {
			return nil, what(err)
		}
		out = append(out, x)
	}
	if err := rows.Err(); err != nil {
		return nil, what(err)
	}
	return out, nil
}

// programs are the programs that a test may be of: itself, and whatever stands
// before a slash in its name.
func programs(test string) []string {
	names := []string{test}
	for i := range test {
		if strings.HasPrefix(test[i:], "/") {
			names = append(names, test[:i])
		}
	}
	return names
}
