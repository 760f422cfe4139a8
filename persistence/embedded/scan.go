package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tegami-im/tegami/persistence"
)

var _ persistence.Repairer = (*Store)(nil)

// Scan implements persistence.Scanner. All is of one moment.
func (s *Store) Scan(ctx context.Context, shard uint32, visit func(*persistence.Item) error) error {
	return s.scanNames(ctx, shard, nil, nil, visit)
}

// ScanMailbox implements persistence.Scanner.
func (s *Store) ScanMailbox(ctx context.Context, shard uint32, mailbox string, visit func(*persistence.Item) error) error {
	name := appendName(nil, mailbox)
	return s.scanNames(ctx, shard, name, prefixEnd(name), visit)
}

// prefixEnd returns the first key above all those that begin with prefix.
func prefixEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for len(end) > 0 {
		end[len(end)-1]++
		if end[len(end)-1] != 0 {
			return end
		}
		end = end[:len(end)-1]
	}
	return nil
}

// scanNames visits the mailboxes whose encoded names are not below lower, and
// below upper unless that is nil.
func (s *Store) scanNames(ctx context.Context, shard uint32, lower, upper []byte, visit func(*persistence.Item) error) error {
	if _, err := s.enter(ctx, shard); err != nil {
		return err
	}
	defer s.db.leave()
	view := s.db.NewSnapshot()
	defer func() { _ = view.Close() }()
	m := merge{ctx: ctx, visit: visit}
	defer m.close()
	days, err := dedupDays(view, shard)
	if err != nil {
		return s.db.readError(err)
	}
	prefixes := [][]byte{rowPrefix(rowState, shard), rowPrefix(rowPart, shard), rowPrefix(rowSource, shard)}
	for _, day := range days {
		prefixes = append(prefixes, dedupDay(shard, day))
	}
	prefixes = append(prefixes, rowPrefix(rowOperation, shard), rowPrefix(rowConversation, shard))
	for _, prefix := range prefixes {
		end := prefixEnd(prefix)
		if upper != nil {
			end = append(bytes.Clone(prefix), upper...)
		}
		iter, err := view.NewIter(&pebble.IterOptions{LowerBound: append(bytes.Clone(prefix), lower...), UpperBound: end})
		if err != nil {
			return err
		}
		iter.First()
		m.streams = append(m.streams, &stream{iter: iter, kind: prefix[0], lead: len(prefix)})
	}
	return s.db.readError(m.run())
}

// dedupDays returns the days that a shard has dedup entries of.
func dedupDays(view *pebble.Snapshot, shard uint32) (days []int64, err error) {
	prefix := rowPrefix(rowDedup, shard)
	iter, err := view.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return nil, err
	}
	defer func() { _ = iter.Close() }()
	for valid := iter.First(); valid; {
		if len(iter.Key()) < len(prefix)+4 {
			valid = iter.Next()
			continue
		}
		day := int64(binary.BigEndian.Uint32(iter.Key()[len(prefix):]))
		days = append(days, day)
		if day == math.MaxUint32 {
			break
		}
		valid = iter.SeekGE(dedupDay(shard, day+1))
	}
	return days, iter.Error()
}

// stream is the rows of one kind of a shard, or of one day.
type stream struct {
	iter *pebble.Iterator
	kind byte
	lead int // bytes of a key before the name
}

// name returns the encoded name at the front; nil at the end. Of a key in which
// none is, it returns all that follows.
func (s *stream) name() []byte {
	if !s.iter.Valid() {
		return nil
	}
	rest := s.iter.Key()[s.lead:]
	length, n := binary.Uvarint(rest)
	if n <= 0 || length > uint64(len(rest)-n) {
		return rest
	}
	return rest[:n+int(length)]
}

// merge visits what several streams have, mailbox by mailbox.
type merge struct {
	ctx     context.Context //nolint:containedctx // of one call
	visit   func(*persistence.Item) error
	streams []*stream
	item    persistence.Item
}

func (m *merge) close() {
	for _, s := range m.streams {
		_ = s.iter.Close()
	}
}

func (m *merge) run() error {
	for {
		var least []byte
		for _, s := range m.streams {
			if name := s.name(); name != nil && (least == nil || bytes.Compare(name, least) < 0) {
				least = name
			}
		}
		if least == nil {
			break
		}
		if err := m.mailbox(bytes.Clone(least)); err != nil {
			return err
		}
	}
	var errs []error
	for _, s := range m.streams {
		errs = append(errs, s.iter.Error())
	}
	return errors.Join(errs...)
}

// mailbox visits what the streams have of one mailbox.
func (m *merge) mailbox(encoded []byte) error {
	d := decoder{rest: encoded}
	mailbox := string(d.name())
	for _, s := range m.streams {
		for s.iter.Valid() && bytes.Equal(s.name(), encoded) {
			if err := m.ctx.Err(); err != nil {
				return err
			}
			m.item = persistence.Item{Mailbox: mailbox}
			decodeItem(&m.item, s.kind, s.iter.Key()[s.lead+len(encoded):], s.iter.Value())
			if d.err != nil {
				m.item.Err = d.err
			}
			if err := m.visit(&m.item); err != nil {
				return err
			}
			s.iter.Next()
		}
	}
	return nil
}

// decodeItem reads a row; key is what follows the mailbox's name.
func decodeItem(item *persistence.Item, kind byte, key, value []byte) {
	switch kind {
	case rowState:
		item.Kind = persistence.ItemState
		row, err := decodeStateRow(value)
		item.Position, item.State, item.First, item.Err = row.position, row.state, row.first, err
	case rowPart:
		item.Kind = persistence.ItemPart
		name := decoder{rest: key}
		item.Part = persistence.Part{Key: string(name.name()), Data: value}
		item.Err = name.err
	case rowSource:
		item.Kind = persistence.ItemSource
		name, position := decoder{rest: key}, decoder{rest: value}
		item.Source = persistence.Source{Mailbox: string(name.name()), Position: position.position()}
		item.Err = errors.Join(name.err, position.err)
	case rowDedup:
		item.Kind = persistence.ItemDedup
		item.Dedup, item.Err = decodeDedup(key, value)
	case rowOperation:
		item.Kind = persistence.ItemRow
		if len(key) != 8 {
			item.Err = errRow
			return
		}
		peer, data, err := decodeOperation(value)
		item.Row, item.Err = persistence.Row{Revision: revisionOf(key), Peer: string(peer), Data: data}, err
	case rowConversation:
		item.Kind = persistence.ItemPlace
		d := decoder{rest: key}
		peer := string(d.name())
		if d.err != nil || len(d.rest) != 8 {
			item.Err = errRow
			return
		}
		item.Row = persistence.Row{Revision: revisionOf(d.rest), Peer: peer}
	}
}

// Repair implements persistence.Repairer.
func (s *Store) Repair(ctx context.Context, shard uint32, repair persistence.Repair) error {
	sh, err := s.enter(ctx, shard)
	if err != nil {
		return err
	}
	defer s.db.leave()
	if s.volume.full() {
		return persistence.ErrFull
	}
	select {
	case sh.writing <- struct{}{}:
		defer func() { <-sh.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	w := batchWriter{store: s, shard: shard, batch: s.db.newBatch(0), retention: sh.retention}
	if err := w.addRepair(&repair); err != nil {
		_ = w.batch.Close()
		return s.db.readError(err)
	}
	if err := s.db.commit(w.batch, withProcess); err != nil {
		return err
	}
	s.writes.Add(1)
	return nil
}

func (w *batchWriter) addRepair(r *persistence.Repair) error {
	operations := operationPrefix(w.shard, r.Mailbox)
	for _, revision := range r.Remove {
		_ = w.batch.Delete(withRevision(operations, revision), nil)
	}
	for _, place := range r.Places {
		_ = w.batch.Delete(withRevision(conversationPrefix(w.shard, r.Mailbox, place.Peer), place.Revision), nil)
	}
	w.addRows(&persistence.MailboxWrite{Mailbox: r.Mailbox, Rows: r.Rows}, 0)
	for i := range r.Dedup {
		entry := &r.Dedup[i]
		w.set(append(dedupPrefix(w.shard, dayOf(entry.Time), r.Mailbox), entry.Key[:]...), encodeDedup(entry))
	}
	w.putParts(r.Mailbox, r.Parts)
	for _, source := range r.Sources {
		w.set(appendName(sourcePrefix(w.shard, r.Mailbox), source.Mailbox), appendPosition(nil, source.Position))
	}
	if r.State == nil {
		return nil
	}
	day, err := w.newestDay(r)
	if err != nil {
		return err
	}
	row := stateRow{position: r.Position, first: r.First, day: day, state: r.State}
	w.set(stateKey(w.shard, r.Mailbox), row.encode())
	return nil
}

// newestDay returns the day of a mailbox's newest dedup entry; 0 for none.
func (w *batchWriter) newestDay(r *persistence.Repair) (newest int64, err error) {
	for i := range r.Dedup {
		newest = max(newest, dayOf(r.Dedup[i].Time))
	}
	view := w.store.db.NewSnapshot()
	defer func() { _ = view.Close() }()
	days, err := dedupDays(view, w.shard)
	if err != nil {
		return 0, err
	}
	iter, err := view.NewIter(nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = iter.Close() }()
	for _, day := range days {
		prefix := dedupPrefix(w.shard, day, r.Mailbox)
		if iter.SeekGE(prefix) && bytes.HasPrefix(iter.Key(), prefix) {
			newest = max(newest, day)
		}
	}
	return newest, iter.Error()
}
