package embedded

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tegami-im/tegami/persistence"
)

// Store is the persistence.Store of a data folder. A batch is one atomic step
// for all its mailboxes.
type Store struct {
	db     *database
	volume *volume
	shards []shardStore

	writes   atomic.Int64  // committed
	syncing  chan struct{} // holds a token: one sync at a time
	synced   int64         // the writes that the last sync covered; guarded by syncing
	closing  sync.Once
	closeErr error
}

// shardStore is what a store remembers of one shard.
type shardStore struct {
	writing chan struct{} // holds a token: one write at a time
	// retention is guarded by the token of writing.
	retention retention

	mu sync.Mutex // guards the following
	// marks are those written; synced were in place at the last sync.
	marks, synced persistence.Marks
}

var _ persistence.Store = (*Store)(nil)

func openStore(db *database, v *volume, shards int) (*Store, error) {
	s := &Store{db: db, volume: v, shards: make([]shardStore, shards), syncing: make(chan struct{}, 1)}
	for shard := range s.shards {
		sh := &s.shards[shard]
		sh.writing = make(chan struct{}, 1)
		value, found, err := db.get(metaKey(uint32(shard)))
		if err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
		if !found {
			continue
		}
		if sh.marks, err = decodeMarks(value); err != nil {
			return nil, fmt.Errorf("open store: marks of shard %d: %w", shard, err)
		}
		sh.synced = sh.marks // Pebble syncs what it finds when it opens
	}
	return s, nil
}

// enter returns what the store remembers of a shard and keeps the database
// open, unless the context or the store has ended.
func (s *Store) enter(ctx context.Context, shard uint32) (*shardStore, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if int64(shard) >= int64(len(s.shards)) {
		return nil, fmt.Errorf("shard %d: there are %d", shard, len(s.shards))
	}
	return &s.shards[shard], s.db.enter()
}

// Write implements persistence.Store. A write whose context ends while the disk
// is slow may still happen.
func (s *Store) Write(ctx context.Context, shard uint32, batch persistence.Batch) error {
	sh, err := s.enter(ctx, shard)
	if err != nil {
		return err
	}
	if err := batch.Check(); err != nil {
		s.db.leave()
		return fmt.Errorf("write to shard %d: %w", shard, err)
	}
	if s.volume.full() {
		s.db.leave()
		return persistence.ErrFull
	}
	select {
	case sh.writing <- struct{}{}:
	case <-ctx.Done():
		s.db.leave()
		return ctx.Err()
	}
	writer := batchWriter{store: s, shard: shard, batch: s.db.newBatch(0), retention: sh.retention}
	if err := writer.addAll(&batch, sh); err != nil {
		<-sh.writing
		s.db.leave()
		return fmt.Errorf("write to shard %d: %w", shard, err)
	}
	return await(ctx, func() error {
		defer s.db.leave()
		defer func() { <-sh.writing }()
		if err := s.db.commit(writer.batch, withProcess); err != nil {
			return err
		}
		sh.retention = writer.retention
		sh.mu.Lock()
		sh.marks = writer.marks
		sh.mu.Unlock()
		s.writes.Add(1)
		return nil
	})
}

// await calls f and returns what it returns, or the context's error when that
// comes first. f goes on then.
func await(ctx context.Context, f func() error) error {
	if ctx.Done() == nil {
		return f()
	}
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Sync implements persistence.Store. Callers that come while one sync is under
// way share the next.
func (s *Store) Sync(ctx context.Context) error {
	if _, err := s.enter(ctx, 0); err != nil {
		return err
	}
	before := s.writes.Load()
	select {
	case s.syncing <- struct{}{}:
	case <-ctx.Done():
		s.db.leave()
		return ctx.Err()
	}
	return await(ctx, func() error {
		defer s.db.leave()
		defer func() { <-s.syncing }()
		if s.synced >= before {
			return nil
		}
		return s.sync()
	})
}

// sync makes all that was written durable. The caller holds the token.
func (s *Store) sync() error {
	covered := s.writes.Load()
	marks := make([]persistence.Marks, len(s.shards))
	for shard := range s.shards {
		sh := &s.shards[shard]
		sh.mu.Lock()
		marks[shard] = sh.marks
		sh.mu.Unlock()
	}
	if err := s.db.sync(); err != nil {
		return err
	}
	for shard := range s.shards {
		sh := &s.shards[shard]
		sh.mu.Lock()
		sh.synced = marks[shard]
		sh.mu.Unlock()
	}
	s.synced = covered
	return nil
}

// Marks implements persistence.Store.
func (s *Store) Marks(ctx context.Context, shard uint32) (persistence.Marks, error) {
	sh, err := s.enter(ctx, shard)
	if err != nil {
		return persistence.Marks{}, err
	}
	defer s.db.leave()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.synced, nil
}

// Close implements persistence.Store.
func (s *Store) Close() error {
	s.closing.Do(func() { s.closeErr = s.volume.closeWith(s.db.close) })
	return s.closeErr
}

// batchWriter turns a batch into rows.
type batchWriter struct {
	store     *Store
	shard     uint32
	batch     *pebble.Batch
	marks     persistence.Marks
	retention retention
	value     []byte // of a row; used again for the next one
}

func (w *batchWriter) addAll(batch *persistence.Batch, sh *shardStore) error {
	sh.mu.Lock()
	w.marks = sh.marks
	sh.mu.Unlock()
	before := w.marks
	w.marks.Highest = later(w.marks.Highest, batch.Highest)
	w.marks.Checkpoint = later(w.marks.Checkpoint, batch.Checkpoint)
	if w.marks != before {
		w.set(metaKey(w.shard), encodeMarks(w.marks))
	}
	for i := range batch.Mailboxes {
		if err := w.addMailbox(&batch.Mailboxes[i]); err != nil {
			return fmt.Errorf("mailbox %s: %w", batch.Mailboxes[i].Mailbox, err)
		}
	}
	w.dropOldDedup()
	return nil
}

func later(p, q persistence.Position) persistence.Position {
	if p.Less(q) {
		return q
	}
	return p
}

func (w *batchWriter) set(key, value []byte) { _ = w.batch.Set(key, value, nil) } // fails for indexed batches only

// addMailbox adds a mailbox's part, unless the store is that far already: then
// its rows are all there.
func (w *batchWriter) addMailbox(m *persistence.MailboxWrite) error {
	key := stateKey(w.shard, m.Mailbox)
	stored, err := w.storedState(key)
	if err != nil {
		return err
	}
	if !stored.position.Less(m.Position) {
		return nil
	}
	row := stateRow{position: m.Position, first: max(stored.first, m.First), day: stored.day, state: m.State}
	w.addRows(m, row.first)
	if row.first > stored.first {
		if err := w.removeRows(m.Mailbox, stored.first, row.first); err != nil {
			return err
		}
	}
	for i := range m.Dedup {
		entry := &m.Dedup[i]
		day := dayOf(entry.Time)
		row.day = max(row.day, day)
		w.set(append(dedupPrefix(w.shard, day, m.Mailbox), entry.Key[:]...), encodeDedup(entry))
		w.retention.note(entry)
	}
	for _, source := range m.Sources {
		if err := w.addSource(m.Mailbox, source); err != nil {
			return err
		}
	}
	w.putParts(m.Mailbox, partsAbove(stored.position, m.Parts))
	w.set(key, row.encode())
	return nil
}

// partsAbove returns the parts that changed above a position, that of the stored
// state.
func partsAbove(position persistence.Position, parts []persistence.Part) []persistence.Part {
	return slices.DeleteFunc(slices.Clone(parts), func(part persistence.Part) bool { return !position.Less(part.Position) })
}

// putParts puts parts, and removes those without data.
func (w *batchWriter) putParts(mailbox string, parts []persistence.Part) {
	prefix := partPrefix(w.shard, mailbox)
	for i := range parts {
		key := appendName(slices.Clip(prefix), parts[i].Key)
		if len(parts[i].Data) > 0 {
			w.set(key, parts[i].Data)
		} else {
			_ = w.batch.Delete(key, nil) // fails for indexed batches only
		}
	}
}

// addSource moves the position of a source forward.
func (w *batchWriter) addSource(mailbox string, source persistence.Source) error {
	key := appendName(sourcePrefix(w.shard, mailbox), source.Mailbox)
	value, found, err := w.store.db.get(key)
	if err != nil {
		return err
	}
	if found {
		stored := decoder{rest: value}
		position := stored.position()
		if stored.err != nil {
			return stored.err
		}
		if !position.Less(source.Position) {
			return nil
		}
	}
	w.set(key, appendPosition(nil, source.Position))
	return nil
}

// storedState returns the state in the store, without the state's content; the
// zero row when there is none.
func (w *batchWriter) storedState(key []byte) (stateRow, error) {
	value, found, err := w.store.db.get(key)
	if err != nil || !found {
		return stateRow{}, err
	}
	return decodeStateRow(value)
}

func (w *batchWriter) addRows(m *persistence.MailboxWrite, first int64) {
	operations := operationPrefix(w.shard, m.Mailbox)
	for i := range m.Rows {
		row := &m.Rows[i]
		if row.Revision < first {
			continue
		}
		w.value = appendOperation(w.value[:0], row)
		w.set(appendRevision(operations, row.Revision), w.value) // which copies both
		if row.Peer != "" {
			w.set(appendRevision(conversationPrefix(w.shard, m.Mailbox, row.Peer), row.Revision), nil)
		}
	}
}

// removeRows removes the rows from one revision up to another, and their places
// in conversations.
func (w *batchWriter) removeRows(mailbox string, from, to int64) error {
	prefix := operationPrefix(w.shard, mailbox)
	lower, upper := withRevision(prefix, from), withRevision(prefix, to)
	iter, err := w.store.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	defer func() { _ = iter.Close() }()
	rows := 0
	for valid := iter.First(); valid; valid = iter.Next() {
		peer, _, err := decodeOperation(iter.Value())
		if err != nil {
			return err
		}
		if len(peer) > 0 {
			_ = w.batch.Delete(withRevision(conversationPrefix(w.shard, mailbox, string(peer)), revisionOf(iter.Key())), nil)
		}
		if rows++; rows <= fewRows {
			_ = w.batch.Delete(iter.Key(), nil)
		}
	}
	if rows > fewRows {
		_ = w.batch.DeleteRange(lower, upper, nil)
	}
	return w.store.db.readError(iter.Error())
}

// fewRows are deleted one by one: a range deletion costs every later read in
// its neighbourhood.
const fewRows = 64
