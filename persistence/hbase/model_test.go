//go:build stores

package hbase_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/hbase"
	"github.com/tegami-im/tegami/persistence/memory"
	"github.com/tegami-im/tegami/persistence/persisttest"
)

// TestModel runs the model on HBase with a journal in memory. Each process has
// two stores that take calls in turn, as two owners in two processes do: what
// one remembers the other has changed since. A crash ends both.
func TestModel(t *testing.T) {
	o := optionsFor(t)
	for _, durability := range []persistence.Durability{persistence.DurabilityFsync, persistence.DurabilityOS} {
		t.Run(durability.String(), func(t *testing.T) {
			model := persisttest.Model{PowerCuts: true, Open: func() *persisttest.ModelStorage {
				return modelStorage(t, o, memory.NewJournal(durability), durability, newShards(nil).first)
			}}
			model.NothingWrong(t, 20)
		})
	}
}

func modelStorage(t *testing.T, o hbase.Options, journal *memory.Journal, durability persistence.Durability, first uint32) *persisttest.ModelStorage {
	t.Helper()
	stores := &inTurn{stores: [2]*hbase.Store{openStore(t, o), openStore(t, o)}}
	return &persisttest.ModelStorage{
		Journal:    journal,
		Store:      shardsOf{stores, first},
		Durability: durability,
		Crash: func() *persisttest.ModelStorage {
			_ = stores.Close()
			return modelStorage(t, o, journal.Crash(), durability, first)
		},
		Close: func() { _ = errors.Join(journal.Close(), stores.Close()) },
	}
}

// inTurn is two stores that take calls in turn.
type inTurn struct {
	stores [2]*hbase.Store
	calls  atomic.Uint32
}

func (s *inTurn) next() *hbase.Store { return s.stores[s.calls.Add(1)%2] }

func (s *inTurn) Load(ctx context.Context, shard uint32, mailbox string, maxDedup int) (*persistence.Mailbox, error) {
	return s.next().Load(ctx, shard, mailbox, maxDedup)
}

func (s *inTurn) Write(ctx context.Context, shard uint32, batch persistence.Batch) error {
	return s.next().Write(ctx, shard, batch)
}

func (s *inTurn) Dedup(ctx context.Context, shard uint32, mailbox string, key [persistence.DedupKeySize]byte, notBefore int64) (persistence.DedupEntry, bool, error) {
	return s.next().Dedup(ctx, shard, mailbox, key, notBefore)
}

func (s *inTurn) Operations(ctx context.Context, shard uint32, mailbox string, after, upTo int64, limit, maxBytes int) ([]persistence.Row, error) {
	return s.next().Operations(ctx, shard, mailbox, after, upTo, limit, maxBytes)
}

func (s *inTurn) Conversation(ctx context.Context, shard uint32, mailbox, peer string, before int64, limit, maxBytes int) ([]persistence.Row, error) {
	return s.next().Conversation(ctx, shard, mailbox, peer, before, limit, maxBytes)
}

func (s *inTurn) Marks(ctx context.Context, shard uint32) (persistence.Marks, error) {
	return s.next().Marks(ctx, shard)
}

func (s *inTurn) Sync(ctx context.Context) error {
	return errors.Join(s.stores[0].Sync(ctx), s.stores[1].Sync(ctx))
}

func (s *inTurn) Close() error {
	return errors.Join(s.stores[0].Close(), s.stores[1].Close())
}
