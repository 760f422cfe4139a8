package mailbox

import (
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

var sendKind = kind{
	command:        true,
	withoutAccount: refusal.UnknownRecipient,
	malformed: func(r *record.Record) bool {
		c := r.GetSend()
		return c.GetFrom() == "" || len(c.GetMessageId()) != persistence.MessageIDSize
	},
	decide: func(d *decision, r *record.Record) { d.send(r.GetSend()) },
}

var sentCopyKind = kind{
	source: func(r *record.Record) persistence.Source {
		c := r.GetSentCopy()
		return persistence.Source{
			Mailbox:  c.GetSource(),
			Position: persistence.Position{Generation: c.GetSourceGeneration(), Offset: c.GetSourceOffset()},
		}
	},
	malformed: func(r *record.Record) bool {
		return len(r.GetSentCopy().GetMessageId()) != persistence.MessageIDSize
	},
	decide: func(d *decision, r *record.Record) { d.sentCopy(r.GetSentCopy()) },
}

// delivery is an operation with its message, in one piece of memory: a server
// makes more of these than of anything else.
type delivery struct {
	operation record.Operation
	message   record.Message
	received  record.Operation_ReceiveMessage
	sent      record.Operation_SendMessage
}

// copyOfSend is the follow-up of a Send, in one piece likewise.
type copyOfSend struct {
	followUps [1]FollowUp
	record    record.Record
	kind      record.Record_SentCopy
	sentCopy  record.SentCopy
}

// send takes a message in and lets the sender's own devices know by a
// follow-up. A message to oneself needs none. That of a blocked sender is not
// taken in, of which the sender learns nothing.
func (d *decision) send(c *record.Send) {
	blocked := d.parts.contact(c.From).GetBlocked()
	if !blocked && !d.mayWrite(c.From) {
		d.refuse(refusal.NotFriends)
		return
	}
	if !blocked && !d.deliver(c.From, &delivery{message: record.Message{
		MessageId:       c.MessageId,
		From:            c.From,
		To:              d.user,
		ClientMessageId: c.ClientMessageId,
		Time:            d.time,
		SealedBody:      c.SealedBody,
	}}) {
		return
	}
	d.answer.MessageID = [persistence.MessageIDSize]byte(c.MessageId)
	if c.From == d.user {
		d.operation.OriginDevice = c.FromDevice
		return
	}
	f := &copyOfSend{sentCopy: record.SentCopy{
		Source:           d.user,
		SourceGeneration: d.in.Position.Generation,
		SourceOffset:     d.in.Position.Offset,
		MessageId:        c.MessageId,
		ClientMessageId:  c.ClientMessageId,
		FromDevice:       c.FromDevice,
		SealedBody:       c.SealedCopy,
		MessageTime:      d.time,
	}}
	f.kind.SentCopy = &f.sentCopy
	f.record.Id = followUpID(d.user, d.in.Position)
	f.record.Mailbox = c.From
	f.record.Kind = &f.kind
	f.followUps[0] = FollowUp{Mailbox: c.From, Record: &f.record}
	d.followUps = f.followUps[:]
}

// sentCopy keeps what the user sent to the mailbox that the copy comes from,
// once from each position there.
func (d *decision) sentCopy(c *record.SentCopy) {
	if d.deliver(c.Source, &delivery{message: record.Message{
		MessageId:       c.MessageId,
		From:            d.user,
		To:              c.Source,
		ClientMessageId: c.ClientMessageId,
		Time:            c.MessageTime,
		SealedBody:      c.SealedBody,
	}}) {
		d.operation.OriginDevice = c.FromDevice
	}
}

// deliver adds the next operation: a message of the conversation with peer.
func (d *decision) deliver(peer string, m *delivery) bool {
	if !d.operate(&m.operation) {
		return false
	}
	d.row.Peer = peer
	d.count(peer, &m.message)
	if m.message.To == d.user {
		m.received.ReceiveMessage = &m.message
		d.operation.Kind = &m.received
	} else {
		m.sent.SendMessage = &m.message
		d.operation.Kind = &m.sent
	}
	return true
}
