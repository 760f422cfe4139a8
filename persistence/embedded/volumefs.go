package embedded

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// databaseFS is the file system as one database sees it: calls wait while the
// disk is full, fsyncs are counted, and a failed one ends the process.
type databaseFS struct {
	vfs.FS
	volume  *volume
	onFsync func(took time.Duration)

	// deferLogSyncs makes the fsync of a log file wait for one that comes while
	// it is false, or for the file's close: durability os. The data is with the
	// operating system all the same, so that it survives the process.
	deferLogSyncs atomic.Bool

	fsyncs    atomic.Int64
	fsyncTime atomic.Int64 // nanoseconds
	written   atomic.Int64 // bytes
}

// Unwrap implements vfs.FS.
func (fs *databaseFS) Unwrap() vfs.FS { return fs.FS }

// owns reports whether a file lies in the data folder. The files of a backup
// do not: their errors go to whoever asked for it, and say nothing about the
// disk of the data folder.
func (fs *databaseFS) owns(name string) bool {
	return name == fs.volume.dir || strings.HasPrefix(name, fs.volume.dir+string(filepath.Separator))
}

// untilSpace calls op, again and again while the disk is full, unless that is
// for others to deal with: a table's writer, or whoever makes a backup.
func (fs *databaseFS) untilSpace(name string, op func() error) error {
	switch {
	case !fs.owns(name):
		return op()
	case isTable(name):
		err := op()
		if vfs.IsNoSpaceError(err) {
			fs.volume.tableFailed(name, err)
		}
		return err
	default:
		return fs.volume.untilSpace(name, op)
	}
}

func isTable(name string) bool { return filepath.Ext(name) == ".sst" }

// open wraps what a call that opens a file returns.
func (fs *databaseFS) open(name string, open func() (vfs.File, error)) (vfs.File, error) {
	var file vfs.File
	err := fs.untilSpace(name, func() (err error) {
		file, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &databaseFile{File: file, fs: fs, name: name, isLog: filepath.Ext(name) == ".log"}, nil
}

// Create implements vfs.FS.
func (fs *databaseFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if isTable(name) && fs.owns(name) {
		fs.volume.beforeTable()
	}
	return fs.open(name, func() (vfs.File, error) { return fs.FS.Create(name, category) })
}

// OpenReadWrite implements vfs.FS.
func (fs *databaseFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return fs.open(name, func() (vfs.File, error) { return fs.FS.OpenReadWrite(name, category, opts...) })
}

// ReuseForWrite implements vfs.FS.
func (fs *databaseFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.open(newname, func() (vfs.File, error) { return fs.FS.ReuseForWrite(oldname, newname, category) })
}

// OpenDir implements vfs.FS.
func (fs *databaseFS) OpenDir(name string) (vfs.File, error) {
	return fs.open(name, func() (vfs.File, error) { return fs.FS.OpenDir(name) })
}

// Link implements vfs.FS.
func (fs *databaseFS) Link(oldname, newname string) error {
	return fs.untilSpace(newname, func() error { return fs.FS.Link(oldname, newname) })
}

// Remove implements vfs.FS.
func (fs *databaseFS) Remove(name string) error {
	return fs.untilSpace(name, func() error { return fs.FS.Remove(name) })
}

// Rename implements vfs.FS.
func (fs *databaseFS) Rename(oldname, newname string) error {
	return fs.untilSpace(newname, func() error { return fs.FS.Rename(oldname, newname) })
}

// MkdirAll implements vfs.FS. Nobody but the owner may look inside.
func (fs *databaseFS) MkdirAll(dir string, perm os.FileMode) error {
	return fs.untilSpace(dir, func() error { return fs.FS.MkdirAll(dir, perm&0o700) })
}

type databaseFile struct {
	vfs.File
	fs    *databaseFS
	name  string
	isLog bool
	// unsynced: an fsync was asked for and put off.
	unsynced atomic.Bool
}

// Write implements vfs.File.
func (f *databaseFile) Write(p []byte) (int, error) {
	written := 0
	err := f.fs.untilSpace(f.name, func() error {
		n, err := f.File.Write(p[written:])
		written += n
		return err
	})
	f.fs.written.Add(int64(written))
	return written, err
}

// WriteAt implements vfs.File.
func (f *databaseFile) WriteAt(p []byte, offset int64) (int, error) {
	written := 0
	err := f.fs.untilSpace(f.name, func() error {
		n, err := f.File.WriteAt(p[written:], offset+int64(written))
		written += n
		return err
	})
	f.fs.written.Add(int64(written))
	return written, err
}

// Preallocate implements vfs.File. It only makes later writes cheaper, so a
// disk that is too full for it is no error.
func (f *databaseFile) Preallocate(offset, length int64) error {
	if err := f.File.Preallocate(offset, length); err != nil && !vfs.IsNoSpaceError(err) {
		return err
	}
	return nil
}

// Sync implements vfs.File.
func (f *databaseFile) Sync() error { return f.fsync(f.File.Sync) }

// SyncData implements vfs.File.
func (f *databaseFile) SyncData() error { return f.fsync(f.File.SyncData) }

// SyncTo implements vfs.File.
func (f *databaseFile) SyncTo(length int64) (fullSync bool, err error) {
	fullSync, err = f.File.SyncTo(length)
	return fullSync, f.check(err)
}

// Close implements vfs.File.
func (f *databaseFile) Close() error {
	if f.unsynced.Load() {
		if err := f.fsyncNow(f.File.SyncData); err != nil {
			return err
		}
	}
	return f.File.Close()
}

func (f *databaseFile) fsync(sync func() error) error {
	if f.isLog && f.fs.deferLogSyncs.Load() {
		f.unsynced.Store(true)
		return nil
	}
	return f.fsyncNow(sync)
}

func (f *databaseFile) fsyncNow(sync func() error) error {
	start := time.Now()
	f.unsynced.Store(false)
	err := sync()
	took := time.Since(start)
	f.fs.fsyncs.Add(1)
	f.fs.fsyncTime.Add(int64(took))
	f.fs.onFsync(took)
	return f.check(err)
}

// check ends the process when an fsync of the data folder failed.
func (f *databaseFile) check(err error) error {
	if err != nil && f.fs.owns(f.name) {
		f.fs.volume.fail(fmt.Errorf("fsync %s: %w", f.name, err))
	}
	return err
}
