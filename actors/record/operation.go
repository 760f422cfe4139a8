// Package record holds the records of the journal and the operations of
// mailboxes, as they are stored.
package record

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// ErrOperation says that bytes are no encoded operation.
var ErrOperation = errors.New("not an encoded operation")

// DecodeOperations decodes operations as they are stored. Error: ErrOperation.
func DecodeOperations(encoded [][]byte) ([]*Operation, error) {
	operations := make([]*Operation, len(encoded))
	for i, data := range encoded {
		operations[i] = new(Operation)
		if err := proto.Unmarshal(data, operations[i]); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrOperation, err)
		}
	}
	return operations, nil
}

// RevisionOf returns the revision of an encoded operation without decoding the
// rest. Error: ErrOperation.
func RevisionOf(encoded []byte) (int64, error) {
	number, kind, n := protowire.ConsumeTag(encoded)
	if n < 0 || number != 1 || kind != protowire.VarintType { // it is encoded first
		return 0, ErrOperation
	}
	revision, n := protowire.ConsumeVarint(encoded[n:])
	if n < 0 {
		return 0, ErrOperation
	}
	return int64(revision), nil
}
