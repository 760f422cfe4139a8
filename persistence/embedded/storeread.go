package embedded

import (
	"bytes"
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tegami-im/tegami/persistence"
)

// Load implements persistence.Store.
func (s *Store) Load(ctx context.Context, shard uint32, mailbox string, maxDedup int) (*persistence.Mailbox, error) {
	if _, err := s.enter(ctx, shard); err != nil {
		return nil, err
	}
	defer s.db.leave()
	iter, err := s.db.NewIter(nil) // one view for all its rows
	if err != nil {
		return nil, err
	}
	defer func() { _ = iter.Close() }()
	loaded, err := load(iter, shard, mailbox, maxDedup)
	if err != nil {
		return nil, fmt.Errorf("load mailbox %s: %w", mailbox, s.db.readError(err))
	}
	return loaded, nil
}

func load(iter *pebble.Iterator, shard uint32, mailbox string, maxDedup int) (*persistence.Mailbox, error) {
	key := stateKey(shard, mailbox)
	if !iter.SeekGE(key) || !bytes.Equal(iter.Key(), key) {
		if err := iter.Error(); err != nil {
			return nil, err
		}
		return nil, persistence.ErrNotFound
	}
	row, err := decodeStateRow(iter.Value())
	if err != nil {
		return nil, err
	}
	m := &persistence.Mailbox{Position: row.position, State: bytes.Clone(row.state), DedupComplete: true}

	sources := sourcePrefix(shard, mailbox)
	err = scan(iter, sources, func(key, value []byte) (more bool, err error) {
		name, position := decoder{rest: key[len(sources):]}, decoder{rest: value}
		m.Sources = append(m.Sources, persistence.Source{Mailbox: string(name.name()), Position: position.position()})
		if name.err != nil {
			return false, name.err
		}
		return true, position.err
	})
	if err != nil {
		return nil, err
	}
	parts := partPrefix(shard, mailbox)
	err = scan(iter, parts, func(key, value []byte) (more bool, err error) {
		name := decoder{rest: key[len(parts):]}
		m.Parts = append(m.Parts, persistence.Part{Key: string(name.name()), Data: bytes.Clone(value)})
		return true, name.err
	})
	if err != nil {
		return nil, err
	}
	for day := max(1, row.day-1); day <= row.day && m.DedupComplete; day++ {
		err := scan(iter, dedupPrefix(shard, day, mailbox), func(key, value []byte) (more bool, err error) {
			entry, err := decodeDedup(key, value)
			if err != nil || row.position.Less(entry.Position) {
				return err == nil, err
			}
			if len(m.Dedup) >= maxDedup {
				m.Dedup, m.DedupComplete = nil, false
				return false, nil
			}
			m.Dedup = append(m.Dedup, entry)
			return true, nil
		})
		if err != nil {
			return nil, err
		}
	}
	return m, nil
}

// scan calls f for the rows that begin with prefix, until it wants no more.
func scan(iter *pebble.Iterator, prefix []byte, f func(key, value []byte) (more bool, err error)) error {
	for valid := iter.SeekGE(prefix); valid && bytes.HasPrefix(iter.Key(), prefix); valid = iter.Next() {
		more, err := f(iter.Key(), iter.Value())
		if err != nil || !more {
			return err
		}
	}
	return iter.Error()
}

// Dedup implements persistence.Store.
func (s *Store) Dedup(ctx context.Context, shard uint32, mailbox string, key [persistence.DedupKeySize]byte, notBefore int64) (persistence.DedupEntry, bool, error) {
	if _, err := s.enter(ctx, shard); err != nil {
		return persistence.DedupEntry{}, false, err
	}
	defer s.db.leave()
	first := dayOf(notBefore)
	for day := first; day <= first+1; day++ {
		row := append(dedupPrefix(shard, day, mailbox), key[:]...)
		value, found, err := s.db.get(row)
		if err != nil {
			return persistence.DedupEntry{}, false, fmt.Errorf("look up command: %w", err)
		}
		if !found {
			continue
		}
		entry, err := decodeDedup(row, value)
		if err != nil {
			return persistence.DedupEntry{}, false, fmt.Errorf("look up command: %w", err)
		}
		if entry.Time >= notBefore {
			return entry, true, nil
		}
	}
	return persistence.DedupEntry{}, false, nil
}

// Operations implements persistence.Store.
func (s *Store) Operations(ctx context.Context, shard uint32, mailbox string, after, upTo int64, limit, maxBytes int) ([]persistence.Row, error) {
	if _, err := s.enter(ctx, shard); err != nil {
		return nil, err
	}
	defer s.db.leave()
	if after >= upTo {
		return nil, nil
	}
	prefix := operationPrefix(shard, mailbox)
	iter, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: withRevision(prefix, max(0, after+1)),
		UpperBound: withRevision(prefix, upTo+1), // above MaxRevision, as unsigned numbers go
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = iter.Close() }()
	page := page{limit: limit, maxBytes: maxBytes}
	for valid := iter.First(); valid; valid = iter.Next() {
		more, err := page.add(revisionOf(iter.Key()), iter.Value())
		if err != nil {
			return nil, fmt.Errorf("read operations of mailbox %s: %w", mailbox, err)
		}
		if !more {
			return page.rows, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	if err := iter.Error(); err != nil {
		return nil, fmt.Errorf("read operations of mailbox %s: %w", mailbox, s.db.readError(err))
	}
	return page.rows, nil
}

// Conversation implements persistence.Store.
func (s *Store) Conversation(ctx context.Context, shard uint32, mailbox, peer string, before int64, limit, maxBytes int) ([]persistence.Row, error) {
	if _, err := s.enter(ctx, shard); err != nil {
		return nil, err
	}
	defer s.db.leave()
	if peer == "" || before <= 0 {
		return nil, nil
	}
	rows, err := s.conversation(ctx, shard, mailbox, peer, before, &page{limit: limit, maxBytes: maxBytes})
	if err != nil {
		return nil, fmt.Errorf("read conversation of mailbox %s: %w", mailbox, s.db.readError(err))
	}
	return rows, nil
}

func (s *Store) conversation(ctx context.Context, shard uint32, mailbox, peer string, before int64, page *page) ([]persistence.Row, error) {
	view := s.db.NewSnapshot() // places and rows of one moment
	defer func() { _ = view.Close() }()
	prefix := conversationPrefix(shard, mailbox, peer)
	places, err := view.NewIter(&pebble.IterOptions{
		LowerBound: withRevision(prefix, 0),
		UpperBound: withRevision(prefix, before),
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = places.Close() }()
	operations := operationPrefix(shard, mailbox)
	for valid := places.Last(); valid; valid = places.Prev() {
		revision := revisionOf(places.Key())
		value, closer, err := view.Get(withRevision(operations, revision))
		if err != nil {
			return nil, fmt.Errorf("revision %d: %w", revision, err)
		}
		more, err := page.add(revision, value)
		_ = closer.Close()
		if err != nil {
			return nil, fmt.Errorf("revision %d: %w", revision, err)
		}
		if !more {
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return page.rows, places.Error()
}

// page collects rows up to its limits.
type page struct {
	limit, maxBytes int
	rows            []persistence.Row
	size            int
}

// add takes a copy of a row, and reports false when the page is full without
// it.
func (p *page) add(revision int64, value []byte) (more bool, err error) {
	peer, data, err := decodeOperation(value)
	if err != nil {
		return false, err
	}
	p.size += len(data)
	if len(p.rows) >= p.limit || len(p.rows) > 0 && p.size > p.maxBytes {
		return false, nil
	}
	p.rows = append(p.rows, persistence.Row{Revision: revision, Peer: string(peer), Data: bytes.Clone(data)})
	return true, nil
}
