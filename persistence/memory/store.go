package memory

import (
	"context"
	"sync"

	"github.com/tegami-im/tegami/persistence"
)

// Store is a persistence.Store in memory. It holds two images: what is written,
// and what was synced.
type Store struct {
	mu      sync.Mutex // guards the following
	written image
	synced  image
	// unsynced are the batches that the synced image lacks.
	unsynced []shardBatch
	closed   bool
}

type shardBatch struct {
	shard uint32
	batch persistence.Batch
}

var _ persistence.Store = (*Store)(nil)

// NewStore returns an empty store.
func NewStore() *Store { return &Store{written: image{}, synced: image{}} }

// Crash cuts the power: it ends this store and returns one that holds what was
// synced.
func (s *Store) Crash() *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return &Store{written: s.synced.clone(), synced: s.synced.clone()}
}

// Reopen ends this store and returns one that holds all that was written, as
// the next start of a process finds it.
func (s *Store) Reopen() *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return &Store{written: s.written.clone(), synced: s.written.clone()}
}

// Write implements persistence.Store.
func (s *Store) Write(ctx context.Context, shard uint32, batch persistence.Batch) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if err := batch.Check(); err != nil {
		return err
	}
	batch = cloneBatch(batch)
	s.written.apply(shard, batch)
	s.unsynced = append(s.unsynced, shardBatch{shard, batch})
	return nil
}

// Sync implements persistence.Store.
func (s *Store) Sync(ctx context.Context) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	for _, b := range s.unsynced {
		s.synced.apply(b.shard, b.batch)
	}
	s.unsynced = nil
	return nil
}

// Marks implements persistence.Store.
func (s *Store) Marks(ctx context.Context, shard uint32) (persistence.Marks, error) {
	if err := s.lock(ctx); err != nil {
		return persistence.Marks{}, err
	}
	defer s.mu.Unlock()
	return s.synced.shard(shard).marks, nil
}

// Load implements persistence.Store.
func (s *Store) Load(ctx context.Context, shard uint32, name string, maxDedup int) (*persistence.Mailbox, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	m := s.written.shard(shard).mailboxes[name]
	if m == nil {
		return nil, persistence.ErrNotFound
	}
	return m.load(maxDedup), nil
}

// Dedup implements persistence.Store.
func (s *Store) Dedup(ctx context.Context, shard uint32, name string, key [persistence.DedupKeySize]byte, notBefore int64) (persistence.DedupEntry, bool, error) {
	if err := s.lock(ctx); err != nil {
		return persistence.DedupEntry{}, false, err
	}
	defer s.mu.Unlock()
	m := s.written.shard(shard).mailboxes[name]
	if m == nil {
		return persistence.DedupEntry{}, false, nil
	}
	entry, found := m.lookUp(key, notBefore)
	return entry, found, nil
}

// Operations implements persistence.Store.
func (s *Store) Operations(ctx context.Context, shard uint32, name string, after, upTo int64, limit, maxBytes int) ([]persistence.Row, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	m := s.written.shard(shard).mailboxes[name]
	if m == nil || after >= upTo {
		return nil, nil
	}
	page := page{limit: limit, maxBytes: maxBytes}
	for i := m.search(after + 1); i < len(m.rows) && m.rows[i].Revision <= upTo; i++ {
		if !page.add(m.rows[i]) {
			break
		}
	}
	return page.rows, nil
}

// Conversation implements persistence.Store.
func (s *Store) Conversation(ctx context.Context, shard uint32, name, peer string, before int64, limit, maxBytes int) ([]persistence.Row, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	m := s.written.shard(shard).mailboxes[name]
	if m == nil || peer == "" {
		return nil, nil
	}
	page := page{limit: limit, maxBytes: maxBytes}
	for i := m.search(before) - 1; i >= 0; i-- {
		if m.rows[i].Peer == peer && !page.add(m.rows[i]) {
			break
		}
	}
	return page.rows, nil
}

func (s *Store) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return persistence.ErrClosed
	}
	return nil
}

// Close implements persistence.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
