package correction

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/sealing"
)

// bodyOf returns the body in an operation that is sealed with the mailbox's key, and
// the message that it is bound to; nil for none. What is copied from a chat is
// sealed with the chat's, where it is opened.
func bodyOf(name string, op *record.Operation) (messageID, sealed []byte) {
	if op.GetChat() != "" && op.GetChat() != name {
		return nil, nil
	}
	if message := messageOf(op); message != nil {
		return message.GetMessageId(), message.GetSealedBody()
	}
	amended := op.GetMessageAmended()
	return amended.GetMessageId(), amended.GetSealedBody()
}

// openBody opens the body in an operation. One that does not open is damaged, was
// put into the wrong mailbox, or the mailbox's key is another than it was.
func (b *box) openBody(ctx context.Context, op *record.Operation) error {
	messageID, sealed := bodyOf(b.name, op)
	if sealed == nil || b.keys == nil || !b.first || b.keyless {
		return nil
	}
	if b.opener == nil {
		key, err := b.keys.Get(ctx, b.name)
		if errors.Is(err, persistence.ErrNotFound) || isDamage(err) {
			b.keyless = true
			b.found(MissingKey, 0, 1, "%v", err)
			return nil
		}
		if err != nil {
			return err
		}
		b.opener = sealing.NewOpener(key, b.name)
	}
	if _, err := b.opener.Open(nil, messageID, sealed); err != nil {
		b.found(SealedBody, op.GetRevision(), 1, "%v", err)
	}
	return nil
}

// shut reports whether a row is to replace one whose body does not open, and does
// not open either.
func (m *mender) shut(row persistence.Row) bool {
	op := new(record.Operation)
	if m.opener == nil || proto.Unmarshal(row.Data, op) != nil {
		return false
	}
	messageID, sealed := bodyOf(m.name, op)
	if sealed == nil {
		return false
	}
	_, err := m.opener.Open(nil, messageID, sealed)
	return err != nil
}

// mendBodies says why bodies that do not open are left, where nothing that opens
// was found to replace their rows.
func (m *mender) mendBodies(context.Context) error {
	m.left[SealedBody] = "neither what the journal still has nor the cache has a body that the mailbox's key opens: restore the row, or the key, from a backup"
	m.left[MissingKey] = "its bodies cannot be read: restore the key from a backup"
	return nil
}
