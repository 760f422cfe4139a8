package memory

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"github.com/tegami-im/tegami/persistence"
)

var (
	_ persistence.Repairer      = (*Store)(nil)
	_ persistence.CacheRepairer = (*Cache)(nil)
)

// Scan implements persistence.Scanner. All is of one moment.
func (s *Store) Scan(ctx context.Context, shard uint32, visit func(*persistence.Item) error) error {
	return s.scan(ctx, shard, func(string) bool { return true }, visit)
}

// ScanMailbox implements persistence.Scanner.
func (s *Store) ScanMailbox(ctx context.Context, shard uint32, mailbox string, visit func(*persistence.Item) error) error {
	return s.scan(ctx, shard, func(name string) bool { return name == mailbox }, visit)
}

func (s *Store) scan(ctx context.Context, shard uint32, wanted func(string) bool, visit func(*persistence.Item) error) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	mailboxes := map[string]*mailbox{}
	for name, m := range s.written.shard(shard).mailboxes {
		if wanted(name) {
			mailboxes[name] = m.clone()
		}
	}
	s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(mailboxes)) {
		for _, item := range mailboxes[name].items(name) {
			if err := visit(&item); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *mailbox) items(name string) []persistence.Item {
	items := []persistence.Item{{
		Kind: persistence.ItemState, Mailbox: name, Position: m.position, State: bytes.Clone(m.state), First: m.first,
	}}
	for _, key := range slices.Sorted(maps.Keys(m.parts)) {
		items = append(items, persistence.Item{
			Kind: persistence.ItemPart, Mailbox: name, Part: persistence.Part{Key: key, Data: bytes.Clone(m.parts[key])},
		})
	}
	for _, source := range slices.Sorted(maps.Keys(m.sources)) {
		items = append(items, persistence.Item{
			Kind: persistence.ItemSource, Mailbox: name,
			Source: persistence.Source{Mailbox: source, Position: m.sources[source]},
		})
	}
	for _, entry := range m.dedup {
		items = append(items, persistence.Item{Kind: persistence.ItemDedup, Mailbox: name, Dedup: entry})
	}
	for _, row := range m.rows {
		row.Data = bytes.Clone(row.Data)
		items = append(items, persistence.Item{Kind: persistence.ItemRow, Mailbox: name, Row: row})
	}
	for _, row := range m.rows {
		if row.Peer != "" {
			row.Data = nil
			items = append(items, persistence.Item{Kind: persistence.ItemPlace, Mailbox: name, Row: row})
		}
	}
	return items
}

// Repair implements persistence.Repairer, durable at once. Places are not kept
// apart from rows here: they cannot be wrong.
func (s *Store) Repair(ctx context.Context, shard uint32, repair persistence.Repair) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	for _, im := range []image{s.written, s.synced} {
		im.repair(shard, &repair)
	}
	return nil
}

func (im image) repair(shard uint32, r *persistence.Repair) {
	m := im.shard(shard).mailboxes[r.Mailbox]
	if m == nil {
		m = newMailbox()
		im.shard(shard).mailboxes[r.Mailbox] = m
	}
	m.rows = slices.DeleteFunc(m.rows, func(row persistence.Row) bool { return slices.Contains(r.Remove, row.Revision) })
	write := persistence.MailboxWrite{Position: m.position, State: m.state, Rows: r.Rows, Dedup: r.Dedup, Sources: r.Sources, Parts: r.Parts}
	if r.State != nil {
		write.Position, write.State, write.First = r.Position, r.State, r.First
	}
	m.set(cloneBatch(persistence.Batch{Mailboxes: []persistence.MailboxWrite{write}}).Mailboxes[0])
}

// Newest implements persistence.CacheRepairer.
func (c *Cache) Newest(ctx context.Context, shard uint32, name string, before int64, limit int) ([]persistence.Row, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	var newest []persistence.Row
	if f := c.shards[shard]; f != nil && f.mailboxes[name] != nil {
		for _, row := range slices.Backward(f.mailboxes[name].rows.rows) {
			if row.Revision < before && len(newest) < limit {
				row.Data = bytes.Clone(row.Data)
				newest = append(newest, row)
			}
		}
	}
	return newest, nil
}

// Drop implements persistence.CacheRepairer.
func (c *Cache) Drop(ctx context.Context, shard uint32, name string) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if f := c.shards[shard]; f != nil {
		delete(f.mailboxes, name)
	}
	return nil
}
