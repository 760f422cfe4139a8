package shard

import (
	"slices"

	"github.com/tegami-im/tegami/persistence"
)

// pageBytes is where a page ends, though never before its first operation.
const pageBytes = 1 << 20

// tail holds the newest operations of a mailbox in memory, contiguous up to
// the head: those not yet stored, and some more for polls that are a little
// behind. They are held as the store is given them: what a mailbox keeps in
// memory has next to nothing for the collector to look at.
type tail struct {
	rows  []persistence.Row
	bytes int
}

// first returns the oldest revision held, 0 when there is none.
func (t *tail) first() int64 {
	if len(t.rows) == 0 {
		return 0
	}
	return t.rows[0].Revision
}

func (t *tail) push(row persistence.Row) {
	t.rows = append(t.rows, row)
	t.bytes += len(row.Data)
}

// shrink lets go of operations up to a revision, beyond the limits.
func (t *tail) shrink(upTo int64, maxOperations, maxBytes int) {
	n := 0
	for n < len(t.rows) && t.rows[n].Revision <= upTo && (len(t.rows)-n > maxOperations || t.bytes > maxBytes) {
		t.bytes -= len(t.rows[n].Data)
		t.rows[n] = persistence.Row{}
		n++
	}
	if t.rows = t.rows[n:]; len(t.rows) == 0 { // give the array back
		t.rows = nil
	}
}

// after returns the operations above a revision, at most limit and about
// pageBytes, at least one. ok is false when the tail does not reach back that
// far.
func (t *tail) after(revision int64, limit int) (page [][]byte, ok bool) {
	if len(t.rows) == 0 || revision+1 < t.first() {
		return nil, false
	}
	rows := t.rows[min(int(revision+1-t.first()), len(t.rows)):]
	page = make([][]byte, min(limit, len(rows)))
	for i := range page {
		page[i] = rows[i].Data
	}
	return fit(page, limit), true
}

// conversation returns the operations with a peer below a revision, newest
// first, at most limit and about pageBytes, and whether it stopped early.
func (t *tail) conversation(peer string, before int64, limit int) (page [][]byte, size int, full bool) {
	for _, row := range slices.Backward(t.rows) {
		if row.Revision >= before || row.Peer != peer {
			continue
		}
		if len(page) == limit || len(page) > 0 && size+len(row.Data) > pageBytes {
			return page, size, true
		}
		page = append(page, row.Data)
		size += len(row.Data)
	}
	return page, size, false
}

// fit returns as many of the operations as make a page: at most limit and about
// pageBytes, at least one.
func fit(operations [][]byte, limit int) [][]byte {
	operations = operations[:min(limit, len(operations))]
	size := 0
	for i, operation := range operations {
		if size += len(operation); i > 0 && size > pageBytes {
			return operations[:i]
		}
	}
	return operations
}
