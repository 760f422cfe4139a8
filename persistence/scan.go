package persistence

import (
	"context"
	"crypto/rand"
)

// ItemKind says what an [Item] is.
type ItemKind uint8

// The kinds, in the order in which those of a mailbox come.
const (
	// ItemState is the mailbox's state, with its position and first revision.
	ItemState ItemKind = iota
	// ItemPart is a part of the state that was not removed.
	ItemPart
	// ItemSource is the position taken from one source.
	ItemSource
	// ItemDedup is a dedup entry.
	ItemDedup
	// ItemRow is an operation.
	ItemRow
	// ItemPlace is the place of an operation in a conversation.
	ItemPlace
)

// Item is one thing that a store has of a mailbox, as it lies there.
type Item struct {
	Kind    ItemKind
	Mailbox string
	// Position is that of the state.
	Position Position
	// State is what the state encodes to, First the oldest revision that the
	// store itself keeps: 0 when it never let go of any.
	State  []byte
	First  int64
	Part   Part
	Source Source
	Dedup  DedupEntry
	// Row is an operation, or a place: that has data only where the store keeps
	// the operation there once more.
	Row Row
	// Written is the position of the write that put a row or place, where the
	// store knows it. One that is there ahead of its state is above the
	// checkpoint.
	Written Position
	// Err says that the item does not decode. What it is told by besides is set
	// as far as it is known.
	Err error
}

// Scanner is a Store that can be read as it lies. All methods are safe for
// concurrent use, may block, and obey their context.
type Scanner interface {
	// Scan calls visit for everything of the mailboxes of a shard: mailbox by
	// mailbox in the store's own order, and the items of each in the order of
	// their kinds, rows by their revision. A state is no younger than what is visited after it of its
	// mailbox. What no reader would see because it is below First is left out.
	// The item and its slices are the visitor's during the call only; its error
	// ends the scan.
	Scan(ctx context.Context, shard uint32, visit func(*Item) error) error
	// ScanMailbox does so for one mailbox.
	ScanMailbox(ctx context.Context, shard uint32, mailbox string, visit func(*Item) error) error
}

// Repair changes what a store has of one mailbox, whatever is there. Nothing
// may be written to the mailbox meanwhile.
type Repair struct {
	Mailbox string
	// Through is the position up to which the shard's records are in the store:
	// what is repaired gives way to all that is written for later ones.
	Through Position
	// State replaces the state, with its position and first revision, unless
	// it is nil.
	State    []byte
	Position Position
	First    int64
	// Rows are put, each with its place in its conversation.
	Rows []Row
	// Remove are rows that go, Places those that go from their conversations.
	Remove []int64
	Places []Row
	// Dedup, Sources and Parts are put; sources only move forward, and a part
	// without data goes. The positions of parts say nothing here.
	Dedup   []DedupEntry
	Sources []Source
	Parts   []Part
}

// Repairer is a Store that can be mended.
type Repairer interface {
	Store
	Scanner
	// Repair changes a mailbox. It may block, and obeys its context. It is
	// durable after Sync; one that failed may have happened in part, and may be
	// made again.
	Repair(ctx context.Context, shard uint32, repair Repair) error
}

// CacheRepairer is a Cache that can be looked through and mended.
type CacheRepairer interface {
	Cache
	// Newest returns the newest rows below a revision that the cache has of a
	// mailbox, newest first, at most limit.
	Newest(ctx context.Context, shard uint32, mailbox string, before int64, limit int) ([]Row, error)
	// Drop takes out what the cache has of a mailbox.
	Drop(ctx context.Context, shard uint32, mailbox string) error
}

// KeyAdopter is a Keys that takes keys which were made elsewhere.
type KeyAdopter interface {
	Keys
	// Adopt gives each mailbox that has no key the one given, durable when it
	// returns, and returns all, in order: those that were there before, too.
	Adopt(ctx context.Context, mailboxes []string, keys []Key) ([]Key, error)
}

// NewKey returns a key that nobody knows.
func NewKey() (key Key) {
	_, _ = rand.Read(key[:]) // crypto/rand never fails: it ends the program instead
	return key
}
