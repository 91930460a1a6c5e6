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
type tally struct {
	runs, fails, skips int
	last               string // when the latest was made
}

func (t *tally) add(o kernel.Outcome, when string) {
	switch {
	case o.Bad():
		t.runs++
		t.fails++
	case o.Counts():
		t.runs++
	case o == kernel.Skip:
		t.skips++
	default:
		return // an infra run tells nothing
	}
	t.last = max(t.last, when)
}

// none says whether there is nothing.
func (t tally) none() bool { return t.runs == 0 && t.skips == 0 }

// mixed says whether there are passes and failures.
func (t tally) mixed() bool { return t.fails > 0 && t.fails < t.runs }

// tallies count what runs on one kernel say of it, and of which tests.
type tallies struct {
	own   tally
	tests map[string]tally
}

// add counts a run: for its program, or for each of several tests in it, as
// reports do.
func (t *tallies) add(r kernel.Run, when string) {
	t.own.add(r.Outcome, when)
	if len(r.Tests) == 0 {
		t.addTest(r.Test, r.Outcome, when)
	}
	for _, o := range r.Tests {
		name := r.Test
		if o.Name != "" {
			name += "/" + o.Name
		}
		t.addTest(name, o.Outcome, when)
	}
}

func (t *tallies) addTest(name string, o kernel.Outcome, when string) {
	n := t.tests[name]
	if n.add(o, when); n.none() {
		return
	}
	if t.tests == nil {
		t.tests = map[string]tally{}
	}
	t.tests[name] = n
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

// count adds to the summaries what was counted on a kernel.
func count(ctx context.Context, tx *sql.Tx, kern int64, add tallies) error {
	if n := add.own; !n.none() {
		_, err := tx.ExecContext(ctx, `UPDATE kernels SET runs = runs + ?, fails = fails + ?, last_at = CASE WHEN ? > last_at THEN ? ELSE last_at END
			WHERE id = ?`, n.runs, n.fails, n.last, n.last, kern)
		if err != nil {
			return err
		}
	}
	if len(add.tests) == 0 {
		return nil
	}
	var known bool
	if err := tx.QueryRowContext(ctx, `SELECT identity <> '' FROM kernels WHERE id = ?`, kern).Scan(&known); err != nil {
		return err
	}
	c, err := newCounter(ctx, tx)
	if err != nil {
		return err
	}
	for test, n := range add.tests {
		if err := c.count(ctx, test, kern, known, n); err != nil {
			return err
		}
	}
	return nil
}

// counter has the statements that add to the counts of a test: a kselftest has
// hundreds. They end with their transaction.
type counter struct{ find, create, onKernel, total *sql.Stmt }

func newCounter(ctx context.Context, tx *sql.Tx) (c counter, err error) {
	for _, s := range []struct {
		to  **sql.Stmt
		sql string
	}{
		{&c.find, `SELECT id FROM tests WHERE name = ?`},
		{&c.create, `INSERT INTO tests (name) VALUES (?) RETURNING id`},
		{&c.onKernel, `INSERT INTO tests_on_kernels (test, kernel, runs, fails, skips, last_at) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (test, kernel) DO UPDATE SET runs = tests_on_kernels.runs + excluded.runs, fails = tests_on_kernels.fails + excluded.fails,
				skips = tests_on_kernels.skips + excluded.skips,
				last_at = CASE WHEN excluded.last_at > tests_on_kernels.last_at THEN excluded.last_at ELSE tests_on_kernels.last_at END
			RETURNING runs, fails, skips`},
		{&c.total, `UPDATE tests SET runs = runs + ?, fails = fails + ?, skips = skips + ?, kernels = kernels + ?, flaky = flaky + ?,
			last_at = CASE WHEN ? > last_at THEN ? ELSE last_at END WHERE id = ?`},
	} {
		if *s.to, err = tx.PrepareContext(ctx, s.sql); err != nil {
			return c, err
		}
	}
	return c, nil
}

// count adds to what a test did on a kernel and on all.
func (c *counter) count(ctx context.Context, test string, kern int64, known bool, n tally) error {
	var id int64
	err := c.find.QueryRowContext(ctx, test).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = c.create.QueryRowContext(ctx, test).Scan(&id)
	}
	if err != nil {
		return err
	}
	var sum tally
	err = c.onKernel.QueryRowContext(ctx, id, kern, n.runs, n.fails, n.skips, n.last).Scan(&sum.runs, &sum.fails, &sum.skips)
	if err != nil {
		return err
	}
	before := tally{runs: sum.runs - n.runs, fails: sum.fails - n.fails, skips: sum.skips - n.skips}
	kernels, flaky := 0, 0
	if before.none() {
		kernels = 1
	}
	if known && sum.mixed() && !before.mixed() {
		flaky = 1
	}
	_, err = c.total.ExecContext(ctx, n.runs, n.fails, n.skips, kernels, flaky, n.last, n.last, id)
	return err
}

// recount takes runs that were withdrawn out of the summaries: it counts those
// that are left on their kernels.
func recount(ctx context.Context, tx *sql.Tx, kernels []int64) error {
	for _, k := range kernels {
		tests, err := column(ctx, tx, `SELECT test FROM tests_on_kernels WHERE kernel = ?`, k)
		if err != nil {
			return err
		}
		left, err := talliesOf(ctx, tx, k)
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
		if err := count(ctx, tx, k, left); err != nil {
			return err
		}
	}
	return nil
}

// talliesOf counts a kernel's runs that are not withdrawn.
func talliesOf(ctx context.Context, tx *sql.Tx, kern int64) (t tallies, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT run, at FROM runs WHERE kernel = ? AND id NOT IN (SELECT run FROM withdrawn)`, kern)
	if err != nil {
		return t, err
	}
	defer rows.Close()
	for rows.Next() {
		var r kernel.Run
		var text, when string
		if err := rows.Scan(&text, &when); err != nil {
			return t, err
		}
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			return t, err
		}
		t.add(r, when)
	}
	return t, rows.Err()
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
