package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/tegami-im/tegami/persistence"
)

// database is a Pebble database that knows how far its log is synced and says
// so in the log (see logcheck.go), and that answers persistence.ErrClosed where
// Pebble would panic.
type database struct {
	*pebble.DB
	name string
	dir  string
	fs   *databaseFS
	// deferred: batches are committed withSystem. Set before the first batch.
	deferred bool

	// synced: every batch with a sequence number below it survives a power
	// cut.
	synced atomic.Uint64

	gate   sync.RWMutex // held for reading by every call that uses DB
	closed bool         // guarded by gate
}

// enter returns ErrClosed, or keeps the database open until leave is called.
func (d *database) enter() error {
	d.gate.RLock()
	if d.closed {
		d.gate.RUnlock()
		return persistence.ErrClosed
	}
	return nil
}

func (d *database) leave() { d.gate.RUnlock() }

// close is a no-op the second time. It waits for the calls that entered. What
// is in memory goes to tables, so that the next open has no log to replay.
func (d *database) close() error {
	d.gate.Lock()
	closed := d.closed
	d.closed = true
	d.gate.Unlock()
	if closed {
		return nil
	}
	err := d.Flush()
	if err = errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("close %s: %w", d.name, err)
	}
	return nil
}

// survival is what a commit waits for.
type survival int

const (
	// withProcess: the end of the process may take the batch along.
	withProcess survival = iota
	// withSystem: the operating system has it; a power cut may take it along.
	// Only one goroutine at a time may ask for it, and no other commits then.
	withSystem
	// onDisk: the batch and all before it survive a power cut.
	onDisk
)

// newBatch returns a batch with room for size bytes. It begins with a note of
// how far the log is synced.
func (d *database) newBatch(size int) *pebble.Batch {
	batch := d.NewBatchWithSize(size + 64)
	note := syncNote{synced: d.synced.Load(), deferred: d.deferred}
	_ = batch.LogData(note.encode(), nil) // never fails
	return batch
}

// commit applies a batch and lets go of it. An error means that the database
// is of no use any more.
func (d *database) commit(batch *pebble.Batch, wanted survival) error {
	defer func() { _ = batch.Close() }()
	options := pebble.Sync
	if wanted == withProcess {
		options = pebble.NoSync
	}
	if d.deferred {
		d.fs.deferLogSyncs.Store(wanted != onDisk)
	}
	if err := batch.Commit(options); err != nil {
		return fmt.Errorf("commit to %s: %w", d.name, err)
	}
	if wanted == onDisk {
		d.raiseSynced(uint64(batch.SeqNum()) + uint64(batch.Count()))
	}
	return nil
}

func (d *database) raiseSynced(sequence uint64) {
	for {
		current := d.synced.Load()
		if sequence <= current || d.synced.CompareAndSwap(current, sequence) {
			return
		}
	}
}

// sync makes every batch that was committed before survive a power cut.
func (d *database) sync() error { return d.commit(d.newBatch(0), onDisk) }

// readError makes what Pebble says of damage a persistence.ErrDamaged.
func (d *database) readError(err error) error {
	return damage(d.dir, err)
}

func damage(dir string, err error) error {
	if !pebble.IsCorruptionError(err) {
		return err
	}
	text, _, _ := strings.Cut(err.Error(), "\n") // Pebble adds lines of its own
	return fmt.Errorf("%s: %s: %w: restore it from a backup", dir, text, persistence.ErrDamaged)
}

// get returns a copy of a row.
func (d *database) get(key []byte) (value []byte, found bool, err error) {
	row, closer, err := d.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, d.readError(err)
	}
	defer closer.Close()
	return bytes.Clone(row), true, nil
}

// databaseOpener opens the databases of one data folder.
type databaseOpener struct {
	options   *Options
	volume    *volume
	cache     *pebble.Cache
	mayCreate bool
}

func (o *databaseOpener) open(name string, options *pebble.Options) (*database, error) {
	fs := &databaseFS{
		FS:      o.options.FS,
		volume:  o.volume,
		onFsync: func(took time.Duration) { o.options.OnFsync(name, took) },
	}
	dir := fs.PathJoin(o.options.Dir, name)
	logger := o.options.Logger.With(slog.String("database", name))
	if !o.mayCreate {
		if there, err := exists(fs, dir); err != nil || !there {
			return nil, errors.Join(fmt.Errorf("open %s: the folder is missing, though the data folder was complete: restore it from a backup", dir), err)
		}
	}
	if err := checkLogs(fs, dir, logger); err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	options.FS = fs
	options.Cache = o.cache
	options.ErrorIfNotExists = !o.mayCreate
	options.FormatMajorVersion = pebbleFormat
	options.MaxManifestFileSize = 8 << 20
	options.MaxOpenFiles = 1000
	options.Logger = pebbleLogger{logger, o.volume}
	options.EventListener = eventsFor(logger)
	db, err := pebble.Open(dir, options)
	if pebble.IsCorruptionError(err) {
		err = locateDamage(fs, dir, damage(dir, err))
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return &database{DB: db, name: name, dir: dir, fs: fs}, nil
}

// pebbleFormat is raised together with the version of the data folder. It has
// sync offsets in logs, on which logcheck.go builds.
const pebbleFormat = pebble.FormatValueSeparation

// journalPebbleOptions suit records that are written once, read in order after
// a restart, and deleted by the range, most of them before they leave the
// write buffer.
func journalPebbleOptions() *pebble.Options {
	o := &pebble.Options{
		MemTableSize:                16 << 20,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       64,
		FlushDelayDeleteRange:       10 * time.Second,
	}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone }) // bodies are sealed
	for i := range o.Levels {
		o.Levels[i].BlockSize = 32 << 10
	}
	return o
}

// storePebbleOptions suit many small rows that are looked up one by one.
func storePebbleOptions() *pebble.Options {
	o := &pebble.Options{
		MemTableSize:                16 << 20,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       64,
		FlushDelayDeleteRange:       time.Minute,
	}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionFastest })
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

// keysPebbleOptions suit a few bytes for each mailbox, written once.
func keysPebbleOptions() *pebble.Options {
	o := &pebble.Options{MemTableSize: 4 << 20, MemTableStopWritesThreshold: 4}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone }) // keys are random
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

// pebbleLogger keeps what Pebble says at the level at which an operator wants
// it. What Pebble calls fatal ends the process.
type pebbleLogger struct {
	logger *slog.Logger
	volume *volume
}

func (l pebbleLogger) Infof(format string, args ...any) {
	l.logger.Debug("pebble says", slog.String("text", fmt.Sprintf(format, args...)))
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.logger.Warn("pebble says", slog.String("text", fmt.Sprintf(format, args...)))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.volume.fail(fmt.Errorf(format, args...))
}

// eventsFor logs what slows a database down or speaks of damage.
func eventsFor(logger *slog.Logger) *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			logger.Error("flush or compaction failed; it is tried again", slog.Any("error", err))
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			logger.Error("data is damaged: restore it from a backup", slog.String("file", info.Path), slog.Any("error", info.Details))
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			logger.Warn("writes wait for the disk", slog.String("reason", info.Reason))
		},
		WriteStallEnd: func() { logger.Info("writes go on") },
	}
}
