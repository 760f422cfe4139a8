package embedded_test

import (
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/embedded"
	"github.com/tegami-im/tegami/persistence/persisttest"
)

// folder is a data folder under test, on a disk of its own or in memory. Each
// opening of it is a new process; the one before is closed, or left behind by
// a power cut.
type folder struct {
	t       *testing.T
	options embedded.Options
	rng     *rand.Rand
	open    *embedded.Storage
}

func newFolder(t *testing.T, options embedded.Options) *folder {
	t.Helper()
	if options.Dir == "" {
		options.Dir = t.TempDir()
	}
	if options.Shards == 0 {
		options.Shards = persisttest.Shards
	}
	if options.Logger == nil {
		options.Logger = logTo(t.Output())
	}
	f := &folder{t: t, options: options, rng: rand.New(rand.NewPCG(1, 2))}
	f.start()
	return f
}

// logTo logs what an operator must know.
func logTo(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// onCrashableDisk returns options for a disk whose power can be cut.
func onCrashableDisk(durability persistence.Durability) embedded.Options {
	return embedded.Options{Dir: "/data", FS: vfs.NewCrashableMem(), Durability: durability}
}

func (f *folder) start() *embedded.Storage {
	f.t.Helper()
	s, err := embedded.Open(f.options)
	if err != nil {
		f.t.Fatal(err)
	}
	f.open = s
	f.t.Cleanup(func() { _ = s.Close() })
	return s
}

func (f *folder) reopen() *embedded.Storage {
	f.t.Helper()
	if err := f.open.Close(); err != nil {
		f.t.Fatal(err)
	}
	return f.start()
}

// crash cuts the power. Of what was not synced, any part may be on the disk.
func (f *folder) crash() *embedded.Storage {
	f.t.Helper()
	disk := f.options.FS.(*vfs.MemFS)
	f.options.FS = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 30, 70, 100}[f.rng.IntN(4)], RNG: f.rng})
	old := f.open
	s := f.start()
	f.t.Cleanup(func() { _ = old.Close() }) // it lives on, on a disk of its own
	return s
}

// crashable reports whether the power of the folder's disk can be cut.
func (f *folder) crashable() bool {
	_, ok := f.options.FS.(*vfs.MemFS)
	return ok
}

// eachFolder runs a suite on every kind of folder.
func eachFolder(t *testing.T, suite func(t *testing.T, open func(t *testing.T) *folder)) {
	for _, durability := range []persistence.Durability{persistence.DurabilityFsync, persistence.DurabilityOS} {
		t.Run("disk/"+durability.String(), func(t *testing.T) {
			suite(t, func(t *testing.T) *folder { return newFolder(t, embedded.Options{Durability: durability}) })
		})
		t.Run("memory/"+durability.String(), func(t *testing.T) {
			suite(t, func(t *testing.T) *folder { return newFolder(t, onCrashableDisk(durability)) })
		})
	}
}

func TestJournal(t *testing.T) {
	eachFolder(t, func(t *testing.T, open func(t *testing.T) *folder) {
		persisttest.Journal(t, func(t *testing.T) *persisttest.JournalInstance { return journalOf(open(t)) })
	})
}

func journalOf(f *folder) *persisttest.JournalInstance {
	instance := &persisttest.JournalInstance{
		Journal:    f.open.Journal,
		Durability: f.options.Durability,
		Reopen: func() *persisttest.JournalInstance {
			f.reopen()
			return journalOf(f)
		},
	}
	if f.crashable() {
		instance.Crash = func() *persisttest.JournalInstance {
			f.crash()
			return journalOf(f)
		}
	}
	return instance
}

func TestStore(t *testing.T) {
	eachFolder(t, func(t *testing.T, open func(t *testing.T) *folder) {
		persisttest.Store(t, func(t *testing.T) *persisttest.StoreInstance { return storeOf(open(t)) })
	})
}

func storeOf(f *folder) *persisttest.StoreInstance {
	instance := &persisttest.StoreInstance{
		Store: f.open.Store,
		Reopen: func() *persisttest.StoreInstance {
			f.reopen()
			return storeOf(f)
		},
	}
	if f.crashable() {
		instance.Crash = func() *persisttest.StoreInstance {
			f.crash()
			return storeOf(f)
		}
	}
	return instance
}

func TestKeys(t *testing.T) {
	eachFolder(t, func(t *testing.T, open func(t *testing.T) *folder) {
		persisttest.Keys(t, func(t *testing.T) *persisttest.KeysInstance { return keysOf(open(t)) })
	})
}

func keysOf(f *folder) *persisttest.KeysInstance {
	instance := &persisttest.KeysInstance{
		Keys: f.open.Keys,
		Reopen: func() *persisttest.KeysInstance {
			f.reopen()
			return keysOf(f)
		},
	}
	if f.crashable() {
		instance.Crash = func() *persisttest.KeysInstance {
			f.crash()
			return keysOf(f)
		}
	}
	return instance
}

func TestRepairer(t *testing.T) {
	persisttest.Repairer(t, func(t *testing.T) (persistence.Repairer, uint32) {
		return newFolder(t, embedded.Options{}).open.Store, 1
	})
}
