package mailbox

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

// DecodeRecord returns a record as it lies in the journal. It refuses what this
// version does not know: skipping a record would make two owners disagree.
func DecodeRecord(data []byte) (*record.Record, error) {
	r := new(record.Record)
	if err := proto.Unmarshal(data, r); err != nil {
		return nil, err
	}
	if r.Kind == nil {
		return nil, errors.New("a kind that this version does not know")
	}
	if v := r.GetVersion(); v != nil && v.GetApplyVersion() > ApplyVersion {
		return nil, fmt.Errorf("apply version %d: this one goes up to %d", v.GetApplyVersion(), ApplyVersion)
	}
	return r, nil
}

// IsCommand reports whether the answer to a record is remembered, in a dedup
// entry.
func IsCommand(r *record.Record) bool {
	_, isCommand := commandKey(r)
	return isCommand
}

// commandKey returns the key under which the answer to a record is
// remembered, and whether it is: follow-ups have their source position
// instead.
func commandKey(r *record.Record) (key dedupKey, isCommand bool) {
	if _, followUp := r.GetKind().(*record.Record_SentCopy); followUp ||
		len(r.GetDedupKey()) != len(key) || len(r.GetBodyHash()) != persistence.BodyHashSize {
		return key, false
	}
	return dedupKey(r.DedupKey), true
}

// stale reports whether a command is too old to be decided at a log time.
func stale(r *record.Record, now int64) bool {
	return r.GetMintTime() < now-MaxCommandAge.Milliseconds()
}

// windowStart returns the log time from which on answers are remembered.
func windowStart(now int64) int64 { return now - DedupWindow.Milliseconds() }

// malformed reports whether a record is none that this version of Apply can
// decide. Whoever appends checks what clients send, so that such a record is a
// mistake of the server's.
func malformed(r *record.Record) bool {
	_, isCommand := commandKey(r)
	switch kind := r.GetKind().(type) {
	case *record.Record_Send:
		return !isCommand || kind.Send.GetFrom() == "" || len(kind.Send.GetMessageId()) != persistence.MessageIDSize
	case *record.Record_SentCopy:
		return kind.SentCopy.GetSource() == "" || len(kind.SentCopy.GetMessageId()) != persistence.MessageIDSize
	case *record.Record_CreateAccount:
		return !isCommand
	case *record.Record_SignIn:
		return !isCommand || kind.SignIn.GetDeviceId() == "" || !isHash(kind.SignIn.GetRefreshHash())
	case *record.Record_Refresh:
		return !isCommand || !isHash(kind.Refresh.GetPresentedHash()) || !isHash(kind.Refresh.GetRefreshHash())
	case *record.Record_SignOut:
		return !isCommand
	case *record.Record_Trim:
		return false // retention asks for it again and again, and needs no answer
	default:
		return true
	}
}

func isHash(b []byte) bool { return len(b) == sha256.Size }

// reasonWithoutAccount says why a record cannot be decided in a mailbox that
// has no account.
func reasonWithoutAccount(r *record.Record) refusal.Reason {
	switch r.GetKind().(type) {
	case *record.Record_SentCopy, *record.Record_Trim:
		return refusal.None // nobody waits for an answer
	case *record.Record_Refresh, *record.Record_SignOut:
		return refusal.UnknownDevice
	default:
		return refusal.UnknownRecipient
	}
}

// sessionDevice returns the device of a command that is answered with a
// session.
func sessionDevice(r *record.Record) (device string, about bool) {
	switch kind := r.GetKind().(type) {
	case *record.Record_SignIn:
		return kind.SignIn.GetDeviceId(), true
	case *record.Record_Refresh:
		return kind.Refresh.GetDeviceId(), true
	case *record.Record_SignOut:
		return kind.SignOut.GetDeviceId(), true
	default:
		return "", false
	}
}

// sourcePosition returns the position of the Send that a copy comes from.
func sourcePosition(c *record.SentCopy) persistence.Position {
	return persistence.Position{Generation: c.GetSourceGeneration(), Offset: c.GetSourceOffset()}
}

// followUpID returns the id of the record that follows from the one at a
// position of a mailbox: the same at every owner and in every replay.
func followUpID(mailbox string, position persistence.Position) []byte {
	source := make([]byte, 12, 12+64)
	binary.BigEndian.PutUint32(source, position.Generation)
	binary.BigEndian.PutUint64(source[4:], uint64(position.Offset))
	sum := sha256.Sum256(append(source, mailbox...))
	return sum[:16]
}

// epochID lays an epoch where a dedup entry has the message id.
func epochID(epoch uint64) (id [persistence.MessageIDSize]byte) {
	binary.BigEndian.PutUint64(id[:], epoch)
	return id
}

func epochOf(id [persistence.MessageIDSize]byte) uint64 { return binary.BigEndian.Uint64(id[:]) }
