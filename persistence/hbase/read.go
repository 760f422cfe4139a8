package hbase

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/tsuna/gohbase"
	"github.com/tsuna/gohbase/hrpc"

	"github.com/tegami-im/tegami/persistence"
)

// Load implements persistence.Store. State, parts and sources are one row, read in
// one step. Dedup entries are in place before the state that knows of them, and
// are read after it: none is missing, and those above it are cut.
func (s *Store) Load(ctx context.Context, shard uint32, mailbox string, maxDedup int) (*persistence.Mailbox, error) {
	if _, err := s.shard(ctx, shard); err != nil {
		return nil, err
	}
	select {
	case s.loads <- struct{}{}:
		defer func() { <-s.loads }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	m, err := s.load(ctx, shard, mailbox, maxDedup)
	if err != nil {
		return nil, fmt.Errorf("load mailbox %s: %w", mailbox, err)
	}
	return m, nil
}

func (s *Store) load(ctx context.Context, shard uint32, mailbox string, maxDedup int) (*persistence.Mailbox, error) {
	cells, err := s.hbase.get(ctx, s.tables.mailboxes, stateRow(shard, mailbox))
	if err != nil {
		return nil, err
	}
	m := &persistence.Mailbox{}
	found := false
	for _, c := range cells {
		qualifier := string(c.Qualifier)
		switch {
		case qualifier == cellPosition:
			found = true
			m.Position, err = decodePosition(c.Value)
		case qualifier == cellState:
			m.State = bytes.Clone(c.Value)
		case strings.HasPrefix(qualifier, cellSource):
			source := persistence.Source{Mailbox: qualifier[len(cellSource):]}
			source.Position, err = decodePosition(c.Value)
			m.Sources = append(m.Sources, source)
		case strings.HasPrefix(qualifier, cellPart) && len(c.Value) > 0:
			m.Parts = append(m.Parts, persistence.Part{Key: qualifier[len(cellPart):], Data: bytes.Clone(c.Value)})
		}
		if err != nil {
			return nil, err
		}
	}
	if !found {
		return nil, persistence.ErrNotFound
	}
	dedup, err := s.loadDedup(ctx, shard, mailbox, m.Position, max(maxDedup, 0))
	if err != nil {
		return nil, err
	}
	m.Dedup, m.DedupComplete = dedup.entries, dedup.complete
	return m, nil
}

const (
	// hoursLoaded is how many hours of dedup entries are loaded: the newest and
	// the 24 before it, so that every entry of 24 hours is there.
	hoursLoaded = 25
	// hoursAsked is how many hours a look-up searches: two days.
	hoursAsked = 49
)

// dedupEntries are the entries of a mailbox that were loaded.
type dedupEntries struct {
	entries  []persistence.DedupEntry
	complete bool
}

// loadDedup reads the entries of a mailbox, newest hour first, that are not
// above a position.
func (s *Store) loadDedup(ctx context.Context, shard uint32, mailbox string, upTo persistence.Position, limit int) (dedupEntries, error) {
	return request(ctx, s.hbase, func(ctx context.Context) (work[dedupEntries], error) {
		start := dedupRow(shard, mailbox, hourOf(math.MaxInt64))
		r, err := hrpc.NewScanRange(ctx, s.tables.mailboxes, start, dedupRow(shard, mailbox, -1),
			hrpc.Families(map[string][]string{family: nil}),
			hrpc.NumberOfRows(hoursLoaded+1),
			hrpc.MaxResultSize(uint64(min((limit+1)*(len(start)+dedupSize+cellOverhead), scanBytes))))
		if err != nil {
			return nil, err
		}
		return func(client gohbase.Client) (dedupEntries, error) {
			loaded := dedupEntries{complete: true}
			newest := int64(-1)
			err := scanCells(client, r, func(c hrpc.CellV2) (more bool, err error) {
				hour, err := hourOfRow(c.Row())
				if err != nil {
					return false, err
				}
				entry, err := decodeDedup(c.Qualifier(), c.Value())
				switch {
				case err != nil:
					return false, err
				case newest >= 0 && hour <= newest-hoursLoaded:
					return false, nil
				case upTo.Less(entry.Position):
					return true, nil
				case len(loaded.entries) >= limit:
					loaded = dedupEntries{}
					return false, nil
				}
				newest = max(newest, hour)
				loaded.entries = append(loaded.entries, entry)
				return true, nil
			})
			return loaded, err
		}, nil
	})
}

// Dedup implements persistence.Store.
func (s *Store) Dedup(ctx context.Context, shard uint32, mailbox string, key [persistence.DedupKeySize]byte, notBefore int64) (oldest persistence.DedupEntry, found bool, err error) {
	if _, err := s.shard(ctx, shard); err != nil {
		return oldest, false, err
	}
	hour := hourOf(notBefore)
	err = s.hbase.scan(ctx, scan{
		table: s.tables.mailboxes,
		start: dedupRow(shard, mailbox, hour+hoursAsked-1), stop: dedupRow(shard, mailbox, hour-1),
		qualifiers: []string{string(key[:])},
		rows:       hoursAsked + 1,
	}, func(c hrpc.CellV2) (more bool, err error) {
		entry, err := decodeDedup(c.Qualifier(), c.Value())
		if err != nil {
			return false, err
		}
		if entry.Time >= notBefore {
			oldest, found = entry, true // the newest hour comes first
		}
		return true, nil
	})
	if err != nil {
		return persistence.DedupEntry{}, false, fmt.Errorf("look up command: %w", err)
	}
	return oldest, found, nil
}

// Operations implements persistence.Store.
func (s *Store) Operations(ctx context.Context, shard uint32, mailbox string, after, upTo int64, limit, maxBytes int) ([]persistence.Row, error) {
	if _, err := s.shard(ctx, shard); err != nil {
		return nil, err
	}
	if after >= upTo || limit <= 0 {
		return nil, nil
	}
	rows, err := s.operations(ctx, shard, mailbox, after, upTo, &page{limit: limit, maxBytes: maxBytes})
	if err != nil {
		return nil, fmt.Errorf("read operations of mailbox %s: %w", mailbox, err)
	}
	return rows, nil
}

func (s *Store) operations(ctx context.Context, shard uint32, mailbox string, after, upTo int64, page *page) ([]persistence.Row, error) {
	first, err := s.first(ctx, shard, mailbox)
	if err != nil {
		return nil, err
	}
	page.most = int(min(int64(page.limit), upTo-max(0, after), scanRows))
	err = s.hbase.scan(ctx, scan{
		table: s.tables.operations,
		start: revisionRow(shard, mailbox, uint64(max(0, after+1, first))),
		stop:  revisionRow(shard, mailbox, uint64(upTo)+1),
		rows:  page.limit, bytes: page.bytes(),
	}, func(c hrpc.CellV2) (more bool, err error) {
		revision, err := revisionOfRow(c.Row())
		if err != nil {
			return false, err
		}
		peer, data, err := decodeOperation(c.Value())
		if err != nil {
			return false, err
		}
		return page.add(revision, page.peer(peer), data), nil
	})
	return page.rows, err
}

// Conversation implements persistence.Store.
func (s *Store) Conversation(ctx context.Context, shard uint32, mailbox, peer string, before int64, limit, maxBytes int) ([]persistence.Row, error) {
	if _, err := s.shard(ctx, shard); err != nil {
		return nil, err
	}
	if peer == "" || before <= 0 || limit <= 0 {
		return nil, nil
	}
	rows, err := s.conversation(ctx, shard, mailbox, peer, before, &page{limit: limit, maxBytes: maxBytes})
	if err != nil {
		return nil, fmt.Errorf("read conversation of mailbox %s: %w", mailbox, err)
	}
	return rows, nil
}

func (s *Store) conversation(ctx context.Context, shard uint32, mailbox, peer string, before int64, page *page) ([]persistence.Row, error) {
	first, err := s.first(ctx, shard, mailbox)
	if err != nil {
		return nil, err
	}
	err = s.hbase.scan(ctx, scan{
		table: s.tables.conversations,
		start: conversationRow(shard, mailbox, peer, before-1),
		stop:  conversationRow(shard, mailbox, peer, max(1, first)-1),
		rows:  page.limit, bytes: page.bytes(),
	}, func(c hrpc.CellV2) (more bool, err error) {
		revision, err := revisionOfConversationRow(c.Row())
		if err != nil {
			return false, err
		}
		return page.add(revision, peer, c.Value()), nil
	})
	return page.rows, err
}

// first returns the oldest revision of a mailbox that is kept. Rows below it
// may still lie in the tables.
func (s *Store) first(ctx context.Context, shard uint32, mailbox string) (int64, error) {
	cells, err := s.hbase.get(ctx, s.tables.mailboxes, stateRow(shard, mailbox), cellFirst)
	if err != nil || len(cells) == 0 {
		return 0, err
	}
	return decodeNumber(cells[0].Value)
}

// page collects rows up to its limits.
type page struct {
	limit, maxBytes int
	most            int // rows that there may be; 0 when it is not known
	rows            []persistence.Row
	peers           map[string]string // of rows
	size            int
}

// bytes is about what HBase counts for the page.
func (p *page) bytes() int {
	return min(max(p.maxBytes, 0), scanBytes) + min(p.limit, scanRows)*cellOverhead
}

// peer returns a name as text. A page has few of them many times.
func (p *page) peer(name []byte) string {
	if peer, ok := p.peers[string(name)]; ok {
		return peer
	}
	if p.peers == nil {
		p.peers = make(map[string]string)
	}
	peer := string(name)
	p.peers[peer] = peer
	return peer
}

// add takes a row and reports whether there is room for more. The data stays
// where the client library has read it to: an answer of HBase's lies in memory
// of its own, of which the rows are nearly all.
func (p *page) add(revision int64, peer string, data []byte) (more bool) {
	p.size += len(data)
	if len(p.rows) >= p.limit || len(p.rows) > 0 && p.size > p.maxBytes {
		return false
	}
	if p.rows == nil {
		p.rows = make([]persistence.Row, 0, p.most)
	}
	p.rows = append(p.rows, persistence.Row{Revision: revision, Peer: peer, Data: slices.Clip(data)})
	return len(p.rows) < p.limit
}
