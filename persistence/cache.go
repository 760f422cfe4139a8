package persistence

import (
	"context"
	"errors"
)

// ErrMarkMoved says that a cache's mark is not the one that its writer last saw. The
// cache went back, was emptied, or another owner of the shard wrote to it.
var ErrMarkMoved = errors.New("the cache's mark has moved")

// CacheMark says what a cache's copy of a shard is worth.
type CacheMark struct {
	// Fill names the filling that the copy belongs to; empty when the cache
	// has none of the shard. What an earlier filling left is not read.
	Fill string
	// Watermark is the position at or below which every change of a mailbox
	// that the filling has a copy of is in that copy.
	Watermark Position
	// Write names the filling's newest write; empty before the first. Names do
	// not come again: each write moves the mark, and a cache that was set back
	// and then written by another owner never has the mark that it had before.
	Write string
}

// Cache is a fast and volatile copy of the newest part of a Store, and of what
// is on its way there. It may be lost, emptied, or set back to what it held
// earlier at any time: nothing rests on it but time. All methods are safe for
// concurrent use, may block, and obey their context; slices returned belong to
// the caller.
//
// A copy of a mailbox is whole (state, sources, dedup entries) or absent. It
// comes to be when a mailbox that was loaded from the store is handed over
// ([Cache.Fill]), and follows the mailbox from there ([Cache.Write]). Because
// each write moves the watermark in the same step, and only from the mark that
// its writer last saw, a copy that was set back shows it: its watermark is too
// low for [Cache.Load].
//
// Operation rows never change within a generation, so those that a filling of
// this one has may be read wherever its watermark is. What an older generation
// left is another history: its rows may be of records that were lost.
//
// Where what a cache holds is not what it was given, a method may return
// ErrDamaged. A new filling has none of that.
type Cache interface {
	// Mark reads a shard's mark; the zero CacheMark when there is none.
	Mark(ctx context.Context, shard uint32) (CacheMark, error)
	// Begin starts a new filling of a shard, empty, with this watermark, and
	// returns its mark. Earlier fillings are not read again, and their space
	// is freed in time.
	Begin(ctx context.Context, shard uint32, watermark Position) (CacheMark, error)
	// Write adds rows, moves the states of the mailboxes that have a copy, and
	// moves the watermark, in one atomic step, if the shard's mark is still
	// from. It returns the new mark. States, sources and the watermark only move
	// forward; a batch may be written again with the same content. Of a
	// mailbox without a copy only the rows are kept. Rows are kept without a gap
	// up to the newest: where revisions are missing in between, those before
	// are dropped. Errors: ErrMarkMoved, ErrFull: nothing was written. After
	// any other error it may have been.
	Write(ctx context.Context, shard uint32, from CacheMark, watermark Position, mailboxes []MailboxWrite) (CacheMark, error)
	// Fill hands over a mailbox as the store has it, nil for one that the store
	// does not have, to be followed by writes, if the shard's mark is still
	// from. It must hold every change of it that was written to the filling or
	// lies at or below the watermark: that is why the mark is compared, since
	// another owner that wrote to the mailbox while it was loaded, or began a
	// filling, has moved it. One that has
	// a copy already is left as it is. An incomplete one (DedupComplete is
	// false) is not kept. Errors: ErrMarkMoved, ErrFull: nothing was kept.
	Fill(ctx context.Context, shard uint32, from CacheMark, mailbox string, m *Mailbox) error
	// Load reads a mailbox's copy, if the watermark is not below notBelow: in
	// the same atomic step. Error: ErrNotFound, the store has to be asked; also
	// for a mailbox that was handed over as nil and that no write has reached
	// yet, and for a copy with more than maxDedup dedup entries, since an owner
	// that holds an incomplete mailbox looks entries up in the store, which may
	// be behind the copy.
	Load(ctx context.Context, shard uint32, mailbox string, maxDedup int, notBelow Position) (*Mailbox, error)
	// Operations returns the rows with after < revision <= upTo in order and
	// without a gap, the first of them after+1, at most limit and, beyond the
	// first, about maxBytes, if the watermark is not of a generation below
	// generation. Error: ErrNotFound, the cache does not hold after+1: it does
	// not reach back to it, or knows of nothing newer than after. Where
	// nothing is asked for (upTo is not above after, limit is 0) there is nothing
	// and no error.
	Operations(ctx context.Context, shard uint32, mailbox string, generation uint32, after, upTo int64, limit, maxBytes int) ([]Row, error)
	// Close releases the cache.
	Close() error
}
