// Package persistence declares what Tegami asks of its journal, its store and
// its key store. Implementations lie in the folders below; each must pass the
// suites of package persisttest.
//
// State is a function of the journal. The store is a projection of it, written
// behind, and the only home of what the journal has let go. Three rules tie
// them together, and those who write to a store keep them:
//
//   - A mailbox's state is written only after its operation rows up to that
//     position are in the store, after every follow-up of those records is
//     durable in its own journal, and after the journal itself is synced that
//     far.
//   - A state only moves forward by position; writing an older one is no error
//     and changes nothing.
//   - A shard's checkpoint is the position at or below which everything is
//     stored. The journal is truncated only below a checkpoint that was read
//     back from a synced store.
package persistence

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// Errors that implementations wrap. Every other error means that nothing is
// known but that the call failed.
var (
	// ErrNotFound: no such mailbox or key.
	ErrNotFound = errors.New("not found")
	// ErrFull: no space; what was asked for did not happen.
	ErrFull = errors.New("no space left")
	// ErrBusy: too much is queued; what was asked for did not happen.
	ErrBusy = errors.New("too much is queued")
	// ErrUnknownOutcome: the append may be in the journal, now or later.
	ErrUnknownOutcome = errors.New("outcome unknown")
	// ErrTruncated: the journal no longer holds the offset.
	ErrTruncated = errors.New("below the start of the journal")
	// ErrDamaged: what is stored does not read, and asking again will not help.
	ErrDamaged = errors.New("stored data is damaged")
	// ErrClosed: the store or journal is closed.
	ErrClosed = errors.New("closed")
)

// Position is a place in the journal of one shard. Generations start at 1 and
// offsets at 0, so that the zero Position lies below every record.
type Position struct {
	Generation uint32
	Offset     int64
}

// Less orders positions by generation, then offset.
func (p Position) Less(q Position) bool {
	if p.Generation != q.Generation {
		return p.Generation < q.Generation
	}
	return p.Offset < q.Offset
}

// IsZero reports whether p lies below every record.
func (p Position) IsZero() bool { return p == Position{} }

// Entry is one record as it lies in the journal.
type Entry struct {
	Position Position
	// Time is the log time in milliseconds since 1970. Within a shard it never
	// goes back.
	Time int64
	Data []byte
}

// Appended tells where an append landed: its records are contiguous from
// First and share one log time.
type Appended struct {
	First Position
	Time  int64
}

// Bounds are the limits of a shard's journal. It holds the offsets from First
// up to, and not including, Next. It is empty when they are equal.
type Bounds struct {
	First, Next int64
	// Generation is that of the next append.
	Generation uint32
}

// Durability says what an append waits for before it reports success.
type Durability uint8

const (
	// DurabilityFsync says that the record survives a power cut.
	DurabilityFsync Durability = iota
	// DurabilityOS says that the record survives the end of the process. A power cut
	// loses what was appended since the last sync, about a second at most.
	DurabilityOS
)

// String returns the setting's name: fsync or os.
func (d Durability) String() string {
	if d == DurabilityOS {
		return "os"
	}
	return "fsync"
}

// MarshalText returns the setting's name.
func (d Durability) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a setting's name: fsync or os.
func (d *Durability) UnmarshalText(text []byte) error {
	switch string(text) {
	case "fsync":
		*d = DurabilityFsync
	case "os":
		*d = DurabilityOS
	default:
		return fmt.Errorf("durability %q: must be fsync or os", text)
	}
	return nil
}

// Journal keeps one totally ordered, durable log for each shard. All methods
// are safe for concurrent use.
type Journal interface {
	// Append adds records to the end of a shard's log, all or none, in order,
	// and calls done exactly once, from any goroutine, when they are durable
	// by the journal's durability setting or have failed. It never blocks. The
	// slices belong to the journal until done is called. done must not block,
	// may append again, and may run before Append returns. Errors: ErrFull,
	// ErrBusy, ErrClosed: it did not happen; ErrUnknownOutcome: it may have.
	Append(shard uint32, records [][]byte, done func(Appended, error))
	// Read returns entries from offset on, in order, at least one if there is
	// one, and no more than about maxBytes. At the end of the log it returns
	// none and no error. It may block. Errors: ErrTruncated.
	Read(ctx context.Context, shard uint32, offset int64, maxBytes int) ([]Entry, error)
	// Bounds returns the current limits of a shard's log. It may block.
	Bounds(ctx context.Context, shard uint32) (Bounds, error)
	// Tail calls notify, from any goroutine and without blocking on it for
	// long, whenever the shard's log has grown, with the offset of the next
	// append: a hint, several may be folded into one. Any number may tail one
	// shard. The function that it returns stops it; a notify that runs at that
	// moment may still end after it.
	Tail(shard uint32, notify func(next int64)) (stop func())
	// Sync returns when every record whose Append has reported success before
	// the call survives a power cut. With durability fsync it has nothing to
	// do.
	Sync(ctx context.Context) error
	// Truncate lets go of the offsets below before. Space is freed in time.
	Truncate(ctx context.Context, shard uint32, before int64) error
	// StartGeneration raises the generation of the appends to come: the
	// operator's answer to a journal that went back.
	StartGeneration(ctx context.Context, shard uint32) error
	// Close waits for appends in flight and releases the journal. Appends
	// afterwards fail with ErrClosed.
	Close() error
}

// DedupKeySize and the other sizes are those of a dedup entry's parts.
const (
	DedupKeySize  = 10
	BodyHashSize  = 6
	MessageIDSize = 16
)

// DedupEntry remembers the answer to one command for 24 hours of log time.
type DedupEntry struct {
	Key       [DedupKeySize]byte
	BodyHash  [BodyHashSize]byte
	MessageID [MessageIDSize]byte
	// Time is the mailbox's log time in milliseconds since 1970.
	Time int64
	// Revision is the operation that the command made; 0 for none.
	Revision int64
	// Reason is the refusal.Reason that was answered; 0 for OK.
	Reason uint8
	// Position is that of the record, to cut a load at the state's position.
	Position Position
}

// Source is the last position that a mailbox took from one source of
// follow-ups.
type Source struct {
	Mailbox  string
	Position Position
}

// Row is one operation of a mailbox.
type Row struct {
	Revision int64
	// Peer names the conversation that the row belongs to; empty for none.
	Peer string
	// Data is the encoded record.Operation.
	Data []byte
}

// Part is a piece of a mailbox's state that lies beside it in a row of its own,
// so that a record which changes one contact of thousands writes that one.
type Part struct {
	// Key tells it from the other parts of the mailbox, in at most 128 bytes.
	Key string
	// Position is that of the record that changed it last. It is not loaded.
	Position Position
	// Data is empty when the part was removed.
	Data []byte
}

// MailboxWrite carries what records of one mailbox changed, up to Position.
type MailboxWrite struct {
	Mailbox  string
	Position Position
	// State is the encoded record.State at Position.
	State []byte
	// First is the oldest revision that is kept: rows below it are removed. 0
	// and 1 remove none.
	First int64
	// Rows, Dedup, Sources and Parts are those added or changed since the write
	// before. Some may be older than what is stored, where another owner of the
	// mailbox wrote in between: rows and entries are the same then, sources only
	// move forward, and a part that is not above the stored position changes
	// nothing, since the stored parts are those of that position. Of two parts
	// with one key the later in the list is the newer.
	Rows    []Row
	Dedup   []DedupEntry
	Sources []Source
	Parts   []Part
}

// Batch is one write to a shard's part of a store.
type Batch struct {
	// Highest is the highest position that the batch speaks of. It is stored
	// first (or in the same atomic step), and only moves forward.
	Highest Position
	// Checkpoint, unless zero: with this batch, everything at or below it is
	// stored. It only moves forward.
	Checkpoint Position
	// Mailboxes, each at most once.
	Mailboxes []MailboxWrite
}

// Check returns an error that says what is wrong with a batch: a mailbox that
// is in it twice. Stores call it before they write.
func (b *Batch) Check() error {
	if len(b.Mailboxes) < 2 {
		return nil
	}
	seen := make(map[string]struct{}, len(b.Mailboxes))
	for i := range b.Mailboxes {
		seen[b.Mailboxes[i].Mailbox] = struct{}{}
		if len(seen) <= i {
			return fmt.Errorf("mailbox %q is twice in a batch", b.Mailboxes[i].Mailbox)
		}
	}
	return nil
}

// Marks are a shard's marks as they lie in the synced store.
type Marks struct {
	Checkpoint, Highest Position
}

// Newest returns the highest position that the store knows of.
func (m Marks) Newest() Position {
	if m.Highest.Less(m.Checkpoint) { // by records that changed no mailbox
		return m.Checkpoint
	}
	return m.Highest
}

// Ahead reports whether the store holds what a journal with these bounds does
// not: the journal went back. Its shard must not be opened before a new
// generation was started, or new records would look old.
func (m Marks) Ahead(of Bounds) bool {
	return !m.Newest().Less(Position{Generation: of.Generation, Offset: of.Next})
}

// Mailbox is a mailbox as loaded: state, parts, sources and dedup entries of
// one moment.
type Mailbox struct {
	Position Position
	State    []byte
	// Parts are those that were not removed, in any order.
	Parts   []Part
	Sources []Source
	// Dedup holds the entries of the 24 to 48 hours before the newest, in any
	// order, none above Position. It is empty and DedupComplete is false when there are
	// more than were asked for: look-ups then go to Store.Dedup.
	Dedup         []DedupEntry
	DedupComplete bool
}

// MaxRevision is above every revision.
const MaxRevision = math.MaxInt64

// Store keeps mailboxes. All methods are safe for concurrent use, may block,
// and obey their context. Slices returned belong to the caller.
type Store interface {
	// Load reads one mailbox in one atomic step, with at most maxDedup dedup
	// entries. Error: ErrNotFound.
	Load(ctx context.Context, shard uint32, mailbox string, maxDedup int) (*Mailbox, error)
	// Write stores a batch. Each mailbox's part is atomic; states only move
	// forward, and a batch may be written again with the same content. A part
	// that is not above the stored position changes nothing: its rows are there
	// already. The slices belong to the caller again when Write returns. It is
	// durable after Sync. Error: ErrFull.
	Write(ctx context.Context, shard uint32, batch Batch) error
	// Dedup looks one entry up: the oldest of those not older than notBefore
	// (milliseconds since 1970), whatever its position; it need not look
	// further than the 24 hours from there. An owner that is behind the store
	// may be shown an entry from its own future: it compares Position.
	Dedup(ctx context.Context, shard uint32, mailbox string, key [DedupKeySize]byte, notBefore int64) (DedupEntry, bool, error)
	// Operations returns the rows with after < revision <= upTo in order, at
	// most limit and, beyond the first, about maxBytes.
	Operations(ctx context.Context, shard uint32, mailbox string, after, upTo int64, limit, maxBytes int) ([]Row, error)
	// Conversation returns rows of one peer with revision < before, newest
	// first, at most limit and, beyond the first, about maxBytes.
	Conversation(ctx context.Context, shard uint32, mailbox, peer string, before int64, limit, maxBytes int) ([]Row, error)
	// Sync makes every earlier Write durable.
	Sync(ctx context.Context) error
	// Marks reads a shard's marks as of the last Sync, which makes them safe to
	// truncate by.
	Marks(ctx context.Context, shard uint32) (Marks, error)
	// Close releases the store.
	Close() error
}

// Key seals the bodies that lie in one mailbox.
type Key [32]byte

// Keys keeps the keys of mailboxes, apart from the store. All methods are safe
// for concurrent use, may block, and obey their context.
type Keys interface {
	// Create makes a key for each mailbox that has none, durable when it
	// returns, and returns all, in order.
	Create(ctx context.Context, mailboxes []string) ([]Key, error)
	// Get returns a mailbox's key. Error: ErrNotFound.
	Get(ctx context.Context, mailbox string) (Key, error)
	// Delete drops a key: what was sealed with it is gone.
	Delete(ctx context.Context, mailbox string) error
	// Close releases the key store.
	Close() error
}
