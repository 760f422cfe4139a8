package shard

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
)

// pageBytes is where a page ends, though never before its first operation.
const pageBytes = 1 << 20

// tail holds the newest operations of a mailbox in memory, contiguous up to
// the head: those not yet stored, and some more for polls that are a little
// behind.
type tail struct {
	operations []*record.Operation
	sizes      []int
	bytes      int
}

// first returns the oldest revision held, 0 when there is none.
func (t *tail) first() int64 {
	if len(t.operations) == 0 {
		return 0
	}
	return t.operations[0].GetRevision()
}

func (t *tail) push(operation *record.Operation) {
	size := proto.Size(operation)
	t.operations = append(t.operations, operation)
	t.sizes = append(t.sizes, size)
	t.bytes += size
}

// shrink lets go of operations up to a revision, beyond the limits.
func (t *tail) shrink(upTo int64, maxOperations, maxBytes int) {
	n := 0
	for n < len(t.operations) && t.operations[n].GetRevision() <= upTo &&
		(len(t.operations)-n > maxOperations || t.bytes > maxBytes) {
		t.bytes -= t.sizes[n]
		t.operations[n] = nil
		n++
	}
	t.operations = t.operations[n:]
	t.sizes = t.sizes[n:]
	if len(t.operations) == 0 { // give the arrays back
		t.operations, t.sizes = nil, nil
	}
}

// after returns the operations above a revision, at most limit and about
// pageBytes, at least one. ok is false when the tail does not reach back that
// far.
func (t *tail) after(revision int64, limit int) (page []*record.Operation, ok bool) {
	if len(t.operations) == 0 || revision+1 < t.first() {
		return nil, false
	}
	from := int(revision + 1 - t.first())
	if from >= len(t.operations) {
		return nil, true
	}
	to, size := from, 0
	for to < len(t.operations) && to-from < limit && (to == from || size+t.sizes[to] <= pageBytes) {
		size += t.sizes[to]
		to++
	}
	return slices.Clone(t.operations[from:to]), true // shrink clears what it drops
}

// conversation returns the operations with a peer below a revision, newest
// first, at most limit and about pageBytes, and whether it stopped early.
func (t *tail) conversation(user, peer string, before int64, limit int) (page []*record.Operation, size int, full bool) {
	for i, operation := range slices.Backward(t.operations) {
		if operation.GetRevision() >= before || peerOf(user, operation) != peer {
			continue
		}
		if len(page) == limit || len(page) > 0 && size+t.sizes[i] > pageBytes {
			return page, size, true
		}
		page = append(page, operation)
		size += t.sizes[i]
	}
	return page, size, false
}

// peerOf returns the other user of the conversation that an operation belongs
// to.
func peerOf(user string, operation *record.Operation) string {
	if amendment := operation.GetMessageAmended(); amendment != nil {
		return amendment.GetPeer()
	}
	message := operation.GetReceiveMessage()
	if message == nil {
		message = operation.GetSendMessage()
	}
	if message.GetFrom() == user {
		return message.GetTo()
	}
	return message.GetFrom()
}
