package hbase

import (
	"bytes"
	"context"
	"fmt"

	"github.com/tsuna/gohbase/pb"

	"github.com/tegami-im/tegami/persistence"
)

// Write implements persistence.Store. What a state speaks of is in place before
// the state, and a mark after all that it speaks of, but the highest, which is
// first. A write that failed may be there in part; those parts are not seen, or
// are what the next write of the batch puts again.
func (s *Store) Write(ctx context.Context, shard uint32, batch persistence.Batch) error {
	sh, err := s.shard(ctx, shard)
	if err != nil {
		return err
	}
	defer func() {
		sh.mu.Lock()
		sh.writes++ // also one that failed: a part of it may be there
		sh.mu.Unlock()
	}()
	if err := s.write(ctx, shard, sh, &batch); err != nil {
		return fmt.Errorf("write to shard %d: %w", shard, err)
	}
	return nil
}

func (s *Store) write(ctx context.Context, shard uint32, sh *shardState, batch *persistence.Batch) error {
	if err := batch.Check(); err != nil {
		return err
	}
	if err := s.seed(ctx, shard, sh); err != nil {
		return err
	}
	w := batchWrite{store: s, shard: shard, state: sh}
	err := inParallel(
		ctx,
		func(ctx context.Context) error { return s.putMark(ctx, shard, sh, cellHighest, batch.Highest) },
		func(ctx context.Context) error { return w.prepare(ctx, batch) },
	)
	if err != nil {
		return err
	}
	err = inParallel(ctx, w.putOperations, w.putConversations, w.putDedup)
	if err != nil {
		return err
	}
	if err := w.putStates(ctx); err != nil {
		return err
	}
	if err := s.putMark(ctx, shard, sh, cellCheckpoint, batch.Checkpoint); err != nil {
		return err
	}
	w.noteAges(batch.Checkpoint)
	return w.removeRows(ctx)
}

// seed reads a shard's marks before it is first written to.
func (s *Store) seed(ctx context.Context, shard uint32, sh *shardState) error {
	sh.mu.Lock()
	seeded := sh.seeded
	sh.mu.Unlock()
	if seeded {
		return nil
	}
	marks, err := s.readMarks(ctx, shard, cellCheckpoint, cellHighest)
	if err != nil {
		return err
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if !sh.seeded {
		sh.seeded, sh.written = true, marks
	}
	return nil
}

// putMark moves a mark forward in the store, unless it is known to be there.
func (s *Store) putMark(ctx context.Context, shard uint32, sh *shardState, qualifier string, position persistence.Position) error {
	mark := &sh.written.Highest
	if qualifier == cellCheckpoint {
		mark = &sh.written.Checkpoint
	}
	sh.mu.Lock()
	there := !mark.Less(position)
	sh.mu.Unlock()
	if there {
		return nil
	}
	version, err := versionOf(position)
	if err != nil {
		return err
	}
	err = s.hbase.put(ctx, s.tables.mailboxes, shardRow(shard, kindMarks), s.options.Durability,
		cell{qualifier, version, encodePosition(position)})
	if err != nil {
		return err
	}
	sh.mu.Lock()
	*mark = later(*mark, position)
	sh.mu.Unlock()
	return nil
}

// batchWrite is a batch on its way into the tables.
type batchWrite struct {
	store *Store
	shard uint32
	state *shardState

	parts         []part
	operations    []rowRef
	conversations []rowRef
	dedup         []dedupHour
}

// part is a mailbox's part of a batch that is above what is stored.
type part struct {
	*persistence.MailboxWrite
	version uint64
	first   int64
	removed int64 // rows below it are removed from the tables
	hour    int64 // dedup entries of older hours are gone
}

// rowRef is a row of a part.
type rowRef struct {
	part int
	row  *persistence.Row
}

// dedupHour is the dedup entries of a part that lie in one hour.
type dedupHour struct {
	part    int
	hour    int64
	entries []*persistence.DedupEntry
}

// stored is what the tables have of a mailbox, at least.
type stored struct {
	position             persistence.Position
	first, removed, hour int64
}

// knownMailboxes is about how many mailboxes a store remembers what is stored
// of. Others may have written since: what is put then is older than what is
// stored, and changes nothing.
const knownMailboxes = 1 << 18

// known returns what is remembered of a mailbox.
func (sh *shardState) known(mailbox string) (stored, bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	before, ok := sh.mailboxes[mailbox]
	return before, ok
}

// learn remembers what was stored of a mailbox, in place of some other when
// there are many.
func (sh *shardState) learn(mailbox string, now stored, limit int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.mailboxes == nil {
		sh.mailboxes = map[string]stored{}
	}
	before, ok := sh.mailboxes[mailbox]
	if ok {
		now = stored{later(before.position, now.position), max(before.first, now.first), max(before.removed, now.removed), max(before.hour, now.hour)}
	} else if len(sh.mailboxes) >= limit {
		for other := range sh.mailboxes {
			delete(sh.mailboxes, other)
			break
		}
	}
	sh.mailboxes[mailbox] = now
}

func (s *Store) knownOfShard() int { return max(knownMailboxes/s.options.Shards, 64) }

// prepare finds out how far each mailbox is and sorts out what there is to put.
func (w *batchWrite) prepare(ctx context.Context, batch *persistence.Batch) error {
	before := make([]stored, len(batch.Mailboxes))
	var unknown []int
	var rows [][]byte
	for i := range batch.Mailboxes {
		mailbox := batch.Mailboxes[i].Mailbox
		var ok bool
		if before[i], ok = w.state.known(mailbox); !ok {
			unknown = append(unknown, i)
			rows = append(rows, stateRow(w.shard, mailbox))
		}
	}
	cells, err := w.store.hbase.getMany(ctx, w.store.tables.mailboxes, rows, cellPosition, cellFirst, cellRemoved, cellHour)
	if err != nil {
		return err
	}
	for k, i := range unknown {
		if before[i], err = decodeStored(cells[k]); err != nil {
			return fmt.Errorf("mailbox %s: %w", batch.Mailboxes[i].Mailbox, err)
		}
	}
	for i := range batch.Mailboxes {
		m := &batch.Mailboxes[i]
		if err := w.add(ctx, m, before[i]); err != nil {
			return fmt.Errorf("mailbox %s: %w", m.Mailbox, err)
		}
	}
	return nil
}

func decodeStored(cells []*pb.Cell) (b stored, err error) {
	for _, c := range cells {
		switch string(c.GetQualifier()) {
		case cellPosition:
			b.position, err = decodePosition(c.GetValue())
		case cellFirst:
			b.first = numberOf(c.GetValue(), c.GetTimestamp())
		case cellRemoved:
			b.removed = numberOf(c.GetValue(), c.GetTimestamp())
		case cellHour:
			b.hour = numberOf(c.GetValue(), c.GetTimestamp())
		}
		if err != nil {
			return b, err
		}
	}
	return b, nil
}

func (w *batchWrite) add(ctx context.Context, m *persistence.MailboxWrite, before stored) error {
	if !before.position.Less(m.Position) {
		w.state.learn(m.Mailbox, before, w.store.knownOfShard())
		w.mayRemove(m.Mailbox, before.removed, before.first)
		return nil
	}
	version, err := versionOf(m.Position)
	if err != nil {
		return err
	}
	index := len(w.parts)
	p := part{MailboxWrite: m, version: version, first: max(before.first, m.First), removed: before.removed, hour: before.hour}
	for i := range m.Rows {
		row := &m.Rows[i]
		if row.Revision < p.first {
			continue
		}
		w.operations = append(w.operations, rowRef{index, row})
		if row.Peer != "" {
			w.conversations = append(w.conversations, rowRef{index, row})
		}
	}
	w.addDedup(index, m.Dedup)
	if oldest := w.oldestHour(); oldest > before.hour+hoursBetweenRemovals {
		if !before.position.IsZero() {
			if err := w.removeDedup(ctx, &p, oldest); err != nil {
				return err
			}
		}
		p.hour = oldest
	}
	w.mayRemove(m.Mailbox, before.removed, p.first)
	w.parts = append(w.parts, p)
	return nil
}

// addDedup sorts entries by their hours. They mostly come in the order of their
// time.
func (w *batchWrite) addDedup(index int, entries []persistence.DedupEntry) {
	first := len(w.dedup)
	for i := range entries {
		entry := &entries[i]
		hour := hourOf(entry.Time)
		k := len(w.dedup) - 1
		for k >= first && w.dedup[k].hour != hour {
			k--
		}
		if k < first {
			k = len(w.dedup)
			w.dedup = append(w.dedup, dedupHour{part: index, hour: hour})
		}
		w.dedup[k].entries = append(w.dedup[k].entries, entry)
	}
}

func (w *batchWrite) putOperations(ctx context.Context) error {
	s := w.store
	return s.hbase.mutate(ctx, len(w.operations), func(ctx context.Context, i int) (*mutation, error) {
		ref := &w.operations[i]
		p := &w.parts[ref.part]
		return newPut(ctx, s.tables.operations, revisionRow(w.shard, p.Mailbox, uint64(ref.row.Revision)), s.options.Durability,
			cell{version: p.version, value: encodeOperation(ref.row)})
	})
}

func (w *batchWrite) putConversations(ctx context.Context) error {
	s := w.store
	return s.hbase.mutate(ctx, len(w.conversations), func(ctx context.Context, i int) (*mutation, error) {
		ref := &w.conversations[i]
		p := &w.parts[ref.part]
		return newPut(ctx, s.tables.conversations, conversationRow(w.shard, p.Mailbox, ref.row.Peer, ref.row.Revision), s.options.Durability,
			cell{version: p.version, value: bytes.Clone(ref.row.Data)})
	})
}

func (w *batchWrite) putDedup(ctx context.Context) error {
	s := w.store
	return s.hbase.mutate(ctx, len(w.dedup), func(ctx context.Context, i int) (*mutation, error) {
		hour := &w.dedup[i]
		cells := make([]cell, len(hour.entries))
		for k, entry := range hour.entries {
			version, err := versionOf(entry.Position)
			if err != nil {
				return nil, err
			}
			cells[k] = cell{string(entry.Key[:]), version, encodeDedup(entry)}
		}
		return newPut(ctx, s.tables.mailboxes, dedupRow(w.shard, w.parts[hour.part].Mailbox, hour.hour), s.options.Durability, cells...)
	})
}

func (w *batchWrite) putStates(ctx context.Context) error {
	s := w.store
	err := s.hbase.mutate(ctx, len(w.parts), func(ctx context.Context, i int) (*mutation, error) {
		p := &w.parts[i]
		cells := make([]cell, 0, 4+len(p.Sources)+len(p.Parts))
		cells = append(cells,
			cell{cellPosition, stateVersion(p.version), encodePosition(p.Position)},
			cell{cellState, stateVersion(p.version), bytes.Clone(p.State)})
		if p.first > 0 {
			cells = append(cells, cell{cellFirst, uint64(p.first), encodeNumber(p.first)})
		}
		if p.hour > 0 {
			cells = append(cells, cell{cellHour, uint64(p.hour), encodeNumber(p.hour)})
		}
		for _, source := range p.Sources {
			cells = append(cells, cell{cellSource + source.Mailbox, sourceVersion(source.Position), encodePosition(source.Position)})
		}
		for k := range p.Parts {
			part := &p.Parts[k]
			cells = append(cells, cell{cellPart + part.Key, sourceVersion(part.Position), bytes.Clone(part.Data)})
		}
		return newPut(ctx, s.tables.mailboxes, stateRow(w.shard, p.Mailbox), s.options.Durability, cells...)
	})
	if err != nil {
		return err
	}
	for i := range w.parts {
		p := &w.parts[i]
		w.state.learn(p.Mailbox, stored{position: p.Position, first: p.first, removed: p.removed, hour: p.hour}, s.knownOfShard())
	}
	return nil
}
