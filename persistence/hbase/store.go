package hbase

import (
	"context"
	"fmt"
	"sync"

	"github.com/tsuna/gohbase/hrpc"

	"github.com/tegami-im/tegami/persistence"
)

// Store is a persistence.Store in HBase. Any number of stores, in any number
// of processes, may write the same shards: what they write only moves forward.
type Store struct {
	options Options
	tables  tables
	hbase   *connection
	loads   chan struct{} // holds a token for each load under way

	syncing chan struct{} // holds a token: one sync at a time
	mu      sync.Mutex    // guards the following
	shards  map[uint32]*shardState
}

// shardState is what a store remembers of a shard that it has written to.
type shardState struct {
	mu sync.Mutex // guards the following
	// written are the marks as they lie in the store at least. They are read
	// before the first write.
	seeded  bool
	written persistence.Marks
	// writes counts the calls of Write that have ended; covered are those that
	// ended before the last sync.
	writes, covered int64
	dedup           dedupAge
	leftovers       leftovers
	// mailboxes are some of the shard's, with what is stored of them.
	mailboxes map[string]stored
}

var _ persistence.Store = (*Store)(nil)

// OpenStore returns a store on the tables that ApplySchema made. Close it after
// use. Errors: ErrSchema, ErrUnavailable.
func OpenStore(ctx context.Context, options Options) (*Store, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{
		options: options,
		tables:  tablesOf(options.TablePrefix),
		hbase:   newConnection(options),
		loads:   make(chan struct{}, options.Loads),
		syncing: make(chan struct{}, 1),
		shards:  map[uint32]*shardState{},
	}
	if err := checkSchema(ctx, s.hbase); err != nil {
		s.hbase.close()
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, nil
}

// shard returns what is remembered of a shard, unless the context or the store
// has ended.
func (s *Store) shard(ctx context.Context, shard uint32) (*shardState, error) {
	if err := s.hbase.usable(ctx); err != nil {
		return nil, err
	}
	if int64(shard) >= int64(s.options.Shards) {
		return nil, fmt.Errorf("shard %d: there are %d", shard, s.options.Shards)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.shards[shard]
	if sh == nil {
		sh = &shardState{}
		s.shards[shard] = sh
	}
	return sh, nil
}

// Sync implements persistence.Store. What Write put is in the write-ahead log
// of every replica by then; Sync puts a row with FSYNC_WAL behind it, in each
// table and for each shard that was written to, which brings the log before it
// to disk: a table's rows of a shard lie in one region, and so in one log. Then
// it puts the marks that this covers.
func (s *Store) Sync(ctx context.Context) error {
	if err := s.hbase.usable(ctx); err != nil {
		return err
	}
	select {
	case s.syncing <- struct{}{}:
		defer func() { <-s.syncing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	type pending struct {
		id     uint32
		state  *shardState
		marks  persistence.Marks
		writes int64
	}
	var all []pending
	s.mu.Lock()
	for id, sh := range s.shards {
		sh.mu.Lock()
		if sh.writes > sh.covered {
			all = append(all, pending{id, sh, sh.written, sh.writes})
		}
		sh.mu.Unlock()
	}
	s.mu.Unlock()
	if s.options.Durability != DurabilityFsync {
		barriers := func(table []byte) func(ctx context.Context) error {
			return func(ctx context.Context) error {
				return s.hbase.mutate(ctx, len(all), func(ctx context.Context, i int) (*mutation, error) {
					return newPut(ctx, table, shardRow(all[i].id, kindBarrier), DurabilityFsync, cell{version: barrierVersion})
				})
			}
		}
		err := inParallel(ctx, barriers(s.tables.mailboxes), barriers(s.tables.operations), barriers(s.tables.conversations))
		if err != nil {
			return fmt.Errorf("sync: %w", err)
		}
	}
	err := s.hbase.mutate(ctx, len(all), func(ctx context.Context, i int) (*mutation, error) {
		checkpoint, highest := all[i].marks.Checkpoint, all[i].marks.Highest
		checkpointVersion, err := versionOf(checkpoint)
		if err != nil {
			return nil, err
		}
		highestVersion, err := versionOf(highest)
		if err != nil {
			return nil, err
		}
		return newPut(ctx, s.tables.mailboxes, shardRow(all[i].id, kindMarks), DurabilityFsync,
			cell{cellSyncedCheckpoint, checkpointVersion, encodePosition(checkpoint)},
			cell{cellSyncedHighest, highestVersion, encodePosition(highest)})
	})
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	for _, p := range all {
		p.state.mu.Lock()
		p.state.covered = p.writes
		p.state.mu.Unlock()
	}
	return nil
}

// barrierVersion is that of a barrier's cell, which is the same each time.
const barrierVersion = 1

// Marks implements persistence.Store. They are those of the last Sync of any
// store, which each Sync puts beside the marks as written: what one owner
// truncates the journal by another must not read as lower.
func (s *Store) Marks(ctx context.Context, shard uint32) (persistence.Marks, error) {
	if _, err := s.shard(ctx, shard); err != nil {
		return persistence.Marks{}, err
	}
	marks, err := s.readMarks(ctx, shard, cellSyncedCheckpoint, cellSyncedHighest)
	if err != nil {
		return persistence.Marks{}, fmt.Errorf("read marks of shard %d: %w", shard, err)
	}
	return marks, nil
}

func (s *Store) readMarks(ctx context.Context, shard uint32, checkpoint, highest string) (persistence.Marks, error) {
	var marks persistence.Marks
	cells, err := s.hbase.get(ctx, s.tables.mailboxes, shardRow(shard, kindMarks), checkpoint, highest)
	if err != nil {
		return marks, err
	}
	for _, c := range cells {
		mark := &marks.Checkpoint
		if string(c.Qualifier) == highest {
			mark = &marks.Highest
		}
		if *mark, err = decodePosition(c.Value); err != nil { // its version tells it, too
			*mark = positionOfVersion(*c.Timestamp)
		}
	}
	return marks, nil
}

// Refusing reports whether calls fail at once, because HBase did not answer.
func (s *Store) Refusing() bool { return s.hbase.breaker.open() }

// Close implements persistence.Store. Calls under way fail.
func (s *Store) Close() error {
	s.hbase.close()
	return nil
}

func later(p, q persistence.Position) persistence.Position {
	if p.Less(q) {
		return q
	}
	return p
}

// inParallel calls all functions at once, waits for all and returns the first
// error.
func inParallel(ctx context.Context, functions ...func(ctx context.Context) error) error {
	errs := make(chan error, len(functions))
	for _, f := range functions {
		go func() { errs <- f(ctx) }()
	}
	var first error
	for range functions {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// valueOf returns the value of the cell with a qualifier, nil for none.
func valueOf(cells []*hrpc.Cell, qualifier string) []byte {
	for _, c := range cells {
		if string(c.Qualifier) == qualifier {
			return c.Value
		}
	}
	return nil
}
