package embedded

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/tegami-im/tegami/persistence"
)

// Keys begin with the kind of the row. Numbers are big-endian, so that rows lie
// in their order. Names are of any length and any bytes: each is preceded by
// its length, so that no name is the prefix of another.
//
//	journal  e shard offset                   → generation, time, data
//	         m shard                          → first, generation, time
//	store    m shard                          → checkpoint, highest
//	         s shard mailbox                  → position, first, day, state
//	         f shard mailbox source           → position
//	         p shard mailbox part             → data
//	         d shard day mailbox key          → dedup entry
//	         o shard mailbox revision         → peer, operation
//	         c shard mailbox peer revision    →
//	keys     k mailbox                        → key
//
// A day is one of log time. Dedup entries of a shard lie by the day, so that
// the old ones go by one range deletion.
const (
	rowEntry        = 'e'
	rowMeta         = 'm'
	rowState        = 's'
	rowSource       = 'f'
	rowPart         = 'p'
	rowDedup        = 'd'
	rowOperation    = 'o'
	rowConversation = 'c'
	rowKey          = 'k'
)

var errRow = fmt.Errorf("row does not decode: %w", persistence.ErrDamaged)

func rowPrefix(kind byte, shard uint32) []byte {
	return append(make([]byte, 0, 64), kind, byte(shard>>8), byte(shard))
}

func appendName(b []byte, name string) []byte {
	b = binary.AppendUvarint(b, uint64(len(name)))
	return append(b, name...)
}

const entryKeySize = 1 + 2 + 8

func putEntryKey(key []byte, shard uint32, offset int64) {
	key[0] = rowEntry
	binary.BigEndian.PutUint16(key[1:], uint16(shard))
	binary.BigEndian.PutUint64(key[3:], uint64(offset))
}

func entryKey(shard uint32, offset int64) []byte {
	key := make([]byte, entryKeySize)
	putEntryKey(key, shard, offset)
	return key
}

func entryOffset(key []byte) int64 { return int64(binary.BigEndian.Uint64(key[3:])) }

// entryHead is what precedes an entry's data. Its size depends on its content,
// which is the same for all records of an append.
func appendEntryHead(b []byte, generation uint32, time int64) []byte {
	b = binary.AppendUvarint(b, uint64(generation))
	return binary.AppendUvarint(b, uint64(time))
}

func decodeEntry(value []byte) (generation uint32, time int64, data []byte, err error) {
	d := decoder{rest: value}
	generation, time = uint32(d.uvarint()), int64(d.uvarint())
	return generation, time, d.rest, d.err
}

func metaKey(shard uint32) []byte { return rowPrefix(rowMeta, shard) }

func stateKey(shard uint32, mailbox string) []byte {
	return appendName(rowPrefix(rowState, shard), mailbox)
}

// stateRow is a mailbox's state with what the store itself must know of it.
type stateRow struct {
	position persistence.Position
	first    int64 // rows below it are gone
	day      int64 // of the newest dedup entry; 0 for none
	state    []byte
}

func (r stateRow) encode() []byte {
	b := appendPosition(make([]byte, 0, 32+len(r.state)), r.position)
	b = binary.AppendUvarint(b, uint64(r.first))
	b = binary.AppendUvarint(b, uint64(r.day))
	return append(b, r.state...)
}

// decodeStateRow returns a row whose state points into value.
func decodeStateRow(value []byte) (stateRow, error) {
	d := decoder{rest: value}
	r := stateRow{position: d.position(), first: int64(d.uvarint()), day: int64(d.uvarint())}
	r.state = d.rest
	return r, d.err
}

func sourcePrefix(shard uint32, mailbox string) []byte {
	return appendName(rowPrefix(rowSource, shard), mailbox)
}

func partPrefix(shard uint32, mailbox string) []byte {
	return appendName(rowPrefix(rowPart, shard), mailbox)
}

func dedupDay(shard uint32, day int64) []byte {
	return binary.BigEndian.AppendUint32(rowPrefix(rowDedup, shard), uint32(day))
}

func dedupPrefix(shard uint32, day int64, mailbox string) []byte {
	return appendName(dedupDay(shard, day), mailbox)
}

const dayMillis = 24 * 60 * 60 * 1000

func dayOf(time int64) int64 { return max(0, time) / dayMillis }

func encodeDedup(e *persistence.DedupEntry) []byte {
	b := append(make([]byte, 0, 64), e.BodyHash[:]...)
	b = append(b, e.MessageID[:]...)
	b = append(b, e.Reason)
	b = binary.AppendVarint(b, e.Time)
	b = binary.AppendVarint(b, e.Revision)
	return appendPosition(b, e.Position)
}

func decodeDedup(key, value []byte) (e persistence.DedupEntry, err error) {
	const fixed = persistence.BodyHashSize + persistence.MessageIDSize + 1
	if len(key) < persistence.DedupKeySize || len(value) < fixed {
		return e, errRow
	}
	copy(e.Key[:], key[len(key)-persistence.DedupKeySize:])
	copy(e.BodyHash[:], value)
	copy(e.MessageID[:], value[persistence.BodyHashSize:])
	e.Reason = value[fixed-1]
	d := decoder{rest: value[fixed:]}
	e.Time, e.Revision, e.Position = d.varint(), d.varint(), d.position()
	return e, d.err
}

func operationPrefix(shard uint32, mailbox string) []byte {
	return appendName(rowPrefix(rowOperation, shard), mailbox)
}

func conversationPrefix(shard uint32, mailbox, peer string) []byte {
	return appendName(appendName(rowPrefix(rowConversation, shard), mailbox), peer)
}

// withRevision returns the key of a revision's row below prefix. It does not
// change prefix.
func withRevision(prefix []byte, revision int64) []byte {
	return appendRevision(append(make([]byte, 0, len(prefix)+8), prefix...), revision)
}

func appendRevision(b []byte, revision int64) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(revision))
}

func revisionOf(key []byte) int64 {
	return int64(binary.BigEndian.Uint64(key[len(key)-8:]))
}

func appendOperation(b []byte, row *persistence.Row) []byte {
	return append(appendName(b, row.Peer), row.Data...)
}

// decodeOperation returns a peer and data that point into value.
func decodeOperation(value []byte) (peer, data []byte, err error) {
	d := decoder{rest: value}
	peer = d.name()
	return peer, d.rest, d.err
}

func encodeMarks(m persistence.Marks) []byte {
	return appendPosition(appendPosition(make([]byte, 0, 32), m.Checkpoint), m.Highest)
}

func decodeMarks(value []byte) (persistence.Marks, error) {
	d := decoder{rest: value}
	m := persistence.Marks{Checkpoint: d.position(), Highest: d.position()}
	return m, d.err
}

func appendPosition(b []byte, p persistence.Position) []byte {
	b = binary.AppendUvarint(b, uint64(p.Generation))
	return binary.AppendUvarint(b, uint64(p.Offset))
}

// decoder reads fields from the front of a row. After the first that is not
// there it returns zeros and keeps errRow.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.rest, d.err = nil, errRow
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.rest, d.err = nil, errRow
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) position() persistence.Position {
	generation := d.uvarint()
	if generation > math.MaxUint32 {
		d.err = errRow
	}
	return persistence.Position{Generation: uint32(generation), Offset: int64(d.uvarint())}
}

func (d *decoder) name() []byte {
	length := d.uvarint()
	if length > uint64(len(d.rest)) {
		d.rest, d.err = nil, errRow
		return nil
	}
	name := d.rest[:length]
	d.rest = d.rest[length:]
	return name
}
