package persisttest

import (
	"bytes"
	"fmt"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
)

// replayed is a mailbox as a straight run over the log makes it.
type replayed struct {
	state      *mailbox.State
	stored     []byte // its state, encoded; nil when it was never stored
	operations []*record.Operation
	rows       []persistence.Row
}

// replay applies the whole log to new mailboxes, one record after the other.
func (w *world) replay() map[string]*replayed {
	mailboxes := map[string]*replayed{}
	for _, user := range modelUsers {
		mailboxes[user] = &replayed{state: mailbox.New(user)}
	}
	for shard := range w.log {
		for _, entry := range w.log[shard] {
			r, err := decodeRecord(entry.Data)
			if !w.check("decode record", err) {
				return mailboxes
			}
			m := mailboxes[r.Mailbox]
			out := m.state.Apply(mailbox.Input{Position: entry.Position, Time: entry.Time, Record: r})
			m.operations = append(m.operations, out.Operations...)
			m.rows = append(m.rows, out.Write.Rows...)
			if out.Write.State != nil {
				m.stored = out.Write.State
			}
		}
	}
	return mailboxes
}

// judge checks, when all has come to rest, what clients were promised.
func (w *world) judge() {
	mailboxes := w.replay()
	for _, user := range modelUsers {
		w.judgeStore(user, mailboxes[user])
		for _, op := range mailboxes[user].operations {
			at := revision{user, op.Revision}
			if shown, seen := w.shown[at]; seen && shown != identity(op) {
				w.violate("revision %d of %s was shown as %s, and is %s", op.Revision, user, shown, identity(op))
			}
		}
	}
	for _, m := range w.messages {
		received := find(mailboxes[m.to], m, (*record.Operation).GetReceiveMessage)
		sent := find(mailboxes[m.from], m, (*record.Operation).GetSendMessage)
		if len(received) > 1 {
			w.violate("%s is %d times in the mailbox of %s", m.id, len(received), m.to)
		}
		if m.from != m.to && len(sent) != len(received) {
			w.violate("%s is %d times with %s, who sent it, and %d times with %s", m.id, len(sent), m.from, len(received), m.to)
		}
		if m.accepted != never && (len(received) != 1 || !bytes.Equal(received[0].MessageId, m.as.MessageID[:])) {
			w.violate("%s was accepted, and is %d times in the mailbox of %s", m.id, len(received), m.to)
		}
		if _, answered := m.answers[body]; !answered {
			w.violate("%s was never answered", m.id)
		}
	}
	w.judgeOrder(mailboxes)
}

// judgeStore checks that the store holds what a straight run makes.
func (w *world) judgeStore(user string, want *replayed) {
	shard := modelShardOf(user)
	rows, err := w.storage.Store.Operations(background, shard, user, 0, persistence.MaxRevision, 1000, 1<<20)
	if !w.check("read operations", err) {
		return
	}
	if len(rows) != len(want.rows) {
		w.violate("the store holds %d operations of %s, the log makes %d", len(rows), user, len(want.rows))
		return
	}
	for i, row := range rows {
		if row.Revision != int64(i+1) || !bytes.Equal(row.Data, want.rows[i].Data) {
			w.violate("the store holds another operation %d of %s than the log makes", row.Revision, user)
		}
	}
	loaded, err := w.storage.Store.Load(background, shard, user, 0)
	if w.check("load mailbox", err) && !bytes.Equal(loaded.State, want.stored) {
		w.violate("the store holds another state of %s than the log makes", user)
	}
}

// judgeOrder checks that of two messages of a conversation, one answered
// before the other was made, every reader sees them in that order.
func (w *world) judgeOrder(mailboxes map[string]*replayed) {
	for _, first := range w.messages {
		for _, second := range w.messages {
			conversation := first.from == second.from && first.to == second.to || first.from == second.to && first.to == second.from
			if !conversation || first.accepted == never || second.accepted == never || first.accepted >= second.made {
				continue
			}
			for _, user := range []string{first.from, first.to} {
				a, b := place(mailboxes[user], first), place(mailboxes[user], second)
				if a > b && b > 0 {
					w.violate("%s was answered before %s was made, and comes after it with %s", first.id, second.id, user)
				}
			}
		}
	}
}

// find returns the copies of a message in a mailbox.
func find(in *replayed, m *message, kind func(*record.Operation) *record.Message) []*record.Message {
	var found []*record.Message
	for _, op := range in.operations {
		if got := kind(op); got != nil && got.From == m.from && got.To == m.to && got.ClientMessageId == m.id {
			found = append(found, got)
		}
	}
	return found
}

// place returns the revision of a message in a mailbox; 0 for none.
func place(in *replayed, m *message) int64 {
	for _, op := range in.operations {
		got := op.GetReceiveMessage()
		if got == nil {
			got = op.GetSendMessage()
		}
		if got.GetFrom() == m.from && got.GetClientMessageId() == m.id {
			return op.Revision
		}
	}
	return 0
}

// identity tells operations apart.
func identity(op *record.Operation) string {
	if m := op.GetReceiveMessage(); m != nil {
		return fmt.Sprintf("%s %x from %s", m.ClientMessageId, m.MessageId, m.From)
	}
	m := op.GetSendMessage()
	return fmt.Sprintf("%s %x to %s", m.GetClientMessageId(), m.GetMessageId(), m.GetTo())
}
