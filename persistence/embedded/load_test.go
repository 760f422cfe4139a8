package embedded_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/embedded"
	"github.com/tegami-im/tegami/persistence/persisttest"
)

// load is what owners of shards do to a storage: keys, appends, and behind
// them, once the journal is synced that far, the store, its checkpoint and the
// truncation by it. Record i of a shard makes revision i%perMailbox+1 of
// mailbox i/perMailbox.
type load struct {
	storage *embedded.Storage
	stop    func()
	owners  sync.WaitGroup

	mu       sync.Mutex
	limited  sync.Cond
	limit    int64   // records of each shard that may be made
	promised []int64 // by shard: records that must survive
}

const perMailbox = 5

func loadMailbox(shard uint32, record int64) string {
	return fmt.Sprintf("user-%d-%d", shard, record/perMailbox)
}

func loadRecord(shard uint32, record int64) string {
	return fmt.Sprintf("record %d for %s", record, loadMailbox(shard, record))
}

func startLoad(t *testing.T, s *embedded.Storage, durability persistence.Durability) *load {
	ctx, stop := context.WithCancel(t.Context())
	l := &load{storage: s, promised: make([]int64, persisttest.Shards)}
	l.limited.L = &l.mu
	l.stop = func() { stop(); l.goOnTo(math.MaxInt64) }
	for shard := range uint32(persisttest.Shards) {
		l.owners.Go(func() {
			if err := l.own(ctx, shard, durability); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
	return l
}

func (l *load) end() {
	l.stop()
	l.owners.Wait()
}

func (l *load) promise(shard uint32, records int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.promised[shard] = records
}

// promises returns what must survive from now on.
func (l *load) promises() []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]int64(nil), l.promised...)
}

func (l *load) goOnTo(limit int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = limit
	l.limited.Broadcast()
}

func (l *load) waitForLimit(record int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for record >= l.limit {
		l.limited.Wait()
	}
}

// run lets the load go on to limit and returns somewhere on the way.
func (l *load) run(t *testing.T, limit int64) {
	t.Helper()
	told := make(chan struct{}, 1)
	stop := l.storage.Journal.Tail(rand.Uint32N(persisttest.Shards), func(next int64) {
		if next >= limit-20 {
			select {
			case told <- struct{}{}:
			default:
			}
		}
	})
	defer stop()
	l.goOnTo(limit)
	<-told
}

func (l *load) own(ctx context.Context, shard uint32, durability persistence.Durability) error {
	s, stored := l.storage, int64(0)
	for record := int64(0); ; record++ {
		l.waitForLimit(record)
		if err := ctx.Err(); err != nil {
			return err
		}
		if record%perMailbox == 0 {
			if _, err := s.Keys.Create(ctx, []string{loadMailbox(shard, record)}); err != nil {
				return err
			}
		}
		if _, err := persisttest.Append(ctx, s.Journal, shard, loadRecord(shard, record)); err != nil {
			return err
		}
		if durability == persistence.DurabilityFsync {
			l.promise(shard, record+1)
		}
		if record%3 != 0 {
			continue
		}
		if err := s.Journal.Sync(ctx); err != nil {
			return err
		}
		l.promise(shard, record+1)
		if err := s.Store.Write(ctx, shard, loadBatch(shard, stored, record)); err != nil {
			return err
		}
		stored = record + 1
		if record%4 == 0 {
			if err := l.truncate(ctx, shard); err != nil {
				return err
			}
		}
	}
}

func (l *load) truncate(ctx context.Context, shard uint32) error {
	if err := l.storage.Store.Sync(ctx); err != nil {
		return err
	}
	marks, err := l.storage.Store.Marks(ctx, shard)
	if err != nil {
		return err
	}
	return l.storage.Journal.Truncate(ctx, shard, marks.Checkpoint.Offset+1)
}

// loadBatch carries the records from one up to and with another.
func loadBatch(shard uint32, from, to int64) persistence.Batch {
	batch := persistence.Batch{
		Highest:    persistence.Position{Generation: 1, Offset: to},
		Checkpoint: persistence.Position{Generation: 1, Offset: to},
	}
	for record := from; record <= to; record++ {
		name, last := loadMailbox(shard, record), len(batch.Mailboxes)-1
		if last < 0 || batch.Mailboxes[last].Mailbox != name {
			batch.Mailboxes = append(batch.Mailboxes, persistence.MailboxWrite{Mailbox: name})
			last++
		}
		m := &batch.Mailboxes[last]
		m.Position = persistence.Position{Generation: 1, Offset: record}
		m.State = fmt.Append(nil, record)
		m.Rows = append(m.Rows, persistence.Row{Revision: record%perMailbox + 1, Peer: "peer", Data: []byte(loadRecord(shard, record))})
	}
	return batch
}

// checkLoad checks what a storage holds after a load, a power cut or a restore:
// all that was promised, nothing else, and parts that fit together.
func checkLoad(t *testing.T, s *embedded.Storage, promised []int64) {
	t.Helper()
	ctx := t.Context()
	for shard := range uint32(persisttest.Shards) {
		bounds, err := s.Journal.Bounds(ctx, shard)
		if err != nil {
			t.Fatal(err)
		}
		marks, err := s.Store.Marks(ctx, shard)
		if err != nil {
			t.Fatal(err)
		}
		checkpoint := marks.Checkpoint.Offset
		if marks.Checkpoint.IsZero() {
			checkpoint = -1
		}
		switch {
		case bounds.Next < promised[shard]:
			t.Fatalf("shard %d: the journal ends at %d, %d records were promised", shard, bounds.Next, promised[shard])
		case !marks.Highest.Less(persistence.Position{Generation: 1, Offset: bounds.Next}):
			t.Fatalf("shard %d: the store speaks of %v, the journal ends at %d", shard, marks.Highest, bounds.Next)
		case bounds.First > checkpoint+1:
			t.Fatalf("shard %d: the journal begins at %d, the store's checkpoint is %d", shard, bounds.First, checkpoint)
		}
		entries, err := persisttest.ReadAll(ctx, s.Journal, shard, bounds.First)
		if err != nil || int64(len(entries)) != bounds.Next-bounds.First {
			t.Fatalf("shard %d: read %d entries of %+v, error %v", shard, len(entries), bounds, err)
		}
		for _, entry := range entries {
			if want := loadRecord(shard, entry.Position.Offset); string(entry.Data) != want {
				t.Fatalf("shard %d holds %q at %v, want %q", shard, entry.Data, entry.Position, want)
			}
		}
		for record := int64(0); record < bounds.Next; record += perMailbox {
			if _, err := s.Keys.Get(ctx, loadMailbox(shard, record)); err != nil {
				t.Fatalf("shard %d: no key for record %d: %v", shard, record, err)
			}
		}
		for record := range checkpoint + 1 {
			checkStored(t, s, shard, record)
		}
	}
}

func checkStored(t *testing.T, s *embedded.Storage, shard uint32, record int64) {
	t.Helper()
	m, err := s.Store.Load(t.Context(), shard, loadMailbox(shard, record), 10)
	if err != nil || m.Position.Offset < record {
		t.Fatalf("shard %d: record %d is at or below the checkpoint, its mailbox is %+v, error %v", shard, record, m, err)
	}
	rows, err := s.Store.Operations(t.Context(), shard, loadMailbox(shard, record), record%perMailbox, record%perMailbox+1, 1, math.MaxInt)
	if err != nil || len(rows) != 1 || string(rows[0].Data) != loadRecord(shard, record) {
		t.Fatalf("shard %d: the row of record %d is %v, error %v", shard, record, rows, err)
	}
}

// TestPowerCutUnderLoad cuts the power at any moment, with any part of what was
// not synced on the disk.
func TestPowerCutUnderLoad(t *testing.T) {
	for _, durability := range []persistence.Durability{persistence.DurabilityFsync, persistence.DurabilityOS} {
		t.Run(durability.String(), func(t *testing.T) {
			f := newFolder(t, onCrashableDisk(durability))
			disk := f.options.FS.(*vfs.MemFS)
			l := startLoad(t, f.open, durability)
			for cut := range 12 {
				l.run(t, int64(25*(cut+1)))
				promised := l.promises()
				rng := rand.New(rand.NewPCG(uint64(cut), 9))
				after := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
				s, err := embedded.Open(embedded.Options{Dir: "/data", FS: after, Durability: durability, Logger: f.options.Logger})
				if err != nil {
					t.Fatalf("cut %d: %v", cut, err)
				}
				checkLoad(t, s, promised)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			l.end()
		})
	}
}

// TestBackupUnderLoad restores backups that were made while everything went on.
func TestBackupUnderLoad(t *testing.T) {
	for _, durability := range []persistence.Durability{persistence.DurabilityFsync, persistence.DurabilityOS} {
		t.Run(durability.String(), func(t *testing.T) {
			f := newFolder(t, embedded.Options{Durability: durability})
			l := startLoad(t, f.open, durability)
			for round := range 5 {
				l.run(t, int64(40*(round+1)))
				promised := l.promises()
				backup, restored := t.TempDir()+"/backup", t.TempDir()
				if err := f.open.Backup(t.Context(), backup); err != nil {
					t.Fatal(err)
				}
				if err := embedded.Restore(t.Context(), nil, backup, restored); err != nil {
					t.Fatal(err)
				}
				s, err := embedded.Open(embedded.Options{Dir: restored, Durability: durability, Logger: f.options.Logger})
				if err != nil {
					t.Fatal(err)
				}
				checkLoad(t, s, promised)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			l.end()
		})
	}
}
