package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/embedded"
	"github.com/tegami-im/tegami/persistence/persisttest"
)

// during calls f once, at the first operation on a file whose name contains
// part, before that happens.
func during(kind errorfs.OpKind, part string, f func()) errorfs.InjectorFunc {
	var once sync.Once
	return func(op errorfs.Op) error {
		if op.Kind == kind && strings.Contains(op.Path, part) {
			once.Do(f)
		}
		return nil
	}
}

func restoreAndOpen(t *testing.T, fs vfs.FS, from string) *embedded.Storage {
	t.Helper()
	if err := embedded.Restore(t.Context(), fs, from, "/restored"); err != nil {
		t.Fatal(err)
	}
	s, err := embedded.Open(embedded.Options{Dir: "/restored", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestBackupHoldsTruncation: between the copies of the store and of the
// journal, everything moves on, and the journal is truncated. The copy of the
// journal has all the same what the copy of the store lacks.
func TestBackupHoldsTruncation(t *testing.T) {
	const early, late = 10, 20_000
	disk := vfs.NewMem()
	var s *embedded.Storage
	moveOn := func(from, to int64) {
		for first := from; first < to; first += 1000 {
			var records []string
			for record := first; record < min(to, first+1000); record++ {
				records = append(records, loadRecord(0, record))
			}
			if _, err := persisttest.Append(t.Context(), s.Journal, 0, records...); err != nil {
				t.Error(err)
			}
		}
		err := s.Store.Write(t.Context(), 0, loadBatch(0, from, to-1))
		err = errors.Join(err, s.Store.Sync(t.Context()), s.Journal.Truncate(t.Context(), 0, to))
		_, appendErr := persisttest.Append(t.Context(), s.Journal, 1, "the commit that truncates")
		if err = errors.Join(err, appendErr); err != nil {
			t.Error(err)
		}
	}
	fs := errorfs.Wrap(disk, during(errorfs.OpStat, "/backup/journal", func() { moveOn(early, late) }))
	s = newFolder(t, embedded.Options{Dir: "/data", FS: fs}).open
	moveOn(0, early)
	if err := s.Backup(t.Context(), "/backup"); err != nil {
		t.Fatal(err)
	}
	restored := restoreAndOpen(t, disk, "/backup")
	marks, err := restored.Store.Marks(t.Context(), 0)
	if err != nil || marks.Checkpoint.Offset != early-1 {
		t.Fatalf("the store's checkpoint is %v, error %v, want %d", marks.Checkpoint, err, early-1)
	}
	entries, err := persisttest.ReadAll(t.Context(), restored.Journal, 0, early)
	if err != nil || len(entries) != late-early {
		t.Fatalf("the journal holds %d records above the checkpoint, error %v, want %d", len(entries), err, late-early)
	}
	moveOn(late, late+1) // and truncation goes on
	if got := s.Stats().Journal.DiskBytes; got > 64<<20 {
		t.Errorf("the journal takes %d bytes", got)
	}
}

// TestBackupOfLogThatGrows: while the log is copied, it grows past the place
// that was copied last. The copy has a hole then, behind all that it must hold.
func TestBackupOfLogThatGrows(t *testing.T) {
	disk := vfs.NewMem()
	var s *embedded.Storage
	record := bytes.Repeat([]byte("x"), 9000)
	grow := func() {
		for range 20 {
			if _, err := persisttest.Append(t.Context(), s.Journal, 0, string(record)); err != nil {
				t.Error(err)
			}
		}
	}
	fs := errorfs.Wrap(disk, during(errorfs.OpFileWrite, "/backup/journal/000002.log", grow))
	s = newFolder(t, embedded.Options{Dir: "/data", FS: preallocating{fs}}).open
	if _, err := persisttest.Append(t.Context(), s.Journal, 0, "first"); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(t.Context(), "/backup"); err != nil {
		t.Fatal(err)
	}
	restored := restoreAndOpen(t, disk, "/backup")
	entries, err := persisttest.ReadAll(t.Context(), restored.Journal, 0, 0)
	if err != nil || len(entries) == 0 || string(entries[0].Data) != "first" {
		t.Fatalf("the copy holds %d records, error %v", len(entries), err)
	}
}

// preallocating makes log files as long as a disk makes them that preallocates.
type preallocating struct{ vfs.FS }

func (fs preallocating) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := fs.FS.Create(name, category)
	if err != nil || !strings.HasPrefix(name, "/data/journal/") || filepath.Ext(name) != ".log" {
		return file, err
	}
	_, err = file.Write(make([]byte, 1<<20))
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	return fs.OpenReadWrite(name, category)
}

func TestBackupRefuses(t *testing.T) {
	f := newFolder(t, embedded.Options{})
	dir := t.TempDir()
	if err := f.open.Backup(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "must not exist") {
		t.Errorf("a backup to a folder that exists: %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := f.open.Backup(ended, dir+"/b"); !errors.Is(err, context.Canceled) {
		t.Errorf("a backup with an ended context: %v", err)
	}
	if _, err := os.Stat(dir + "/b"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a backup that failed left its folder: %v", err)
	}
	if err := f.open.Backup(t.Context(), dir+"/b"); err != nil {
		t.Fatal(err)
	}
	if err := embedded.Restore(t.Context(), nil, dir+"/b", dir); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("restoring to a folder that is not empty: %v", err)
	}
	for _, missing := range []string{"keys", "FORMAT"} {
		if err := os.RemoveAll(filepath.Join(dir, "b", missing)); err != nil {
			t.Fatal(err)
		}
		err := embedded.Restore(t.Context(), nil, dir+"/b", fmt.Sprintf("%s/without-%s", dir, missing))
		if err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("restoring without %s: %v", missing, err)
		}
	}
	if err := f.open.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.open.Backup(t.Context(), dir+"/closed"); !errors.Is(err, persistence.ErrClosed) {
		t.Errorf("a backup of a closed folder: %v", err)
	}
}
