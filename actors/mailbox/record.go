package mailbox

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
)

// DecodeRecord returns a record as it lies in the journal. It refuses what this
// version does not know: skipping a record would make two owners disagree.
func DecodeRecord(data []byte) (*record.Record, error) {
	r := new(record.Record)
	if err := proto.Unmarshal(data, r); err != nil {
		return nil, err
	}
	return r, Known(r)
}

// Known returns an error for a record that this version does not know.
func Known(r *record.Record) error {
	if r.GetKind() == nil {
		return errors.New("a kind that this version does not know")
	}
	if v := max(r.GetApplyVersion(), r.GetVersion().GetApplyVersion()); v > ApplyVersion {
		return fmt.Errorf("apply version %d: this one goes up to %d", v, ApplyVersion)
	}
	return nil
}

// IsCommand reports whether the answer to a record is remembered, in a dedup
// entry.
func IsCommand(r *record.Record) bool {
	_, isCommand := kindOf(r).commandKey(r)
	return isCommand
}

// stale reports whether a command is too old to be decided at a log time.
func stale(r *record.Record, now int64) bool {
	return r.GetMintTime() < now-MaxCommandAge.Milliseconds()
}

// windowStart returns the log time from which on answers are remembered.
func windowStart(now int64) int64 { return now - DedupWindow.Milliseconds() }

// followUpID returns the id of the record that follows from the one at a
// position of a mailbox: the same at every owner and in every replay.
func followUpID(mailbox string, position persistence.Position) []byte {
	source := make([]byte, 12, 12+64)
	binary.BigEndian.PutUint32(source, position.Generation)
	binary.BigEndian.PutUint64(source[4:], uint64(position.Offset))
	sum := sha256.Sum256(append(source, mailbox...))
	return sum[:16]
}
