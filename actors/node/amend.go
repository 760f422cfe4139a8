package node

import (
	"context"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/sealing"
)

// Amend changes a message that lies in the user's mailbox, or in a chat: an edit or
// a withdrawal of a message of the user's own, or a reaction to any. What the
// message is does not change, so that it is read before the record is made.
func (n *Node) Amend(ctx context.Context, session talk.Session, amend talk.Amend) error {
	message, err := n.message(ctx, session.User, amend.Peer, amend.Revision)
	if err != nil {
		return err
	}
	if amend.Reaction == nil && message.GetFrom() != session.User {
		return refusal.Of(refusal.NotYours)
	}
	amendment := &record.Amendment{MessageId: message.GetMessageId(), By: session.User}
	c := &record.Amend{
		From: session.User, FromDevice: session.Device, MessageTime: message.GetTime(), Amendment: amendment,
	}
	switch {
	case amend.Reaction != nil:
		amendment.Change = &record.Amendment_Reaction{Reaction: *amend.Reaction}
	case amend.Body != nil:
		body := amend.Body.Encode()
		key, err := n.key(ctx, amend.Peer)
		if err != nil {
			return err
		}
		amendment.Change = &record.Amendment_SealedBody{SealedBody: sealing.Seal(key, amend.Peer, message.GetMessageId(), body)}
		if amend.Peer != session.User && !mailbox.IsChat(amend.Peer) {
			if key, err = n.key(ctx, session.User); err != nil {
				return err
			}
			c.SealedCopy = sealing.Seal(key, session.User, message.GetMessageId(), body)
		}
	default:
		amendment.Change = &record.Amendment_Unsent{Unsent: true}
	}
	r := n.newRecord(amend.Peer)
	r.Kind = &record.Record_Amend{Amend: c}
	if mailbox.IsChat(amend.Peer) {
		r.Kind = &record.Record_ChatAmend{ChatAmend: &record.ChatAmend{
			From: c.From, FromDevice: c.FromDevice, MessageTime: c.MessageTime, Amendment: amendment,
		}}
	}
	_, err = n.do(ctx, r)
	return err
}

// message returns the message at a revision of a conversation, its body sealed: at
// one of the user's mailbox, or, with a chat, of the chat, which has what was not
// copied too.
func (n *Node) message(ctx context.Context, user, peer string, revision int64) (*record.Message, error) {
	if revision == persistence.MaxRevision { // nothing is
		return nil, refusal.Of(refusal.UnknownMessage)
	}
	history, err := n.Messages(ctx, user, peer, revision+1, 1)
	if err != nil {
		return nil, err
	}
	if operation := operationAt(history, revision); messageOf(operation) != nil {
		return messageOf(operation), nil
	}
	return nil, refusal.Of(refusal.UnknownMessage)
}

// messageOf returns the message that an operation carries; nil for none.
func messageOf(operation *record.Operation) *record.Message {
	if m := operation.GetReceiveMessage(); m != nil {
		return m
	}
	return operation.GetSendMessage()
}
