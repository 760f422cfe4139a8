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
	response := r.withoutOperations()
	stored, err := record.DecodeOperations(r.page.Operations)
	if err != nil {
		return nil, err
	}
	for i, operation := range stored {
		if err := r.checkPlace(i, operation.GetRevision()); err != nil {
			return nil, err
		}
	}
	operations, err := r.server.open(ctx, r.caller.User, stored)
	if err != nil {
		return nil, err
	}
	response.Ops = make([]*tegamiv1.Operation, len(operations))
	for i := range operations {
		response.Ops[i] = &operations[i].operation
	}
	return response, nil
}

func (r *pageReply) withoutOperations() *tegamiv1.FetchOpsResponse {
	return &tegamiv1.FetchOpsResponse{
		Revision: r.page.Revision,
		HasMore:  r.page.HasMore,
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
	if len(r.page.Operations) > 0 {
		opener, err := r.server.talk.Opener(ctx, r.caller.User)
		if err != nil {
			return nil, err
		}
		dst = slices.Grow(dst, sizeHint(r.page.Operations))
		w := textWriter{opener: opener}
		for i, stored := range r.page.Operations {
			var m storedMessage
			text, ok := w.open(&m, stored)
			switch {
			case !ok:
				dst, err = r.appendOther(ctx, dst, i, stored)
			default:
				err = r.checkPlace(i, m.revision)
				dst = w.append(dst, &m, text)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	// Encoded messages may be joined.
	return proto.MarshalOptions{}.MarshalAppend(dst, r.withoutOperations())
}

// sizeHint is about what operations take when they are encoded for a client.
func sizeHint(operations [][]byte) int {
	size := 32 // of the rest of the page
	for _, stored := range operations {
		size += len(stored) + 32
	}
	return size
}

// appendOther appends the operation with an index, whatever it is.
func (r *pageReply) appendOther(ctx context.Context, dst []byte, i int, stored []byte) ([]byte, error) {
	decoded, err := record.DecodeOperations([][]byte{stored})
	if err != nil {
		return nil, err
	}
	if err := r.checkPlace(i, decoded[0].GetRevision()); err != nil {
		return nil, err
	}
	operations, err := r.server.open(ctx, r.caller.User, decoded)
	if err != nil {
		return nil, err
	}
	one := tegamiv1.FetchOpsResponse{Ops: []*tegamiv1.Operation{&operations[0].operation}}
	return proto.MarshalOptions{}.MarshalAppend(dst, &one)
}
