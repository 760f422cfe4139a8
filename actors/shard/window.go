package shard

import (
	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/persistence"
)

// unstoredRecord is a record on its way from dispatch to the store.
type unstoredRecord struct {
	position persistence.Position
	entry    *entry
	command  *Command // whom to answer; nil when nobody waits
	result   *applied // what the mailbox made of it, from then until it is released
	// retries are duplicates of this record, applied after it, whose answers
	// wait for its follow-up.
	retries []retry

	applied   bool // by the mailbox
	following int  // of its follow-ups, those that are not durable yet
	followed  bool // all of them are durable, or it has none
	repeats   bool // the answer waits for those of all records before it, too
	changes   bool // it has a write
	released  bool // handed to the write-behind actor
	stored    bool
	parked    bool                 // it is not in the window
	before    persistence.Position // when parked: of the record before it
	isCommand bool                 // its answer is remembered in a dedup entry
	messageID [16]byte             // set while it is in copies
}

type retry struct {
	command *Command
	answer  mailbox.Answer
}

// window holds the records of a shard that are dispatched and neither stored
// nor dropped, in log order. Offsets are contiguous.
type window struct {
	base    int64 // offset of records[0]
	records []*unstoredRecord
	// released is how many at the front are released: everything up to there
	// was put.
	released int
}

func (w *window) len() int                 { return len(w.records) }
func (w *window) at(i int) *unstoredRecord { return w.records[i] }

func (w *window) push(r *unstoredRecord) {
	if len(w.records) == 0 {
		w.base = r.position.Offset
	}
	w.records = append(w.records, r)
}

// find returns the record at a position, nil when it has left the window.
func (w *window) find(p persistence.Position) *unstoredRecord {
	i := p.Offset - w.base
	if i < 0 || i >= int64(len(w.records)) {
		return nil
	}
	return w.records[i]
}

// shrink takes the stored records at the front out and returns the position of
// the last one, zero when there is none, and how many they were.
func (w *window) shrink() (last persistence.Position, n int) {
	for n < len(w.records) && w.records[n].stored {
		n++
	}
	return w.take(n), n
}

// take takes the first n records out and returns the position of the last one.
func (w *window) take(n int) (last persistence.Position) {
	for i := range n {
		last = w.records[i].position
		w.records[i] = nil
	}
	w.records = w.records[n:]
	w.base += int64(n)
	w.released = max(w.released-n, 0)
	return last
}

// release counts those that were released at the front, and returns the
// position of the last of them; moved is false when there are no more than
// before.
func (w *window) release() (last persistence.Position, moved bool) {
	for w.released < len(w.records) && w.records[w.released].released {
		last = w.records[w.released].position
		w.released++
		moved = true
	}
	return last, moved
}
