package server

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/talk"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// pageReply is a page of operations as they are stored.
type pageReply struct {
	server *Server
	caller talk.Session
	check  bool // whether the session has lasted until now
	page   talk.Page
}

const (
	// pageBytes is where a page ends, in the binary encoding: it is that large as
	// stored at most, and larger with the bodies that lie in chats.
	pageBytes = 1 << 20
	// openTogether is how many operations are opened at a time: the bodies of so
	// many may be read from chats at once.
	openTogether = 16
)

// lasts returns why the session of who asked has ended, where a chat, which does
// not know of it, held the poll.
func (r *pageReply) lasts(ctx context.Context) error {
	if !r.check || len(r.page.Operations) == 0 {
		return nil
	}
	return r.server.admission.sessions.Check(ctx, r.caller)
}

// Message implements [Reply].
func (r *pageReply) Message(ctx context.Context) (proto.Message, error) {
	if err := r.lasts(ctx); err != nil {
		return nil, err
	}
	stored, err := record.DecodeOperations(r.page.Operations)
	if err != nil {
		return nil, err
	}
	for i, operation := range stored {
		if err := r.checkPlace(i, operation.GetRevision()); err != nil {
			return nil, err
		}
	}
	ops := make([]*tegamiv1.Operation, 0, len(stored))
	for size := 0; len(ops) < len(stored) && size < pageBytes; {
		some := stored[len(ops):min(len(ops)+openTogether, len(stored))]
		operations, err := r.server.open(ctx, r.caller.User, some)
		if err != nil {
			return nil, err
		}
		for i := 0; i < len(operations) && size < pageBytes; i++ {
			one := pageOf(&operations[i])
			size += proto.Size(one)
			ops = append(ops, one.Ops...)
		}
	}
	response := r.endingWith(len(ops))
	response.Ops = ops
	return response, nil
}

func pageOf(o *opened) *tegamiv1.FetchOpsResponse {
	return &tegamiv1.FetchOpsResponse{Ops: []*tegamiv1.Operation{&o.operation}}
}

// endingWith returns what there is of a page beside its first n operations, with
// which it ends.
func (r *pageReply) endingWith(n int) *tegamiv1.FetchOpsResponse {
	left := len(r.page.Operations) - n
	return &tegamiv1.FetchOpsResponse{
		Revision: r.page.Revision - int64(left),
		HasMore:  r.page.HasMore || left > 0,
		Reason:   tegamiv1.FetchOpsResponse_Reason(r.page.Reason),
	}
}

// checkPlace returns an error if the operation with an index has another
// revision than its place in the page says.
func (r *pageReply) checkPlace(i int, revision int64) error {
	if want := r.page.Revision - int64(len(r.page.Operations)-1-i); revision != want {
		return fmt.Errorf("%w: revision %d where %d is due", record.ErrOperation, revision, want)
	}
	return nil
}

// appendBinary implements [binaryReply]. Nearly all operations are messages that
// are text, up to a thousand in a page: their parts go from one encoding to the
// other, with nothing allocated for each.
func (r *pageReply) appendBinary(ctx context.Context, dst []byte) ([]byte, error) {
	if err := r.lasts(ctx); err != nil {
		return nil, err
	}
	begin, n := len(dst), 0
	if len(r.page.Operations) > 0 {
		dst = slices.Grow(dst, sizeHint(r.page.Operations))
		w := textWriter{server: r.server, user: r.caller.User}
		for n < len(r.page.Operations) && len(dst)-begin < pageBytes {
			var m storedMessage
			text, ok, err := w.open(ctx, &m, r.page.Operations[n])
			switch {
			case err != nil:
			case ok:
				err = r.checkPlace(n, m.revision)
				dst = w.append(dst, &m, text)
				n++
			default:
				dst, n, err = r.appendOthers(ctx, dst, n, begin+pageBytes)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	// Encoded messages may be joined.
	return proto.MarshalOptions{}.MarshalAppend(dst, r.endingWith(n))
}

// sizeHint is about what operations take when they are encoded for a client.
func sizeHint(operations [][]byte) int {
	size := 32 // of the rest of the page
	for _, stored := range operations {
		size += len(stored) + 32
	}
	return size
}

// appendOthers appends the operation with an index, whatever it is, and those
// behind it that are no text either, until dst has most bytes. It returns the
// index of the next.
func (r *pageReply) appendOthers(ctx context.Context, dst []byte, from, most int) ([]byte, int, error) {
	to := from + 1
	for to < len(r.page.Operations) && to-from < openTogether && !new(storedMessage).take(r.page.Operations[to]) {
		to++
	}
	decoded, err := record.DecodeOperations(r.page.Operations[from:to])
	if err != nil {
		return nil, from, err
	}
	for i, operation := range decoded {
		if err := r.checkPlace(from+i, operation.GetRevision()); err != nil {
			return nil, from, err
		}
	}
	operations, err := r.server.open(ctx, r.caller.User, decoded)
	if err != nil {
		return nil, from, err
	}
	next := from
	for ; next < to && len(dst) < most; next++ {
		if dst, err = (proto.MarshalOptions{}).MarshalAppend(dst, pageOf(&operations[next-from])); err != nil {
			return nil, next, err
		}
	}
	return dst, next, nil
}
