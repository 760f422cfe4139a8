package correction

import (
	"github.com/tegami-im/tegami/persistence"
)

// endRows ends the rows: what follows are places. It is called again and again.
func (b *box) endRows() {
	if b.next < 0 {
		return
	}
	defer func() { b.next = -1 }()
	if b.state == nil {
		return
	}
	if b.next <= b.head {
		b.missing(b.head + 1)
	}
	if b.above > 0 {
		b.found(DamagedState, 0, 1, "its head is %d, and there are %d rows above it", b.head, b.above)
	}
	if !b.window.end.Less(b.position) && len(b.unknown) > 0 {
		b.strangers(b.position)
	}
}

// takePlace holds a place in a conversation against its row. The digest of a
// row whose place was seen is taken out.
func (b *box) takePlace(item *persistence.Item) {
	revision := item.Row.Revision
	n := revision - b.base
	if item.Err != nil {
		b.found(DifferentPlace, revision, 1, "%v", item.Err)
		return
	}
	if b.state != nil && revision > b.head {
		if !b.checkpoint.Less(item.Written) && revision > b.head+b.above {
			b.extraPlace(item, "above the head")
		}
		return
	}
	if n >= maxIndexed {
		return
	}
	held := uint64(0)
	if n >= 0 && n < int64(len(b.rows)) {
		held = b.rows[n]
	}
	place := rowDigest(item.Row.Peer, item.Row.Data)
	switch {
	case held == 0:
		b.extraPlace(item, "without a row")
		return
	case held == anyPlace:
	case held>>32 != place>>32:
		b.extraPlace(item, "of a row that is of another")
		return
	case item.Row.Data != nil && held != place:
		b.found(DifferentPlace, revision, 1, "in that with %s", item.Row.Peer)
	}
	b.rows[n] = 0
}

func (b *box) extraPlace(item *persistence.Item, why string) {
	b.found(ExtraPlace, item.Row.Revision, 1, "in that with %s, %s", item.Row.Peer, why)
}

// end returns what was found.
func (b *box) end() []Finding {
	if !b.stored {
		return b.findings
	}
	b.beginRows()
	b.endRows()
	for n, held := range b.rows {
		if held > anyPlace {
			b.found(MissingPlace, b.base+int64(n), 1, "of the row with this revision")
		}
	}
	b.compareCached()
	if b.state != nil {
		b.compareRecords()
	}
	return b.findings
}

// compareRecords holds the state against the newest record of the mailbox, and
// its sources against those that were taken. Every record of a mailbox with an
// account moves its position.
func (b *box) compareRecords() {
	var newest persistence.Position
	of := !b.window.covers(b.position) // whether it is of a record of the mailbox
	behind := map[uint64]persistence.Position{}
	for i := range b.records {
		l := &b.records[i]
		if newest.Less(l.position) {
			newest = l.position
		}
		of = of || l.position == b.position
		if l.source != 0 && l.time > b.state.GetAccount().GetCreateTime() && !b.position.Less(l.position) && b.sources[l.source].Less(l.taken) {
			behind[l.source] = l.taken
		}
	}
	if b.position.Less(newest) {
		b.foundInJournal(StateBehind, 0, 1, "it is at %d/%d, and has a record at %d/%d", b.position.Generation, b.position.Offset, newest.Generation, newest.Offset)
	}
	if !of || b.beyondEnd {
		b.foundInJournal(StateAhead, 0, 1, "it is at %d/%d, where the journal has no record of it", b.position.Generation, b.position.Offset)
	}
	if len(behind) > 0 {
		b.foundInJournal(SourceBehind, 0, int64(len(behind)), "copies were taken from beyond")
	}
}
