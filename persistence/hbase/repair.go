package hbase

import (
	"bytes"
	"context"
	"fmt"

	"github.com/tegami-im/tegami/persistence"
)

// Repair implements persistence.Repairer. What is put has the version of the
// record that comes next: above all that was put, and removed, for those
// before; and of two puts with one version the later is the content.
func (s *Store) Repair(ctx context.Context, shard uint32, r persistence.Repair) error {
	sh, err := s.shard(ctx, shard)
	if err != nil {
		return err
	}
	defer func() {
		sh.mu.Lock()
		sh.writes++
		sh.mu.Unlock()
	}()
	if err := s.seed(ctx, shard, sh); err != nil {
		return err
	}
	if err := s.repair(ctx, shard, &r); err != nil {
		return fmt.Errorf("repair mailbox %s: %w", r.Mailbox, err)
	}
	return nil
}

func (s *Store) repair(ctx context.Context, shard uint32, r *persistence.Repair) error {
	through, err := versionOf(r.Through)
	if err != nil {
		return err
	}
	w := batchWrite{store: s, shard: shard, parts: []part{{MailboxWrite: &persistence.MailboxWrite{Mailbox: r.Mailbox}, version: through + 1}}}
	for i := range r.Rows {
		ref := rowRef{0, &r.Rows[i]}
		w.operations = append(w.operations, ref)
		if ref.row.Peer != "" {
			w.conversations = append(w.conversations, ref)
		}
	}
	err = s.hbase.mutate(ctx, len(r.Places), func(ctx context.Context, i int) (*mutation, error) {
		row := conversationRow(shard, r.Mailbox, r.Places[i].Peer, r.Places[i].Revision)
		return newRemoval(ctx, s.tables.conversations, row, s.options.Durability, through)
	})
	if err != nil {
		return err
	}
	err = s.hbase.mutate(ctx, len(r.Remove), func(ctx context.Context, i int) (*mutation, error) {
		row := revisionRow(shard, r.Mailbox, uint64(r.Remove[i]))
		return newRemoval(ctx, s.tables.operations, row, s.options.Durability, through)
	})
	if err != nil {
		return err
	}
	if err := inParallel(ctx, w.putOperations, w.putConversations); err != nil {
		return err
	}
	err = s.hbase.mutate(ctx, len(r.Dedup), func(ctx context.Context, i int) (*mutation, error) {
		entry := &r.Dedup[i]
		return newPut(ctx, s.tables.mailboxes, dedupRow(shard, r.Mailbox, hourOf(entry.Time)), s.options.Durability,
			cell{string(entry.Key[:]), through + 1, encodeDedup(entry)})
	})
	if err != nil {
		return err
	}
	return s.repairState(ctx, shard, r, through+1)
}

func (s *Store) repairState(ctx context.Context, shard uint32, r *persistence.Repair, version uint64) error {
	var cells []cell
	if r.State != nil {
		cells = append(cells,
			cell{cellPosition, version, encodePosition(r.Position)},
			cell{cellState, version, bytes.Clone(r.State)})
		if r.First > 0 {
			cells = append(cells, cell{cellFirst, uint64(r.First), encodeNumber(r.First)})
		}
	}
	for i := range r.Parts {
		cells = append(cells, cell{cellPart + r.Parts[i].Key, version, bytes.Clone(r.Parts[i].Data)})
	}
	for _, source := range r.Sources {
		// Above what may have been removed; the next position is no lower.
		version := min(sourceVersion(source.Position)+1, maxVersion)
		cells = append(cells, cell{cellSource + source.Mailbox, version, encodePosition(source.Position)})
	}
	if len(cells) == 0 {
		return nil
	}
	return s.hbase.put(ctx, s.tables.mailboxes, stateRow(shard, r.Mailbox), s.options.Durability, cells...)
}
