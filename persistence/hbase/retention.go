package hbase

import (
	"context"
	"fmt"

	"github.com/tsuna/gohbase/hrpc"

	"github.com/tegami-im/tegami/persistence"
)

const (
	// dedupHours is how far the dedup entries of a shard reach back from the
	// log time of its checkpoint. A record above the checkpoint is no older
	// than that and asks for 24 hours; the rest is for an owner of the shard
	// that was overtaken and does not know it yet.
	dedupHours = 48
	// hoursBetweenRemovals is how many hours of a mailbox are removed together.
	hoursBetweenRemovals = 24
	// removedAtOnce is how many rows below First a call of Write removes at
	// most. The rest goes with later calls; until then no reader sees them.
	removedAtOnce = 5000
)

// dedupAge finds out which hours of a shard's dedup entries are not needed any
// more. Time in a journal never goes back: once the checkpoint has reached the
// position of some entry, every record still to be applied is at least as
// young as that entry. One entry of each new hour is watched for that.
type dedupAge struct {
	watched persistence.Position
	hour    int64 // of the watched entry; 0 when none is watched
	reached int64 // the newest hour that the checkpoint has reached
}

func (a *dedupAge) note(entry *persistence.DedupEntry) {
	if hour := hourOf(entry.Time); a.hour == 0 && hour > a.reached {
		a.hour, a.watched = hour, entry.Position
	}
}

func (a *dedupAge) advance(checkpoint persistence.Position) {
	if a.hour > 0 && !checkpoint.Less(a.watched) {
		a.reached, a.hour = a.hour, 0
	}
}

// oldest returns the oldest hour that is kept; 0 when that is not known.
func (a *dedupAge) oldest() int64 { return max(0, a.reached-dedupHours) }

func (w *batchWrite) oldestHour() int64 {
	w.state.mu.Lock()
	defer w.state.mu.Unlock()
	return w.state.dedup.oldest()
}

// noteAges takes note of how old the entries are that were written, and of how
// far the checkpoint is.
func (w *batchWrite) noteAges(checkpoint persistence.Position) {
	w.state.mu.Lock()
	defer w.state.mu.Unlock()
	for i := range w.dedup {
		w.state.dedup.note(w.dedup[i].entries[0])
	}
	w.state.dedup.advance(checkpoint)
}

// removeDedup removes a mailbox's dedup entries of the hours before oldest.
// The removal has the version of the part, which is above those of all such
// entries: one that is put again later stays removed.
func (w *batchWrite) removeDedup(ctx context.Context, p *part, oldest int64) error {
	s := w.store
	var rows [][]byte
	err := s.hbase.scan(ctx, scan{
		table: s.tables.mailboxes,
		start: dedupRow(w.shard, p.Mailbox, oldest-1), stop: dedupRow(w.shard, p.Mailbox, -1),
		rows: scanRows, bytes: scanBytes,
	}, func(c hrpc.CellV2) (more bool, err error) {
		rows = append(rows, append([]byte(nil), c.Row()...))
		return true, nil
	})
	if err != nil {
		return err
	}
	return s.hbase.mutate(ctx, len(rows), func(ctx context.Context, i int) (*mutation, error) {
		return newRemoval(ctx, s.tables.mailboxes, rows[i], s.options.Durability, p.version)
	})
}

// leftovers are the mailboxes of a shard that have rows to be removed.
type leftovers map[string]leftover

// leftover is a range of rows: from one revision up to another.
type leftover struct{ from, to int64 }

// mayRemove notes that rows below first are to be removed, as far as that has
// not been done.
func (w *batchWrite) mayRemove(mailbox string, removed, first int64) {
	if removed = max(removed, 1); removed >= first {
		return
	}
	w.state.mu.Lock()
	defer w.state.mu.Unlock()
	if w.state.leftovers == nil {
		w.state.leftovers = leftovers{}
	}
	w.state.leftovers[mailbox] = leftover{removed, first}
}

// removeRows removes rows that lie below First of their mailboxes, those of
// this batch and of batches before.
func (w *batchWrite) removeRows(ctx context.Context) error {
	for budget := removedAtOnce; budget > 0; {
		mailbox, l, ok := w.nextLeftover()
		if !ok {
			return nil
		}
		removed, rows, err := w.removeSome(ctx, mailbox, l, budget)
		if err != nil {
			return fmt.Errorf("remove rows of mailbox %s: %w", mailbox, err)
		}
		budget -= max(rows, 1)
		w.doneWith(mailbox, removed)
	}
	return nil
}

func (w *batchWrite) nextLeftover() (mailbox string, l leftover, ok bool) {
	w.state.mu.Lock()
	defer w.state.mu.Unlock()
	for mailbox, l := range w.state.leftovers {
		return mailbox, l, true
	}
	return "", l, false
}

// doneWith notes that the rows of a mailbox below a revision are removed.
func (w *batchWrite) doneWith(mailbox string, removed int64) {
	w.state.mu.Lock()
	defer w.state.mu.Unlock()
	l, ok := w.state.leftovers[mailbox]
	switch {
	case !ok:
	case removed >= l.to:
		delete(w.state.leftovers, mailbox)
	default:
		w.state.leftovers[mailbox] = leftover{max(removed, l.from), l.to}
	}
}

// removeSome removes the first rows of a range, with their places in
// conversations, and records how far it came. It returns the revision below
// which none is left, and how many there were.
func (w *batchWrite) removeSome(ctx context.Context, mailbox string, l leftover, limit int) (removed int64, rows int, err error) {
	s := w.store
	var revisions []int64
	var places [][]byte
	err = s.hbase.scan(ctx, scan{
		table: s.tables.operations,
		start: revisionRow(w.shard, mailbox, uint64(l.from)), stop: revisionRow(w.shard, mailbox, uint64(l.to)),
		rows: limit, bytes: scanBytes,
	}, func(c hrpc.CellV2) (more bool, err error) {
		revision, err := revisionOfRow(c.Row())
		if err != nil {
			return false, err
		}
		// A damaged row goes too: its place, wherever it is, is not seen any more.
		peer, _, err := decodeOperation(c.Value())
		revisions = append(revisions, revision)
		if err == nil && len(peer) > 0 {
			places = append(places, conversationRow(w.shard, mailbox, string(peer), revision))
		}
		return len(revisions) < limit, nil
	})
	if err != nil {
		return 0, 0, err
	}
	// Places in conversations go first: the operations name the peers.
	err = s.hbase.mutate(ctx, len(places), func(ctx context.Context, i int) (*mutation, error) {
		return newRemoval(ctx, s.tables.conversations, places[i], s.options.Durability, maxVersion)
	})
	if err != nil {
		return 0, 0, err
	}
	err = s.hbase.mutate(ctx, len(revisions), func(ctx context.Context, i int) (*mutation, error) {
		return newRemoval(ctx, s.tables.operations, revisionRow(w.shard, mailbox, uint64(revisions[i])), s.options.Durability, maxVersion)
	})
	if err != nil {
		return 0, 0, err
	}
	removed = l.to
	if len(revisions) == limit {
		removed = revisions[limit-1] + 1
	}
	err = s.hbase.put(ctx, s.tables.mailboxes, stateRow(w.shard, mailbox), s.options.Durability,
		cell{cellRemoved, uint64(removed), encodeNumber(removed)})
	if err != nil {
		return 0, 0, err
	}
	if before, ok := w.state.known(mailbox); ok {
		before.removed = removed
		w.state.learn(mailbox, before, s.knownOfShard())
	}
	return removed, len(revisions), nil
}
