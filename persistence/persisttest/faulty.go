package persisttest

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/tegami-im/tegami/persistence"
)

// FaultyJournal is a journal that fails by plan.
type FaultyJournal struct {
	persistence.Journal
	plan *Plan
	late sync.WaitGroup // what is still to happen
}

// NewFaultyJournal returns a journal on top of another, which it closes.
func NewFaultyJournal(journal persistence.Journal, plan *Plan) *FaultyJournal {
	return &FaultyJournal{Journal: journal, plan: plan}
}

// Append implements persistence.Journal.
func (j *FaultyJournal) Append(shard uint32, records [][]byte, done func(persistence.Appended, error)) {
	switch j.plan.choose(AppendHappened, AppendLost, AppendLate, AppendFull, AppendBusy, AppendSlow) {
	case AppendHappened:
		j.Journal.Append(shard, records, func(_ persistence.Appended, err error) {
			if err == nil {
				err = persistence.ErrUnknownOutcome
			}
			done(persistence.Appended{}, err)
		})
	case AppendLost:
		done(persistence.Appended{}, persistence.ErrUnknownOutcome)
	case AppendLate:
		copied := make([][]byte, len(records))
		for i := range records {
			copied[i] = bytes.Clone(records[i])
		}
		j.later(func() { j.Journal.Append(shard, copied, func(persistence.Appended, error) {}) })
		done(persistence.Appended{}, persistence.ErrUnknownOutcome)
	case AppendFull:
		done(persistence.Appended{}, persistence.ErrFull)
	case AppendBusy:
		done(persistence.Appended{}, persistence.ErrBusy)
	case AppendSlow:
		j.Journal.Append(shard, records, func(appended persistence.Appended, err error) {
			j.later(func() { done(appended, err) })
		})
	default:
		j.Journal.Append(shard, records, done)
	}
}

func (j *FaultyJournal) later(f func()) {
	j.late.Add(1)
	time.AfterFunc(j.plan.wait(), func() {
		defer j.late.Done()
		f()
	})
}

// Read implements persistence.Journal.
func (j *FaultyJournal) Read(ctx context.Context, shard uint32, offset int64, maxBytes int) ([]persistence.Entry, error) {
	switch j.plan.choose(ReadFailed, ReadSlow) {
	case ReadFailed:
		return nil, ErrInjected
	case ReadSlow:
		if err := j.plan.pause(ctx); err != nil {
			return nil, err
		}
	default:
	}
	return j.Journal.Read(ctx, shard, offset, maxBytes)
}

// Close implements persistence.Journal. It waits for what is still to happen.
func (j *FaultyJournal) Close() error {
	err := j.Journal.Close()
	j.late.Wait()
	return err
}

// FaultyStore is a store that fails by plan.
type FaultyStore struct {
	persistence.Store
	plan *Plan
}

// NewFaultyStore returns a store on top of another, which it closes.
func NewFaultyStore(store persistence.Store, plan *Plan) *FaultyStore {
	return &FaultyStore{Store: store, plan: plan}
}

// Write implements persistence.Store.
func (s *FaultyStore) Write(ctx context.Context, shard uint32, batch persistence.Batch) error {
	switch s.plan.choose(WriteLost, WriteDone, WriteFull, WriteSlow) {
	case WriteLost:
		return ErrInjected
	case WriteDone:
		if err := s.Store.Write(ctx, shard, batch); err != nil {
			return err
		}
		return ErrInjected
	case WriteFull:
		return persistence.ErrFull
	case WriteSlow:
		if err := s.plan.pause(ctx); err != nil {
			return err
		}
	default:
	}
	return s.Store.Write(ctx, shard, batch)
}

// Sync implements persistence.Store.
func (s *FaultyStore) Sync(ctx context.Context) error {
	if s.plan.choose(SyncFailed) != "" {
		return ErrInjected
	}
	return s.Store.Sync(ctx)
}

// beforeRead makes the faults of a read.
func (s *FaultyStore) beforeRead(ctx context.Context) error {
	switch s.plan.choose(LoadFailed, LoadSlow) {
	case LoadFailed:
		return ErrInjected
	case LoadSlow:
		return s.plan.pause(ctx)
	default:
		return nil
	}
}

// Load implements persistence.Store.
func (s *FaultyStore) Load(ctx context.Context, shard uint32, mailbox string, maxDedup int) (*persistence.Mailbox, error) {
	if err := s.beforeRead(ctx); err != nil {
		return nil, err
	}
	return s.Store.Load(ctx, shard, mailbox, maxDedup)
}

// Dedup implements persistence.Store.
func (s *FaultyStore) Dedup(ctx context.Context, shard uint32, mailbox string, key [persistence.DedupKeySize]byte, notBefore int64) (persistence.DedupEntry, bool, error) {
	if err := s.beforeRead(ctx); err != nil {
		return persistence.DedupEntry{}, false, err
	}
	return s.Store.Dedup(ctx, shard, mailbox, key, notBefore)
}

// Operations implements persistence.Store.
func (s *FaultyStore) Operations(ctx context.Context, shard uint32, mailbox string, after, upTo int64, limit, maxBytes int) ([]persistence.Row, error) {
	if err := s.beforeRead(ctx); err != nil {
		return nil, err
	}
	return s.Store.Operations(ctx, shard, mailbox, after, upTo, limit, maxBytes)
}

// Conversation implements persistence.Store.
func (s *FaultyStore) Conversation(ctx context.Context, shard uint32, mailbox, peer string, before int64, limit, maxBytes int) ([]persistence.Row, error) {
	if err := s.beforeRead(ctx); err != nil {
		return nil, err
	}
	return s.Store.Conversation(ctx, shard, mailbox, peer, before, limit, maxBytes)
}
