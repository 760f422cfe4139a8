//go:build stores

package hbase

import (
	"context"

	"github.com/tsuna/gohbase/hrpc"

	"github.com/tegami-im/tegami/persistence"
)

// PutLate puts a mailbox's part of a batch without looking at what is stored:
// the put of an owner that was overtaken, or one that was on its way for long.
func (s *Store) PutLate(ctx context.Context, shard uint32, m *persistence.MailboxWrite) error {
	w := batchWrite{store: s, shard: shard, state: &shardState{}}
	if err := w.add(ctx, m, stored{}); err != nil {
		return err
	}
	if err := inParallel(ctx, w.putOperations, w.putConversations, w.putDedup); err != nil {
		return err
	}
	return w.putStates(ctx)
}

// CountRows returns how many operations and places in the conversation with a
// peer lie in the tables, seen or not.
func (s *Store) CountRows(ctx context.Context, shard uint32, mailbox, peer string) (operations, places int, err error) {
	count := func(table, start, stop []byte, n *int) error {
		return s.hbase.scan(ctx, scan{table: table, start: start, stop: stop, rows: scanRows, bytes: scanBytes}, func(hrpc.CellV2) (bool, error) {
			*n++
			return true, nil
		})
	}
	err = count(s.tables.operations, revisionRow(shard, mailbox, 0), revisionRow(shard, mailbox, 1<<63), &operations)
	if err == nil {
		err = count(s.tables.conversations, conversationRow(shard, mailbox, peer, 1<<62), conversationRow(shard, mailbox, peer, 0), &places)
	}
	return operations, places, err
}

// CountDedupHours returns how many hours of dedup entries lie in the table.
func (s *Store) CountDedupHours(ctx context.Context, shard uint32, mailbox string) (hours int, err error) {
	err = s.hbase.scan(ctx, scan{
		table: s.tables.mailboxes,
		start: dedupRow(shard, mailbox, 1<<32-1), stop: dedupRow(shard, mailbox, -1), rows: scanRows, bytes: scanBytes,
	}, func(hrpc.CellV2) (bool, error) {
		hours++
		return true, nil
	})
	return hours, err
}

// Tables returns the names of a store's tables.
func (s *Store) Tables() [][]byte { return s.tables.all() }
