package mailbox

import (
	"encoding/binary"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

// window holds the newest dedup entries, at most MaxDedupInMemory, in the
// order in which they were added, which is that of their times.
//
// A server keeps millions of entries, so they are packed: 44 bytes for the
// entry and, at most, 4 for the index that finds it by its key. The ring grows
// by an eighth at a time, for doubling would waste what packing saves.
type window struct {
	ring          []packed
	oldest, count int
	// slots is a hash table with linear probing: a place in the ring plus
	// one, or zero. Keys are keyed hashes already, so that their first bits
	// need no hashing and nobody outside can aim for collisions.
	slots []uint16
	// completeFrom is the log time from which on no entry is missing, and gone
	// has the keys of those that were let go of.
	completeFrom int64
	gone         filter
}

// packed is a dedup entry: key (10 bytes), body hash (6), message id (16),
// time (6), revision (5), reason (1). Its position in the journal matters to
// the store only.
type packed [44]byte

func pack(e *persistence.DedupEntry) (p packed) {
	copy(p[0:10], e.Key[:])
	copy(p[10:16], e.BodyHash[:])
	copy(p[16:32], e.MessageID[:])
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], uint64(e.Time))
	copy(p[32:38], number[2:])
	binary.BigEndian.PutUint64(number[:], uint64(e.Revision))
	copy(p[38:43], number[3:])
	p[43] = e.Reason
	return p
}

func (p packed) key() dedupKey { return dedupKey(p[0:10]) }

func (p packed) bodyHash() []byte { return p[10:16] }

func (p packed) messageID() [persistence.MessageIDSize]byte {
	return [persistence.MessageIDSize]byte(p[16:32])
}

func (p packed) time() int64 {
	return int64(binary.BigEndian.Uint64(p[30:38]) & maxTime)
}

func (p packed) revision() int64 {
	return int64(binary.BigEndian.Uint64(p[35:43]) & maxRevision)
}

func (p packed) reason() refusal.Reason { return refusal.Reason(p[43]) }

type dedupKey = [persistence.DedupKeySize]byte

// find returns the newest entry of a key.
func (w *window) find(key dedupKey) (packed, bool) {
	if w.count == 0 {
		return packed{}, false
	}
	if at := w.slots[w.slot(key)]; at != 0 {
		return w.ring[at-1], true
	}
	return packed{}, false
}

// startAt says that nothing is known of entries before a log time.
func (w *window) startAt(time int64) {
	w.completeFrom, w.gone.completeFrom = time, time
}

// add adds an entry that is not older than any other. It takes the place of
// one with the same key, and when the window is full the oldest goes.
func (w *window) add(p packed) {
	if w.count == MaxDedupInMemory {
		oldest := &w.ring[w.oldest]
		w.completeFrom = oldest.time() + 1
		w.gone.add(oldest.key(), oldest.time())
		w.dropOldest()
	}
	if w.count == len(w.ring) {
		w.resize()
	}
	at := (w.oldest + w.count) % len(w.ring)
	w.ring[at] = p
	w.count++
	w.slots[w.slot(p.key())] = uint16(at + 1)
}

// expire drops the entries that are older than a log time.
func (w *window) expire(notBefore int64) {
	w.gone.expire(notBefore)
	for w.count > 0 && w.ring[w.oldest].time() < notBefore {
		w.dropOldest()
	}
	if len(w.ring) > 64 && w.count < len(w.ring)/2 {
		w.resize()
	}
}

func (w *window) dropOldest() {
	i := w.slot(w.ring[w.oldest].key())
	if int(w.slots[i]) == w.oldest+1 { // else a newer entry has the key
		w.clear(i)
	}
	w.oldest = (w.oldest + 1) % len(w.ring)
	w.count--
}

// resize moves the entries to a ring with room for an eighth more. Most
// mailboxes in memory have but a few entries.
func (w *window) resize() {
	ring := make([]packed, min(w.count+w.count/8+2, MaxDedupInMemory))
	n := copy(ring[:w.count], w.ring[w.oldest:])
	copy(ring[n:w.count], w.ring)
	w.ring, w.oldest = ring, 0
	w.slots = make([]uint16, len(ring)+len(ring)/2)
	for at := range w.count {
		w.slots[w.slot(ring[at].key())] = uint16(at + 1)
	}
}

// slot returns the slot that holds the key, or the empty one where it would
// go. There is always an empty one.
func (w *window) slot(key dedupKey) int {
	i := w.home(key)
	for w.slots[i] != 0 && w.ring[w.slots[i]-1].key() != key {
		i = w.after(i)
	}
	return i
}

// home is the slot where the search for a key begins.
func (w *window) home(key dedupKey) int {
	return int(uint64(binary.BigEndian.Uint32(key[:])) * uint64(len(w.slots)) >> 32)
}

func (w *window) after(i int) int {
	if i++; i < len(w.slots) {
		return i
	}
	return 0
}

// clear empties slot i and moves up those behind it that a search could no
// longer reach over the gap.
func (w *window) clear(i int) {
	gap := i
	for i = w.after(i); w.slots[i] != 0; i = w.after(i) {
		home := w.home(w.ring[w.slots[i]-1].key())
		// Keep it if its home lies behind the gap, going round from gap to i.
		reachable := gap < home && home <= i
		if gap > i {
			reachable = gap < home || home <= i
		}
		if !reachable {
			w.slots[gap] = w.slots[i]
			gap = i
		}
	}
	w.slots[gap] = 0
}
