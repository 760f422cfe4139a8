package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"
)

// Backup copies the data folder to dir, which must not exist, while everything
// goes on. Everything acknowledged before the call is in it. Its keys lie in a
// folder of their own, dir/keys: move them elsewhere and keep them for days
// only, since a mailbox is erased by dropping its key.
//
// The order makes the copy one that a crash could have left:
//
//   - Nothing is deleted from the journal from the start to the end. So the
//     journal's copy holds all that the store's copy has not.
//   - The store goes first, the journal second: what the store speaks of is in
//     the journal by then, so the store is never ahead of it.
//   - The keys go last: a key is durable before the first append that uses it,
//     so the keys' copy opens all that the other two hold.
//
// FORMAT is written when all is done; Restore refuses a folder without it.
func (s *Storage) Backup(ctx context.Context, dir string) (err error) {
	fs := s.options.FS
	dir = filepath.Clean(dir)
	if there, err := exists(fs, dir); err != nil || there {
		return errors.Join(fmt.Errorf("backup to %s: the folder must not exist", dir), err)
	}
	if err := makeDir(fs, dir); err != nil {
		return fmt.Errorf("backup to %s: %w", dir, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("backup to %s: %w", dir, err)
			_ = fs.RemoveAll(dir)
		}
	}()
	defer s.Journal.queue.hold()()
	if err := s.Store.db.backup(ctx, dir, s.Store.Sync); err != nil {
		return err
	}
	if err := s.Journal.db.backup(ctx, dir, s.Journal.Sync); err != nil {
		return err
	}
	if err := s.Keys.db.backup(ctx, dir, func(context.Context) error { return nil }); err != nil {
		return err
	}
	return writeFormat(fs, dir, format{Version: formatVersion, Shards: s.Shards, Complete: true})
}

// backup copies the database below dir, with all that flush brings to its
// files.
func (d *database) backup(ctx context.Context, dir string, flush func(context.Context) error) error {
	if err := flush(ctx); err != nil {
		return err
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	target := d.fs.PathJoin(dir, d.name)
	if err := d.Checkpoint(target); err != nil {
		return fmt.Errorf("copy %s: %w", d.name, err)
	}
	return cutCopiedLog(d.fs.FS, target)
}

// cutCopiedLog ends the last log of a copy at the first record that does not
// read. The log was written to while it was copied, so that a later record may
// be in the copy and an earlier one not; neither is one that the copy has to
// hold.
func cutCopiedLog(fs vfs.FS, dir string) error {
	logs, err := wal.Scan(wal.Dir{FS: fs, Dirname: dir})
	if err != nil || len(logs) == 0 {
		return err
	}
	scan, err := scanLog(logs[len(logs)-1])
	if err != nil || scan.clean {
		return err
	}
	tail, err := readFrom(fs, scan.file, scan.end)
	if err != nil {
		return err
	}
	return eraseTail(fs, scan, tail)
}

// Restore copies a backup to a data folder that does not exist or is empty,
// synced. A nil fs means the machine's file system.
func Restore(ctx context.Context, fs vfs.FS, from, to string) error {
	if fs == nil {
		fs = vfs.Default
	}
	from, to = filepath.Clean(from), filepath.Clean(to)
	if err := restore(ctx, fs, from, to); err != nil {
		return fmt.Errorf("restore %s to %s: %w", from, to, err)
	}
	return nil
}

func restore(ctx context.Context, fs vfs.FS, from, to string) error {
	f, err := readFormat(fs, from)
	if err != nil {
		return err
	}
	if names, err := fs.List(to); err == nil && len(names) > 0 {
		return errors.New("the data folder is not empty")
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, name := range databaseNames {
		source, target := fs.PathJoin(from, name), fs.PathJoin(to, name)
		if there, err := exists(fs, source); err != nil || !there {
			return errors.Join(fmt.Errorf("the backup has no folder %s", name), err)
		}
		if err := copyDir(ctx, fs, source, target); err != nil {
			return err
		}
	}
	return writeFormat(fs, to, f)
}

// copyDir copies the files of a folder, synced.
func copyDir(ctx context.Context, fs vfs.FS, from, to string) error {
	names, err := fs.List(from)
	if err != nil {
		return err
	}
	if err := makeDir(fs, to); err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := vfs.Copy(fs, fs.PathJoin(from, name), fs.PathJoin(to, name)); err != nil {
			return err
		}
	}
	return syncDir(fs, to)
}
