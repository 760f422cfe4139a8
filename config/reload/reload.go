// Package reload keeps what was read from files as new as the files.
package reload

import (
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// Every is how long a file that changed may go unnoticed.
const Every = 5 * time.Second

// Value is read again when its files change. It is safe for concurrent use.
type Value[T any] struct {
	paths []string
	read  func() (T, error)
	log   *slog.Logger

	mu      sync.Mutex // guards the following
	current T
	version []version // of the files that current was read from
	checked time.Time
}

// version tells one content of a file from the next.
type version struct {
	modified time.Time
	size     int64
}

// New reads a value from files. The error is that of the first reading.
func New[T any](paths []string, log *slog.Logger, read func() (T, error)) (*Value[T], error) {
	v := &Value[T]{paths: paths, read: read, log: log}
	return v, v.reload()
}

// Get returns the value. It looks whether the files have changed, Every at most;
// what cannot be read then leaves the last good value in place.
func (v *Value[T]) Get() T {
	v.mu.Lock()
	defer v.mu.Unlock()
	if time.Since(v.checked) >= Every {
		if err := v.reload(); err != nil {
			v.log.Error("files are not read again, what was in them stays", "files", v.paths, "error", err)
		}
	}
	return v.current
}

// reload reads the files if they have changed. The caller holds the lock, or has
// the value to itself.
func (v *Value[T]) reload() error {
	v.checked = time.Now()
	versions := make([]version, len(v.paths))
	for i, path := range v.paths {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		versions[i] = version{modified: info.ModTime(), size: info.Size()}
	}
	if slices.Equal(versions, v.version) {
		return nil
	}
	value, err := v.read()
	if err != nil {
		return err
	}
	v.current, v.version = value, versions
	return nil
}
