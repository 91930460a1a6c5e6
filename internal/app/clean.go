package app

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/imagecache"
)

// maxKernels is how many bytes of kernels are kept without being asked: a
// thousand, at 9 MB with their logs.
const maxKernels = 10e9

// kept is something in the cache directory that can be made again.
type kept struct {
	what  string // kernels, guest images, one of treeKinds
	name  string // key or path
	bytes int64
	used  time.Time
	drop  func() error
}

func newClean(o *options) *cobra.Command {
	var most string
	var all, dry bool
	cmd := &cobra.Command{
		Use:   "clean [--max SIZE | --all]",
		Short: "Delete what can be made again: kernels, source and object trees",
		Long: `Deletes kernels, object trees, source trees, the objects of ccache and guest images, those that were
used longest ago first, until what is left has at most the given size. The record of runs stays: reports
and verdicts need none of it. Without a size it says what there is.

Without being asked kernels are kept up to 10 GB, trees and ccache up to 15 GB, and guest images for a
week; what a job that is under way has used stays.`,
		Example: `  orchestrator clean
  orchestrator clean --max 5GB
  orchestrator clean --all`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			limit := int64(-1)
			switch {
			case all && most != "":
				return usagef("--max and --all exclude each other")
			case all:
				limit = 0
			case most != "":
				var err error
				if limit, err = parseSize(most); err != nil {
					return err
				}
			}
			return o.clean(cmd.Context(), limit, dry)
		},
	}
	cmd.Flags().StringVar(&most, "max", "", "`size` of what may be left, such as 5GB or 500MB")
	cmd.Flags().BoolVar(&all, "all", false, "delete all of it")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be deleted")
	return cmd
}

// parseSize reads 5GB, 500 MB, 1.5G.
func parseSize(text string) (int64, error) {
	s := strings.ToUpper(strings.ReplaceAll(text, " ", ""))
	s = strings.TrimSuffix(strings.TrimSuffix(s, "B"), "I")
	factor := 1.0
	for unit, by := range map[string]float64{"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12} {
		if rest, ok := strings.CutSuffix(s, unit); ok {
			s, factor = rest, by
			break
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || n < 0 || n*factor > 1e18 {
		return 0, usagef("--max %s: a size such as 5GB", text)
	}
	return int64(n * factor), nil
}

// clean deletes what was used longest ago until at most limit bytes are left, and
// says what there is; a negative limit deletes nothing.
func (o *options) clean(ctx context.Context, limit int64, dry bool) error {
	ws, err := o.openWorkspace(ctx) // nobody is at work on any of it
	if err != nil {
		return err
	}
	defer ws.close()
	items, err := ws.cached(true)
	if err != nil {
		return err
	}
	gone := overdue(items, limit)
	if !dry {
		for _, it := range gone {
			if ctx.Err() != nil {
				return cancelled(ctx)
			}
			if err := it.drop(); err != nil {
				return fmt.Errorf("clean: %w", err)
			}
		}
	}
	return o.print(func(w io.Writer) error { return printCached(w, items, gone, dry) })
}

// overdue are the items to delete so that at most limit bytes are left, those
// that were used longest ago; none for a negative limit.
func overdue(items []kept, limit int64) []kept {
	if limit < 0 {
		return nil
	}
	items = slices.Clone(items)
	slices.SortStableFunc(items, func(a, b kept) int { return a.used.Compare(b.used) })
	left, n := total(items).Bytes, 0
	for n < len(items) && left > limit {
		left -= items[n].bytes
		n++
	}
	return items[:n]
}

// keepImages is for how long guest images are kept that nobody uses: another is
// made in a moment.
const keepImages = 7 * 24 * time.Hour

// trim deletes kernels and trees that are more than is kept, but none that was used
// since, and old guest images. That it cannot be done is no reason not to work.
func (w *workspace) trim(ctx context.Context, since time.Time, log *zap.Logger) {
	images, _ := filepath.Glob(filepath.Join(w.cache, "images", "*"))
	for _, path := range images {
		if st, err := os.Stat(path); err == nil && st.ModTime().Before(since.Add(-keepImages)) {
			_ = os.Remove(path)
		}
	}
	kernels, err := imagecache.Open(filepath.Join(w.cache, "kernels"))
	var n int
	var freed int64
	if err == nil {
		n, freed, err = kernels.Evict(maxKernels, since)
	}
	if n > 0 {
		log.Info("kernels that were used longest ago are deleted", zap.Int("kernels", n), zap.Int64("bytes", freed))
	}
	if err != nil {
		log.Warn("old kernels cannot be deleted", zap.Error(err))
	}
	w.trimTrees(ctx, since, log)
}

// cached is all that can be made again. Who has the cache directory to himself may
// have what he finds out of it remembered.
func (w *workspace) cached(remember bool) ([]kept, error) {
	kernels, err := imagecache.Open(filepath.Join(w.cache, "kernels"))
	if err != nil {
		return nil, err
	}
	entries, err := kernels.Entries()
	if err != nil {
		return nil, err
	}
	var out []kept
	for _, e := range entries {
		out = append(out, kept{"kernels", e.Key, e.Bytes, e.Used, func() error { return kernels.Remove(e.Key) }})
	}
	trees, err := w.trees(remember)
	if err != nil {
		return nil, err
	}
	out = append(out, trees...)
	images, err := filepath.Glob(filepath.Join(w.cache, "images", "*"))
	if err != nil {
		return nil, err
	}
	for _, path := range images {
		if st, err := os.Stat(path); err == nil {
			out = append(out, kept{"guest images", path, st.Size(), st.ModTime(), func() error { return os.Remove(path) }})
		}
	}
	return out, nil
}

// sum is how much there is of a kind.
type sum struct {
	What  string `json:"what"`
	Count int    `json:"count"`
	Bytes int64  `json:"bytes"`
}

// sums are those of all kinds, the most first.
func sums(items []kept) []sum {
	var out []sum
	for _, it := range items {
		i := slices.IndexFunc(out, func(s sum) bool { return s.What == it.what })
		if i < 0 {
			i, out = len(out), append(out, sum{What: it.what})
		}
		out[i].Count++
		out[i].Bytes += it.bytes
	}
	slices.SortStableFunc(out, func(a, b sum) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return out
}

// printCached says what there is of each kind, and what was deleted of it.
func printCached(w io.Writer, items, gone []kept, dry bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	verb := "deleted"
	if dry {
		verb = "to delete"
	}
	row := func(have, lost sum) {
		fmt.Fprintf(t, "%s\t%d\t%s", have.What, have.Count, size(have.Bytes))
		if lost.Count > 0 {
			fmt.Fprintf(t, "\t%s %d, %s", verb, lost.Count, size(lost.Bytes))
		}
		fmt.Fprintln(t)
	}
	lost := map[string]sum{}
	for _, s := range sums(gone) {
		lost[s.What] = s
	}
	for _, have := range sums(items) {
		row(have, lost[have.What])
	}
	row(total(items), total(gone))
	return t.Flush()
}

func total(items []kept) sum {
	all := sum{What: "all"}
	for _, it := range items {
		all.Count++
		all.Bytes += it.bytes
	}
	return all
}

// size is a number of bytes for people.
func size(bytes int64) string {
	switch {
	case bytes < 1e6:
		return fmt.Sprintf("%.0f kB", float64(bytes)/1e3)
	case bytes < 1e9:
		return fmt.Sprintf("%.0f MB", float64(bytes)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(bytes)/1e9)
}
