package kbuild

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// watch notes which files of a tree are opened, by whoever and however: the
// kernel tells (inotify(7)), so that a file which it does not name was not read.
// It does not tell of names that were looked for in vain, nor of files of which
// only times and sizes were asked for.
type watch struct {
	fd     int
	ended  [2]int // a pipe: closed at the other end when no more will be opened
	dirs   map[int32]string
	done   sync.WaitGroup
	opened map[int32]map[string]bool
	err    error
}

// errLost: more was opened at a time than the kernel keeps for us.
var errLost = errors.New("inotify: events were lost")

// dirsOf lists the directories of a tree, "." first.
func dirsOf(dir string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || !d.IsDir():
			return err
		case path != dir && d.Name() == ".git":
			return filepath.SkipDir
		}
		rel, err := filepath.Rel(dir, path)
		out = append(out, rel)
		return err
	})
	return out, err
}

// watchReads begins to watch the directories of a tree, relative to dir. What is
// opened before it returns, or in directories that are made later, is not seen.
func watchReads(dir string, within []string) (*watch, error) {
	w := &watch{dirs: map[int32]string{}, opened: map[int32]map[string]bool{}}
	var err error
	if w.fd, err = unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC); err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	if err := unix.Pipe2(w.ended[:], unix.O_CLOEXEC); err != nil {
		_ = unix.Close(w.fd)
		return nil, err
	}
	w.done.Go(w.read)
	for _, rel := range within {
		id, err := unix.InotifyAddWatch(w.fd, filepath.Join(dir, rel), unix.IN_OPEN|unix.IN_ONLYDIR|unix.IN_DONT_FOLLOW)
		if err != nil {
			_, _ = w.stop()
			return nil, fmt.Errorf("inotify: %s: %w", rel, err)
		}
		w.dirs[int32(id)] = rel
	}
	return w, nil
}

// stop ends watching and returns what was opened since, and before now.
func (w *watch) stop() (map[string]bool, error) {
	_ = unix.Close(w.ended[1])
	w.done.Wait()
	_ = unix.Close(w.ended[0])
	_ = unix.Close(w.fd)
	if w.err != nil {
		return nil, w.err
	}
	files := map[string]bool{}
	for id, names := range w.opened {
		dir, ok := w.dirs[id]
		if !ok {
			return nil, errLost
		}
		for name := range maps.Keys(names) {
			files[filepath.Join(dir, name)] = true
		}
	}
	return files, nil
}

// read takes events until there are no more and none will come. A build opens
// hundreds of thousands of files, the same ones over and over.
func (w *watch) read() {
	buf := make([]byte, 1<<20)
	for last := false; ; {
		n, err := unix.Read(w.fd, buf)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN && last:
			return
		case err == unix.EAGAIN:
			fds := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}, {Fd: int32(w.ended[0]), Events: unix.POLLIN}}
			if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
				w.err = os.NewSyscallError("poll", err)
				return
			}
			last = fds[1].Revents != 0 // once more: what came in between
		case err != nil:
			w.err = fmt.Errorf("inotify: %w", err)
			return
		default:
			w.take(buf[:n])
			time.Sleep(batch)
		}
	}
}

// batch is how long events are left to gather: waking up for each would cost 3 %
// of a build. The kernel keeps 16,384, and a build on two cores opens 20,000
// files a second.
const batch = 20 * time.Millisecond

var word = binary.NativeEndian.Uint32

// take notes the events of a buffer.
func (w *watch) take(buf []byte) {
	for len(buf) >= unix.SizeofInotifyEvent {
		// struct inotify_event: wd, mask, cookie, len, and the name behind it.
		id, mask, length := int32(word(buf)), word(buf[4:]), word(buf[12:])
		name := buf[unix.SizeofInotifyEvent : unix.SizeofInotifyEvent+length]
		buf = buf[unix.SizeofInotifyEvent+length:]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			w.err = errLost
		}
		if mask&unix.IN_OPEN == 0 || mask&unix.IN_ISDIR != 0 {
			continue
		}
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		names := w.opened[id]
		if names == nil {
			names = map[string]bool{}
			w.opened[id] = names
		}
		if !names[string(name)] { // asking costs no copy of the name
			names[string(name)] = true
		}
	}
}
