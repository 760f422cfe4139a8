package hbase

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"

	"github.com/tsuna/gohbase"
	"github.com/tsuna/gohbase/hrpc"

	"github.com/tegami-im/tegami/persistence"
)

var _ persistence.Repairer = (*Store)(nil)

// Scan implements persistence.Scanner. Pages of the three tables are read as
// they are needed, those of a mailbox's state before those of its rows.
func (s *Store) Scan(ctx context.Context, shard uint32, visit func(*persistence.Item) error) error {
	return s.scanRange(ctx, shard, shardRow(shard, kindMailbox), shardRow(shard, kindMailbox+1), visit)
}

// ScanMailbox implements persistence.Scanner.
func (s *Store) ScanMailbox(ctx context.Context, shard uint32, mailbox string, visit func(*persistence.Item) error) error {
	prefix := mailboxPrefix(shard, mailbox)
	return s.scanRange(ctx, shard, prefix, rowAfterPrefix(prefix), visit)
}

// rowAfterPrefix returns the first row above all those that begin with prefix.
func rowAfterPrefix(prefix []byte) []byte {
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

func (s *Store) scanRange(ctx context.Context, shard uint32, start, stop []byte, visit func(*persistence.Item) error) error {
	if _, err := s.shard(ctx, shard); err != nil {
		return err
	}
	m := merge{visit: visit}
	for i, table := range [][]byte{s.tables.mailboxes, s.tables.operations, s.tables.conversations} {
		m.tables[i] = &rowReader{hbase: s.hbase, table: table, start: start, stop: stop}
	}
	return m.run(ctx)
}

// merge visits what the three tables have, mailbox by mailbox.
type merge struct {
	visit  func(*persistence.Item) error
	tables [3]*rowReader // mailboxes, operations, conversations
	first  int64         // of the mailbox that is visited
	item   persistence.Item
}

func (m *merge) run(ctx context.Context) error {
	for {
		var least []byte
		for _, t := range m.tables {
			row, err := t.peek(ctx)
			if err != nil {
				return err
			}
			if row == nil {
				continue
			}
			if name := nameOfRow(row[0].Row()); least == nil || bytes.Compare(name, least) < 0 {
				least = name
			}
		}
		if least == nil {
			return nil
		}
		if err := m.mailbox(ctx, bytes.Clone(least)); err != nil {
			return err
		}
	}
}

// nameOfRow returns the encoded name in a row key; of a key in which none is,
// all that follows the shard.
func nameOfRow(row []byte) []byte {
	rest := row[min(len(row), rowLead):]
	length, n := binary.Uvarint(rest)
	if n <= 0 || length > uint64(len(rest)-n) {
		return rest
	}
	return rest[:n+int(length)]
}

// rowLead is the length of what precedes the name: shard and kind.
const rowLead = 3

func (m *merge) mailbox(ctx context.Context, encoded []byte) error {
	name, _, err := decodeOperation(encoded) // a name and nothing behind it
	mailbox := string(name)
	m.first = 0
	for i, t := range m.tables {
		for {
			row, rowErr := t.peek(ctx)
			if rowErr != nil {
				return rowErr
			}
			if row == nil || !bytes.Equal(nameOfRow(row[0].Row()), encoded) {
				break
			}
			t.take()
			m.item = persistence.Item{Mailbox: mailbox, Err: err}
			key := row[0].Row()[rowLead+len(encoded):]
			var visitErr error
			switch {
			case i == 0 && len(key) == 1 && key[0] == partState:
				visitErr = m.state(row)
			case i == 0:
				visitErr = m.dedup(row)
			default:
				visitErr = m.row(i, key, row[0])
			}
			if visitErr != nil {
				return visitErr
			}
		}
	}
	return nil
}

// state visits the cells of a mailbox's state.
func (m *merge) state(row []hrpc.CellV2) error {
	state := m.item
	var parts, sources []persistence.Item
	state.Kind = persistence.ItemState
	hasPosition, hasState := false, false
	for _, c := range row {
		var err error
		switch qualifier := string(c.Qualifier()); {
		case qualifier == cellPosition:
			hasPosition = true
			state.Position, err = decodePosition(c.Value())
		case qualifier == cellState:
			hasState, state.State = true, c.Value()
		case qualifier == cellFirst:
			state.First = numberOf(c.Value(), c.Timestamp())
		case strings.HasPrefix(qualifier, cellPart):
			if len(c.Value()) > 0 {
				part := persistence.Item{Kind: persistence.ItemPart, Mailbox: state.Mailbox}
				part.Part = persistence.Part{Key: qualifier[len(cellPart):], Data: c.Value()}
				parts = append(parts, part)
			}
		case strings.HasPrefix(qualifier, cellSource):
			source := persistence.Item{Kind: persistence.ItemSource, Mailbox: state.Mailbox}
			source.Source.Mailbox = qualifier[len(cellSource):]
			source.Source.Position, source.Err = decodePosition(c.Value())
			sources = append(sources, source)
		}
		state.Err = errors.Join(state.Err, err)
	}
	if hasPosition != hasState {
		state.Err = errors.Join(state.Err, errRow)
	}
	m.first = state.First
	if hasPosition || hasState {
		if err := m.visit(&state); err != nil {
			return err
		}
	}
	for _, items := range [][]persistence.Item{parts, sources} {
		for i := range items {
			if err := m.visit(&items[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *merge) dedup(row []hrpc.CellV2) error {
	item := m.item
	for _, c := range row {
		m.item = item
		m.item.Kind = persistence.ItemDedup
		entry, err := decodeDedup(c.Qualifier(), c.Value())
		m.item.Dedup, m.item.Err = entry, errors.Join(item.Err, err)
		if err := m.visit(&m.item); err != nil {
			return err
		}
	}
	return nil
}

// row visits an operation or a place.
func (m *merge) row(table int, key []byte, c hrpc.CellV2) error {
	var err error
	m.item.Written = positionOfVersion(c.Timestamp())
	if table == 1 {
		m.item.Kind = persistence.ItemRow
		m.item.Row.Revision, err = revisionOfRow(key)
		peer, data, decodeErr := decodeOperation(c.Value())
		m.item.Row.Peer, m.item.Row.Data = string(peer), data
		err = errors.Join(err, decodeErr)
	} else {
		m.item.Kind = persistence.ItemPlace
		var peer, rest []byte
		if peer, rest, err = decodeOperation(key); err == nil && len(rest) != 8 {
			err = errRow
		}
		if err == nil {
			m.item.Row.Revision, err = revisionOfConversationRow(rest)
		}
		m.item.Row.Peer, m.item.Row.Data = string(peer), c.Value()
	}
	if err == nil && m.item.Row.Revision < m.first {
		return nil // it is on its way out
	}
	m.item.Err = errors.Join(m.item.Err, err)
	return m.visit(&m.item)
}

// rowReader reads a range of rows, all cells of each, page by page.
type rowReader struct {
	hbase              *connection
	table, start, stop []byte
	page               [][]hrpc.CellV2
	ended              bool
}

// peek returns the row at the front; nil at the end.
func (r *rowReader) peek(ctx context.Context) ([]hrpc.CellV2, error) {
	for len(r.page) == 0 && !r.ended {
		if err := r.read(ctx); err != nil {
			return nil, err
		}
	}
	if len(r.page) == 0 {
		return nil, nil
	}
	return r.page[0], nil
}

func (r *rowReader) take() { r.page = r.page[1:] }

// rowsRead is what a page of rows is.
type rowsRead struct {
	rows  [][]hrpc.CellV2
	ended bool
}

// read reads the next page. Each request opens a scanner and closes it, so that
// none can expire while the rows are looked at.
func (r *rowReader) read(ctx context.Context) error {
	page, err := request(ctx, r.hbase, func(ctx context.Context) (work[rowsRead], error) {
		scan, err := hrpc.NewScanRange(ctx, r.table, r.start, r.stop,
			hrpc.Families(map[string][]string{family: nil}),
			hrpc.NumberOfRows(scanRows), hrpc.MaxResultSize(scanBytes/4))
		if err != nil {
			return nil, err
		}
		return func(client gohbase.Client) (rowsRead, error) { return readRows(client, scan) }, nil
	})
	if err != nil {
		return err
	}
	r.page, r.ended = page.rows, page.ended
	if n := len(page.rows); n > 0 {
		r.start = after(page.rows[n-1][0].Row())
	}
	return nil
}

// readRows reads whole rows until there are enough, or no more.
func readRows(client gohbase.Client, scan *hrpc.Scan) (read rowsRead, err error) {
	scanner := client.ScanV2(scan)
	defer func() { _ = scanner.Close() }()
	for size := 0; ; {
		response, err := scanner.Next()
		if errors.Is(err, io.EOF) {
			read.ended = true
			return read, nil
		}
		if err != nil {
			return read, err
		}
		for _, result := range response.Results {
			if len(result.Cells) == 0 {
				continue
			}
			n := len(read.rows)
			if n > 0 && bytes.Equal(read.rows[n-1][0].Row(), result.Cells[0].Row()) { // a row in pieces
				read.rows[n-1] = append(read.rows[n-1], result.Cells...)
			} else {
				read.rows = append(read.rows, result.Cells)
			}
			for _, c := range result.Cells {
				size += len(c.Row()) + len(c.Value()) + len(c.Qualifier())
			}
		}
		if n := len(read.rows); n > scanRows || n > 1 && size > scanBytes/4 {
			read.rows = read.rows[:n-1] // there may be more of the last one
			return read, nil
		}
	}
}
