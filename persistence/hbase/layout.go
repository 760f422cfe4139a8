package hbase

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/tegami-im/tegami/persistence"
)

// Row keys begin with the shard, two bytes: mailboxes are spread over shards by
// a hash, so the shard is the salt, and the rows of a shard lie together.
// Numbers are big-endian, so that rows lie in their order; ^ marks those that
// are inverted, so that the newest comes first. Names are of any length and any
// bytes: each is preceded by its length, so that no name is the prefix of
// another.
//
//	mailboxes      shard 0                            c checkpoint, h highest; C and H: as of the last sync
//	               shard 1                            the barrier that Sync puts
//	               shard 2 mailbox 0                  p position, s state, f first, r removed, h hour, @source position, =part data
//	               shard 2 mailbox 1 ^hour            key → dedup entry
//	               0xffff schema                      version, shards
//	operations     shard 1                            barrier
//	               shard 2 mailbox revision           peer, operation
//	conversations  shard 1                            barrier
//	               shard 2 mailbox peer ^revision     operation
//	keys           hash mailbox                       key
//
// An hour is one of log time.
const (
	kindMarks   = 0
	kindBarrier = 1
	kindMailbox = 2

	partState = 0
	partDedup = 1
)

// The one family of each table, and the qualifiers of its cells.
const (
	family = "t"

	cellCheckpoint = "c"
	cellHighest    = "h"

	cellSyncedCheckpoint = "C"
	cellSyncedHighest    = "H"

	cellPosition = "p"
	cellState    = "s"
	cellFirst    = "f" // rows below it are gone; its version is itself
	cellRemoved  = "r" // rows below it are removed from the tables; likewise
	cellHour     = "h" // dedup hours below it are removed; likewise
	cellSource   = "@" // followed by the source's name
	cellPart     = "=" // followed by the part's key; empty when it was removed
)

// errRow is what is wrong with a row that was not written by this package.
var errRow = fmt.Errorf("row does not decode: %w", persistence.ErrDamaged)

func shardRow(shard uint32, kind byte) []byte {
	return append(make([]byte, 0, 64), byte(shard>>8), byte(shard), kind)
}

func appendName(b []byte, name string) []byte {
	b = binary.AppendUvarint(b, uint64(len(name)))
	return append(b, name...)
}

func mailboxPrefix(shard uint32, mailbox string) []byte {
	return appendName(shardRow(shard, kindMailbox), mailbox)
}

func stateRow(shard uint32, mailbox string) []byte {
	return append(mailboxPrefix(shard, mailbox), partState)
}

const hourMillis = 60 * 60 * 1000

func hourOf(time int64) int64 { return min(max(0, time)/hourMillis, math.MaxUint32) }

// dedupRow returns the key of an hour of dedup entries. One of a negative hour
// is the end of the mailbox's dedup rows.
func dedupRow(shard uint32, mailbox string, hour int64) []byte {
	prefix := mailboxPrefix(shard, mailbox)
	if hour < 0 {
		return append(prefix, partDedup+1)
	}
	return binary.BigEndian.AppendUint32(append(prefix, partDedup), ^uint32(min(hour, math.MaxUint32)))
}

func hourOfRow(row []byte) (int64, error) {
	if len(row) < 4 {
		return 0, errRow
	}
	return int64(^binary.BigEndian.Uint32(row[len(row)-4:])), nil
}

// revisionRow returns the key of an operation. That of MaxRevision+1, as
// unsigned numbers go, lies above those of all revisions.
func revisionRow(shard uint32, mailbox string, revision uint64) []byte {
	return binary.BigEndian.AppendUint64(mailboxPrefix(shard, mailbox), revision)
}

func revisionOfRow(row []byte) (int64, error) {
	if len(row) < 8 {
		return 0, errRow
	}
	return int64(binary.BigEndian.Uint64(row[len(row)-8:])), nil
}

func conversationRow(shard uint32, mailbox, peer string, revision int64) []byte {
	return binary.BigEndian.AppendUint64(appendName(mailboxPrefix(shard, mailbox), peer), ^uint64(revision))
}

func revisionOfConversationRow(row []byte) (int64, error) {
	inverted, err := revisionOfRow(row)
	return int64(^uint64(inverted)), err
}

// after returns the row key that follows key.
func after(key []byte) []byte {
	return append(append(make([]byte, 0, len(key)+1), key...), 0)
}

func encodeOperation(row *persistence.Row) []byte {
	b := appendName(make([]byte, 0, len(row.Peer)+len(row.Data)+4), row.Peer)
	return append(b, row.Data...)
}

// decodeOperation returns a peer and data that point into value.
func decodeOperation(value []byte) (peer, data []byte, err error) {
	length, n := binary.Uvarint(value)
	if n <= 0 || length > uint64(len(value)-n) {
		return nil, nil, errRow
	}
	value = value[n:]
	return value[:length], value[length:], nil
}

const positionSize = 4 + 8

func encodePosition(p persistence.Position) []byte {
	return appendPosition(make([]byte, 0, positionSize), p)
}

func appendPosition(b []byte, p persistence.Position) []byte {
	b = binary.BigEndian.AppendUint32(b, p.Generation)
	return binary.BigEndian.AppendUint64(b, uint64(p.Offset))
}

func decodePosition(value []byte) (persistence.Position, error) {
	if len(value) != positionSize {
		return persistence.Position{}, errRow
	}
	return persistence.Position{
		Generation: binary.BigEndian.Uint32(value),
		Offset:     int64(binary.BigEndian.Uint64(value[4:])),
	}, nil
}

func encodeNumber(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// numberOf returns the number in a cell whose version it is, too: that tells it
// where the value is damaged.
func numberOf(value []byte, version uint64) int64 {
	n, err := decodeNumber(value)
	if err != nil {
		return int64(version)
	}
	return n
}

func decodeNumber(value []byte) (int64, error) {
	if len(value) != 8 {
		return 0, errRow
	}
	return int64(binary.BigEndian.Uint64(value)), nil
}

const dedupSize = persistence.BodyHashSize + persistence.MessageIDSize + 1 + 8 + 8 + positionSize

// encodeDedup encodes all of an entry but its key, which is the cell's
// qualifier.
func encodeDedup(e *persistence.DedupEntry) []byte {
	b := append(make([]byte, 0, dedupSize), e.BodyHash[:]...)
	b = append(b, e.MessageID[:]...)
	b = append(b, e.Reason)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Revision))
	return appendPosition(b, e.Position)
}

func decodeDedup(key, value []byte) (e persistence.DedupEntry, err error) {
	if len(key) != len(e.Key) || len(value) != dedupSize {
		return e, errRow
	}
	copy(e.Key[:], key)
	value = value[copy(e.BodyHash[:], value):]
	value = value[copy(e.MessageID[:], value):]
	e.Reason = value[0]
	e.Time = int64(binary.BigEndian.Uint64(value[1:]))
	e.Revision = int64(binary.BigEndian.Uint64(value[9:]))
	e.Position, err = decodePosition(value[17:])
	return e, err
}
