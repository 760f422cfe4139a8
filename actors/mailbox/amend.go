package mailbox

import (
	"bytes"
	"time"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

// AmendWindow is for how long after it was sent a message may be edited or
// unsent, in log time.
const AmendWindow = 24 * time.Hour

var amendKind = kind{
	since:          5,
	command:        true,
	follows:        true,
	withoutAccount: refusal.UnknownRecipient,
	malformed: func(r *record.Record) bool {
		c := r.GetAmend()
		return c.GetFrom() == "" || isNoAmendment(c.GetAmendment())
	},
	decide: func(d *decision, r *record.Record) { d.amend(r.GetAmend()) },
}

var amendCopyKind = kind{
	since:     5,
	source:    recordSource,
	malformed: func(r *record.Record) bool { return isNoAmendment(r.GetAmendCopy().GetAmendment()) },
	decide: func(d *decision, r *record.Record) {
		d.takeAmendment(r.GetSource().GetMailbox(), r.GetAmendCopy().OriginDevice, r.GetAmendCopy().Amendment)
	},
}

func isNoAmendment(a *record.Amendment) bool {
	return len(a.GetMessageId()) != persistence.MessageIDSize || a.GetBy() == "" || a.GetChange() == nil
}

// amend takes in a change of a message that lies in both mailboxes, and lets
// the other devices of whoever made it know. Whoever appended it has seen the
// message in their mailbox. As with messages, nothing of a blocked user arrives.
func (d *decision) amend(c *record.Amend) {
	_, reacts := c.Amendment.Change.(*record.Amendment_Reaction)
	if !reacts && d.time-c.MessageTime > AmendWindow.Milliseconds() {
		d.refuse(refusal.TooLate)
		return
	}
	if blocked := d.parts.contact(c.From).GetBlocked(); !blocked {
		if !d.mayWrite(c.From) {
			d.refuse(refusal.NotFriends)
			return
		}
		origin := ""
		if c.From == d.user {
			origin = c.FromDevice
		}
		d.takeAmendment(c.From, origin, c.Amendment)
	}
	if c.From == d.user {
		return
	}
	own := &record.Amendment{MessageId: c.Amendment.MessageId, By: c.From, Change: c.Amendment.Change}
	if _, edits := own.Change.(*record.Amendment_SealedBody); edits {
		own.Change = &record.Amendment_SealedBody{SealedBody: c.SealedCopy}
	}
	d.follow(c.From, &record.Record{Kind: &record.Record_AmendCopy{AmendCopy: &record.AmendCopy{
		OriginDevice: c.FromDevice, Amendment: own,
	}}})
}

// takeAmendment adds a change of a message to the conversation with a peer.
func (d *decision) takeAmendment(peer, origin string, a *record.Amendment) {
	if d.operate(&record.Operation{
		OriginDevice: origin,
		Kind: &record.Operation_MessageAmended{MessageAmended: &record.Amendment{
			MessageId: a.MessageId, By: a.By, Peer: peer, Change: a.Change,
		}},
	}) {
		d.row.Peer = peer
		d.noteAmendment(peer, a)
	}
}

// amendedVersion is the version of Apply since which a conversation changes when
// one of its messages does, and knows what became of the newest.
const amendedVersion = 6

// noteAmendment enters a change of a message, which is the newest operation, in
// the account of its conversation.
func (d *decision) noteAmendment(peer string, a *record.Amendment) {
	old := d.parts.conversations[peer]
	if d.version < amendedVersion || old == nil {
		return
	}
	c := copyOfConversation(old)
	c.Revision = d.head
	noteAmendment(c, a)
	d.changePart(conversationPart, peer, c)
}

// noteAmendment keeps what became of the newest message of a conversation.
func noteAmendment(c *record.Conversation, a *record.Amendment) {
	_, reacts := a.Change.(*record.Amendment_Reaction)
	if !reacts && !c.LastUnsent && bytes.Equal(a.MessageId, c.LastMessageId) {
		c.LastAmended, c.LastUnsent = c.Revision, a.GetUnsent()
	}
}
