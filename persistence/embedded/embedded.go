// Package embedded keeps journal, store and keys on one machine, in three
// Pebble databases below one data folder:
//
//	FORMAT    the version of the folder and its number of shards
//	LOCK      held by the process that has the folder open
//	journal/  all shards' logs, in one physical log: one fsync commits what
//	          queued, over all shards, while the one before was in flight
//	store/    the projection: states, operations, dedup entries
//	keys/     the keys of mailboxes, apart, since they are backed up apart
//
// What was acknowledged is never given up in silence. A log that ends in a
// torn record is cut there, with a line in the log; damage anywhere else stops
// Open with an error that names file and offset. A failed fsync ends the
// process. A full disk refuses appends until there is space again.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tegami-im/tegami/persistence"
)

// Options say how a data folder is opened. Only Dir is needed.
type Options struct {
	// Dir is the data folder. It is made when it is missing; other files in it
	// are left alone.
	Dir string
	// FS is the file system that Dir lies on; nil means the machine's.
	FS vfs.FS
	// Durability says what an append waits for.
	Durability persistence.Durability
	// Shards is the number of shards. A folder keeps the number that it was
	// made with; 0 means that number, and 256 for a new folder.
	Shards int
	// Logger gets what an operator must know; nil discards it.
	Logger *slog.Logger
	// CacheBytes bounds the block cache that the three databases share; 0 means
	// 64 MiB. Write buffers come on top, 40 MiB at most in normal operation.
	CacheBytes int64
	// ReserveBytes is the free space below which appends are refused, though
	// never more than 5 % of the disk; 0 means 64 MiB.
	ReserveBytes uint64
	// QueueBytes bounds the appends that wait for the one in flight; 0 means
	// 64 MiB. What does not fit is refused with persistence.ErrBusy.
	QueueBytes int
	// Now is the clock of log time; nil means the system's.
	Now func() time.Time
	// OnFsync is told of each fsync of a database (journal, store or keys).
	// It is called by many goroutines and must be quick.
	OnFsync func(database string, took time.Duration)
	// Exit ends the process after an error that leaves the disk in doubt; nil
	// means os.Exit. Tests replace it; nothing is acknowledged after the call,
	// whether it returns or not.
	Exit func(code int)
}

// DefaultShards is the number of shards of a new data folder.
const DefaultShards = 256

func (o Options) withDefaults() Options {
	o.Dir = filepath.Clean(o.Dir)
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	if o.ReserveBytes == 0 {
		o.ReserveBytes = 64 << 20
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = 64 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.OnFsync == nil {
		o.OnFsync = func(string, time.Duration) {}
	}
	if o.Exit == nil {
		o.Exit = os.Exit //nolint:forbidigo // the default of a hook: a failed fsync must not be survived
	}
	return o
}

// Storage is an open data folder. Its parts may be closed one by one; Close
// closes what is still open.
type Storage struct {
	Journal *Journal
	Store   *Store
	Keys    *Keys
	// Shards is the number of shards of the folder.
	Shards int

	options Options
	volume  *volume
	lock    io.Closer

	closing   sync.Once
	closeErr  error
	stopWatch context.CancelFunc
	watchDone chan struct{}
}

// Open opens a data folder, and makes it when it is missing. Errors: the folder
// is in use, of another format or another number of shards, or damaged.
func Open(options Options) (_ *Storage, err error) {
	o := options.withDefaults()
	if err := makeDir(o.FS, o.Dir); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	lock, err := o.FS.Lock(o.FS.PathJoin(o.Dir, "LOCK"))
	if err != nil {
		return nil, fmt.Errorf("data folder %s is in use by another process: %w", o.Dir, err)
	}
	s := &Storage{options: o, volume: newVolume(o.FS, &o), lock: lock}
	defer func() {
		if err != nil {
			_ = s.release()
		}
	}()
	isNew, err := s.openFormat()
	if err != nil {
		return nil, err
	}
	if err := s.openDatabases(isNew); err != nil {
		return nil, err
	}
	if isNew {
		if err := writeFormat(o.FS, o.Dir, format{Version: formatVersion, Shards: s.Shards, Complete: true}); err != nil {
			return nil, err
		}
	}
	s.volume.measureSpace()
	watch, stop := context.WithCancel(context.Background())
	s.stopWatch, s.watchDone = stop, make(chan struct{})
	go func() {
		defer close(s.watchDone)
		s.volume.watchSpace(watch)
	}()
	return s, nil
}

// openFormat reads what the folder says of itself, or starts a new one.
func (s *Storage) openFormat() (isNew bool, err error) {
	o := &s.options
	f, err := readFormat(o.FS, o.Dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		f = format{Version: formatVersion, Shards: o.Shards}
		if f.Shards == 0 {
			f.Shards = DefaultShards
		}
		if f.Shards < 1 || f.Shards > maxShards {
			return false, fmt.Errorf("%d shards: must be 1 to %d", f.Shards, maxShards)
		}
		for _, name := range databaseNames {
			if _, err := o.FS.Stat(o.FS.PathJoin(o.Dir, name)); err == nil {
				return false, fmt.Errorf("data folder %s has a folder %s but no file %s: it is damaged or incomplete; restore it from a backup", o.Dir, name, formatName)
			}
		}
		err = writeFormat(o.FS, o.Dir, f)
	case err == nil && o.Shards != 0 && o.Shards != f.Shards:
		err = fmt.Errorf("data folder %s was made with %d shards, and %d are configured: the number cannot change, since it decides where each mailbox lies; configure %d", o.Dir, f.Shards, o.Shards, f.Shards)
	}
	if err != nil {
		return false, err
	}
	s.Shards = f.Shards
	return !f.Complete, nil
}

func (s *Storage) openDatabases(isNew bool) error {
	cache := pebble.NewCache(s.options.CacheBytes)
	defer cache.Unref() // the databases hold on to it
	opener := databaseOpener{options: &s.options, volume: s.volume, cache: cache, mayCreate: isNew}

	db, err := opener.open(journalName, journalPebbleOptions())
	if err != nil {
		return err
	}
	if s.Journal, err = openJournal(db, s.volume, &s.options, s.Shards); err != nil {
		_ = db.close()
		return err
	}
	if db, err = opener.open(storeName, storePebbleOptions()); err != nil {
		return err
	}
	if s.Store, err = openStore(db, s.volume, s.Shards); err != nil {
		_ = db.close()
		return err
	}
	if db, err = opener.open(keysName, keysPebbleOptions()); err != nil {
		return err
	}
	s.Keys = openKeys(db, s.volume)
	return nil
}

// Close closes the journal, the store and the keys, and lets go of the folder.
// When the disk is full it gives up waiting and returns persistence.ErrFull:
// appends in flight get ErrUnknownOutcome, and the folder stays locked until
// the process ends.
func (s *Storage) Close() error {
	s.closing.Do(func() {
		s.stopWatch()
		<-s.watchDone
		s.closeErr = s.release()
	})
	return s.closeErr
}

// release closes what is open.
func (s *Storage) release() error {
	var errs []error
	if s.Journal != nil {
		errs = append(errs, s.Journal.Close())
	}
	if s.Store != nil {
		errs = append(errs, s.Store.Close())
	}
	if s.Keys != nil {
		errs = append(errs, s.Keys.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return s.lock.Close()
}
